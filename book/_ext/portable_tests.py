"""The unit tests that train or compare within a tolerance, under the same variations as the chapters."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from chapters import ROOT
from execute import jobs_at_once
from margins import Statement, statements
from variations import Variation

_TESTS = ROOT / "tests"
_EXTENSION = Path(__file__).parent


def run(variations: Iterable[Variation], folder: Path) -> tuple[dict[str, dict], list[Statement]]:
    """Run the tests. Return, for each variation of the machine, passed and failed tests, and what varied.

    All tests run under the first variation. The other variations run only those tests in which an optimiser
    takes a step, or which compare numbers. ``folder`` keeps the findings in a file of tests until that file,
    the package, or the modules that tests share change.
    """
    state, outcomes, concerned = _state(), {}, None
    for variation in (v for v in variations if v.digits == "mnist"):
        outcomes[variation.name] = outcome = _outcome(variation, folder, state, concerned)
        concerned = concerned or sorted(outcome["margins"])
    runs = [
        ("", test.partition("::")[0], [_entry(test, text, margin) for text, margin in margins.items()])
        for outcome in outcomes.values()
        for test, margins in outcome["margins"].items()
    ]
    counts = {
        name: {"passed": sum(found["passed"].values()), "failed": found["failed"]}
        for name, found in outcomes.items()
    }
    return counts, [s for s in statements(runs) if s.varies]


def failures(tests: dict[str, dict]) -> list[str]:
    """A line for each test that failed."""
    return [f"{name}: {test} failed" for name, outcome in tests.items() for test in outcome["failed"]]


def _entry(test: str, text: str, margin: float) -> dict:
    return {"cell": test.partition("::")[2], "kind": "margin", "text": text, "values": [[margin]]}


def _outcome(variation: Variation, folder: Path, state: dict[str, str], names: list[str] | None) -> dict:
    """The findings of a run. Files that have not changed since keep their earlier findings."""
    file = folder / re.sub(r"[^a-z0-9]+", "-", variation.name.lower()) / "tests.json"
    kept: dict = {"state": {}, "passed": {}, "failed": [], "margins": {}}
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
    same = {path for path, digest in state.items() if kept["state"].get(path) == digest}
    outcome = {
        "state": state,
        "passed": {path: count for path, count in kept["passed"].items() if path in same},
        "failed": [test for test in kept["failed"] if _file(test) in same],
        "margins": {test: found for test, found in kept["margins"].items() if _file(test) in same},
    }
    asked = None if names is None else [name for name in names if _file(name) not in same]
    if set(state) - same and asked != []:
        print(f"\n{variation.name}: {'all' if asked is None else len(asked)} tests", flush=True)
        found = _pytest(variation, asked, sorted(set(state) - same))
        outcome["failed"] += found["failed"]
        for key in ("passed", "margins"):
            outcome[key] |= found[key]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(outcome), encoding="utf-8")
    return outcome


def _file(test: str) -> str:
    return test.partition("::")[0]


def _pytest(variation: Variation, names: list[str] | None, files: list[str]) -> dict:
    """Run the named tests of these files, or all tests of them, in parallel."""
    command = [sys.executable, "-m", "pytest", *files, "-q", "-rfE"]
    command += ["-n", str(jobs_at_once()), "--dist", "loadgroup", "-p", "training_tests", "--assert=plain"]
    variables = {"OMP_NUM_THREADS": "1"} | variation.environment
    variables["PYTHONPATH"] = os.pathsep.join([str(_EXTENSION), os.environ.get("PYTHONPATH", "")])
    del variables["UGMM_IMAGES"]
    if variation.noise is not None:
        variables["UGMM_NOISE"] = str(variation.noise)
        command += ["-m", "not bits"]
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch, "found")
        found.mkdir()
        variables["UGMM_TESTS_FOUND"] = str(found)
        if names is not None:
            only = Path(scratch, "only.txt")
            only.write_text("\n".join(names), encoding="utf-8")
            variables["UGMM_TESTS_ONLY"] = str(only)
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False
        )
        # 1: tests failed, which is a valid finding; 5: all of the named tests are left out here.
        if done.returncode not in ((0, 1) if names is None else (0, 1, 5)):
            raise RuntimeError(f"pytest did not run:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        lines = [
            json.loads(line) for part in found.iterdir() for line in part.read_text("utf-8").splitlines()
        ]
    failed = re.findall(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", done.stdout, flags=re.MULTILINE)
    print("  " + done.stdout.strip().splitlines()[-1], flush=True)
    margins = {line["test"]: line["margins"] for line in lines if line["trains"] or line["margins"]}
    passed = Counter(_file(line["test"]) for line in lines)
    return {"passed": dict(passed), "failed": failed, "margins": margins}


def _state() -> dict[str, str]:
    """A digest of each file of tests, together with the package and the shared test modules.

    Tests in a browser are left out.
    """
    files = [path for path in _TESTS.rglob("test_*.py") if "browser" not in path.relative_to(_TESTS).parts]
    shared = hashlib.sha256()
    for path in sorted([*(ROOT / "ugmm_tutorial").rglob("*.py"), *_TESTS.rglob("*.py")]):
        if not path.name.startswith("test_"):
            shared.update(path.read_bytes())
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(shared.digest() + path.read_bytes()).hexdigest()
        for path in sorted(files)
    }
