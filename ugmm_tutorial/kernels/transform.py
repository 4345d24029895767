"""What makes the operator's parameters of those that a layer learns: bounds, softmax, dropout."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

__all__ = ["DROPPED_FIRST", "DROPPED_LAST", "GIVEN", "PLAIN", "Transform"]

# What the weights are: logarithms of weights; logits, to which the penalty of dropout is added before the
# softmax; logits, and it is added after the softmax.
GIVEN, DROPPED_FIRST, DROPPED_LAST = 0, 1, 2


class Transform(NamedTuple):
    """How learnt parameters become the operator's; by default they are these.

    Attributes:
        mode: ``GIVEN``, ``DROPPED_FIRST`` or ``DROPPED_LAST``.
        penalty: what dropout adds, (J, m): -inf for components that are dropped; or None.
        low, high: bounds of log_std.
    """

    mode: int = GIVEN
    penalty: Tensor | None = None
    low: float = -math.inf
    high: float = math.inf

    @property
    def numbers(self) -> tuple[int, float, float]:
        """What the loops take besides the penalty."""
        return self.mode, self.low, self.high


PLAIN = Transform()
