"""Two processes that train one model: the same numbers as one, and what happens if one of them is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes
from two_processes import NETWORKS, three_ordinary_steps, three_steps, trained

from ugmm_tutorial.training import checkpoints, processes
from ugmm_tutorial.training.processes import Group

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "fork") or not torch.distributed.is_gloo_available(),
        reason="this system has no fork or PyTorch no gloo",
    ),
]
SMALL = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The files that both processes have written, and a checkpoint of one process at epoch 2."""
    folder = tmp_path_factory.mktemp("two")
    trained(folder / "alone.pt", 2)
    command = [sys.executable, two_processes.__file__, str(folder)]
    done = subprocess.run(command, timeout=900, capture_output=True, text=True)
    works = ["steps", "runs", "refusals", "sharded", "autocast", "killed", "gone_on", "silent"]
    ends = [f"{work} 0 {-signal.SIGKILL if work == 'killed' else 0}" for work in works]
    assert done.stdout.splitlines() == ends, done.stderr
    return folder


@pytest.fixture
def both(folder):
    """What both processes have found in a piece of work."""
    return lambda work: [torch.load(folder / f"{work} {rank}.pt") for rank in range(2)]


def _close(found, expected, **tolerance):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **(tolerance or SMALL))


def _same(found, expected):
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


def _metrics_close(found, expected):
    assert [list(epoch) for epoch in found] == [list(epoch) for epoch in expected]
    for one, other in zip(found, expected, strict=True):
        assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-9, abs=1e-12)


# --- the same numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_consecutive_and_differ_by_one_at_most(size):
    for count in range(12):
        shares = [Group(rank, size).share(count) for rank in range(size)]
        assert [i for share in shares for i in range(count)[share]] == list(range(count))
        lengths = [share.stop - share.start for share in shares]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_three_steps_of_two_processes_equal_those_of_one(name, both):
    """Batches of 7, 4 and 1: shares of 4 and 3, of 2 and 2, of 1 and none."""
    alone = three_steps(name, Group())
    for found in (here[name] for here in both("steps")):
        for mine, expected in zip(found["gradients"], alone["gradients"], strict=True):
            _close(mine, expected)
        _close(found["parameters"], alone["parameters"])
        _close([found["results"]], [alone["results"]])
        assert found["left as it was"]


def test_all_processes_make_the_same_update_to_the_bit(both):
    one, other = both("steps")
    for name in NETWORKS:
        _same(one[name]["parameters"], other[name]["parameters"])


@pytest.mark.parametrize("name", ["mixtures", "inputs dropped"])
def test_the_dropout_mask_of_a_batch_is_the_same_in_every_process(name, both):
    alone = three_steps(name, Group())["masks"]
    assert any(mask.any() for mask in alone)
    for found in both("steps"):
        _same(found[name]["masks"][-len(alone) :], alone)  # after those that were drawn as a check


def test_a_run_of_two_processes_measures_what_one_measures(both):
    alone = trained()
    for found in both("runs"):
        _close(found["whole"]["parameters"], alone["parameters"])
        _metrics_close(found["whole"]["metrics"], alone["metrics"])


def test_only_the_first_process_writes(both):
    first, second = both("runs")
    assert first["files"] == ["alone.pt", "parts.pt", "whole.pt"]
    assert second["files"] == []


def test_an_error_that_all_processes_have_is_marked_and_one_of_them_can_tell_it(both):
    for found in both("refusals"):
        assert [name for name, (_, _, told) in found.items() if not told] == ["no masks of examples"]


@pytest.mark.parametrize(
    ("case", "kind", "message"),
    [
        ("seed", "ValueError", "got initial parameters: "),
        ("data", "ValueError", "got the data: "),
        ("config", "ValueError", "got the config: "),
        ("epochs", "ValueError", "got epochs: 1 in process 0, 2 in process 1"),
        ("batch norm", "ValueError", "BatchNorm1d ('1'), which takes means over the share of a batch"),
        ("masks of planes", "ValueError", "Dropout1d ('0'), which draws masks for the share of a batch"),
        ("masks of examples", "ValueError", "PerExampleDropoutLayer (''), which draws a mask for every"),
        ("no masks of examples", "no error", ""),
        ("hidden draws", "ValueError", "got one that draws random numbers for every example"),
        ("other draws", "TrainingError", "epoch 2: processes have drawn different random numbers"),
        ("flat dropout", "ValueError", "whose first dimension is the batch, 1 examples here, got shape (4,)"),
        ("graph", "ValueError", "expected one process for cuda_graph=True, got 2"),
        ("taken", "FileExistsError", "pass resume=True"),
        ("damaged", "CheckpointError", "cannot be read as a checkpoint"),
        ("not finite", "TrainingError", "epoch 1: "),
        ("in the second", "PermissionError", "[Errno 13] not for this process: 'here'"),
        ("in the first", "RuntimeError", "UnpicklableError: the reason"),
    ],
)
def test_what_processes_cannot_share_is_refused_in_all_of_them(case, kind, message, both):
    for found in both("refusals"):
        assert found[case][0] == kind
        assert message in found[case][1]


# --- lost, and gone on with -------------------------------------------------------------------------


@pytest.mark.bits
def test_resumed_run_of_two_processes_equals_an_uninterrupted_one(both):
    for found in both("runs"):
        _same(found["parts"]["parameters"], found["whole"]["parameters"])
        assert found["parts"]["metrics"] == found["whole"]["metrics"]


def test_two_processes_go_on_from_the_checkpoint_of_one(both):
    for found in both("runs"):
        _close(found["after one process"]["parameters"], found["whole"]["parameters"])
        _metrics_close(found["after one process"]["metrics"], found["whole"]["metrics"])


@pytest.mark.happens(
    "Training",
    when="one of several processes is killed",
    see="the others end with an error that says so; the same command goes on, with any number of processes",
    kept="all finished epochs",
)
def test_a_lost_process_ends_the_run_and_its_checkpoint_goes_on_with_one_process(folder):
    kind, message, _ = torch.load(folder / "killed 0.pt")["error"]
    assert kind == "TrainingError"
    assert "epoch 3: another process of this run has ended or does not answer" in message
    assert f"The last good checkpoint is {folder / 'killed.pt'} (epoch 2)" in message
    assert "with any number of processes" in message
    left = folder / "for one process.pt"
    assert checkpoints.load(left)["epoch"] == 2
    found, alone = trained(left), trained()
    _close(found["parameters"], alone["parameters"])
    _metrics_close(found["metrics"], alone["metrics"])


@pytest.mark.bits
def test_two_processes_go_on_from_what_a_lost_one_left_to_the_same_bits(both):
    for found, run in zip(both("gone_on"), both("runs"), strict=True):
        _same(found["parameters"], run["whole"]["parameters"])
        assert found["metrics"] == run["whole"]["metrics"]


def test_a_process_that_does_not_answer_counts_as_lost(folder):
    kind, message, _ = torch.load(folder / "silent 0.pt")["error"]
    assert kind == "LostWorkerError"
    assert "has ended or does not answer" in message


def test_an_error_that_is_not_of_the_connection_stays_as_it_is():
    with pytest.raises(RuntimeError, match="mine") as caught, processes.answered():
        raise RuntimeError("mine")
    assert caught.type is RuntimeError


# --- PyTorch's other ways ---------------------------------------------------------------------------


def test_layers_that_are_fully_sharded_compute_what_whole_ones_do(both):
    model = two_processes.network()
    gradients = three_ordinary_steps(model, slice(None))
    shares = model[0].responsibilities(two_processes.iris().train.x[:6])
    for found in both("sharded"):
        assert set(found["kinds"]) == {"DTensor"}
        _close(found["gradients"], gradients)
        _close(found["parameters"], [p.detach() for p in model.parameters()])
        _close([found["responsibilities"]], [shares.detach()])


def test_processes_train_under_autocast(both):
    """Mixtures compute in float32 there. LayerNorm does too, so that nothing is lost at all."""
    for found in both("autocast"):
        assert all(gradient.dtype == torch.float32 for gradient in found["bfloat16"])
        _close(found["bfloat16"], found["float32"], rtol=2e-2, atol=2e-3)
