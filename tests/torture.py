"""Call every public entry point with thousands of drawn arguments: ``make torture``.

It prints what came of them, and writes it after each entry point, so that a run that was stopped goes on
where it was. The exit status is 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import hypothesis
import matplotlib as mpl
import numpy
import scipy
import sklearn
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzzing import ENTRIES, ERROR, FAULT, RESULT, judge, replacements, shown, unaccounted  # noqa: E402

import ugmm_tutorial  # noqa: E402

KINDS = (RESULT, ERROR, FAULT)


def torture(name: str, cases: int, start: int = 0) -> dict:
    """Counts by kind, and one case of each sort of fault."""
    call = ENTRIES[name]
    counts: Counter = Counter()
    faults: dict[str, str] = {}

    @seed(start)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(replacements(call))
    def run(replaced):
        outcome = judge(call, replaced)
        counts[outcome.kind] += 1
        if outcome.kind == FAULT:
            sort = f"{outcome.where} {outcome.detail}"
            if len(faults) < 20:
                faults.setdefault(sort[:90], f"{sort} | {shown(replaced)}")

    began = time.perf_counter()
    run()
    return {
        **{kind: counts[kind] for kind in KINDS},
        "cases": sum(counts.values()),
        "seconds": round(time.perf_counter() - began, 1),
        "faults": sorted(faults.values()),
    }


def environment() -> dict:
    """The machine, the versions and the commit."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    # But for the report itself: a run that goes on must not take its own first half for a change.
    elsewhere = ["git", "status", "--porcelain", "--", ".", ":(exclude)results/torture"]
    changed = subprocess.run(elsewhere, cwd=ROOT, capture_output=True, text=True)
    versions = {
        m.__name__: m.__version__ for m in (ugmm_tutorial, torch, numpy, scipy, sklearn, mpl, hypothesis)
    }
    return {
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
        "commit": git.stdout.strip() or None,
        "changed": bool(changed.stdout.strip()),
    }


def _pool(jobs: int, folder: str) -> ProcessPoolExecutor:
    """Processes that work in ``folder``: a drawn argument may be the name of a file to write."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_begin, initargs=(folder,))


def _begin(folder: str) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    mpl.use("Agg")


def _print(name: str, found: dict) -> None:
    print(f"{name:45} {found[RESULT]:8} {found[ERROR]:8} {found[FAULT]:8} {found['seconds']:8}", flush=True)
    for fault in found["faults"]:
        print(f"    {fault}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="for each entry point")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="an entry point, or the start of names"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "torture" / "report.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side")
    parser.add_argument("--fresh", action="store_true", help="begin anew, whatever a stopped run has left")
    given_ = parser.parse_args()
    missing, gone = unaccounted()
    if missing or gone:
        print(f"without arguments or a reason: {missing}; not public: {gone}")
        return 2
    about = {"cases": given_.cases, "seed": given_.seed, **environment()}
    given_.out = given_.out.resolve()
    report = {**about, "entry points": {}}
    if given_.out.exists() and not given_.fresh:
        before = json.loads(given_.out.read_text())
        if all(before.get(key) == value for key, value in about.items()):
            report = before
    names = [n for n in ENTRIES if not given_.only or any(n.startswith(start) for start in given_.only)]
    given_.out.parent.mkdir(parents=True, exist_ok=True)
    print(f"{'':45} {'result':>8} {'error':>8} {'fault':>8}  seconds")
    for name in [name for name in names if name in report["entry points"]]:
        _print(name, report["entry points"][name])
    with tempfile.TemporaryDirectory() as folder, _pool(given_.jobs, folder) as pool:
        left = [name for name in names if name not in report["entry points"]]
        waiting = {pool.submit(torture, name, given_.cases, given_.seed): name for name in left}
        for done in as_completed(waiting):
            report["entry points"][waiting[done]] = found = done.result()
            given_.out.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
            _print(waiting[done], found)
    total = {kind: sum(report["entry points"][name][kind] for name in names) for kind in KINDS}
    print(f"{len(names)} entry points: " + ", ".join(f"{count:,} {kind}s" for kind, count in total.items()))
    return int(total[FAULT] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
