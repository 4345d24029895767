"""What changed inputs can do to one layer: exact bounds on its outputs.

A neuron's output is log S with S = sum over k of phi_k(x_k), and every term lies between 0 and its peak.
Whatever happens to some inputs, only their terms change, so S stays within computable limits. An ordinary
neuron has none: a single input moves it as far as it likes.

In robust statistics, a layer of mixtures has a redescending influence function and a finite gross-error
sensitivity (Hampel, Ronchetti, Rousseeuw and Stahel, 1986, *Robust Statistics*).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ugmm_tutorial.arrays import numbers
from ugmm_tutorial.inference.network import Layer, layers_of
from ugmm_tutorial.kernels.arguments import integer, numbers_in, shown
from ugmm_tutorial.layers import UGMMLayer

__all__ = [
    "Box",
    "Terms",
    "arguments",
    "bounds_if_changed",
    "checked_box",
    "checked_ends",
    "in_parts",
    "influence",
    "log_difference",
    "worst_case_bounds",
]

#: Lower and upper ends of the values that a changed input can take: numbers, or tensors (K,).
Box = tuple[float | Tensor, float | Tensor]

# Elements of a (B, J, K) tensor that is computed at once.
_AT_ONCE = 2**24


@dataclass(frozen=True)
class Terms:
    """Logarithms of the terms of B examples, (B, J, K) each: as they are, and their least and greatest.

    ``low`` and ``high`` are taken over the values that a changed input can have, and its own.
    """

    clean: Tensor
    low: Tensor
    high: Tensor

    @staticmethod
    def of(layer: Layer, x: Tensor, box: tuple[Tensor, Tensor] | None) -> Terms:
        """The terms at ``x``, (B, K). Without a box, a changed input can be any number."""
        mean, inverse_std, peak = (a.squeeze(-1) for a in (layer.mean, layer.inverse_std, layer.log_peak))
        clean = _term(x.unsqueeze(1) - mean, inverse_std, peak)
        if box is None:
            return Terms(clean, torch.full_like(clean, -math.inf), peak.expand_as(clean))
        below, above = box[0] - mean, box[1] - mean
        farthest, nearest = torch.maximum(-below, above), torch.maximum(below, -above).clamp(min=0.0)
        return Terms(
            clean,
            torch.minimum(_term(farthest, inverse_std, peak), clean),
            torch.maximum(_term(nearest, inverse_std, peak), clean),
        )

    def take(self, which: Tensor) -> Terms:
        """The terms of some examples."""
        return Terms(self.clean[which], self.low[which], self.high[which])

    def drop(self) -> Tensor:
        """Logarithm of how far each term can fall, (B, J, K)."""
        return log_difference(self.clean, self.low)

    def gain(self) -> Tensor:
        """Logarithm of how far each term can rise, (B, J, K)."""
        return log_difference(self.high, self.clean)


def bounds_if_changed(
    layer: UGMMLayer, x: Tensor, changed: Tensor, *, box: Box | None = None
) -> tuple[Tensor, Tensor]:
    """Exact bounds on the outputs if the named inputs take any values at all.

    Args:
        layer: a uGMM layer; dropout is ignored.
        x: the inputs, ``(*, K)``, finite.
        changed: which inputs change, booleans that broadcast to the shape of ``x``. Each of them may also
            keep its value.
        box: the least and the greatest value of a changed input; None stands for the whole line.

    Returns:
        Lower and upper bounds of the outputs, ``(*, J)`` each, float64, in nats. Both are approached, up to
        rounding, for which they are moved outward.

    Raises:
        TypeError: the layer is not a uGMM layer, or ``changed`` is not boolean.
        ValueError: shapes do not fit, an input is not finite, or the box is empty.

    >>> layer = UGMMLayer(4, 2)
    >>> low, high = bounds_if_changed(layer, torch.zeros(4), torch.tensor([True, False, False, False]))
    >>> bool((low < layer(torch.zeros(4))).all() and (layer(torch.tensor([9.0, 0, 0, 0])) < high).all())
    True
    """
    if numbers_in("changed", changed, floating=False, finite=False).dtype != torch.bool:
        raise TypeError(f"expected changed to be boolean, got {changed.dtype}")
    constants, rows, ends = arguments(layer, x, box)
    if changed.dim() > x.dim() or any(
        a not in (1, b) for a, b in zip(changed.shape[::-1], x.shape[::-1], strict=False)
    ):
        raise ValueError(
            f"expected changed to fit the shape of x, {tuple(x.shape)}, got {tuple(changed.shape)}"
        )
    which = changed.expand(x.shape).reshape(rows.shape)
    found = []
    for some, mask in zip(in_parts(constants, rows), in_parts(constants, which), strict=True):
        terms, changes = Terms.of(constants, some, ends), mask.unsqueeze(1)
        found.append(
            (torch.where(changes, terms.low, terms.clean), torch.where(changes, terms.high, terms.clean))
        )
    return _outward(constants, found, x)


def worst_case_bounds(
    layer: UGMMLayer, x: Tensor, changed: int, *, box: Box | None = None
) -> tuple[Tensor, Tensor]:
    """Exact bounds on each output if any ``changed`` inputs take any values, the worst ones for this output.

    Args:
        layer: a uGMM layer; dropout is ignored.
        x: the inputs, ``(*, K)``, finite.
        changed: how many inputs may change, 0 to K.
        box: the least and the greatest value of a changed input; None stands for the whole line.

    Returns:
        Lower and upper bounds of the outputs, ``(*, J)`` each, float64, in nats. Each is approached, up to
        rounding, by some choice of inputs and values; different outputs may need different choices. With all
        inputs changed on the whole line, the lower bound is -inf.

    Raises:
        TypeError: the layer is not a uGMM layer.
        ValueError: shapes do not fit, an input is not finite, ``changed`` is out of range, or the box is
            empty.

    >>> low, high = worst_case_bounds(UGMMLayer(4, 2), torch.zeros(3, 4), 2)
    >>> low.shape, bool((low < high).all())
    (torch.Size([3, 2]), True)
    """
    constants, rows, ends = arguments(layer, x, box)
    changed = integer("changed", changed, 0, rows.shape[1])
    found = []
    for some in in_parts(constants, rows):
        terms = Terms.of(constants, some, ends)
        found.append((_exchanged(terms, terms.drop(), terms.low, changed),
                      _exchanged(terms, terms.gain(), terms.high, changed)))  # fmt: skip
    return _outward(constants, found, x)


def influence(layer: UGMMLayer, x: Tensor, *, box: Box | None = None) -> tuple[Tensor, Tensor]:
    """How far each single input can move each output: the greatest fall and the greatest rise, in nats.

    With responsibility R and peak c of the input's term, these are ``log(1 - R)`` and
    ``log(1 - R + c / S)`` on the whole line. For a linear neuron both are infinite.

    Args, Raises:
        as for :func:`worst_case_bounds`.

    Returns:
        Falls (never above 0) and rises (never below 0), ``(*, J, K)`` each, float64.

    >>> fall, rise = influence(UGMMLayer(4, 2), torch.zeros(4))
    >>> fall.shape, bool((fall <= 0).all() and (rise >= 0).all())
    (torch.Size([2, 4]), True)
    """
    constants, rows, ends = arguments(layer, x, box)
    falls, rises = [], []
    for some in in_parts(constants, rows):
        terms = Terms.of(constants, some, ends)
        out = torch.logsumexp(terms.clean, dim=-1, keepdim=True)
        others = _logsumexp_of_others(terms.clean)
        falls.append((torch.logaddexp(others, terms.low) - out).clamp(max=0.0))
        rises.append((torch.logaddexp(others, terms.high) - out).clamp(min=0.0))
    shape = (*x.shape[:-1], *constants.mean.shape[:2])
    return torch.cat(falls).reshape(shape), torch.cat(rises).reshape(shape)


# --- arguments --------------------------------------------------------------------------------------


def arguments(
    layer: UGMMLayer, x: Tensor, box: Box | None
) -> tuple[Layer, Tensor, tuple[Tensor, Tensor] | None]:
    """The layer's constants, the rows (B, K) and the box's ends (K,), float64, checked."""
    constants, *more = layers_of(layer, "layer")
    if more:
        raise TypeError(f"expected layer to be one uGMM layer, got a stack of {1 + len(more)}")
    inputs = constants.mean.shape[1]
    if numbers_in("x", x, floating=False, finite=False).shape[-1:] != (inputs,):
        raise ValueError(f"expected x of shape (*, {inputs}), got {tuple(x.shape)}")
    rows = x.detach().double().cpu().reshape(-1, inputs)
    if not rows.isfinite().all():
        raise ValueError("expected x to be finite, got inf or NaN")
    return constants, rows, checked_box(box, inputs)


def checked_box(box: Box | None, inputs: int) -> tuple[Tensor, Tensor] | None:
    """The ends as tensors (K,), float64."""
    return None if box is None else checked_ends(box, inputs)


def checked_ends(box: Box, inputs: int) -> tuple[Tensor, Tensor]:
    """The same for a box that is there."""
    pair = isinstance(box, Sequence | Tensor | np.ndarray) and not isinstance(box, str)
    if not pair or getattr(box, "ndim", 1) == 0 or len(box) != 2:
        raise ValueError(f"expected box to be (low, high), its least and greatest values, got {shown(box)}")
    low, high = (
        torch.from_numpy(numbers(f"the box's {name} end", end))
        for name, end in zip(("low", "high"), box, strict=True)
    )
    for name, end in (("low", low), ("high", high)):
        if end.dim() > 1 or end.shape not in ((), (1,), (inputs,)):
            raise ValueError(
                f"expected the box's {name} end as a number or ({inputs},), got {tuple(end.shape)}"
            )
        if not end.isfinite().all():
            raise ValueError(
                f"expected the box's {name} end to be finite, got {end}; box=None is the whole line"
            )
    low, high = low.expand(inputs), high.expand(inputs)
    if bool((low > high).any()):
        raise ValueError("expected the box's low end not to be above its high end")
    return low, high


def in_parts(layer: Layer, rows: Tensor) -> Sequence[Tensor]:
    """The rows in parts whose (B, J, K) tensors fit into memory."""
    return rows.split(max(1, _AT_ONCE // layer.mean.numel()))


# --- arithmetic -------------------------------------------------------------------------------------


def log_difference(larger: Tensor, smaller: Tensor) -> Tensor:
    """``log(exp(larger) - exp(smaller))``, -inf where they are equal."""
    gap = smaller - larger
    gap = torch.where(gap.isnan(), 0.0, gap)  # both are -inf
    return larger + torch.log(-torch.expm1(gap.clamp(max=0.0)))


def _term(distance: Tensor, inverse_std: Tensor, peak: Tensor) -> Tensor:
    return peak - 0.5 * (distance * inverse_std).square()


def _exchanged(terms: Terms, size: Tensor, instead: Tensor, changed: int) -> Tensor:
    """The terms after the ``changed`` largest changes of each neuron."""
    if changed == 0:
        return terms.clean
    largest = size.topk(changed, dim=-1).indices
    return terms.clean.scatter(-1, largest, instead.gather(-1, largest))


def _logsumexp_of_others(terms: Tensor) -> Tensor:
    """logsumexp over all terms but one, for each of them, without subtracting: (B, J, K)."""
    nothing = torch.full_like(terms[..., :1], -math.inf)
    before = torch.logcumsumexp(torch.cat([nothing, terms[..., :-1]], dim=-1), dim=-1)
    after = torch.logcumsumexp(torch.cat([nothing, terms[..., 1:].flip(-1)], dim=-1), dim=-1).flip(-1)
    return torch.logaddexp(before, after)


def _outward(layer: Layer, ends: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> tuple[Tensor, Tensor]:
    """The logsumexp of lower and upper terms, moved outward by the rounding error."""
    low, high = (torch.cat([torch.logsumexp(part[side], dim=-1) for part in ends]) for side in (0, 1))
    # An output that overflows to -inf is below -1e300 but finite.
    high = high.clamp(min=-1e300)
    shape = (*x.shape[:-1], layer.mean.shape[0])
    margins = [layer.margin(end.T.clamp(min=-1e300)).T for end in (low, high)]
    return (low - margins[0]).reshape(shape), (high + margins[1]).reshape(shape)
