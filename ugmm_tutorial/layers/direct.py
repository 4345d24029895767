"""A layer's forward pass as one kernel instead of a dozen operations, where this is possible.

Bounds, softmax and dropout are part of the kernel then. Outputs and gradients are those of the layer's own
methods, up to rounding. So are second derivatives, except beyond a bound of the deviations: there the
gradient is a rule without a derivative, and what a second one finds depends on how the sums are split.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ugmm_tutorial.kernels import eager
from ugmm_tutorial.kernels.reference import reference_log_density
from ugmm_tutorial.kernels.transform import DROPPED_FIRST, Transform
from ugmm_tutorial.layers.limits import bounded
from ugmm_tutorial.layers.masks import written_out
from ugmm_tutorial.layers.missing import divided

if TYPE_CHECKING:
    from ugmm_tutorial.layers.dense import MixtureLayer

__all__ = ["computes_as", "log_density", "specification"]


def log_density(
    layer: MixtureLayer,
    x: Tensor,
    kind: type[MixtureLayer],
    *,
    missing: bool = False,
    index: Tensor | None = None,
    transform: Transform | None = None,
) -> Tensor | None:
    """Outputs of the layer, ``(*, K)`` to ``(*, J)``; None if only its own methods can tell them.

    Args:
        layer: computes as ``kind`` does, or is left to its own methods.
        x: inputs.
        kind: the class whose outputs the kernel computes.
        missing: whether inputs that are NaN are left out, as the layer's option says.
        index: the inputs that each neuron reads, (J, m); None: all of them.
        transform: bounds, softmax and dropout, if they are not those of the layer.
    """
    if not (eager.ordinary() and _as_built(type(layer), kind)):
        return None
    parameters = (layer.mean, layer.log_std, layer.mix_logits)
    fits = eager.takes(layer.backend, x, *parameters, index=index)
    if not fits or x.shape[-1] != layer.in_features:  # a sparse layer may name none of the last inputs
        return None
    if transform is None:
        mode, penalty = layer.dropout_penalty() if layer.drops else (DROPPED_FIRST, None)
        divides = missing and layer.missing == "renormalize"
        transform = Transform(mode, penalty, *layer.log_std_bounds, missing=missing, divides=divides)
    reference = partial(specification, transform, index)
    return eager.log_density(x, *parameters, index=index, transform=transform, reference=reference)


def specification(
    transform: Transform,
    index: Tensor | None,
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    logits: Tensor,
    *_: None,
) -> Tensor:
    """What the kernel computes, written with PyTorch's operations."""
    penalty: Tensor | float = 0.0 if transform.penalty is None else transform.penalty
    if transform.masks is not None:
        penalty = penalty + written_out(transform.masks, logits)
    first = transform.mode == DROPPED_FIRST
    log_weight = torch.log_softmax(logits + penalty if first else logits, dim=-1)
    log_weight = log_weight if first else log_weight + penalty
    # Every neuron is a layer, which reads its own inputs.
    std = bounded(log_std, transform.low, transform.high)
    each = mean.unsqueeze(-2), std.unsqueeze(-2), log_weight.unsqueeze(-2)
    read = x.unsqueeze(-2) if index is None else x[..., index]
    if not transform.missing:
        return reference_log_density(read, *each).squeeze(-1)
    absent = read.isnan()
    background = torch.zeros_like(read).masked_fill_(absent, math.inf)
    out = reference_log_density(read.masked_fill(absent, 0.0), *each, background).squeeze(-1)
    left = ((~absent).to(out.dtype) * torch.softmax(log_weight, dim=-1)).sum(dim=-1)
    return divided(out, left) if transform.divides else out


def computes_as(own: type[MixtureLayer], kind: type[MixtureLayer]) -> bool:
    """Whether a class computes its outputs as another, so that no method of its own would be passed by."""
    names = "log_density log_weight dropped_log_weight bounded_log_std log_std_bounds dropout_penalty drops"
    return all(getattr(own, name) is getattr(kind, name) for name in (*names.split(), "weight_left"))


_as_built = cache(computes_as)  # for code that runs step by step: compilers do not look through a cache
