"""Linear bounds of ordinary modules: linear layers, ReLU, LayerNorm.

Every step turns a lower bound of a weighted sum of its outputs into one of its inputs, which holds wherever
these inputs lie between given ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["ROUNDING", "Affine", "Normalised", "Rectified", "Step", "dot", "without_division"]

#: How far bounds are moved outward, as a part of the sum of the absolute values that were added. Rounding
#: moves a sum of n float64 numbers by less than n * 2**-53 of that, so this leaves room for millions of
#: additions in a row. Every step moves its own constants, because later steps may cancel them.
ROUNDING = 2.0**-31


class Step(Protocol):
    """One module, a function of (B, n) numbers."""

    def outer(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of the outputs for inputs between these ends, (B, n) each."""

    def lower(self, weight: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (B, P, n) and constants (B, P) of a linear function of the inputs.

        Between ``low`` and ``high`` it is nowhere above ``weight``, (B, P, m), times the outputs.
        """


class Affine:
    """``x @ matrix.T + shift``."""

    def __init__(self, matrix: Tensor, shift: Tensor) -> None:
        self.matrix, self.shift = matrix, shift

    def outer(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        up, down = self.matrix.clamp(min=0.0), self.matrix.clamp(max=0.0)
        slack = ROUNDING * self._size(low, high)
        return (
            _times(up, low) + _times(down, high) + self.shift - slack,
            _times(up, high) + _times(down, low) + self.shift + slack,
        )

    def lower(self, weight: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        slack = ROUNDING * dot(weight.abs(), self._size(low, high))
        return weight @ self.matrix, weight @ self.shift - slack

    def _size(self, low: Tensor, high: Tensor) -> Tensor:
        """The sum of the absolute values that make an output, at most."""
        return _times(self.matrix.abs(), torch.maximum(low.abs(), high.abs())) + self.shift.abs()


class Rectified:
    """ReLU: between 0 or the input, and the chord over the inputs' interval."""

    def outer(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        return low.clamp(min=0.0), high.clamp(min=0.0)

    def lower(self, weight: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        above, below = high.clamp(min=0.0), low.clamp(max=0.0)
        chord = torch.where(below < 0.0, above / (above - below), 1.0)
        floor = torch.where(low >= 0.0, 1.0, torch.where(high <= 0.0, 0.0, (above > -below).to(low.dtype)))
        up, down = weight.clamp(min=0.0), weight.clamp(max=0.0)
        constant = dot(down, -chord * below)
        return up * floor.unsqueeze(1) + down * chord.unsqueeze(1), constant


class Normalised:
    """LayerNorm: ``gain * (x - mean(x)) / s + shift``, where s lies between computable ends."""

    def __init__(self, gain: Tensor, shift: Tensor, eps: float) -> None:
        self.gain, self.shift, self.eps = gain, shift, eps

    def scale(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of s, the square root of variance plus eps, (B, 1) each."""
        below, above = self.centred(low, high)
        nearest = torch.maximum(torch.maximum(below, -above), torch.zeros_like(below))
        farthest = torch.maximum(-below, above)
        least = nearest.square().mean(dim=1, keepdim=True)
        # Around the middle, the length of the centred vector changes by no more than the vector of halves.
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        length = (middle - middle.mean(dim=1, keepdim=True)).square().mean(dim=1, keepdim=True).sqrt()
        reach = half.square().mean(dim=1, keepdim=True).sqrt()
        least = torch.maximum(least, (length - reach).clamp(min=0.0).square())
        most = torch.minimum(farthest.square().mean(dim=1, keepdim=True), (length + reach).square())
        # A square root and a division round by less than this.
        return (least + self.eps).sqrt() * (1.0 - ROUNDING), (most + self.eps).sqrt() * (1.0 + ROUNDING)

    def centred(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of ``x - mean(x)``."""
        n = low.shape[1]
        others = [(end.sum(dim=1, keepdim=True) - end) / n for end in (low, high)]
        slack = ROUNDING * torch.maximum(low.abs(), high.abs()).amax(dim=1, keepdim=True)
        return low * (1.0 - 1.0 / n) - others[1] - slack, high * (1.0 - 1.0 / n) - others[0] + slack

    def outer(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        below, above = self._divided(*self.centred(low, high), *self.scale(low, high))
        ends = (self.gain * below, self.gain * above)
        return torch.minimum(*ends) + self.shift, torch.maximum(*ends) + self.shift

    def lower(self, weight: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        farthest = math.sqrt(low.shape[1]) * self.gain.abs() + self.shift.abs()
        constant = weight @ self.shift - ROUNDING * (weight.abs() @ farthest)
        weight = weight * self.gain
        below, above = self.centred(low, high)
        least, most = self.scale(low, high)
        width = (above - below).clamp(min=torch.finfo(low.dtype).tiny)
        # The least of u / s over s is concave in u and the greatest convex, so chords bound both.
        chords = []
        for divide, end in zip(
            ((least, most), (most, least)), self._divided(below, above, least, most), strict=True
        ):
            start, stop = (torch.where(u < 0.0, u / divide[0], u / divide[1]) for u in (below, above))
            slope = (stop - start) / width
            # A normalised number is never beyond the square root of their count: a constant may be better.
            clipped = end != (start if divide[0] is least else stop)
            chords.append(
                (torch.where(clipped, 0.0, slope), torch.where(clipped, end, start - slope * below))
            )
        up, down = weight.clamp(min=0.0), weight.clamp(max=0.0)
        constant = constant + dot(up, chords[0][1]) + dot(down, chords[1][1])
        centred = up * chords[0][0].unsqueeze(1) + down * chords[1][0].unsqueeze(1)
        return centred - centred.mean(dim=2, keepdim=True), constant

    def _divided(self, below: Tensor, above: Tensor, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """The ends of ``(x - mean(x)) / s``, never beyond the square root of their count."""
        farthest = math.sqrt(below.shape[1])
        return (
            torch.where(below < 0.0, below / least, below / most).clamp(min=-farthest),
            torch.where(above > 0.0, above / least, above / most).clamp(max=farthest),
        )


def without_division(steps: Sequence[Step]) -> tuple[list[Step], tuple[int, Normalised] | None]:
    """The steps with the division of a LayerNorm left out where it cannot change who leads, and its place.

    That is so if it adds nothing and only ReLUs and linear layers without a bias follow: a positive number
    passes through them.
    """
    for place, step in enumerate(steps):
        behind = steps[place + 1 :]
        passed = all(
            isinstance(s, Rectified) or (isinstance(s, Affine) and not s.shift.any()) for s in behind
        )
        if isinstance(step, Normalised) and passed and not step.shift.any():
            centring = torch.diag(step.gain) - step.gain.unsqueeze(1) / len(step.gain)
            return [*steps[:place], Affine(centring, torch.zeros_like(step.gain)), *behind], (place, step)
    return list(steps), None


def dot(weight: Tensor, value: Tensor) -> Tensor:
    """Sums of ``weight``, (B, P, n), times ``value``, (B, n). An infinite value times 0 is 0."""
    if value.isfinite().all():
        return (weight @ value.unsqueeze(-1)).squeeze(-1)
    return torch.where(weight == 0.0, 0.0, weight * value.unsqueeze(1)).sum(dim=-1)


def _times(matrix: Tensor, value: Tensor) -> Tensor:
    """``value @ matrix.T``, (B, m). An infinite value times 0 is 0."""
    return dot(matrix.expand(len(value), -1, -1), value)
