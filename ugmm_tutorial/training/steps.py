"""One step of training: forward, loss, backward, update; and the same recorded as a CUDA graph.

Taught in chapter 3: with the paper's batch of 128, a GPU waits for Python to launch its kernels longer than
they run. A graph launches all of them at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

__all__ = ["CapturedStep", "Step"]


class Step:
    """One step of cross-entropy training. Calling it with a batch changes the model.

    Args:
        model: from inputs to class scores (B, C), in training mode.
        optimizer: of its parameters.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the number of right answers, as tensors: a GPU need not be waited for."""
        self.optimizer.zero_grad()
        loss, correct = self._forward(x, y)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), correct

    def _forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.model(x)
        return cross_entropy(scores, y), (scores.detach().argmax(dim=1) == y).sum()


class _Recording(NamedTuple):
    """A recorded step, the batch that it reads, and the loss and right answers that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: tuple[Tensor, Tensor]
    result: tuple[Tensor, Tensor]


class CapturedStep(Step):
    """The same step as one CUDA graph: recorded once, then replayed on every batch of the same shape.

    The first batches, which warm the libraries up, and batches of another shape run as ordinary steps.

    Args:
        model: as for :class:`Step`, on a CUDA device.
        optimizer: made with ``capturable=True`` and, if its learning rate is to change, a tensor for it.
    """

    _WARMUP = 3

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(model, optimizer)
        self._seen = 0
        self._recording: _Recording | None = None

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Step.__call__`."""
        self._seen += 1
        if self._seen <= self._WARMUP:
            return self._aside(x, y)
        if self._recording is None:
            self._recording = self._record(x, y)
        graph, batch, (loss, correct) = self._recording
        if x.shape != batch[0].shape:
            return super().__call__(x, y)
        for kept, new in zip(batch, (x, y), strict=True):
            kept.copy_(new)
        graph.replay()
        # The next replay writes into the same memory.
        return loss.clone(), correct.clone()

    def _aside(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """An ordinary step on a stream of its own, as what is to be captured later asks for."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = super().__call__(x, y)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, x: Tensor, y: Tensor) -> _Recording:
        batch = x.clone(), y.clone()
        graph = torch.cuda.CUDAGraph()
        # Without old gradients, backward writes into memory of the graph instead of adding.
        self.optimizer.zero_grad()
        with torch.cuda.graph(graph):
            loss, correct = self._forward(*batch)
            loss.backward()
            self.optimizer.step()
        return _Recording(graph, batch, (loss.detach(), correct))
