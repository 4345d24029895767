"""Runs that are killed at fifty random moments, run twice at once, or see the clock go back: the same end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import pytest
import torch

from ugmm_tutorial.data import idx_files
from ugmm_tutorial.data.folder import data_folder
from ugmm_tutorial.experiments import EXPERIMENTS, Run
from ugmm_tutorial.training import checkpoints, records

#: How often the run of an experiment is killed after its first checkpoint, and how many epochs it has.
KILLS = {"digits-ugmm": (44, 12), "mnist-mlp": (6, 4)}

needs_sigkill = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL") or not hasattr(os, "fork"), reason="this system has no SIGKILL or no fork"
)


def _run(name: str, folder: Path) -> Run:
    return Run(EXPERIMENTS[name], seed=0, epochs=KILLS[name][1], results=folder)


def _child(name: str, folder: Path) -> int:
    """Begin the run, or go on with it, in a fork that has imported everything already."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # at once: see two_processes.py
        try:
            _run(name, folder).train(progress=False)
        finally:
            os._exit(0 if _run(name, folder).path.exists() else 1)
    return child


def _ended(child: int) -> bool:
    return os.waitpid(child, os.WNOHANG)[0] == child


def _written(checkpoint: Path) -> int | None:
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else None


def kill_again_and_again(name: str, whole: str, folder: str) -> None:
    """Run to the end once. Then run and kill, at random moments, as often as ``KILLS`` says; print each kill.

    The first run is not a fork, so that all forks have its kernels. A moment lies up to an epoch's time after
    the start of the process or after the next checkpoint. A run that comes to its end is followed by another
    one, in another folder.
    """
    torch.set_num_threads(1)
    _run(name, Path(whole)).train(progress=False)
    epoch = median(row["seconds"] for row in records.read(_run(name, Path(whole)).path).metrics)
    moments, number, done = random.Random(0), 0, 0
    while done < KILLS[name][0]:
        here = Path(folder, str(number))
        checkpoint = _run(name, here).checkpoint
        before = _written(checkpoint)
        child = _child(name, here)
        if moments.random() < 0.5 or before is None:
            while not (ended := _ended(child)) and _written(checkpoint) == before:
                time.sleep(0.001)
        else:
            ended = False
        last = time.monotonic() + epoch * moments.random()
        while not ended and time.monotonic() < last:
            time.sleep(0.001)
            ended = _ended(child)
        if ended:
            assert _run(name, here).path.exists()
            number += 1
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done += 1
        print(number, checkpoints.load(checkpoint)["epoch"], flush=True)
    assert os.waitstatus_to_exitcode(os.waitpid(_child(name, Path(folder, str(number))), 0)[1]) == 0


def side_by_side(name: str, folders: list[str]) -> list[int]:
    """The run in each of the folders, all at once; how they ended."""
    children = [_child(name, Path(folder)) for folder in folders]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _elsewhere(code: str) -> subprocess.CompletedProcess:
    """Run code that forks in a process without threads. There, ``t`` is this module."""
    command = [sys.executable, "-c", f"import test_killed_runs as t; {code}"]
    # Autograd would begin threads for a GPU, and then refuse to go on in a fork.
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    here = Path(__file__).parent
    done = subprocess.run(command, cwd=here, env=env, timeout=900, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def _result(name: str, folder: Path) -> tuple[list[dict], dict[str, torch.Tensor]]:
    run = _run(name, folder)
    metrics = records.read(run.path).metrics
    for epoch in metrics:
        epoch.pop("seconds")
    return metrics, checkpoints.load(run.checkpoint)["model"]


def _assert_same(left: tuple, right: tuple) -> None:
    assert left[0] == right[0]
    torch.testing.assert_close(left[1], right[1], rtol=0, atol=0)


@needs_sigkill
@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize("name", KILLS)
def test_run_killed_at_random_moments_ends_as_if_nobody_had_touched_it(name, tmp_path):
    images = data_folder() / "MNIST" / "raw"
    if name == "mnist-mlp" and not all((images / file).exists() for file in idx_files.MD5["MNIST"]):
        pytest.skip("neither UGMM_DATA_DIR nor the cache of a download has MNIST")
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    done = _elsewhere(f"t.kill_again_and_again({name!r}, {str(whole)!r}, {str(folder)!r})")
    kills = [line.split() for line in done.stdout.splitlines()]
    assert len(kills) == KILLS[name][0]
    assert len({epoch for _, epoch in kills}) > 1, "every kill came in the same epoch"
    expected = _result(name, whole)
    for number in {number for number, _ in kills}:
        _assert_same(_result(name, folder / number), expected)


@needs_sigkill
@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.happens(
    "Training",
    when="two processes run one experiment with one seed",
    see="nothing; both compute the same",
    kept="one record and one checkpoint, as from a single process",
)
def test_two_processes_on_one_run_leave_one_record(tmp_path):
    folders = [str(tmp_path / name) for name in ("both", "both", "alone")]
    done = _elsewhere(f"print(t.side_by_side('digits-ugmm', {folders}))")
    assert done.stdout.strip() == "[0, 0, 0]", done.stderr
    _assert_same(_result("digits-ugmm", tmp_path / "both"), _result("digits-ugmm", tmp_path / "alone"))
    names = sorted(path.name for path in (tmp_path / "both").rglob("*") if path.is_file())
    assert names == ["seed0.checkpoint.pt", "seed0.json"]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.happens(
    "Training",
    when="the computer's clock is set back during a run",
    see="nothing but the later date in the record",
    kept="the result and the seconds of every epoch",
)
def test_clock_that_goes_back_changes_nothing_but_the_date(tmp_path, monkeypatch):
    experiment = EXPERIMENTS["digits-mlp"]
    dates = []
    for days in (0, -400):
        now = datetime.now(UTC) + timedelta(days=days)
        monkeypatch.setattr(time, "time", now.timestamp)
        monkeypatch.setattr(records, "now", lambda now=now: now.isoformat(timespec="seconds"))
        record = Run(experiment, epochs=2 if days else 1, results=tmp_path).train(progress=False)
        assert all(epoch["seconds"] > 0 for epoch in record.metrics)
        dates.append(record.environment["finished"])
    assert dates[1] < dates[0]
    stored = records.read(tmp_path / "digits-mlp" / "seed0.json")
    assert [epoch["epoch"] for epoch in stored.metrics] == [1, 2]
    whole = Run(experiment, epochs=2, results=tmp_path / "whole").train(progress=False)
    for first, second in zip(stored.metrics, whole.metrics, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}
