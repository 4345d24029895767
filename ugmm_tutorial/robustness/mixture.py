"""Linear bounds of a uGMM layer whose inputs lie between given ends: a step behind the first layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ugmm_tutorial.inference.bounds import layer_bounds
from ugmm_tutorial.inference.network import Layer
from ugmm_tutorial.robustness.steps import ROUNDING, dot

__all__ = ["Mixture"]


class Mixture:
    """A further uGMM layer.

    From below, a logsumexp lies above its tangent plane in the terms, and a term, a parabola open downward,
    above its chord. From above, the logarithm lies below its tangent in the sum, and a summand below a chord
    of the exponential of its term's tangent, or below its peak. Where a constant is the better bound of an
    output, it is taken instead.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.constants = tuple(a.squeeze(-1) for a in (layer.mean, layer.inverse_std, layer.log_peak))

    def outer(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        found = layer_bounds(self.layer, low.T, high.T)
        return found.out_low.T, found.out_high.T

    def lower(self, weight: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        out_low, out_high = self.outer(low, high)
        # From here on (B, J, K): one linear function of the inputs for each neuron.
        low, high = low.unsqueeze(1), high.unsqueeze(1)
        below, from_below = self._below(low, high, out_low)
        above, from_above = self._above(low, high, out_high)
        up, down = weight.clamp(min=0.0), weight.clamp(max=0.0)
        return up @ below + down @ above, dot(up, from_below) + dot(down, from_above)

    def _below(self, low: Tensor, high: Tensor, out_low: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes (B, J, K) and constants (B, J) of functions nowhere above the outputs."""
        at_low, at_high, middle = self._term(low), self._term(high), self._term(0.5 * (low + high))
        share = torch.softmax(middle, dim=-1)
        slope = _times(share, at_high - at_low) / _width(low, high)
        start = torch.logsumexp(middle, dim=-1) + (_times(share, at_low - middle) - slope * low).sum(dim=-1)
        start = start - self.layer.margin(out_low.T).T - ROUNDING * (slope * low).abs().sum(dim=-1)
        least, greatest = _range(slope, start, low, high)
        flat = ~(least + greatest >= 2.0 * out_low)
        return torch.where(flat.unsqueeze(-1), 0.0, slope), torch.where(flat, out_low, start)

    def _above(self, low: Tensor, high: Tensor, out_high: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes (B, J, K) and constants (B, J) of functions nowhere below the outputs."""
        mean, inverse_std, peak = self.constants
        middle, unit = 0.5 * (low + high), out_high.unsqueeze(-1)  # a unit in which nothing overflows
        tangent, half = (mean - middle) * inverse_std.square(), 0.5 * (high - low)
        ends = [torch.exp(self._term(middle) + sign * tangent * half - unit) for sign in (-1.0, 1.0)]
        nearest = torch.maximum(low - mean, mean - high).clamp(min=0.0)
        top = torch.exp(peak - 0.5 * (nearest * inverse_std).square() - unit)
        lower = ends[0] + ends[1] < 2.0 * top
        ends = [torch.where(lower, end, top) for end in ends]
        touch = 0.5 * (ends[0] + ends[1]).sum(dim=-1, keepdim=True)
        slope = (ends[1] - ends[0]) / _width(low, high) / touch
        start = (touch.log() + ends[0].sum(dim=-1, keepdim=True) / touch - 1.0 + unit).squeeze(-1)
        start = start - (slope * low).sum(dim=-1) + self.layer.margin(out_high.T).T
        start = start + ROUNDING * (slope * low).abs().sum(dim=-1)
        least, greatest = _range(slope, start, low, high)
        flat = ~(least + greatest <= 2.0 * out_high)
        return torch.where(flat.unsqueeze(-1), 0.0, slope), torch.where(flat, out_high, start)

    def _term(self, x: Tensor) -> Tensor:
        mean, inverse_std, peak = self.constants
        return peak - 0.5 * ((x - mean) * inverse_std).square()


def _times(share: Tensor, value: Tensor) -> Tensor:
    """The product, where a share of 0 counts for nothing even of infinite values."""
    return torch.where(share == 0.0, 0.0, share * value)


def _width(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=torch.finfo(low.dtype).tiny)


def _range(slope: Tensor, start: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of linear functions between ends, (B, J)."""
    middle = (slope * (0.5 * (low + high))).sum(dim=-1) + start
    reach = (slope.abs() * (0.5 * (high - low))).sum(dim=-1)
    return middle - reach, middle + reach
