"""Do linear relaxations close more boxes than the mean-value bound? A comparison for chapter 11.

A linear relaxation carries a plane above and a plane below every unit over the box, from layer to layer. A
Gaussian term is concave in its input, so a tangent lies above it and a chord below it. For the upper plane,
chords replace the exponentials of planes, and a tangent replaces the logarithm of their sum. For the lower
plane, a tangent plane replaces the convex logsumexp. This is the idea of CROWN (Zhang et al. 2018), applied
to mixture neurons. Rounding is ignored, because the bounds serve for comparison and not as certificates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ugmm_tutorial.experiments.studies import mpe as explanations
from ugmm_tutorial.inference import mpe
from ugmm_tutorial.inference.bounds import LayerBounds, output_bounds
from ugmm_tutorial.inference.derivatives import gradient_bounds
from ugmm_tutorial.inference.network import Layer, evaluate, layers_of
from ugmm_tutorial.training.threads import one_thread

__all__ = ["SETTINGS", "linear_bound", "mean_value_bound", "measure"]

SETTINGS: dict = {
    "networks": explanations.SETTINGS["batch_sizes"],
    "widths": [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001],  # of the boxes, as fractions of the data's range
    "near": 10.0,  # centres of boxes near the optimum fill a range of this many widths around it
    "boxes": 1000,
    "points": 50,
    "seed": 0,
}


class _Plane(NamedTuple):
    """``value + slope . (x - middle)``: slope (units, n, B) and value (units, B) at the middle of the box."""

    slope: Tensor
    value: Tensor


def measure(settings: dict, progress: bool) -> dict:
    """For each network and place (anywhere, near the optimum), a list over the widths.

    Each entry has three measures for each bound. ``excess`` is how far the bound lies above the best of some
    points: the median over the boxes, in nats. ``closed`` is the share of boxes in which the interval bound,
    alone or together with this one, rules out anything better than the optimum. ``violations`` is the number
    of boxes in which the bound lies below the best of the points.
    """
    rows = explanations.iris_rows()
    sides = torch.tensor(explanations.ranges(rows), dtype=torch.float64)
    results = {}
    for name, size in settings["networks"].items():
        net = explanations.trained([5, 10, 5, 1], rows, size, explanations.SETTINGS)
        with one_thread(), torch.no_grad():
            best = mpe(net, {}, range(5), sides.tolist())
            layers = layers_of(net)
            results[name] = {
                place: [
                    _compared(layers, _boxes(sides, width, centre, settings), best.value, settings)
                    for width in settings["widths"]
                ]
                for place, centre in (("anywhere", None), ("near the optimum", best.point))
            }
    return results


def linear_bound(layers: Sequence[Layer], bounds: Sequence[LayerBounds], low: Tensor, high: Tensor) -> Tensor:
    """Upper bounds (B,) on a network with one output over boxes ``[low, high]``, each (K, B)."""
    half = 0.5 * (high - low)
    identity = torch.eye(len(low), dtype=low.dtype).unsqueeze(-1).expand(-1, -1, low.shape[1])
    below = above = _Plane(identity, 0.5 * (low + high))
    for layer, bound in zip(layers[:-1], bounds[:-1], strict=True):
        highest, lowest = _above(layer, bound, below, above), _below(layer, bound, below, above)
        below, above = _tangent_below(lowest), _logarithm(*_exponentials(highest, half))
    shift, total = _exponentials(_above(layers[-1], bounds[-1], below, above), half)
    return shift[0] + (total.value + _reach(total, half)).log()[0]


def mean_value_bound(
    layers: Sequence[Layer], bounds: Sequence[LayerBounds], low: Tensor, high: Tensor
) -> Tensor:
    """The mean-value bound of the branch and bound, from the middle of each box, (B,)."""
    least, most = gradient_bounds(layers, bounds)
    rise = torch.maximum(most.clamp(min=0.0), (-least).clamp(min=0.0)) * 0.5 * (high - low)
    return evaluate(layers, 0.5 * (low + high))[0] + rise.sum(dim=0)


def _above(layer: Layer, bound: LayerBounds, below: _Plane, above: _Plane) -> _Plane:
    """Planes above the terms (J, K): tangents at the middle of each input's interval."""
    precision = layer.inverse_std**2
    point = 0.5 * (bound.low + bound.high)
    away = point - layer.mean
    slope = -away * precision
    rising = slope >= 0.0
    # Where the tangent rises, bound its input by the plane above it; where it falls, by the plane below it.
    z = torch.where(rising, above.value, below.value)
    value = layer.log_peak - 0.5 * away * away * precision + slope * (z - point)
    planes = torch.where(rising.unsqueeze(2), above.slope, below.slope)
    return _Plane(slope.unsqueeze(2) * planes, value)


def _below(layer: Layer, bound: LayerBounds, below: _Plane, above: _Plane) -> _Plane:
    """Planes below the terms: chords over each input's interval."""
    precision = layer.inverse_std**2
    ends = [layer.log_peak - 0.5 * (z - layer.mean) ** 2 * precision for z in (bound.low, bound.high)]
    width = bound.high - bound.low
    slope = torch.where(width > 1e-12, (ends[1] - ends[0]) / width.clamp(min=1e-300), 0.0)
    start = torch.where(width > 1e-12, ends[0], torch.minimum(*ends))
    rising = slope >= 0.0
    z = torch.where(rising, below.value, above.value)
    planes = torch.where(rising.unsqueeze(2), below.slope, above.slope)
    return _Plane(slope.unsqueeze(2) * planes, start + slope * (z - bound.low))


def _reach(plane: _Plane, half: Tensor) -> Tensor:
    """How far a plane rises within the box above its value at the middle."""
    return (plane.slope.abs() * half).sum(dim=-2)


def _exponentials(planes: _Plane, half: Tensor) -> tuple[Tensor, _Plane]:
    """A plane above the sum of exponentials of planes, from chords, and the shift that scales it.

    The second result bounds the sum divided by exp(first result).
    """
    reach = _reach(planes, half)
    shift = (planes.value + reach).amax(dim=1)
    low, high = (torch.exp(planes.value + r - shift.unsqueeze(1)) for r in (-reach, reach))
    chord = torch.where(reach > 1e-12, (high - low) / (2.0 * reach).clamp(min=1e-300), high)
    value = torch.where(reach > 1e-12, 0.5 * (low + high), high)
    return shift, _Plane((chord.unsqueeze(2) * planes.slope).sum(dim=1), value.sum(dim=1))


def _logarithm(shift: Tensor, total: _Plane) -> _Plane:
    """A plane above the logarithm, which is concave: its tangent."""
    return _Plane(total.slope / total.value.unsqueeze(1), total.value.log() + shift)


def _tangent_below(planes: _Plane) -> _Plane:
    """A plane below the logsumexp, which is convex: its tangent plane at the middle."""
    value = torch.logsumexp(planes.value, dim=1)
    share = torch.exp(planes.value - value.unsqueeze(1))
    return _Plane((share.unsqueeze(2) * planes.slope).sum(dim=1), value)


def _boxes(sides: Tensor, width: float, centre: Tensor | None, settings: dict) -> tuple[Tensor, Tensor]:
    """Random boxes (K, B) of one width, anywhere in the data's range or near a point, clipped to it."""
    generator = torch.Generator().manual_seed(settings["seed"])
    low, high = sides[:, :1], sides[:, 1:]
    share = torch.rand(len(sides), settings["boxes"], generator=generator, dtype=torch.float64)
    middle = low + (high - low) * share
    if centre is not None:
        middle = centre.unsqueeze(1) + settings["near"] * width * (high - low) * (share - 0.5)
        middle = torch.minimum(torch.maximum(middle, low), high)
    half = 0.5 * width * (high - low)
    return torch.maximum(middle - half, low), torch.minimum(middle + half, high)


def _compared(
    layers: Sequence[Layer], boxes: tuple[Tensor, Tensor], optimum: float, settings: dict
) -> dict[str, dict]:
    low, high = boxes
    generator = torch.Generator().manual_seed(settings["seed"])
    share = torch.rand(*low.shape, settings["points"], generator=generator, dtype=torch.float64)
    points = (low.unsqueeze(2) + (high - low).unsqueeze(2) * share).flatten(1)
    highest = evaluate(layers, points)[0].unflatten(0, (low.shape[1], -1)).amax(dim=1)
    layer_bounds = output_bounds(layers, low, high)
    interval = layer_bounds[-1].out_high[0]
    bounds = {
        "interval": interval,
        "mean value": mean_value_bound(layers, layer_bounds, low, high),
        "linear": linear_bound(layers, layer_bounds, low, high),
    }
    return {
        "excess": {name: (bound - highest).median().item() for name, bound in bounds.items()},
        "closed": {
            name: (torch.minimum(interval, bound) < optimum).double().mean().item()
            for name, bound in bounds.items()
        },
        "violations": {name: int((bound < highest - 1e-9).sum()) for name, bound in bounds.items()},
    }
