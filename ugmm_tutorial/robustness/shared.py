"""The worst that m changed inputs can do to a weighted sum of a layer's outputs, with one adversary for all.

A lower bound of sum_j a_j log S_j, where each S_j moves by a sum over the changed inputs, the same inputs and
values for every neuron:

- Where a_j < 0, the logarithm lies below its tangent.
- Where a_j > 0, it lies above its chord between the smallest possible S_j and the clean one, and above the
  clean value beyond.

Both are sums over inputs. So the bound falls apart into one function of one variable for each input, and the
m smallest minima count. The minima are bounded on cells between grid points, where every term lies between
two straight lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ugmm_tutorial.inference.network import Layer
from ugmm_tutorial.robustness.layer import Terms

__all__ = ["Cells", "worst_case_sum"]

# The greatest positive curvature of exp(-z**2 / 2), at z**2 = 3.
_CONVEX = 2.0 * math.exp(-1.5)
# Quantiles of the terms at which a grid over the whole line has its points, in standard deviations.
_PLACES = (-6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Cells:
    """Straight lines below and above every term on every cell, in units of the neuron's highest peak.

    ``low`` and ``high`` are (J, K * E): values at the E ends of all cells, two for each.
    ``log_unit`` is (J,).
    """

    low: Tensor
    high: Tensor
    log_unit: Tensor

    @staticmethod
    def of(layer: Layer, box: tuple[Tensor, Tensor] | None, cells: int) -> Cells:
        """Cells that cover the box, or the whole line."""
        mean, inverse_std, peak = (a.squeeze(-1) for a in (layer.mean, layer.inverse_std, layer.log_peak))
        log_unit = peak.amax(dim=1)
        height = torch.exp(peak - log_unit.unsqueeze(1)).unsqueeze(-1)  # (J, K, 1)
        points = _points(mean, inverse_std, box, cells)  # (K, cells + 1)
        z = (points - mean.unsqueeze(-1)) * inverse_std.unsqueeze(-1)  # (J, K, cells + 1)
        value = height * torch.exp(-0.5 * z.square())
        nearest, farthest = _distances(z)
        low, high = _lines(z, value, height * torch.exp(-0.5 * nearest.square()), nearest, farthest, height)
        if box is None:
            # Beyond the last points every term lies between 0 and its value there, or its peak.
            for end in (z[..., :1].clamp(max=0.0), z[..., -1:].clamp(min=0.0)):
                low.append(torch.zeros_like(height))
                high.append(height * torch.exp(-0.5 * end.square()))
        return Cells(torch.cat(low, dim=-1).flatten(1), torch.cat(high, dim=-1).flatten(1), log_unit)


def _distances(z: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest distance from 0 in every cell between neighbours of ``z``."""
    left, right = z[..., :-1], z[..., 1:]
    inside = (left <= 0.0) & (right >= 0.0)
    ends = left.abs(), right.abs()
    return torch.where(inside, 0.0, torch.minimum(*ends)), torch.maximum(*ends)


def _lines(
    z: Tensor, value: Tensor, top: Tensor, nearest: Tensor, farthest: Tensor, height: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Values at the left and the right ends of the cells, of lines below and above the terms.

    Of the lines that hold, each cell has the one with the best mean: a constant; the chord, moved by the
    greatest curvature; the tangent in the middle, where the term curves one way only. A line may go below 0.
    Cut off there it would be no line any more, and not a bound.
    """
    left, right, half = value[..., :-1], value[..., 1:], 0.5 * (z[..., 1:] - z[..., :-1])
    # A function lies no farther from its chord than width**2 / 8 times its greatest second derivative.
    above = 0.5 * half.square() * top * (1.0 - nearest.square()).clamp(min=0.0)
    below = (
        0.5 * half.square() * torch.minimum(top * (farthest.square() - 1.0).clamp(min=0.0), height * _CONVEX)
    )
    middle = 0.5 * (z[..., 1:] + z[..., :-1])
    touched = height * torch.exp(-0.5 * middle.square())
    tilt = middle * touched * half
    tangent = (touched + tilt, touched - tilt)
    least = torch.minimum(left, right)
    lower = [(least, least), (left - below, right - below), tangent]
    upper = [(top, top), (left + above, right + above), tangent]
    convex, concave = nearest >= 1.0, farthest <= 1.0
    return _best(lower, convex, torch.gt), _best(upper, concave, torch.lt)


def _best(
    lines: list[tuple[Tensor, Tensor]], tangent_holds: Tensor, better: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """The line with the best mean; the last counts only where it holds."""
    start, stop = lines[0]
    for number, (left, right) in enumerate(lines[1:], 1):
        taken = better(left + right, start + stop)
        if number == len(lines) - 1:
            taken &= tangent_holds
        start, stop = torch.where(taken, left, start), torch.where(taken, right, stop)
    return [start, stop]


def worst_case_sum(
    cells: Cells,
    terms: Terms,
    out_low: Tensor,
    out_high: Tensor,
    weight: Tensor,
    changed: int,
    tangent: float,
) -> Tensor:
    """Lower bounds of ``weight @ outputs`` minus its value at the clean inputs, (B, P).

    Args:
        cells: of the layer.
        terms: of B examples.
        out_low, out_high: the worst cases of each output alone, (B, J).
        weight: P weighted sums for each example, (B, P, J).
        changed: m.
        tangent: where the logarithm is touched, as a part of the way from the clean sum to the greatest one.
    """
    out = torch.logsumexp(terms.clean, dim=-1)  # (B, J)
    rise = torch.expm1((out_high - out).clamp(max=700.0)) * tangent  # q: the tangent touches at S (1 + q)
    lost = -torch.expm1(out_low - out)  # d / S
    chord = torch.where(lost > 0.0, (out - out_low) / lost, 1.0)
    falling, rising = weight.clamp(max=0.0), weight.clamp(min=0.0)
    constant = (falling * (torch.log1p(rise) - rise / (1.0 + rise)).unsqueeze(1)).sum(dim=-1)  # (B, P)
    slope_down, slope_up = falling / (1.0 + rise).unsqueeze(1), rising * chord.unsqueeze(1)
    each = range(len(out))
    harm = torch.stack([_minima(cells, terms.clean[b], out[b], slope_down[b], slope_up[b]) for b in each])
    harm = harm.nan_to_num(nan=-math.inf, neginf=-math.inf)  # where a sum underflows, nothing is promised
    worst = harm.topk(changed, dim=-1, largest=False).values.sum(dim=-1)
    return constant + worst


def _minima(cells: Cells, clean: Tensor, out: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """For one example, the minimum over an input's values of what its change does: (P, K), never above 0."""
    neurons, inputs = clean.shape
    scale = torch.exp(cells.log_unit - out).unsqueeze(1)  # from the cells' unit to that of S
    share = torch.exp(clean - out.unsqueeze(1))  # phi / S, (J, K)
    ends = cells.low.shape[1] // inputs
    change = torch.sub((cells.low * scale).view(neurons, inputs, ends), share.unsqueeze(-1)).clamp_(max=0.0)
    harm = up @ change.flatten(1)
    harm += (
        torch.where(down == 0.0, 0.0, down * scale.T) @ cells.high
    )  # a far neuron may have an infinite scale
    harm = harm.view(-1, inputs, ends).amin(dim=-1) - down @ share
    return harm.clamp(max=0.0)


def _points(mean: Tensor, inverse_std: Tensor, box: tuple[Tensor, Tensor] | None, cells: int) -> Tensor:
    """Ends of cells, (K, cells + 1), in increasing order."""
    part = torch.linspace(0.0, 1.0, cells + 1, dtype=mean.dtype)
    if box is not None:
        points = torch.lerp(box[0].unsqueeze(-1), box[1].unsqueeze(-1), part)
        points[:, -1] = box[1]
        return points
    places = torch.tensor(_PLACES, dtype=mean.dtype).view(-1, 1, 1)
    every = (mean + places / inverse_std).flatten(0, 1).sort(dim=0).values  # (11 J, K)
    return every[(part * (len(every) - 1)).round().long()].T
