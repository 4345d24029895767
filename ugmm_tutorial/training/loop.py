"""train(): a readable loop that can be killed at any moment and resumed where it was.

Taught in chapter 6. A checkpoint is written after every epoch. A test checks that *resumed equals
uninterrupted*, bit for bit on the CPU.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ugmm_tutorial.data import Examples, Splits
from ugmm_tutorial.kernels import arguments
from ugmm_tutorial.kernels.kinds import device as checked_device
from ugmm_tutorial.kernels.kinds import function, instance, path
from ugmm_tutorial.training import files, processes, records
from ugmm_tutorial.training.checks import check_classes, check_parts
from ugmm_tutorial.training.config import TrainConfig
from ugmm_tutorial.training.evaluation import evaluate
from ugmm_tutorial.training.progress import bar as progress_bar
from ugmm_tutorial.training.reproducible import reproducible, seed_generators
from ugmm_tutorial.training.run_state import RunState
from ugmm_tutorial.training.shared_steps import SharedStep, check_shareable
from ugmm_tutorial.training.steps import CapturedStep, Step

__all__ = ["TrainConfig", "TrainingError", "train"]

_READ_EVERY = 50
_DRAW_ALIKE = "Draw in all of them, also in after_epoch, or in none"


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

    Where PyTorch has a process group (see :func:`~ugmm_tutorial.training.processes.joined`), its processes
    call this function alike and train one model together, each on its share of every batch. The batches,
    their dropout masks and the results are those of one process, up to rounding.

    Args:
        model: any module from the inputs of ``data`` to (B, C).
        data: what to train and measure on.
        config: how to train.
        device: where to train; the model is moved there.
        checkpoint: file to write after every epoch, first under a temporary name, then renamed.
        resume: go on from ``checkpoint`` if it exists. It must come from the same config (only ``epochs`` may
            be larger, unless the schedule depends on them), data, model, type of device and ``cuda_graph``.
            Without ``resume`` an existing file is refused. The number of processes may change.
        progress: show a bar, in the first process.
        cuda_graph: record a step as a CUDA graph and replay it. This is faster if launching the kernels takes
            longer than running them, as with the paper's small networks.
        after_epoch: called with the measurements of each epoch, after its checkpoint, in every process; an
            exception in it ends the run.

    Raises:
        TrainingError: a loss or a parameter is no longer finite, or another process has ended or does not
            answer. The last good checkpoint stays.
        CheckpointError: the checkpoint is damaged or belongs to another run. It stays as it is.
        FileExistsError: ``checkpoint`` exists and ``resume`` is false.
        OSError: ``checkpoint`` cannot be written. This is tried before the first step.
        TypeError: inputs or labels are no tensors.
        ValueError: there is nothing to train on, a part has more inputs than labels or fewer, labels are not
            numbers of the model's classes, the model has no parameters, the device no memory, the checkpoint
            is a folder, a CUDA graph is requested on a device without CUDA or of several processes, or
            several processes disagree or could not compute what one does.

    >>> from ugmm_tutorial.data import iris
    >>> train(nn.Linear(4, 3), iris(), TrainConfig(epochs=2), progress=False).curve("epoch")
    [1, 2]
    """
    arguments.module("model", model, trained=True)
    check_parts(data)
    instance("config", config, TrainConfig)
    device = checked_device(device)
    if after_epoch is not None:
        function("after_epoch", after_epoch)
    checkpoint = path("checkpoint", checkpoint)
    processes.here().each(lambda: _check_work(model, device, cuda_graph))
    processes.here().first(lambda: _check_file(checkpoint, resume))
    run = _Run(model, data, config, device, checkpoint, cuda_graph)
    try:
        run.run(progress, after_epoch)
    except processes.LostWorkerError as error:
        raise run.lost(error) from error
    return run.record()


def _check_work(model: nn.Module, device: torch.device, cuda_graph: bool) -> None:
    """A CUDA graph needs a CUDA device, and several processes a model whose work they can share."""
    if cuda_graph and device.type != "cuda":
        raise ValueError(f"expected a CUDA device for cuda_graph=True, got {device}: leave it out")
    if (size := processes.here().size) > 1:
        check_shareable(model)
        if cuda_graph:
            raise ValueError(
                f"expected one process for cuda_graph=True, got {size}: a graph cannot wait for others"
            )


def _check_file(checkpoint: Path | None, resume: bool) -> None:
    if checkpoint is None:
        return
    if checkpoint.is_dir():
        raise ValueError(f"expected checkpoint to be a file, got the folder {checkpoint}")
    if checkpoint.exists() and not resume:
        raise FileExistsError(f"{checkpoint} exists: pass resume=True to go on, or move it away")
    files.make_writable(checkpoint)  # now, not after an epoch


class _Run(RunState):
    """One training run: its state and its epochs."""

    def __init__(
        self,
        model: nn.Module,
        data: Splits,
        config: TrainConfig,
        device: torch.device,
        checkpoint: Path | None,
        cuda_graph: bool,
    ) -> None:
        super().__init__(model, data, config, device, cuda_graph)
        self.checkpoint = checkpoint
        self.check_same_everywhere()
        self.step = self._make_step(lambda classes: check_classes(data, classes))

    def _make_step(self, check: Callable[[int], None]) -> Step:
        if self.group.size > 1:
            return SharedStep(self.model, self.optimizer, check, self.group)
        return (CapturedStep if self.cuda_graph else Step)(self.model, self.optimizer, check)

    def run(self, progress: bool, after_epoch: Callable[[dict], None] | None) -> None:
        """All epochs that are left."""
        steps = math.ceil(len(self.data.train.y) / self.config.batch_size)
        with reproducible(self.device):
            seed_generators(self.config.seed, self.device)
            if self.checkpoint is not None:
                self.load(self.checkpoint)
            with progress_bar(
                initial=self.epoch * steps,
                total=self.config.epochs * steps,
                unit="batch",
                disable=not (progress and self.group.leads),
                # A terminal wants a moving bar, a log file only a line now and then.
                mininterval=0.2 if sys.stderr.isatty() else 60.0,
            ) as bar:
                while self.epoch < self.config.epochs:
                    self.run_epoch(bar)
                    if after_epoch is not None:
                        after_epoch(self.metrics[-1])

    def run_epoch(self, bar: Any) -> None:
        """One pass over the training part, then measurements, then a checkpoint."""
        start = time.perf_counter()
        learning_rate = float(self.scheduler.get_last_lr()[0])
        loss, accuracy = self._step_through(bar)
        self._check_finite()
        if (differs := self.difference_of_draws()) is not None:
            raise self._error(f"processes have drawn different random numbers ({differs})", _DRAW_ALIKE)
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

    def _batches(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """What this process works on of each batch, and the size of the whole batch."""
        x, y = self.data.train
        for whole in torch.randperm(len(y), generator=self.shuffle).split(self.config.batch_size):
            index = self.step.take(whole)
            inputs, labels = (part.index_select(0, index).to(self.device) for part in (x, y))
            yield inputs, labels.long(), len(whole)

    def _step_through(self, bar: Any) -> tuple[float, float]:
        """Optimise over all batches; return mean loss and accuracy as seen during training."""
        self.model.train()
        total = correct = 0.0
        waiting: list[tuple[Tensor, Tensor, int]] = []
        batches = math.ceil(len(self.data.train.y) / self.config.batch_size)
        for number, (x, y, size) in enumerate(self._batches(), start=1):
            waiting.append((*self.step(x, y), size))
            bar.update()
            # Reading a number makes a GPU wait, and processes for each other: it is done only now and then.
            if len(waiting) == _READ_EVERY or number == batches:
                losses, right, sizes = zip(*waiting, strict=True)
                read = self.group.total(
                    torch.stack([torch.stack(losses).double(), torch.stack(right).double()])
                )
                for i, (loss, size) in enumerate(zip(read[0].tolist(), sizes, strict=True)):
                    if not math.isfinite(loss):
                        raise self._error(f"the loss is {loss} in batch {number - len(waiting) + 1 + i}")
                    total += loss * size
                correct += sum(read[1].tolist())
                waiting.clear()
        return total / len(self.data.train.y), correct / len(self.data.train.y)

    def _measure(self) -> dict[str, float]:
        """Loss and accuracy on the parts that the config names."""
        measured: dict[str, float] = {}
        for part in self.config.measure:
            if self.data.sizes[part]:
                result = self._evaluate(getattr(self.data, part))
                if not math.isfinite(result["loss"]):
                    raise self._error(f"the {part} loss is {result['loss']}")
                measured |= {f"{part}_{metric}": value for metric, value in result.items()}
        return measured

    def _evaluate(self, examples: Examples) -> dict[str, float]:
        """Each process measures its share: if one did it alone, the others would wait as long."""
        if self.group.size == 1:
            return evaluate(self.model, examples)
        share = self.group.share(len(examples.y))
        mine, count = Examples(*(part[share] for part in examples)), share.stop - share.start
        result = evaluate(self.model, mine) if count else {"loss": 0.0, "accuracy": 0.0}
        sums = torch.tensor([value * count for value in result.values()], dtype=torch.float64)
        means = self.group.total(sums.to(self.device)) / len(examples.y)
        return dict(zip(result, means.tolist(), strict=True))

    def _check_finite(self) -> None:
        """Check the parameters before they are saved: the last step can break them after a finite loss."""
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise self._error(f"parameter {name} is no longer finite")

    def _error(self, what: str, advice: str = "", *, everywhere: bool = True) -> TrainingError:
        kept = f"The last good checkpoint is {self.checkpoint} (epoch {self.epoch})."
        if self.checkpoint is None or self.epoch == 0:
            kept = "There is no checkpoint."
        advice = advice or (
            "Look for inputs that are not finite, or lower the "
            f"learning rate (it was {self.scheduler.get_last_lr()[0]:g})"
        )
        error = TrainingError(f"epoch {self.epoch + 1}: {what}. {kept} {advice}")
        return processes.everywhere(error) if everywhere and self.group.size > 1 else error

    def lost(self, error: processes.LostWorkerError) -> TrainingError:
        """What a run says whose other processes are gone."""
        there = self.checkpoint is not None and self.epoch > 0
        goes_on = (
            f"The same call {'goes on from there' if there else 'starts over'}, with any number of processes"
        )
        return self._error(str(error), goes_on, everywhere=False)
