"""Whether the book's statements hold on other machines: ``make portability``.

Every chapter, and every test that trains or compares numbers, runs under variations that stand for other
machines. For each claim and each comparison of an assertion the report has the range of its values, their
spread, and its margin. The command fails where a statement is false under a variation, or its margin is under
three spreads. What has run and has not changed since is not run again.

    python book/_ext/portability.py                     # everything: an hour and a quarter on two cores
    python book/_ext/portability.py --chapters 5 A     # after a change to these
    python book/_ext/portability.py --tests             # after a change to the package or to tests
    python book/_ext/portability.py --report            # print the report that is there
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import chapter as one_chapter
import portable_tests
import runs_page
from chapters import ROOT, Chapter
from execute import Document, run_all, state_of
from kernel_run import Run
from margins import NEEDED, Statement, statements
from variations import VARIATIONS, Variation

REPORT = ROOT / "results" / "portability" / "report.json"
PROBES = Path(__file__).with_name("probes.py")
KEPT = ROOT / "_build" / "portability"


def main(arguments: list[str] | None = None) -> int:
    """Run what has changed, write the report, and print the statements without enough room.

    Return 1 if there is such a statement, or if a chapter or a test failed.
    """
    parser = argparse.ArgumentParser(
        prog="portability.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chapters", nargs="+", metavar="N", help="only these, such as 5 or A, and no tests")
    parser.add_argument(
        "--variations", nargs="+", type=int, metavar="I", help="only these, from 0; writes no report"
    )
    parser.add_argument("--tests", action="store_true", help="no chapters, only the tests")
    parser.add_argument("--report", action="store_true", help="run nothing, print the report that is there")
    options = parser.parse_args(arguments)
    if options.tests and options.chapters:
        parser.error("expected --tests or --chapters, got both: without either everything is run")
    chosen = [] if options.tests else _chapters(parser, options.chapters)
    variations = _variations(parser, options.variations)
    names = {chapter.path.stem for chapter in chosen}
    if not options.report:
        found = [row for variation in variations for row in _run(variation, chosen)]
        tests, compared = ({}, []) if options.chapters else portable_tests.run(variations, KEPT)
        about_tests = {"tests": tests, "comparisons": [s.as_record() for s in compared]}
        if options.variations is not None:  # some of the variations are not enough for a report
            stopped = sorted({chapter for _, chapter, entries in found if not entries})
            made = [s.as_record() for s in statements(found)]
            return _judge(about_tests | {"statements": made, "stopped": stopped}, names)
        _write(found, about_tests, whole=not (options.chapters or options.tests))
    return _judge(read(), names)


def read() -> dict:
    """The committed report.

    Raises:
        FileNotFoundError: there is none.
    """
    return json.loads(REPORT.read_text(encoding="utf-8"))


def statements_of(report: dict, key: str = "statements") -> list[Statement]:
    """The statements of a report. ``comparisons`` are the statements of tests that vary."""
    return [Statement(**entry | {"allowed": tuple(entry["allowed"])}) for entry in report[key]]


def uses_digits(chapter: Chapter) -> bool:
    """Whether what a chapter shows depends on the source of the digits."""
    return any("data.images(" in cell.source for cell in chapter.code)


def _chapters(parser: argparse.ArgumentParser, names: list[str] | None) -> list[Chapter]:
    if not names:
        return Chapter.all()
    found = {name: one_chapter.find(name) for name in names}
    if missing := [name for name, chapter in found.items() if chapter is None]:
        parser.error(f"no chapter {', '.join(missing)}")
    return list(found.values())


def _variations(parser: argparse.ArgumentParser, numbers: list[int] | None) -> list[Variation]:
    if numbers is None:
        return list(VARIATIONS)
    if any(not 0 <= n < len(VARIATIONS) for n in numbers):
        parser.error(f"expected numbers from 0 to {len(VARIATIONS) - 1}, got {numbers}")
    return [VARIATIONS[n] for n in numbers]


def _run(variation: Variation, chapters: list[Chapter]) -> list[tuple[str, str, list[dict]]]:
    """The source of digits, name and findings of every chapter that this variation concerns."""
    wanted = [c for c in chapters if variation.digits == "mnist" or uses_digits(c)]
    stale = [Document(c.path.stem, c.path, c.notebook) for c in wanted if _kept(variation, c) is None]
    if stale:
        print(f"\n{variation.name}", flush=True)
    for run in (
        run_all(
            stale,
            say=lambda line: print(f"  {line}", flush=True),
            noise=variation.noise,
            variables=variation.environment,
        )
        if stale
        else ()
    ):
        _keep(variation, run, next(d for d in stale if d.name == run.name))
    return [(variation.digits, c.path.stem, (_kept(variation, c) or {"found": []})["found"]) for c in wanted]


def _keep(variation: Variation, run: Run, document: Document) -> None:
    if run.error:
        print(f"  {run.name} stopped with an error:\n{run.error}", flush=True)
        return
    kept = {
        "cells": document.cells,
        "probes": state_of(PROBES),
        "read": {name: state_of(ROOT / name) for name in run.read},
        "found": run.found,
        "seconds": run.seconds,
    }
    file = _file(variation, run.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(kept), encoding="utf-8")


def _kept(variation: Variation, chapter: Chapter) -> dict | None:
    """The earlier findings, if nothing has changed since."""
    file = _file(variation, chapter.path.stem)
    if not file.exists():
        return None
    kept = json.loads(file.read_text(encoding="utf-8"))
    document = Document(chapter.path.stem, chapter.path, chapter.notebook)
    same = (kept["cells"], kept.get("probes")) == (document.cells, state_of(PROBES)) and all(
        state_of(ROOT / name) == state for name, state in kept["read"].items()
    )
    return kept if same else None


def _file(variation: Variation, stem: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", variation.name.lower())
    return KEPT / slug / f"{stem}.json"


def _write(found: Iterable[tuple[str, str, list[dict]]], about_tests: dict, *, whole: bool) -> None:
    """Write the report. If only some chapters have run, the old results of the others are kept."""
    rows = list(found)
    made = [s.as_record() for s in statements(rows)]
    chapters = {chapter for _, chapter, _ in rows}
    missing = sorted({c for _, c, entries in rows if not entries})
    before = read() if REPORT.exists() else {"statements": [], "tests": {}, "comparisons": [], "stopped": []}
    if whole:
        before |= {"statements": [], "stopped": []}
    if not about_tests["tests"]:
        about_tests = {key: before[key] for key in about_tests}
    kept = [s for s in before["statements"] if s["chapter"] not in chapters]
    environment = runs_page.environment()
    report = {
        "machine": {key: environment[key] for key in ("device", "system", "versions", "commit")},
        "variations": [v.name for v in VARIATIONS],
        "needed": NEEDED,
        "stopped": sorted({*missing, *(c for c in before["stopped"] if c not in chapters)}),
        "tests": about_tests["tests"],
    }
    everything = sorted(kept + made, key=lambda s: (s["chapter"], s["cell"], s["text"], s["number"]))
    head = json.dumps(report, indent=1, ensure_ascii=False).removesuffix("\n}")
    for key, rows in (("comparisons", about_tests["comparisons"]), ("statements", everything)):
        lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
        head += f',\n "{key}": [\n{lines}\n ]'
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(head + "\n}\n", encoding="utf-8")


def _judge(report: dict, chapters: set[str]) -> int:
    """Print statements without enough room, stopped chapters and failed tests. Return 1 if there are any."""
    concerned = [s for s in statements_of(report) if s.chapter in chapters]
    concerned += statements_of(report, "comparisons")
    poor = [s for s in concerned if not s.enough]
    for s in sorted(poor, key=lambda s: s.room):
        print(
            f"{s.chapter}, {s.cell}: {s.text!r} number {s.number}: {s.low:.5g} to {s.high:.5g}, allowed "
            f"{s.allowed}, margin {s.margin:.3g}, spread {s.spread:.3g}"
        )
    stopped = [name for name in report["stopped"] if name in chapters]
    for name in stopped:
        print(f"{name}: stopped with an error under some variation")
    failed = portable_tests.failures(report["tests"])
    print("\n".join(failed))
    print(
        f"{len(concerned)} statements, {sum(s.varies for s in concerned)} of them vary; "
        f"{len(poor)} have too little room, {len(stopped)} chapters stopped, {len(failed)} tests failed"
    )
    return int(bool(poor or stopped or failed))


if __name__ == "__main__":
    sys.exit(main())
