"""What makes the operator's parameters of those that a layer learns: bounds, softmax, dropout."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

__all__ = ["DROPPED_FIRST", "DROPPED_LAST", "GIVEN", "PLAIN", "Masks", "Transform"]

# What the weights are: logarithms of weights; logits, to which the penalty of dropout is added before the
# softmax; logits, and it is added after the softmax.
GIVEN, DROPPED_FIRST, DROPPED_LAST = 0, 1, 2


class Masks(NamedTuple):
    """A mask for every example, which no tensor holds: a draw is the product of two words, modulo 2**32.

    Attributes:
        examples: a word for every input of every example, (B, K), int32.
        neurons: an odd word for every component, (J, K), int32.
        threshold: components whose draws are above it are kept.
    """

    examples: Tensor
    neurons: Tensor
    threshold: int


class Transform(NamedTuple):
    """How learnt parameters become the operator's; by default they are these.

    Attributes:
        mode: ``GIVEN``, ``DROPPED_FIRST`` or ``DROPPED_LAST``.
        penalty: what dropout adds, (J, m): -inf for components that are dropped; or None.
        low, high: bounds of log_std.
        missing: whether inputs that are NaN are left out.
        masks: of every example; a neuron that loses all components keeps its heaviest one. Or None.
        divides: whether outputs are divided by the weight that missing inputs and masks leave.
    """

    mode: int = GIVEN
    penalty: Tensor | None = None
    low: float = -math.inf
    high: float = math.inf
    missing: bool = False
    masks: Masks | None = None
    divides: bool = False

    @property
    def numbers(self) -> tuple[int, float, float]:
        """What the loops take besides the penalty."""
        return self.mode, self.low, self.high


PLAIN = Transform()
