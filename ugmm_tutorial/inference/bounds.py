"""Interval bounds: lower and upper bounds on a network's outputs over a box of inputs.

A term of layer 1 is largest at the point of ``[low, high]`` nearest to its mean and smallest at the farther
end. The logsumexp grows with each of its terms, so the bounds of one neuron of layer 1 are exact. Deeper
layers use the same formula on the bounds of the layer below. Their bounds still hold but are no longer exact,
because neurons that share inputs are treated as if each could choose them independently.

All bounds hold in floating point: they are moved outward by
:meth:`~ugmm_tutorial.inference.network.Layer.margin`.

Source: Moore, Kearfott and Cloud (2009), *Introduction to Interval Analysis*. Taught in chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ugmm_tutorial.inference.network import Layer, layers_of
from ugmm_tutorial.kernels.arguments import numbers_in

__all__ = ["LayerBounds", "interval_bounds", "layer_bounds", "output_bounds"]


@dataclass(frozen=True)
class LayerBounds:
    """One layer on B boxes: lower and upper ends of inputs (K, B), terms (J, K, B) and outputs (J, B).

    The outputs are rounded outward, the terms are not.
    """

    low: Tensor
    high: Tensor
    term_low: Tensor
    term_high: Tensor
    out_low: Tensor
    out_high: Tensor

    def take(self, index: Tensor) -> LayerBounds:
        """The bounds of the boxes ``index``."""
        return LayerBounds(
            *(getattr(self, name).index_select(-1, index) for name in self.__dataclass_fields__)
        )


def interval_bounds(model: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of all outputs of a uGMM network on boxes of its inputs.

    Args:
        model: a stack of uGMM layers without LayerNorm; dropout is ignored.
        low: lower ends of the boxes, ``(*, K)``, finite.
        high: upper ends, of the same shape and nowhere below ``low``.

    Returns:
        Lower and upper bounds on the outputs over each box, ``(*, J)`` each, float64. Exact up to rounding
        for a single layer.

    Raises:
        TypeError: the model is not such a stack.
        ValueError: shapes do not fit, an end is not finite, or a box is empty.

    >>> from ugmm_tutorial import UGMMNet
    >>> [end.shape for end in interval_bounds(UGMMNet([3, 4, 2]), torch.zeros(5, 3), torch.ones(5, 3))]
    [torch.Size([5, 2]), torch.Size([5, 2])]
    """
    layers = layers_of(model)
    inputs = layers[0].mean.shape[1]
    for name, end in (("low", low), ("high", high)):
        numbers_in(name, end, floating=False, finite=False)
    if low.shape != high.shape or low.shape[-1:] != (inputs,):
        raise ValueError(
            f"expected low and high of shape (*, {inputs}), got {tuple(low.shape)} and {tuple(high.shape)}"
        )
    low, high = low.detach().double().cpu(), high.detach().double().cpu()
    if not (low.isfinite().all() and high.isfinite().all()):
        raise ValueError("expected low and high, the ends of the boxes, to be finite, got inf or NaN")
    if bool((low > high).any()):
        raise ValueError("a box is empty: expected low <= high everywhere")
    last = output_bounds(layers, low.reshape(-1, inputs).T, high.reshape(-1, inputs).T)[-1]
    shape = (*low.shape[:-1], len(last.out_low))
    return last.out_low.T.reshape(shape), last.out_high.T.reshape(shape)


def layer_bounds(layer: Layer, low: Tensor, high: Tensor) -> LayerBounds:
    """Bounds of a layer whose inputs lie in ``[low, high]``, (K, B) each."""
    below, above = low.unsqueeze(0) - layer.mean, high.unsqueeze(0) - layer.mean
    farthest = torch.maximum(below.neg(), above).mul_(layer.inverse_std)
    term_low = farthest.square_().mul_(-0.5).add_(layer.log_peak)
    nearest = torch.maximum(below, above.neg_()).clamp_(min=0.0).mul_(layer.inverse_std)
    term_high = nearest.square_().mul_(-0.5).add_(layer.log_peak)
    out_low = _logsumexp(term_low)
    # Where this overflows to -inf, the exact value is finite but below -1e300.
    out_high = _logsumexp(term_high).clamp_(min=-1e300)
    return LayerBounds(
        low, high, term_low, term_high, out_low - layer.margin(out_low), out_high + layer.margin(out_high)
    )


def output_bounds(layers: Sequence[Layer], low: Tensor, high: Tensor) -> list[LayerBounds]:
    """Bounds of every layer on B boxes ``[low, high]``, (K, B) each; the last are the network's own."""
    found: list[LayerBounds] = []
    for layer in layers:
        found.append(layer_bounds(layer, low, high))
        low, high = found[-1].out_low, found[-1].out_high
    return found


def _logsumexp(terms: Tensor) -> Tensor:
    """logsumexp over dimension 1; for short sums it takes fewer passes than torch.logsumexp."""
    largest = terms.amax(dim=1)
    # If every term overflows to -inf, the output is -inf too, not the NaN of inf - inf.
    shift = largest.clamp(min=-1e300)
    return (terms - shift.unsqueeze(1)).exp_().sum(dim=1).log_().add_(shift)
