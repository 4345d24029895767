"""One step of training: forward, loss, backward, update; and the same step recorded as a CUDA graph.

Taught in chapter 3. With the paper's batch of 128, a GPU waits longer for Python to launch its kernels than
it takes to run them. A graph launches all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from ugmm_tutorial.training.cuda_graphs import record, run_aside
from ugmm_tutorial.training.evaluation import class_scores

__all__ = ["CapturedStep", "Step"]


class Step:
    """One step of cross-entropy training. Calling it with a batch changes the model.

    Args:
        model: from inputs to class scores (B, C), in training mode.
        optimizer: updates its parameters.
        check: called once, before the first update, with the number of classes; an error in it ends the step.

    >>> step = Step(model := nn.Linear(3, 3), torch.optim.Adam(model.parameters()))
    >>> step(torch.eye(3), torch.arange(3))[0] > step(torch.eye(3), torch.arange(3))[0]  # the loss falls
    tensor(True)
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, check: Callable[[int], None] | None = None
    ) -> None:
        self.model, self.optimizer, self._check = model, optimizer, check

    def take(self, index: Tensor) -> Tensor:
        """Which examples of the next batch it is to be called with: all of them."""
        return index

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the number of right answers, as tensors: nothing waits for a GPU."""
        return self._ordinary(x, y)

    def _ordinary(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        return self._learn(x, y)

    def _learn(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = self._scores(self.model, x)
        loss = cross_entropy(scores, y)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), (scores.detach().argmax(dim=1) == y).sum()

    def _scores(self, model: nn.Module, x: Tensor) -> Tensor:
        scores = class_scores(model, x)
        if self._check is not None:
            self._check(scores.shape[1])
            self._check = None
        return scores


class _Recording(NamedTuple):
    """A recorded step, the batch that it reads, and the loss and right answers that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: tuple[Tensor, Tensor]
    result: tuple[Tensor, Tensor]


class CapturedStep(Step):
    """The same step as one CUDA graph: recorded once, then replayed on every batch of the same shape.

    The first three batches, which warm up the libraries, and batches of another shape run as ordinary steps.

    Args:
        model: as for :class:`Step`, on a CUDA device.
        optimizer: made with ``capturable=True``, and with a tensor as learning rate if that is to change.
        check: as for :class:`Step`.

    >>> issubclass(CapturedStep, Step)  # both are called alike, this one only on a CUDA device
    True
    """

    _WARMUP = 3

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, check: Callable[[int], None] | None = None
    ) -> None:
        super().__init__(model, optimizer, check)
        self._seen = 0
        self._recording: _Recording | None = None

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Step.__call__`."""
        self._seen += 1
        if self._seen <= self._WARMUP:
            return run_aside(lambda: self._ordinary(x, y))
        if self._recording is None:
            self._recording = self._record(x, y)
        graph, batch, (loss, correct) = self._recording
        if x.shape != batch[0].shape:
            return self._ordinary(x, y)
        for kept, new in zip(batch, (x, y), strict=True):
            kept.copy_(new)
        graph.replay()
        # The next replay overwrites this memory.
        return loss.clone(), correct.clone()

    def _record(self, x: Tensor, y: Tensor) -> _Recording:
        batch = x.clone(), y.clone()
        # Without old gradients, backward writes new ones into the graph's memory instead of adding.
        self.optimizer.zero_grad()
        graph, result = record(lambda: self._learn(*batch))
        return _Recording(graph, batch, result)
