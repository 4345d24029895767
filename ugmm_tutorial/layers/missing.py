"""Missing inputs, which are NaN: refused, or their components left out.

An input that is not there has no term in the sum, and what is left may be divided by the weight that is left.
This is a heuristic, which works best where components were dropped in training. The smoothed neurons of
``ugmm_tutorial.density`` are normalised, so they know the exact marginal: a missing input keeps its weight
there, with a ratio of one.

Taught in the chapter *When inputs break*.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from ugmm_tutorial.functional import under_functorch
from ugmm_tutorial.kernels.arguments import autocasts, tensor

__all__ = ["MISSING", "absent_inputs", "can_look", "divided", "sums_of"]

#: What a NaN does: it spoils its outputs, raises, loses its components, or also scales up the others.
MISSING = ("propagate", "error", "drop", "renormalize")


def absent_inputs(x: Tensor, missing: str) -> Tensor | None:
    """Which inputs are missing, booleans of the shape of ``x``; None if it makes no difference.

    Raises:
        ValueError: ``missing`` is ``"error"`` and an input is NaN.
    """
    if missing == "propagate":
        return None
    absent = tensor("x", x).isnan()
    if missing == "error":
        if can_look(x) and bool(absent.any()):
            place = tuple(absent.nonzero()[0].tolist())
            raise ValueError(
                f"expected no missing inputs, got NaN in {int(absent.sum())} places, first at {place}: fill "
                "them in, or build the layer with missing='drop' or 'renormalize'"
            )
        return None
    # A look at the values would wait for a GPU. Leaving out nothing is right, too.
    looked = x.device.type == "cpu" and can_look(x)
    return None if looked and not bool(absent.any()) else absent


def can_look(x: Tensor) -> bool:
    """Whether code may depend on the values of ``x``: not if it is compiled, exported or inside vmap."""
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing() or under_functorch(x))


def sums_of(weight: Tensor, absent: Tensor) -> Tensor:
    """The sums of the weights (J, K) whose inputs are not absent, ``(*, J)``, never in half precision."""
    device = absent.device.type
    with torch.autocast(device, enabled=False) if autocasts(device) else nullcontext():
        return (~absent).to(weight.dtype) @ weight.T


def divided(out: Tensor, weight_left: Tensor) -> Tensor:
    """Outputs in nats, divided by the part of the weight that is left; 0 where none is."""
    nothing = weight_left <= 0.0
    return (out - weight_left.masked_fill(nothing, 1.0).log()).masked_fill(nothing, 0.0)
