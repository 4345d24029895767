"""A lower limit for a parameter that does not hold it for ever. Taught in chapter 2."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ugmm_tutorial.kernels.arguments import real, tensor

__all__ = ["bounded", "lower_bound"]


class _LowerBound(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, bound: float) -> Tensor:
        return value.clamp(min=bound)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        value, ctx.bound = inputs
        ctx.save_for_backward(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (value,) = ctx.saved_tensors
        # Descent moves against the gradient: a negative one lifts the value back over the bound.
        return torch.where(value >= ctx.bound, gradient, gradient.clamp(max=0.0)), None


def lower_bound(value: Tensor, bound: float) -> Tensor:
    """``max(value, bound)``, whose gradient below the bound passes only where descent would raise ``value``.

    A plain clamp has no gradient below the bound, so a component that gets there stays there for ever. A
    straight-through clamp lets the value drift further and further below. This function avoids both. It
    follows ``lower_bound`` in TensorFlow Compression, a library for learned image compression.

    Raises:
        TypeError: the value is not a dense tensor of real numbers, or the bound not a number.
        ValueError: the bound is beyond the value's floating-point numbers.

    >>> value = torch.tensor(-1.0, requires_grad=True)
    >>> torch.autograd.grad(-lower_bound(value, 0.0), value)  # a plain clamp would give 0
    (tensor(-1.),)
    """
    if not torch.compiler.is_compiling():
        bound = real("bound", bound)
        if tensor("value", value).is_complex():
            raise TypeError(f"expected value of real numbers, got {value.dtype}")
        if value.is_floating_point() and torch.finfo(value.dtype).max < abs(bound) < math.inf:
            raise ValueError(f"expected bound within the range of {value.dtype}, got {bound}")
    return _LowerBound.apply(value, bound)


def bounded(value: Tensor, low: float, high: float) -> Tensor:
    """The value between two bounds, each as for :func:`lower_bound`; infinite ones do nothing.

    >>> bounded(torch.tensor([-2.0, 0.0, 2.0]), -1.0, 1.0)
    tensor([-1.,  0.,  1.])
    """
    if low > -math.inf:
        value = lower_bound(value, low)
    return -lower_bound(-value, -high) if high < math.inf else value
