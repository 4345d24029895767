"""The command line under torchrun: messages once, a killed worker, the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from two_processes import only_here

from ugmm_tutorial.__main__ import main
from ugmm_tutorial.training import checkpoints

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/task").exists() or not torch.distributed.is_gloo_available(),
        reason="workers are found through /proc, and PyTorch needs gloo",
    ),
]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
TORCHRUN += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]


def _start(*arguments: str, folder: Path) -> subprocess.Popen:
    command = [*TORCHRUN, "-m", "ugmm_tutorial", *arguments, "--results", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | only_here()
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _workers(torchrun: int) -> list[int]:
    """The processes that run the command; torchrun may have other children."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in _children(torchrun)}
    return [pid for pid, line in lines.items() if b"ugmm_tutorial" in line]


def _until(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_killed_worker_ends_the_command_and_the_same_command_goes_on(tmp_path):
    checkpoint = tmp_path / "digits-mlp" / "seed0.checkpoint.pt"
    process = _start("train", "digits-mlp", "--epochs", "1000000", folder=tmp_path)
    try:
        _until(checkpoint.exists, process)
        os.kill(_workers(process.pid)[1], signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode != 0, err
    assert out == ""
    epoch = checkpoints.load(checkpoint)["epoch"]
    assert epoch >= 1

    process = _start("train", "digits-mlp", "--epochs", str(epoch + 1), folder=tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [line.partition(",")[0] for line in out.splitlines()] == [
        "digits-mlp",
        str(tmp_path / "digits-mlp" / "seed0.json"),
    ]
    record = json.loads((tmp_path / "digits-mlp" / "seed0.json").read_text())
    assert len(record["metrics"]) == epoch + 1
    assert record["environment"]["processes"] == 2
    assert main(["train", "digits-mlp", "--epochs", str(epoch + 2), "--results", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "digits-mlp" / "seed0.json").read_text())
    assert len(record["metrics"]) == epoch + 2, "one process goes on too"
    assert "processes" not in record["environment"]


def test_a_wrong_argument_is_explained_once(tmp_path):
    process = _start("train", "digits-mlp", "--device", "cuda:0", folder=tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert out == ""
    assert err.count("expected --device cuda, of which each process takes its own, got 'cuda:0'") == 1
    assert err.count("usage: python -m ugmm_tutorial") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["table", "2"], ["list"], ["bench"], ["study", "iris"]], ids=str)
@pytest.mark.parametrize("rank", [0, 1])
def test_commands_that_cannot_be_shared_are_refused_under_torchrun(rank, arguments, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", str(rank))
    if rank:
        assert main(arguments) == 2
    else:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("under torchrun, only train and tune can be shared") == 1 - rank


def test_an_unknown_option_is_explained_by_the_first_process_alone(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits-mlp", "--jobs", "2"])
    assert capsys.readouterr() == ("", "")
