"""The open boxes of a branch and bound, taken best first and many at a time. Taught in chapter 11."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BoxQueue", "Boxes"]


@dataclass(frozen=True)
class Boxes:
    """B boxes: ``low`` and ``high`` (n, B), an upper ``bound`` of the output on each, and the ``axis`` along
    which to halve it (-1: it cannot be halved any more), (B,) each."""

    low: Tensor
    high: Tensor
    bound: Tensor
    axis: Tensor

    def take(self, index: Tensor) -> Boxes:
        """Some of the boxes."""
        return Boxes(*(a.index_select(-1, index) for a in (self.low, self.high, self.bound, self.axis)))


class BoxQueue:
    """A pool of boxes in arrays that grow by doubling. The last boxes fill the holes left by popped ones."""

    def __init__(self, size: int, capacity: int = 4096) -> None:
        self._low = torch.empty(size, capacity, dtype=torch.float64)
        self._high = torch.empty(size, capacity, dtype=torch.float64)
        self._bound = torch.empty(capacity, dtype=torch.float64)
        self._axis = torch.empty(capacity, dtype=torch.long)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def bound(self) -> float:
        """The largest bound; -inf for an empty pool."""
        return float(self._bound[: self._count].max()) if self._count else -math.inf

    def add(self, boxes: Boxes) -> None:
        """Add boxes to the pool."""
        more = len(boxes.bound)
        while self._count + more > len(self._bound):
            for name in ("_low", "_high", "_bound", "_axis"):
                old = getattr(self, name)
                setattr(self, name, torch.cat([old, torch.empty_like(old)], dim=-1))
        place = slice(self._count, self._count + more)
        for mine, new in zip(self._arrays(), (boxes.low, boxes.high, boxes.bound, boxes.axis), strict=True):
            mine[..., place] = new
        self._count += more

    def pop(self, count: int, *, best: bool = True) -> Boxes:
        """Remove and return ``count`` boxes with the largest bounds, or without ``best`` the smallest."""
        count = min(count, self._count)
        taken = torch.topk(self._bound[: self._count], count, largest=best, sorted=False).indices
        boxes = Boxes(*(a[..., : self._count] for a in self._arrays())).take(taken)
        left = self._count - count
        gone = torch.zeros(self._count, dtype=torch.bool)
        gone[taken] = True
        holes, movers = gone[:left].nonzero()[:, 0], (~gone[left:]).nonzero()[:, 0] + left
        for a in self._arrays():
            a[..., holes] = a[..., movers]
        self._count = left
        return boxes

    def discard_below(self, threshold: float) -> float:
        """Discard the boxes with bounds up to ``threshold``; return the largest of these bounds."""
        bound = self._bound[: self._count]
        keep = (bound > threshold).nonzero()[:, 0]
        if len(keep) == self._count:
            return -math.inf
        largest = float(bound[bound <= threshold].max())
        boxes = Boxes(*(a[..., : self._count] for a in self._arrays())).take(keep)
        self._count = 0
        self.add(boxes)
        return largest

    def _arrays(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self._low, self._high, self._bound, self._axis
