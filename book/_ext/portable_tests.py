"""The unit tests that train or compare within a tolerance, under the same variations as the chapters."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from chapters import ROOT
from execute import jobs_at_once
from margins import Statement, statements
from variations import Variation

_TESTS = ROOT / "tests"
_EXTENSION = Path(__file__).parent


def run(variations: Iterable[Variation], folder: Path) -> tuple[dict[str, dict], list[Statement]]:
    """For each variation of the machine how many tests passed and which failed, and what varied.

    Under the first of them all tests run, which shows those that concern the others: an optimiser takes a
    step in them, or they compare numbers. ``folder`` keeps what was found until the package or a test
    changes.
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
    counts = {name: {key: found[key] for key in ("passed", "failed")} for name, found in outcomes.items()}
    return counts, [s for s in statements(runs) if s.varies]


def failures(tests: dict[str, dict]) -> list[str]:
    """A line for each test that failed."""
    return [f"{name}: {test} failed" for name, outcome in tests.items() for test in outcome["failed"]]


def _entry(test: str, text: str, margin: float) -> dict:
    return {"cell": test.partition("::")[2], "kind": "margin", "text": text, "values": [[margin]]}


def _outcome(variation: Variation, folder: Path, state: str, names: list[str] | None) -> dict:
    """What a run found, or what it found before."""
    file = folder / re.sub(r"[^a-z0-9]+", "-", variation.name.lower()) / "tests.json"
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["state"] == state:
            return kept
    print(f"\n{variation.name}: {len(names) if names else 'all'} tests", flush=True)
    outcome = {"state": state} | _pytest(variation, names)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(outcome), encoding="utf-8")
    return outcome


def _pytest(variation: Variation, names: list[str] | None, below: str = "tests") -> dict:
    """Run these tests, or all but those in a browser, beside each other on every core."""
    command = [sys.executable, "-m", "pytest", below, "--ignore", "tests/browser", "-q", "-rfE"]
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
        if done.returncode not in (0, 1):  # 1: tests failed, which is what is asked
            raise RuntimeError(f"pytest did not run:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        lines = [
            json.loads(line) for part in found.iterdir() for line in part.read_text("utf-8").splitlines()
        ]
    failed = re.findall(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", done.stdout, flags=re.MULTILINE)
    passed = re.search(r"(\d+) passed", done.stdout)
    print("  " + done.stdout.strip().splitlines()[-1], flush=True)
    margins = {line["test"]: line["margins"] for line in lines if line["trains"] or line["margins"]}
    return {"passed": int(passed[1]) if passed else 0, "failed": failed, "margins": margins}


def _state() -> str:
    """A digest of the package and the tests, but for those of the report itself."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "ugmm_tutorial").rglob("*.py"), *_TESTS.rglob("*.py")]):
        if path.name != "test_portability.py":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
