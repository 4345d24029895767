"""The unit tests that train, under the same variations as the chapters."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from chapters import ROOT
from execute import jobs_at_once
from variations import Variation

_TESTS = ROOT / "tests"


def run(variations: Iterable[Variation], folder: Path) -> dict[str, dict]:
    """For each variation of the machine how many tests passed, and which failed.

    The first run of all looks which tests train: those in which an optimiser takes a step.
    """
    variations = [v for v in variations if v.digits == "mnist"]
    folder.mkdir(parents=True, exist_ok=True)
    state = _state()
    return {variation.name: _one(variation, folder, state) for variation in variations}


def failures(tests: dict[str, dict]) -> list[str]:
    """A line for each test that failed."""
    return [f"{name}: {test} failed" for name, outcome in tests.items() for test in outcome["failed"]]


def _one(variation: Variation, folder: Path, state: str) -> dict:
    file = folder / re.sub(r"[^a-z0-9]+", "-", variation.name.lower()) / "tests.json"
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept.pop("state") == state:
            return kept
    print(f"\n{variation.name}: tests that train", flush=True)
    outcome = _pytest(variation, _training_tests(folder, state))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"state": state} | outcome), encoding="utf-8")
    return outcome


def _training_tests(folder: Path, state: str) -> list[str]:
    """Names of the tests in which an optimiser takes a step."""
    file = folder / f"training-tests-{state}.txt"
    if not file.exists():
        found = folder / "found"
        found.mkdir(exist_ok=True)
        for old in found.iterdir():
            old.unlink()
        _call(["tests", "-p", "training_tests", "-q"], {"UGMM_TRAINING_TESTS": str(found)})
        names = {line for part in found.iterdir() for line in part.read_text("utf-8").splitlines()}
        file.write_text("\n".join(sorted(names)), encoding="utf-8")
    return file.read_text(encoding="utf-8").splitlines()


def _pytest(variation: Variation, names: list[str]) -> dict:
    variables, options = variation.environment, ["-q", "-rfE"]
    if variation.noise is not None:
        variables["UGMM_NOISE"] = str(variation.noise)
        options += ["-m", "not bits"]
    printed = _call([*names, *options], variables)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", printed, flags=re.MULTILINE)
    passed = re.search(r"(\d+) passed", printed)
    print("  " + printed.strip().splitlines()[-1], flush=True)
    return {"passed": int(passed[1]) if passed else 0, "failed": failed}


def _call(arguments: list[str], variables: dict[str, str]) -> str:
    """Run pytest in the repository, beside itself on every core."""
    command = [sys.executable, "-m", "pytest", "-n", str(jobs_at_once()), "--dist", "loadgroup", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: tests failed, which is what is asked
        raise RuntimeError(f"pytest did not run:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def _state() -> str:
    """A digest of the package and the tests."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "ugmm_tutorial").rglob("*.py"), *_TESTS.rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
