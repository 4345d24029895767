"""train(): exact, repeatable, and able to go on after being killed at any moment."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import io
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ugmm_tutorial import data
from ugmm_tutorial.data import Examples, Splits
from ugmm_tutorial.networks import MLP, UGMMNet
from ugmm_tutorial.training import (
    SCHEDULERS,
    TrainConfig,
    TrainingError,
    checkpoints,
    evaluate,
    identity,
    learning_rates,
    records,
    train,
)
from ugmm_tutorial.training.checkpoints import CheckpointError

IRIS = data.iris(validation=15, test=30)  # leaves 105 flowers to train on: three batches of 32 and one of 9
CONFIG = TrainConfig(epochs=4, batch_size=32, learning_rate=1e-2, milestones=(2,), seed=5)
COSINE = replace(CONFIG, scheduler="cosine", milestones=())
BATCHES = 4


pytestmark = pytest.mark.usefixtures("one_thread")


def _network(seed: int = 0) -> UGMMNet:
    """A fresh network with dropout, so that the random state of the masks matters too."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return UGMMNet((4, 8, 3), norm="layer", dropout=0.3)


def _train(model: nn.Module, config: TrainConfig = CONFIG, splits: data.Splits = IRIS, **options):
    return train(model, splits, config, progress=False, **options)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(left, right) -> bool:
    """Equal bit for bit, all the way down."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right


def _without_seconds(metrics) -> list[dict]:
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in metrics]


def _state(checkpoint: Path) -> dict:
    """Everything in a checkpoint but the seconds and the time."""
    state = checkpoints.load(checkpoint)
    return state | {"metrics": _without_seconds(state["metrics"]), "environment": None}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run from beginning to end: its weights, record and last checkpoint."""
    path = tmp_path_factory.mktemp("uninterrupted") / "run.pt"
    model = _network()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    record = _train(model, checkpoint=path)
    torch.set_num_threads(threads)
    return _weights(model), record, _state(path)


def _assert_same_run(model: nn.Module, record: records.Record, checkpoint: Path, expected) -> None:
    weights, expected_record, state = expected
    assert _same(_weights(model), weights)
    assert _without_seconds(record.metrics) == _without_seconds(expected_record.metrics)
    assert _same(_state(checkpoint), state)


# --- what one run does ------------------------------------------------------------------------------


def test_train_equals_the_loop_written_out_by_hand():
    """The order of the examples, Adam, the milestones and the metrics, without the package's loop."""
    config = TrainConfig(epochs=3, batch_size=32, learning_rate=0.02, milestones=(1, 2), gamma=0.5, seed=7)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, mine = MLP((4, 6, 3)), MLP((4, 6, 3))
    mine.load_state_dict(model.state_dict())
    record = _train(model, config)

    order = torch.Generator().manual_seed(7)
    optimizer = torch.optim.Adam(mine.parameters(), lr=0.02)
    x, y = IRIS.train
    for epoch, rate in enumerate((0.02, 0.01, 0.005)):
        optimizer.param_groups[0]["lr"] = rate
        index = torch.randperm(105, generator=order)
        total = correct = 0.0
        for batch in (index[:32], index[32:64], index[64:96], index[96:]):
            scores = mine(x[batch])
            loss = cross_entropy(scores, y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
            correct += (scores.argmax(1) == y[batch]).sum().item()
        measured = record.metrics[epoch]
        assert measured["epoch"] == epoch + 1
        assert measured["learning_rate"] == pytest.approx(rate)
        assert measured["train_loss"] == pytest.approx(total / 105)
        assert measured["train_accuracy"] == pytest.approx(correct / 105)
    torch.testing.assert_close(dict(model.named_parameters()), dict(mine.named_parameters()))
    last = evaluate(mine, IRIS.test)
    assert record.final["test_loss"] == pytest.approx(last["loss"])
    assert record.final["test_accuracy"] == pytest.approx(last["accuracy"])


def test_training_learns():
    record = _train(MLP((4, 16, 3)), replace(CONFIG, epochs=60, milestones=()))
    assert record.final["test_accuracy"] > 0.9
    assert record.final["train_loss"] < record.metrics[0]["train_loss"]


def test_dropout_is_on_while_learning_and_off_while_measuring():
    modes = []
    model = _network()
    model[0].register_forward_pre_hook(lambda layer, _: modes.append(layer.training))
    _train(model, replace(CONFIG, epochs=2))
    assert modes == ([True] * BATCHES + [False] * 2) * 2


def test_model_in_evaluation_mode_is_trained_with_dropout_all_the_same(uninterrupted):
    model = _network().eval()
    _train(model)
    assert _same(_weights(model), uninterrupted[0])


def test_learning_rate_falls_at_the_milestones_only():
    rates = _train(_network(), replace(CONFIG, epochs=6, milestones=(2, 5), gamma=0.1)).curve("learning_rate")
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-3, 1e-4])


def test_constant_schedule_ignores_the_milestones():
    record = _train(_network(), replace(CONFIG, scheduler="constant", milestones=(1,)))
    assert record.curve("learning_rate") == [1e-2] * 4


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_cosine_schedule_falls_along_half_a_cosine_to_nothing_after_the_last_epoch(epochs, tmp_path):
    config = replace(COSINE, epochs=epochs, milestones=(1,))  # which do not count
    record = _train(_network(), config, checkpoint=tmp_path / "run.pt")
    expected = [1e-2 * (1 + math.cos(math.pi * done / epochs)) / 2 for done in range(epochs)]
    assert record.curve("learning_rate") == pytest.approx(expected)
    assert checkpoints.load(tmp_path / "run.pt")["scheduler"]["_last_lr"] == pytest.approx([0.0], abs=1e-12)


def test_the_optimizer_follows_the_cosine():
    """Each epoch's steps are as long as its learning rate says: those of a loop written out by hand."""
    config = replace(COSINE, epochs=3, batch_size=105)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, mine = MLP((4, 6, 3)), MLP((4, 6, 3))
    mine.load_state_dict(model.state_dict())
    _train(model, config)
    optimizer = torch.optim.Adam(mine.parameters())
    for rate in (0.01, 0.0075, 0.0025):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        cross_entropy(mine(IRIS.train.x), IRIS.train.y).backward()
        optimizer.step()
    torch.testing.assert_close(dict(model.named_parameters()), dict(mine.named_parameters()))


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIG, epochs=6, milestones=(2, 5), gamma=0.3),
        replace(CONFIG, epochs=3, milestones=(2, 5)),
        replace(CONFIG, scheduler="constant", milestones=(1,)),
        replace(COSINE, epochs=5),
        replace(COSINE, epochs=1),
    ],
    ids=lambda c: f"{c.scheduler}-{c.epochs}",
)
def test_learning_rates_that_are_written_down_are_those_of_a_run(config):
    used = _train(_network(), config).curve("learning_rate")
    assert learning_rates(config) == pytest.approx(used, rel=1e-9)


def test_only_the_cosine_depends_on_the_length_of_the_run():
    depending = {s for s in SCHEDULERS if TrainConfig(scheduler=s).depends_on_length}
    assert depending == {"cosine"}


def test_same_seed_gives_the_same_weights_whatever_the_global_random_state(uninterrupted):
    model = _network()
    with torch.random.fork_rng([]):
        torch.manual_seed(999)
        _train(model)
    assert _same(_weights(model), uninterrupted[0])


def test_other_seed_gives_other_weights(uninterrupted):
    model = _network()
    _train(model, replace(CONFIG, seed=6))
    assert not _same(_weights(model), uninterrupted[0])


def _random_states() -> tuple:
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), numpy_state


def test_global_random_states_of_the_caller_stay(tmp_path):
    before = _random_states()
    _train(_network(), replace(CONFIG, epochs=1), checkpoint=tmp_path / "run.pt")
    _train(_network(), replace(CONFIG, epochs=2), checkpoint=tmp_path / "run.pt", resume=True)
    assert _random_states() == before


def test_global_random_state_of_the_caller_stays_when_a_run_breaks():
    model = _Breaking(after=2)
    before = _random_states()
    with pytest.raises(TrainingError):
        _train(model)
    assert _random_states() == before


def test_training_on_the_cpu_leaves_the_random_states_of_cuda_devices_alone(tmp_path, monkeypatch):
    """``torch.manual_seed`` would seed them too, and nothing would put that back."""
    seeded, model, same = [], _network(), _network()
    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, seeded.append)
    _train(model, replace(CONFIG, epochs=1), checkpoint=tmp_path / "run.pt")
    _train(same, replace(CONFIG, epochs=2), checkpoint=tmp_path / "run.pt", resume=True)
    assert seeded == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_training_on_a_gpu_is_seeded_there_and_puts_its_random_state_back():
    first, second, other = (_network() for _ in range(3))  # which seeds CUDA too
    torch.cuda.manual_seed(1)
    before = torch.cuda.get_rng_state()
    _train(first, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), before)
    torch.cuda.manual_seed(2)
    _train(second, device="cuda")
    _train(other, replace(CONFIG, seed=6), device="cuda")
    torch.testing.assert_close(_weights(first), _weights(second))
    assert not _same(_weights(first), _weights(other))


def test_cudnn_settings_of_the_caller_stay():
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False):
        _train(_network(), replace(CONFIG, epochs=1))
        assert torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.deterministic


def test_record_describes_the_run():
    before = time.perf_counter()
    model = _network()
    record = _train(model)
    assert record.config == records.as_json(asdict(CONFIG))
    assert record.data["name"] == "iris"
    assert record.data["sizes"] == {"train": 105, "validation": 15, "test": 30}
    # Means, deviations and weights of 4 x 8 and 8 x 3 components, and the LayerNorm's 8 + 8.
    assert record.model == {"network": "UGMMNet", "parameters": 3 * 32 + 3 * 24 + 16}
    assert [epoch["epoch"] for epoch in record.metrics] == [1, 2, 3, 4]
    assert record.seconds == pytest.approx(sum(record.curve("seconds")))
    assert 0 < record.seconds < time.perf_counter() - before
    assert record.environment["versions"]["torch"] == importlib.metadata.version("torch")
    assert records.as_json(asdict(record)) == asdict(replace(record, metrics=list(record.metrics), notes=[]))


@pytest.mark.parametrize("measure", [(), ("test",), ("validation", "test")])
def test_only_the_named_parts_are_measured(measure):
    metrics = _train(_network(), replace(CONFIG, epochs=1, measure=measure)).final
    for part in ("validation", "test"):
        assert (f"{part}_loss" in metrics) == (f"{part}_accuracy" in metrics) == (part in measure)


def test_empty_parts_are_not_measured():
    metrics = _train(_network(), replace(CONFIG, epochs=1), data.iris(test=0)).final
    assert set(metrics) == {"epoch", "learning_rate", "train_loss", "train_accuracy", "seconds"}


def test_nothing_to_train_on_is_refused():
    nothing = replace(IRIS, train=Examples(IRIS.train.x[:0], IRIS.train.y[:0]))
    with pytest.raises(ValueError, match=r"expected training examples, got none in .*'iris'"):
        _train(_network(), splits=nothing)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="expected model with parameters to train, got none in Identity"):
        _train(torch.nn.Identity())


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_is_no_checkpoint(resume, tmp_path):
    with pytest.raises(ValueError, match=f"expected checkpoint to be a file, got the folder {tmp_path}"):
        train(_network(), IRIS, TrainConfig(epochs=1), checkpoint=tmp_path, resume=resume, progress=False)


def test_a_device_without_memory_is_refused_and_the_model_stays():
    model = _network()
    with pytest.raises(
        ValueError, match="expected device with memory, such as 'cpu' or 'cuda:0', got 'meta'"
    ):
        train(model, IRIS, TrainConfig(epochs=1), device="meta", progress=False)
    assert {p.device.type for p in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1, 9, 2, 0, 1]), "from 0 to 2, got 9"),
        (torch.full((6,), -100), "from 0 on, got -100"),
        (torch.eye(3)[[0, 1, 2, 0, 1, 2]], r"got \(6, 3\) of float32.*argmax"),
        (torch.zeros(6).bool(), r"got \(6,\) of bool"),
    ],
)
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_labels_that_are_no_classes_are_refused_before_the_first_step(part, y, message):
    good = Examples(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    parts = dict.fromkeys(("train", "validation", "test"), good) | {part: Examples(good.x, y)}
    model = UGMMNet((4, 5, 3))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"expected {part}.y as 6 whole numbers .*{message}"):
        train(
            model, Splits("s", "made here", ("a", "b", "c"), **parts), TrainConfig(epochs=1), progress=False
        )
    torch.testing.assert_close(model.state_dict(), before)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(("inputs", "labels"), [(15, 9), (9, 15)])
def test_a_part_with_not_as_many_inputs_as_labels_is_refused(part, inputs, labels):
    """The examples beyond the last label would be left out silently."""
    x, y = getattr(IRIS, part)
    wrong = replace(IRIS, **{part: Examples(x[:inputs], y[:labels])})
    with pytest.raises(ValueError, match=f"expected as many inputs as labels in {part}, got {inputs} and"):
        _train(_network(), splits=wrong)


@pytest.mark.happens(
    "Training",
    when="the folder for checkpoints cannot be written to",
    see="an error with the file, before the first step",
    kept="no time is lost",
)
def test_a_checkpoint_that_cannot_be_written_is_found_out_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()
    model = _network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(OSError, match="write to another folder"):
        _train(model, checkpoint=tmp_path / "file" / "run.pt")
    torch.testing.assert_close(model.state_dict(), before)


def test_progress_is_shown_only_if_wanted(capfd):
    train(_network(), IRIS, replace(CONFIG, epochs=1), progress=False)
    assert capfd.readouterr() == ("", "")
    train(_network(), IRIS, replace(CONFIG, epochs=1))
    assert "4/4" in capfd.readouterr().err


# --- killed at any moment ---------------------------------------------------------------------------


def _kill(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_at_call(number: int, function, *, done: bool):
    """The function, but its call of that number kills the process: before its work or after it."""
    calls = 0

    def deadly(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == number and not done:
            _kill()
        result = function(*arguments, **options)
        if calls == number:
            _kill()
        return result

    return deadly


def _kill_while_writing(number: int):
    """torch.save, but call ``number`` writes half of the file and kills the process."""
    calls, save = 0, torch.save

    def deadly(state, file):
        nonlocal calls
        calls += 1
        if calls < number:
            return save(state, file)
        whole = io.BytesIO()
        save(state, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        return _kill()

    return deadly


# When the process dies, and the epoch at which its checkpoint then is. A call of the network is a batch:
# four of an epoch's six train, two measure.
MOMENTS = {
    "in the first epoch": 0,
    "in the third epoch": 2,
    "while measuring the second epoch": 1,
    "while writing the first checkpoint": 0,
    "while writing the third checkpoint": 2,
    "before renaming the second checkpoint": 1,
    "after renaming the second checkpoint": 2,
    "after the last checkpoint": 4,
}


def _run_and_die(moment: str, checkpoint: Path) -> None:
    """Start the run (or go on with it) and kill this very process."""
    model = _network()
    if moment == "in the first epoch":
        model.forward = _kill_at_call(3, model.forward, done=True)
    elif moment == "in the third epoch":
        model.forward = _kill_at_call(2 * 6 + 2, model.forward, done=True)
    elif moment == "while measuring the second epoch":
        model.forward = _kill_at_call(6 + 5, model.forward, done=False)
    elif moment == "while writing the first checkpoint":
        torch.save = _kill_while_writing(1)
    elif moment == "while writing the third checkpoint":
        torch.save = _kill_while_writing(3)
    elif moment == "before renaming the second checkpoint":
        Path.replace = _kill_at_call(2, Path.replace, done=False)
    elif moment == "after renaming the second checkpoint":
        Path.replace = _kill_at_call(2, Path.replace, done=True)
    elif moment == "after the last checkpoint":
        Path.replace = _kill_at_call(4, Path.replace, done=True)
    _train(model, checkpoint=checkpoint, resume=True)


def _fork_and_die(folder: str) -> None:
    """Each death in a fork of this process, which has imported PyTorch once for all of them."""
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # the first one imports for a second
    deaths = [(moment, Path(folder, moment, "run.pt")) for moment in MOMENTS]
    deaths += [(moment, Path(folder, "again and again", "run.pt")) for moment in AGAIN_AND_AGAIN]
    for moment, checkpoint in deaths:
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)  # see two_processes._work
            with contextlib.suppress(BaseException):
                _run_and_die(moment, checkpoint)
            os._exit(1)  # it outlived its moment
        print(moment, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


# One death after the other, each counted from its own start: epochs 0, 1, 1 and 2 are reached.
AGAIN_AND_AGAIN = (
    "in the first epoch",
    "while measuring the second epoch",
    "while writing the first checkpoint",
    "before renaming the second checkpoint",
)

needs_sigkill = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL") or not hasattr(os, "fork"), reason="this system has no SIGKILL or no fork"
)


@pytest.fixture(scope="module")
def dead_runs(tmp_path_factory) -> Path:
    """What runs leave behind that were killed at each of the moments, one folder each."""
    folder = tmp_path_factory.mktemp("dead")
    code = f"import test_training; test_training._fork_and_die({str(folder)!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, timeout=900, capture_output=True, text=True)
    expected = [f"{moment} {-signal.SIGKILL}" for moment in (*MOMENTS, *AGAIN_AND_AGAIN)]
    assert done.stdout.splitlines() == expected, done.stderr
    return folder


@needs_sigkill
@pytest.mark.bits
@pytest.mark.parametrize(("moment", "epoch"), [*MOMENTS.items(), ("again and again", 2)])
@pytest.mark.happens(
    "Training",
    when="training is killed at any moment",
    see="the same call goes on from the last checkpoint",
    kept="the result, bit for bit",
)
def test_run_killed_at_any_moment_goes_on_to_the_same_bits(moment, epoch, dead_runs, uninterrupted):
    checkpoint = dead_runs / moment / "run.pt"
    reached = checkpoints.load(checkpoint)["epoch"] if checkpoint.exists() else 0
    assert reached == epoch, "the kill was meant to come at another moment"
    model = _network()
    record = _train(model, checkpoint=checkpoint, resume=True)
    _assert_same_run(model, record, checkpoint, uninterrupted)


def test_run_interrupted_in_every_epoch_goes_on_to_the_same_bits(uninterrupted, tmp_path, monkeypatch):
    """Ctrl-C at a new place in each epoch, each time with a fresh network."""
    checkpoint = tmp_path / "run.pt"
    for batch in range(1, 5):
        model = _network()
        model.register_forward_hook(_interrupt_at_call(batch + (6 if batch > 1 else 0)))
        with pytest.raises(KeyboardInterrupt):
            _train(model, checkpoint=checkpoint, resume=True)
    assert checkpoints.load(checkpoint)["epoch"] == 3
    model = _network()
    record = _train(model, checkpoint=checkpoint, resume=True)
    _assert_same_run(model, record, checkpoint, uninterrupted)


def _interrupt_at_call(number: int):
    calls = iter(range(1, number + 1))

    def hook(*_):
        if next(calls) == number:
            raise KeyboardInterrupt

    return hook


@pytest.mark.parametrize("first", [1, 2, 3])
def test_resumed_run_equals_uninterrupted_run(first, uninterrupted, tmp_path):
    """Before, at and after the milestone: a short run that is extended equals a longer one."""
    checkpoint = tmp_path / "run.pt"
    _train(_network(), replace(CONFIG, epochs=first), checkpoint=checkpoint)
    model = _network(seed=123)  # whatever it was: everything comes from the checkpoint
    record = _train(model, checkpoint=checkpoint, resume=True)
    _assert_same_run(model, record, checkpoint, uninterrupted)
    assert record.config["epochs"] == 4


@pytest.mark.parametrize("batch", [1, 6 + 2, 12 + 4])
def test_run_with_a_cosine_schedule_goes_on_to_the_same_bits(batch, tmp_path):
    """Ctrl-C in the first, second and third epoch: the learning rates, too, go on where they were."""
    whole, halves = _network(), _network()
    expected = _train(whole, COSINE, checkpoint=tmp_path / "whole.pt")
    broken = _network()
    broken.register_forward_hook(_interrupt_at_call(batch))
    with pytest.raises(KeyboardInterrupt):
        _train(broken, COSINE, checkpoint=tmp_path / "halves.pt")
    record = _train(halves, COSINE, checkpoint=tmp_path / "halves.pt", resume=True)
    _assert_same_run(
        halves, record, tmp_path / "halves.pt", (_weights(whole), expected, _state(tmp_path / "whole.pt"))
    )


def test_writing_checkpoints_does_not_change_the_run(uninterrupted):
    model = _network()
    _train(model)
    assert _same(_weights(model), uninterrupted[0])


def test_resuming_a_finished_run_trains_no_further(uninterrupted, tmp_path):
    checkpoint = tmp_path / "run.pt"
    first = _train(_network(), checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    model = _network(seed=1)
    model.forward = None  # would fail
    again = _train(model, checkpoint=checkpoint, resume=True)
    assert again.metrics == first.metrics
    assert _same(_weights(model), uninterrupted[0])
    assert checkpoint.read_bytes() == before


def test_resuming_without_a_checkpoint_starts_from_the_beginning(uninterrupted, tmp_path):
    model = _network()
    _train(model, checkpoint=tmp_path / "new" / "run.pt", resume=True)
    assert _same(_weights(model), uninterrupted[0])


def test_a_cuda_graph_is_refused_where_there_is_no_cuda_device_and_nothing_is_written(tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(ValueError, match="expected a CUDA device for cuda_graph=True, got cpu"):
        _train(_network(), checkpoint=path, cuda_graph=True)
    assert not path.exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_run_on_a_gpu_resumes_and_does_not_resume_on_the_cpu(tmp_path):
    whole, halves = _network(), _network()
    _train(whole, device="cuda")
    _train(halves, replace(CONFIG, epochs=2), checkpoint=tmp_path / "run.pt", device="cuda")
    _train(halves, checkpoint=tmp_path / "run.pt", resume=True, device="cuda")
    torch.testing.assert_close(_weights(halves), _weights(whole))
    with pytest.raises(CheckpointError, match="expected device cpu, got cuda"):
        _train(_network(), checkpoint=tmp_path / "run.pt", resume=True)


# --- checkpoints that do not fit --------------------------------------------------------------------


@pytest.fixture
def started(tmp_path) -> Path:
    """The checkpoint of a run of two epochs."""
    _train(_network(), replace(CONFIG, epochs=2), checkpoint=tmp_path / "run.pt")
    return tmp_path / "run.pt"


@contextlib.contextmanager
def _refused(checkpoint: Path, model: nn.Module, why: str, error: type[Exception] = CheckpointError):
    """The block raises an error that names the checkpoint; neither it nor the model changes."""
    content, weights = checkpoint.read_bytes(), _weights(model)
    with pytest.raises(error, match=why) as caught:
        yield
    assert str(checkpoint) in str(caught.value)
    assert checkpoint.read_bytes() == content
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    assert _same(_weights(model), weights)


def test_existing_checkpoint_is_refused_without_resume(started):
    model = _network(1)
    with _refused(started, model, "resume=True", FileExistsError):
        _train(model, checkpoint=started)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-3},
        {"batch_size": 16},
        {"milestones": (3,)},
        {"scheduler": "constant"},
        {"gamma": 0.5},
        {"seed": 6},
        {"measure": ("test",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_checkpoint_of_another_config_is_refused(change, started):
    model = _network(1)
    with _refused(started, model, r"belongs to another run: expected config .* got (.|\n)*start over"):
        _train(model, replace(CONFIG, **change), checkpoint=started, resume=True)


@pytest.mark.parametrize(
    "other",
    [
        data.iris(validation=18, test=30),
        replace(IRIS, name="flowers"),
        replace(IRIS, provenance="my garden"),
        data.iris(validation=15, test=30, seed=1),
        replace(IRIS, train=Examples(IRIS.train.x * 2, IRIS.train.y)),
    ],
    ids=["sizes", "name", "provenance", "split", "inputs"],
)
def test_checkpoint_of_other_data_is_refused(other, started):
    model = _network(1)
    with _refused(started, model, "belongs to another run: expected data"):
        _train(model, splits=other, checkpoint=started, resume=True)


@pytest.mark.parametrize(
    "model", [MLP((4, 8, 3)), UGMMNet((4, 9, 3), dropout=0.3), UGMMNet((4, 8, 3), norm="layer", dropout=0.4)]
)
@pytest.mark.happens(
    "Training",
    when="a checkpoint belongs to another network",
    see="an error with what differs",
    kept="network and checkpoint as they are",
)
def test_checkpoint_of_another_model_is_refused(model, started):
    with _refused(started, model, "belongs to another run: expected (modules|class|shapes|dropout) "):
        _train(model, checkpoint=started, resume=True)


class _Nameless(nn.Module):
    """Its repr does not show its size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.ones(4, width))
        self.out = nn.Parameter(torch.ones(width, 3))

    def forward(self, x):
        return x @ self.hidden @ self.out


def test_checkpoint_of_a_model_that_differs_in_size_only_is_refused(tmp_path):
    checkpoint = tmp_path / "run.pt"
    _train(_Nameless(5), checkpoint=checkpoint)
    model = _Nameless(6)
    with _refused(checkpoint, model, "expected shapes .*6.* of module .* got .*5"):
        _train(model, checkpoint=checkpoint, resume=True)


@pytest.mark.parametrize(
    ("mine", "theirs", "differs"),
    [
        (UGMMNet((4, 3), min_std=0.01), UGMMNet((4, 3)), "min_std 0.01 of module '0', got 0.001"),
        (UGMMNet((4, 3), layer="hard"), UGMMNet((4, 3)), "class MaxLayer of module '0', got UGMMLayer"),
        (MLP((4, 8, 3), dropout=0.2), MLP((4, 8, 3), dropout=0.1), "p 0.2 of module '2', got 0.1"),
        (nn.LayerNorm(3, eps=1e-3), nn.LayerNorm(3), "eps 0.001 of module '', got 1e-05"),
        (nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 3), "padding [1, 1] of module '', got [0, 0]"),
    ],
    ids=["floor", "class", "dropout", "norm", "convolution"],
)
def test_networks_of_the_same_shapes_are_told_apart_by_their_options(mine, theirs, differs):
    described = identity.describe(mine)
    assert identity.difference(described, identity.describe(theirs)) == differs
    assert identity.difference(described, identity.describe(copy.deepcopy(mine))) is None


def test_a_checkpoint_outlives_how_a_version_of_pytorch_prints_its_modules(tmp_path, monkeypatch):
    """LayerNorm prints one option more since 2.13."""
    checkpoint = tmp_path / "run.pt"
    norm = UGMMNet((4, 8, 3), norm="layer")
    _train(norm, replace(CONFIG, epochs=1), checkpoint=checkpoint)
    monkeypatch.setattr(nn.LayerNorm, "extra_repr", lambda norm: "printed otherwise")
    monkeypatch.setattr(nn.LayerNorm, "__constants__", [*nn.LayerNorm.__constants__, "training"])
    record = _train(copy.deepcopy(norm), replace(CONFIG, epochs=2), checkpoint=checkpoint, resume=True)
    assert len(record.metrics) == 2


def test_checkpoint_of_version_01_says_what_can_go_on_from_it(started):
    state = checkpoints.load(started)
    del state["identity"]["network"]
    state["identity"] |= {"model": "UGMMNet(...)", "shapes": {}}
    checkpoints.save(state, started)
    model = _network(1)
    with _refused(started, model, "written by version 0.1 of this package.*version 0.1 can go on from it"):
        _train(model, checkpoint=started, resume=True)


@pytest.mark.parametrize("network", [None, [], "UGMMNet", {"": {}}, {}])
def test_checkpoint_with_a_broken_description_of_its_network_is_refused(network, started):
    state = checkpoints.load(started)
    state["identity"]["network"] = network
    checkpoints.save(state, started)
    model = _network(1)
    with _refused(started, model, "belongs to another run"):
        _train(model, checkpoint=started, resume=True)


def test_fewer_epochs_than_the_checkpoint_has_are_refused(started):
    model = _network(1)
    with _refused(started, model, "at epoch 2 already, beyond the 1 asked for"):
        _train(model, replace(CONFIG, epochs=1), checkpoint=started, resume=True)


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_checkpoint_of_another_length_is_refused_where_the_schedule_depends_on_it(epochs, tmp_path):
    """A longer run has had other learning rates from the beginning."""
    checkpoint, model = tmp_path / "run.pt", _network(1)
    _train(_network(), replace(COSINE, epochs=3), checkpoint=checkpoint)
    why = rf"belongs to another run: expected config .*'epochs': {epochs}\b.* got .*'epochs': 3\b.*start over"
    with _refused(checkpoint, model, why):
        _train(model, replace(COSINE, epochs=epochs), checkpoint=checkpoint, resume=True)


@pytest.mark.parametrize(("mine", "theirs"), [(CONFIG, COSINE), (COSINE, CONFIG)])
def test_checkpoint_of_another_schedule_is_refused(mine, theirs, tmp_path):
    checkpoint, model = tmp_path / "run.pt", _network(1)
    _train(_network(), theirs, checkpoint=checkpoint)
    with _refused(checkpoint, model, "belongs to another run: expected config"):
        _train(model, mine, checkpoint=checkpoint, resume=True)


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
@pytest.mark.happens(
    "Training",
    when="a checkpoint is damaged",
    see="an error that names the file",
    kept="the file as it is",
)
def test_damaged_checkpoint_is_refused_and_left_as_it_is(left, started):
    content = started.read_bytes()
    started.write_bytes(content[: int(left * len(content))])
    model = _network(1)
    with _refused(started, model, r"cannot be read as a checkpoint(.|\n)*start over"):
        _train(model, checkpoint=started, resume=True)


def test_file_of_bare_weights_is_not_taken_for_a_checkpoint(tmp_path):
    checkpoint = tmp_path / "run.pt"
    torch.save(_network().state_dict(), checkpoint)
    model = _network(1)
    with _refused(checkpoint, model, "'identity' is missing"):
        _train(model, checkpoint=checkpoint, resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("identity", [1]),
        ("epoch", "x"),
        ("epoch", True),
        ("epoch", 1),
        ("metrics", None),
        ("metrics", []),
        ("model", {}),
        ("model", {"0.mean": 3}),
        ("optimizer", {}),
        ("optimizer", {"state": {}, "param_groups": []}),
        ("scheduler", {}),
        ("scheduler", {"last_epoch": 1}),
        ("shuffle", torch.zeros(3)),
        ("random", torch.zeros(3, dtype=torch.uint8)),
        *((name, None) for name in ("optimizer", "scheduler", "shuffle", "random")),
    ],
    ids=str,
)
def test_checkpoint_with_an_entry_that_does_not_fit_is_refused_and_the_model_stays(name, value, started):
    checkpoints.save(checkpoints.load(started) | {name: value}, started)
    model, states = _network(1), _random_states()
    with _refused(started, model, "move it away to start over"):
        _train(model, checkpoint=started, resume=True)
    assert _random_states() == states


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_checkpoint_with_one_weight_that_does_not_fit_changes_no_other_weight(change, started):
    """PyTorch would copy all those that fit before it complains."""
    state = checkpoints.load(started)
    name, tensor = state["model"].popitem()
    if change == "shape":
        state["model"][name] = tensor[:1].clone()
    checkpoints.save(state, started)
    model = _network(1)
    with _refused(started, model, "is not a whole checkpoint of this run"):
        _train(model, checkpoint=started, resume=True)


ENTRIES = ("identity", "epoch", "metrics", "model", "optimizer", "scheduler", "shuffle", "random")


@pytest.mark.parametrize("name", ENTRIES)
def test_checkpoint_without_one_of_its_entries_is_refused_and_the_model_stays(name, started):
    state = checkpoints.load(started)
    del state[name]
    checkpoints.save(state, started)
    model = _network(1)
    with _refused(started, model, f"'{name}' is missing in it"):
        _train(model, checkpoint=started, resume=True)


def test_checkpoint_of_an_older_version_is_gone_on_from(started, uninterrupted):
    """It does not say where it was made; everything else is the same."""
    state = checkpoints.load(started)
    del state["environment"]
    checkpoints.save(state, started)
    model = _network(1)
    record = _train(model, checkpoint=started, resume=True)
    _assert_same_run(model, record, started, uninterrupted)
    assert record.environment["versions"]["torch"] == importlib.metadata.version("torch")


# --- where a run was made ---------------------------------------------------------------------------


def test_environment_is_that_of_the_sitting_that_trained_last(tmp_path, monkeypatch):
    """A record that is only written again from a finished checkpoint does not claim a newer commit."""
    path, sitting = tmp_path / "run.pt", iter("abc")
    monkeypatch.setattr(records, "_commit", lambda: next(sitting))
    times = iter(f"2026-01-01T00:00:0{n}+00:00" for n in range(10))
    monkeypatch.setattr(records, "now", lambda: next(times))
    first = _train(_network(), replace(CONFIG, epochs=2), checkpoint=path)
    assert first.environment["commit"] == "a"
    again = _train(_network(), replace(CONFIG, epochs=2), checkpoint=path, resume=True)
    assert again.environment == first.environment
    longer = _train(_network(), replace(CONFIG, epochs=3), checkpoint=path, resume=True)
    assert longer.environment["commit"] == "b"
    assert longer.environment["finished"] > first.environment["finished"]


def test_record_of_a_finished_checkpoint_that_does_not_tell_has_the_environment_of_now(started, monkeypatch):
    state = checkpoints.load(started)
    del state["environment"]
    checkpoints.save(state, started)
    monkeypatch.setattr(records, "_commit", lambda: "now")
    record = _train(_network(), replace(CONFIG, epochs=2), checkpoint=started, resume=True)
    assert record.environment["commit"] == "now"


# --- runs that break --------------------------------------------------------------------------------


class _Breaking(nn.Module):
    """A linear classifier whose scores become NaN in training after so many batches."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.after = after
        self.batches = 0

    def forward(self, x):
        self.batches += self.training
        return self.linear(x) * (math.nan if self.batches > self.after else 1.0)


def test_loss_that_is_not_finite_stops_and_names_the_last_good_checkpoint(tmp_path):
    checkpoint = tmp_path / "run.pt"
    with pytest.raises(TrainingError, match=r"epoch 3: the loss is nan in batch 2\.") as caught:
        _train(_Breaking(after=2 * BATCHES + 1), checkpoint=checkpoint)
    assert f"The last good checkpoint is {checkpoint} (epoch 2)." in str(caught.value)
    state = checkpoints.load(checkpoint)
    assert state["epoch"] == len(state["metrics"]) == 2
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    # And it can be gone on from.
    record = _train(_Breaking(after=99), checkpoint=checkpoint, resume=True)
    assert len(record.metrics) == 4


def test_parameter_that_is_not_finite_stops_before_it_is_saved(tmp_path):
    """The last step of an epoch breaks a weight after the last finite loss."""
    model, checkpoint, steps = _Breaking(after=99), tmp_path / "run.pt", iter(range(99))
    model.linear.bias.register_hook(lambda g: g * (math.nan if next(steps) == 2 * BATCHES - 1 else 1.0))
    with pytest.raises(TrainingError, match=r"epoch 2: parameter linear\.bias is no longer finite") as caught:
        _train(model, checkpoint=checkpoint)
    assert f"The last good checkpoint is {checkpoint} (epoch 1)." in str(caught.value)
    state = checkpoints.load(checkpoint)
    assert state["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_measured_loss_that_is_not_finite_stops_before_it_is_saved(tmp_path):
    """Such a record could not be written as JSON after all the epochs."""
    x = IRIS.test.x.clone()
    x[3] = math.inf
    broken = replace(IRIS, test=Examples(x, IRIS.test.y))
    with pytest.raises(TrainingError, match=r"epoch 1: the test loss is nan.*inputs that are not finite"):
        _train(_Breaking(after=99), splits=broken, checkpoint=tmp_path / "run.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("checkpoint", [None, "run.pt"])
def test_run_that_breaks_in_its_first_epoch_says_that_there_is_no_checkpoint(checkpoint, tmp_path):
    with pytest.raises(TrainingError, match=r"epoch 1: .* There is no checkpoint\.") as caught:
        _train(_Breaking(after=0), checkpoint=checkpoint and tmp_path / checkpoint)
    assert "lower the learning rate (it was 0.01)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_far_too_large_learning_rate_ends_in_a_clear_error():
    with pytest.raises(TrainingError, match=r"(finite|loss is).*lower the learning rate \(it was 1e\+30\)"):
        _train(_Nameless(5), replace(CONFIG, learning_rate=1e30))


def test_error_names_the_learning_rate_of_its_own_epoch():
    """Not the next one, where the epoch is a milestone."""
    model, steps = _Breaking(after=99), iter(range(99))
    model.linear.bias.register_hook(lambda g: g * (math.nan if next(steps) == 2 * BATCHES - 1 else 1.0))
    with pytest.raises(TrainingError, match=r"it was 0\.01\)"):
        _train(model, replace(CONFIG, milestones=(2,)))


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epochs", 0, "expected epochs >= 1, got 0"),
        ("epochs", -3, "expected epochs >= 1, got -3"),
        ("batch_size", 0, "expected batch_size >= 1, got 0"),
        ("seed", -1, "expected seed from 0 to 4294967295, got -1"),
        ("seed", 2**32, "expected seed from 0 to 4294967295, got 4294967296"),
        ("learning_rate", 0.0, "expected learning_rate > 0 and < 1e.36, got 0.0"),
        ("learning_rate", -1.0, "expected learning_rate > 0 and < 1e.36, got -1.0"),
        ("learning_rate", math.nan, "expected learning_rate > 0 and < 1e.36, got nan"),
        ("learning_rate", math.inf, "expected learning_rate > 0 and < 1e.36, got inf"),
        ("scheduler", "linear", "unknown scheduler 'linear': expected one of multistep, constant, cosine"),
        ("milestones", (0,), "expected milestones to be growing integers from 1 or more, got .0"),
        ("milestones", (5, 5), "expected milestones to be growing integers from 1 or more, got .5, 5"),
        ("milestones", (9, 5), "expected milestones to be growing integers from 1 or more, got .9, 5"),
        ("milestones", (2.5,), "expected milestones to be growing integers from 1 or more, got .2.5"),
        ("gamma", 0.0, r"expected gamma in \(0, 1\], got 0.0"),
        ("gamma", 1.1, r"expected gamma in \(0, 1\], got 1.1"),
        ("gamma", math.nan, r"expected gamma in \(0, 1\], got nan"),
        ("measure", ("train",), "expected measure to name validation or test, got .'train'"),
        ("measure", "test", "expected measure to name validation or test, got test"),
    ],
)
def test_settings_out_of_their_range_are_refused(setting, value, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"), [("epochs", 2.0), ("epochs", True), ("batch_size", "32"), ("seed", 1.5)]
)
def test_settings_that_count_are_whole_numbers(setting, value):
    with pytest.raises(TypeError, match=f"expected {setting} to be an integer, got {value!r}"):
        TrainConfig(**{setting: value})


def test_settings_at_the_ends_of_their_ranges_are_taken():
    config = TrainConfig(epochs=1, batch_size=1, seed=2**32 - 1, gamma=1.0, milestones=(1,), measure=())
    _train(_network(), config, IRIS.take(train=3))


def test_schedulers_are_those_that_a_config_takes():
    for scheduler in SCHEDULERS:
        assert TrainConfig(scheduler=scheduler).scheduler == scheduler


def test_after_each_epoch_its_measurements_are_handed_out_and_what_is_raised_ends_the_run(tmp_path):
    seen = []

    def look(metrics):
        seen.append(metrics)
        if metrics["epoch"] == 2:
            raise KeyError("enough")

    path = tmp_path / "run.pt"
    with pytest.raises(KeyError, match="enough"):
        _train(_network(), checkpoint=path, after_epoch=look)
    assert [m["epoch"] for m in seen] == [1, 2]
    resumed = _train(_network(), checkpoint=path, resume=True)
    assert list(resumed.metrics[:2]) == seen
