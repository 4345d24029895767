"""train(): a readable loop that can be killed at any moment and resumed where it was.

Taught in chapter 6. A checkpoint is written after every epoch. A test checks that *resumed equals
uninterrupted*, bit for bit on the CPU.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ugmm_tutorial.data import Splits
from ugmm_tutorial.kernels import arguments
from ugmm_tutorial.kernels.kinds import device as checked_device
from ugmm_tutorial.kernels.kinds import function, instance, path
from ugmm_tutorial.training import checkpoints, files, identity, records
from ugmm_tutorial.training.checks import check_classes, check_parts
from ugmm_tutorial.training.config import TrainConfig, schedule
from ugmm_tutorial.training.evaluation import evaluate
from ugmm_tutorial.training.reproducible import reproducible, seed_generators
from ugmm_tutorial.training.steps import CapturedStep, Step

__all__ = ["TrainConfig", "TrainingError", "train"]

_READ_EVERY = 50


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and where the last good checkpoint is."""


def train(
    model: nn.Module,
    data: Splits,
    config: TrainConfig,
    *,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    cuda_graph: bool = False,
    after_epoch: Callable[[dict], None] | None = None,
) -> records.Record:
    """Train a classifier in place and return a record of the run.

    The model's outputs are class scores (B, C): a softmax over them gives probabilities. PyTorch's
    global random states, of the CPU and of CUDA devices, are the same after the call as before it.

    Args:
        model: any module from the inputs of ``data`` to (B, C).
        data: what to train and measure on.
        config: how to train.
        device: where to train; the model is moved there.
        checkpoint: file to write after every epoch, first under a temporary name, then renamed.
        resume: go on from ``checkpoint`` if it exists. It must come from the same config (only ``epochs`` may
            be larger, unless the schedule depends on them), data, model, type of device and ``cuda_graph``.
            Without ``resume`` an existing file is refused.
        progress: show a bar.
        cuda_graph: record a step as a CUDA graph and replay it. This is faster if launching the kernels takes
            longer than running them, as with the paper's small networks.
        after_epoch: called with the measurements of each epoch, after its checkpoint; an exception in it ends
            the run.

    Raises:
        TrainingError: a loss or a parameter is no longer finite. The last good checkpoint stays.
        CheckpointError: the checkpoint is damaged or belongs to another run. It stays as it is.
        FileExistsError: ``checkpoint`` exists and ``resume`` is false.
        OSError: ``checkpoint`` cannot be written. This is tried before the first step.
        TypeError: inputs or labels are no tensors.
        ValueError: there is nothing to train on, a part has more inputs than labels or fewer, labels are not
            numbers of the model's classes, or a CUDA graph is requested on a device without CUDA.

    >>> from ugmm_tutorial.data import iris
    >>> train(nn.Linear(4, 3), iris(), TrainConfig(epochs=2), progress=False).curve("epoch")
    [1, 2]
    """
    arguments.module("model", model)
    check_parts(data)
    instance("config", config, TrainConfig)
    device = checked_device(device)
    if cuda_graph and device.type != "cuda":
        raise ValueError(f"expected a CUDA device for cuda_graph=True, got {device}: leave it out")
    if after_epoch is not None:
        function("after_epoch", after_epoch)
    checkpoint = path("checkpoint", checkpoint)
    if checkpoint is not None and checkpoint.exists() and not resume:
        raise FileExistsError(f"{checkpoint} exists: pass resume=True to go on, or move it away")
    if checkpoint is not None:
        files.make_writable(checkpoint)  # now, not after an epoch
    run = _Run(model, data, config, device, checkpoint, cuda_graph)
    with reproducible(run.device):
        seed_generators(config.seed, run.device)
        if checkpoint is not None and checkpoint.exists():
            run.load(checkpoint)
        steps = math.ceil(len(data.train.y) / config.batch_size)
        with tqdm(
            initial=run.epoch * steps,
            total=config.epochs * steps,
            unit="batch",
            disable=not progress,
            # A terminal wants a moving bar, a log file only a line now and then.
            mininterval=0.2 if sys.stderr.isatty() else 60.0,
        ) as bar:
            while run.epoch < config.epochs:
                run.run_epoch(bar)
                if after_epoch is not None:
                    after_epoch(run.metrics[-1])
    return run.record()


class _Run:
    """The state of one training run. A checkpoint holds everything of it that changes."""

    def __init__(
        self,
        model: nn.Module,
        data: Splits,
        config: TrainConfig,
        device: torch.device,
        checkpoint: Path | None,
        cuda_graph: bool,
    ) -> None:
        self.model = model.to(device)
        self.data, self.config, self.device, self.checkpoint = data, config, device, checkpoint
        self.cuda_graph = cuda_graph
        # A graph has to read the learning rate from memory, or it would keep the one of its recording.
        rate = torch.tensor(config.learning_rate, device=device) if cuda_graph else config.learning_rate
        # Fused: one pass over each parameter instead of nine.
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=cuda_graph)
        make = CapturedStep if cuda_graph else Step
        self.step = make(self.model, self.optimizer, lambda classes: check_classes(data, classes))
        self.scheduler = schedule(self.optimizer, config)
        self.shuffle = torch.Generator().manual_seed(config.seed)
        self.epoch = 0
        self.metrics: list[dict] = []
        self.environment: dict | None = None  # of the last epoch

    def run_epoch(self, bar: tqdm) -> None:
        """One pass over the training part, then measurements, then a checkpoint."""
        start = time.perf_counter()
        learning_rate = float(self.scheduler.get_last_lr()[0])
        loss, accuracy = self._step_through(bar)
        self._check_finite()
        measured = {"train_loss": loss, "train_accuracy": accuracy} | self._measure()
        self.scheduler.step()
        self.epoch += 1
        seconds = time.perf_counter() - start
        self.metrics.append(
            {"epoch": self.epoch, "learning_rate": learning_rate, **measured, "seconds": seconds}
        )
        shown = {name: f"{v:.4f}" for name, v in measured.items() if name.endswith("accuracy")}
        bar.set_postfix(epoch=self.epoch, refresh=False, **shown)
        self.environment = self._here | {"finished": records.now()}
        if self.checkpoint is not None:
            self.save(self.checkpoint)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.data.train
        for index in torch.randperm(len(y), generator=self.shuffle).split(self.config.batch_size):
            yield x.index_select(0, index).to(self.device), y.index_select(0, index).to(self.device).long()

    def _step_through(self, bar: tqdm) -> tuple[float, float]:
        """Optimise over all batches; return mean loss and accuracy as seen during training."""
        self.model.train()
        total = correct = 0.0
        waiting: list[tuple[Tensor, Tensor, int]] = []
        batches = math.ceil(len(self.data.train.y) / self.config.batch_size)
        for number, (x, y) in enumerate(self._batches(), start=1):
            waiting.append((*self.step(x, y), len(y)))
            bar.update()
            # Reading a number makes a GPU wait, so it is done only now and then.
            if len(waiting) == _READ_EVERY or number == batches:
                for i, (loss, right, size) in enumerate(waiting, start=number - len(waiting) + 1):
                    value = loss.item()
                    if not math.isfinite(value):
                        raise self._error(f"the loss is {value} in batch {i}")
                    total += value * size
                    correct += right.item()
                waiting.clear()
        return total / len(self.data.train.y), correct / len(self.data.train.y)

    def _measure(self) -> dict[str, float]:
        """Loss and accuracy on the parts that the config names."""
        measured: dict[str, float] = {}
        for part in self.config.measure:
            if self.data.sizes[part]:
                result = evaluate(self.model, getattr(self.data, part))
                if not math.isfinite(result["loss"]):
                    raise self._error(f"the {part} loss is {result['loss']}")
                measured |= {f"{part}_{metric}": value for metric, value in result.items()}
        return measured

    def _check_finite(self) -> None:
        """Check the parameters before they are saved: the last step can break them after a finite loss."""
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise self._error(f"parameter {name} is no longer finite")

    def _error(self, what: str) -> TrainingError:
        kept = f"The last good checkpoint is {self.checkpoint} (epoch {self.epoch})."
        if self.checkpoint is None or self.epoch == 0:
            kept = "There is no checkpoint."
        return TrainingError(
            f"epoch {self.epoch + 1}: {what}. {kept} Look for inputs that are not finite, or lower the "
            f"learning rate (it was {self.scheduler.get_last_lr()[0]:g})"
        )

    @cached_property
    def _here(self) -> dict:
        """The environment of this session, cached: asking git for the commit every epoch would take long."""
        return records.environment(str(self.device))

    @cached_property
    def _identity(self) -> dict:
        """What must agree with a checkpoint for it to belong to this run."""
        config = asdict(self.config)
        if not self.config.depends_on_length:
            del config["epochs"]
        return {
            "config": config,
            "data": self.data.describe() | {"checksum": self.data.checksum()},
            "network": identity.describe(self.model),
            "device": self.device.type,
            "cuda_graph": self.cuda_graph,
        }

    def save(self, checkpoint: Path) -> None:
        """Write the checkpoint."""
        state = {
            "identity": self._identity,
            "epoch": self.epoch,
            "metrics": self.metrics,
            "environment": self.environment,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "shuffle": self.shuffle.get_state(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self.device) if self._on_cuda else None,
        }
        checkpoints.save(state, checkpoint)

    def load(self, checkpoint: Path) -> None:
        """Restore the state from the checkpoint, if it belongs to this run."""
        state = checkpoints.load(checkpoint, device=self.device)
        checkpoints.expect(state, _STATE, checkpoint)
        wrong = self._foreign(state["identity"])
        if wrong is not None:
            raise checkpoints.CheckpointError(
                f"{checkpoint} {wrong}. Nothing was changed; move it away to start over"
            )
        if state["epoch"] > self.config.epochs:
            raise checkpoints.CheckpointError(
                f"{checkpoint} is at epoch {state['epoch']} already, beyond the "
                f"{self.config.epochs} asked for. Nothing was changed; ask for as many, or move it away"
            )
        try:
            self._take_over(state)
        except Exception as error:  # a state made by hand raises errors of many kinds
            raise checkpoints.CheckpointError(
                f"{checkpoint} is not a whole checkpoint of this run ({type(error).__name__}: {error}). "
                "Nothing was changed; move it away to start over"
            ) from error

    def _foreign(self, theirs: dict) -> str | None:
        """Why a checkpoint with that identity does not belong to this run, or None if it does."""
        if "network" not in theirs:
            return (
                "was written by version 0.1 of this package, which knew a network by how PyTorch printed it: "
                "this version cannot tell whether it is yours, and version 0.1 can go on from it"
            )
        for key, mine in self._identity.items():
            found = theirs.get(key)
            if key != "network":
                differs = None if mine == found else f"{key} {mine}, got {found}"
            elif isinstance(found, dict):
                differs = identity.difference(mine, found)
            else:
                differs = f"the description of a network, got {found}"
            if differs is not None:
                return f"belongs to another run: expected {differs}"
        return None

    def _take_over(self, state: dict) -> None:
        """Restore the state, the model last: until then nothing that the caller owns has changed."""
        lengths = len(state["metrics"]), state["scheduler"]["last_epoch"]
        if lengths != (state["epoch"], state["epoch"]):
            raise ValueError(f"expected metrics and scheduler of {state['epoch']} epochs, got {lengths}")
        mine, theirs = (
            {name: getattr(tensor, "shape", None) for name, tensor in tensors.items()}
            for tensors in (self.model.state_dict(), state["model"])
        )
        if mine != theirs:
            raise ValueError(f"expected a model of {mine}, got {theirs}")
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.shuffle.set_state(state["shuffle"].cpu())
        torch.set_rng_state(state["random"].cpu())
        if self._on_cuda:
            torch.cuda.set_rng_state(state["cuda_random"].cpu(), self.device)
        self.epoch, self.metrics = state["epoch"], list(state["metrics"])
        self.environment = state.get("environment")  # older checkpoints have none
        self.model.load_state_dict(state["model"])

    def record(self) -> records.Record:
        """The record of the run so far."""
        return records.Record(
            config=records.as_json(asdict(self.config)),
            data=self.data.describe(),
            model={
                "network": type(self.model).__name__,
                "parameters": sum(p.numel() for p in self.model.parameters()),
            },
            metrics=tuple(self.metrics),
            seconds=sum(epoch["seconds"] for epoch in self.metrics),
            # The last epoch's, perhaps of an earlier session; this one's if the checkpoint has none.
            environment=self.environment or self._here,
        )

    @property
    def _on_cuda(self) -> bool:
        return self.device.type == "cuda"


# The entries that a checkpoint must have, with their types.
_STATE = {
    "identity": dict,
    "epoch": int,
    "metrics": list,
    "model": dict,
    "optimizer": dict,
    "scheduler": dict,
    "shuffle": Tensor,
    "random": Tensor,
}
