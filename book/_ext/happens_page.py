"""The page *What happens when*: faults that tests provoke, written by the tests themselves.

A test says what it provokes with ``@pytest.mark.happens(where, when=..., see=..., kept=...)``. The page has a
table for each ``where``. So no row stands there that no test makes come true.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import NamedTuple

from sphinx.application import Sphinx

from chapters import ROOT

MARK = "<!-- what happens when -->"
COUNTED = "<!-- calls with drawn arguments -->"
TESTS = ROOT / "tests"
REPORT = ROOT / "results" / "torture" / "report.json"
#: The tables of the page, in order.
WHERE = ("Installing", "Data", "Inputs and labels", "Fast kernels", "Training", "Long work")
#: What may come of a call with drawn arguments, as ``tests/fuzzing.py`` judges it.
KINDS = ("documented result", "documented error", "fault")


class Fault(NamedTuple):
    """One row: what goes wrong, what a reader sees, what is kept, and the test that provokes it."""

    where: str
    when: str
    see: str
    kept: str
    test: str


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Handle Sphinx's ``source-read``: replace the marks on the page by the tables and the counts."""
    if MARK not in source[0]:
        return
    for file in (__file__, REPORT, *TESTS.rglob("test_*.py")):
        app.env.note_dependency(str(file))
    counts = counted(json.loads(REPORT.read_text(encoding="utf-8")))
    source[0] = source[0].replace(MARK, tables(faults())).replace(COUNTED, counts)


def counted(report: dict) -> str:
    """What ``make torture`` found, as Markdown."""
    entries = report["entry points"].values()
    sums = {kind: sum(entry[kind] for entry in entries) for kind in KINDS}
    rows = [f"| {kind} | {count:,} |" for kind, count in sums.items()]
    said = (
        f"The last full run made {report['cases']:,} calls of each of {len(entries)} functions and classes, "
        f"with version {report['ugmm_tutorial']}, Python {report['python']} and PyTorch {report['torch']}."
    )
    return "\n".join([said, "", "| What came of a call | calls |", "|---|---|", *rows])


def faults(folder: Path = TESTS) -> list[Fault]:
    """Every fault that a test below the folder provokes, in the order of files and lines."""
    found = []
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                calls = [call for call in node.decorator_list if isinstance(call, ast.Call)]
                for call in calls:
                    if ast.unparse(call.func) == "pytest.mark.happens":
                        where = ast.literal_eval(call.args[0])
                        said = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
                        found.append(Fault(where, said["when"], said["see"], said["kept"], node.name))
    return found


def tables(found: list[Fault]) -> str:
    """One table for each place, as Markdown."""
    parts = []
    for where in WHERE:
        rows = [f"| {fault.when} | {fault.see} | {fault.kept} |" for fault in found if fault.where == where]
        parts.append(
            "\n".join([f"## {where}", "", "| When | You see | What is kept |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts)
