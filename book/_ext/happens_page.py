"""The page *What happens when*: faults that tests provoke, written by the tests themselves.

A test says what it provokes with ``@pytest.mark.happens(where, when=..., see=..., kept=...)``. The page has a
table for each ``where``. So no row stands there that no test makes come true.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from sphinx.application import Sphinx

from chapters import ROOT

MARK = "<!-- what happens when -->"
TESTS = ROOT / "tests"
#: The tables of the page, in order.
WHERE = ("Installing", "Data", "Inputs and labels", "Fast kernels", "Training", "Long work")


class Fault(NamedTuple):
    """One row: what goes wrong, what a reader sees, what is kept, and the test that provokes it."""

    where: str
    when: str
    see: str
    kept: str
    test: str


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Handle Sphinx's ``source-read``: replace the mark on the page by the tables."""
    if MARK not in source[0]:
        return
    for file in (__file__, *TESTS.rglob("test_*.py")):
        app.env.note_dependency(str(file))
    source[0] = source[0].replace(MARK, tables(faults()))


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
