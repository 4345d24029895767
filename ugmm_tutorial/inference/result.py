"""What inference returns, and the budget of time and nodes that ends it. Taught in chapter 11."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Answer", "Budget", "MPEResult"]


@dataclass(frozen=True)
class MPEResult:
    """The best point found and how much better any other can be.

    Attributes:
        point: all inputs, (K,), float64: the evidence and, for the query, the best values found.
        value: the network's output there, computed in float64, in nats.
        upper_bound: no point of the box has a larger output, rounding included; never below ``value``.
        certified: whether the gap is at most the tolerance that was asked for.
        nodes: boxes (branch and bound), points (enumeration) or evaluations (ascent) examined.
        seconds: wall-clock time.
        method: how the point was found.

    >>> MPEResult(Tensor([0.5, 1.2]), -2.0, -1.5, False, nodes=64, seconds=0.1, method="ascent").gap
    0.5
    """

    point: Tensor
    value: float
    upper_bound: float
    certified: bool
    nodes: int
    seconds: float
    method: str

    @property
    def gap(self) -> float:
        """``upper_bound - value``, at least the distance to the true maximum."""
        return self.upper_bound - self.value


@dataclass(frozen=True)
class Answer:
    """What a method found: query values x (n,), a certain value there, an upper bound, nodes used."""

    x: Tensor
    value: float
    upper_bound: float
    nodes: int


@dataclass
class Budget:
    """When to stop: after some seconds or some nodes, whichever comes first; None for no limit."""

    time_limit: float | None = None
    node_limit: int | None = None
    _start: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._start

    @property
    def time_left(self) -> float | None:
        """Seconds until the limit; None for no limit."""
        return None if self.time_limit is None else max(0.0, self.time_limit - self.seconds)

    def spent(self, nodes: int = 0) -> bool:
        """Whether the work has to end."""
        late = self.time_limit is not None and self.seconds >= self.time_limit
        return late or self.remaining(nodes) <= 0

    def remaining(self, nodes: int) -> float:
        """How many nodes may still be looked at."""
        return math.inf if self.node_limit is None else self.node_limit - nodes
