"""Enclosures of the gradient of the output on boxes of inputs, by interval arithmetic.

Let r be the responsibilities and tau_jk = -(z_k - mean_jk) / std_jk**2 the slope of a term. A neuron's
gradient is v_jk = r_jk tau_jk. Backward through the layers, the derivative of the output with respect to unit
k of a layer is adjoint_k = sum_j adjoint_j v_jk. Training has the same sums, of numbers.

Products and sums are rounded outward by 2**-40 of their magnitudes, thousands of times more than their few
operations can lose. Taught in chapter 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ugmm_tutorial.inference.bounds import LayerBounds
from ugmm_tutorial.inference.network import EPS, Layer

__all__ = ["gradient_bounds", "responsibility_bounds"]

_SLACK = 2.0**-40
_TINY = 1e-290  # in place of numbers that underflow

Interval = tuple[Tensor, Tensor]


def responsibility_bounds(layer: Layer, bounds: LayerBounds) -> Interval:
    """Bounds (J, K, B) on the responsibilities: the upper one takes a component's own term high and the
    others low, the lower one the opposite."""
    largest = bounds.term_high.amax(dim=1, keepdim=True).clamp(min=-1e300)
    high, low = torch.exp(bounds.term_high - largest), torch.exp(bounds.term_low - largest)
    sum_high, sum_low = high.sum(dim=1, keepdim=True), low.sum(dim=1, keepdim=True)
    # Rounding error of the subtractions. Beside high + others_low it is negligible; others_high needs it.
    lost = 4.0 * EPS * (layer.mean.shape[1] + 2) * sum_high
    others_low, others_high = (sum_low - low).clamp_(min=0.0), (sum_high - high).clamp_(min=0.0) + lost
    # Without underflow, the relative error of exp(t - largest) is the absolute error of its exponent.
    relative = 100.0 * layer.slack.unsqueeze(1) * (10.0 + largest.abs())
    above = ((high + _TINY) / (high + others_low + _TINY) * (1.0 + relative)).clamp_(max=1.0)
    return (low / (low + others_high) * (1.0 - relative)).clamp_(min=0.0), above


def gradient_bounds(layers: Sequence[Layer], bounds: Sequence[LayerBounds]) -> Interval:
    """Bounds (K, B) on the gradient of a network with one output, with respect to its inputs.

    ``bounds`` are those of its layers on the same boxes. Where a box is so large that numbers overflow, the
    bounds are minus and plus infinity.
    """
    one = torch.ones_like(bounds[-1].out_low)
    adjoint: Interval = (one, one)
    for layer, bound in zip(reversed(layers), reversed(bounds), strict=True):
        precision = layer.inverse_std**2
        slope = (layer.mean - bound.high) * precision, (layer.mean - bound.low) * precision
        product = _scaled(responsibility_bounds(layer, bound), slope)
        adjoint = _sum(_times((adjoint[0].unsqueeze(1), adjoint[1].unsqueeze(1)), product))
    unbounded = adjoint[0].isnan() | adjoint[1].isnan()
    return adjoint[0].masked_fill(unbounded, -math.inf), adjoint[1].masked_fill(unbounded, math.inf)


def _scaled(share: Interval, other: Interval) -> Interval:
    """Product of two intervals, the first of them non-negative."""
    low = torch.minimum(share[0] * other[0], share[1] * other[0])
    return low, torch.maximum(share[0] * other[1], share[1] * other[1])


def _times(a: Interval, b: Interval) -> Interval:
    """Product of two intervals."""
    p, q, r, s = a[0] * b[0], a[0] * b[1], a[1] * b[0], a[1] * b[1]
    return (
        torch.minimum(torch.minimum(p, q), torch.minimum(r, s)),
        torch.maximum(torch.maximum(p, q), torch.maximum(r, s)),
    )


def _sum(terms: Interval) -> Interval:
    """Sum over dimension 0, rounded outward."""
    slack = _SLACK * torch.maximum(terms[0].abs(), terms[1].abs()).sum(dim=0)
    return terms[0].sum(dim=0) - slack, terms[1].sum(dim=0) + slack
