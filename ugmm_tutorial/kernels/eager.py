"""The CPU kernel called directly, for code that runs step by step: an operator costs four times as much.

The registered operators are for code that is compiled, exported, transformed or watched. Here the parameters
may also be those that a layer learns, so that bounds, softmax and dropout cost no operations of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ugmm_tutorial import kernels
from ugmm_tutorial.kernels.autograd import differentiable_gradients
from ugmm_tutorial.kernels.reference import reference_log_density
from ugmm_tutorial.kernels.transform import PLAIN, Transform

__all__ = ["log_density", "ordinary", "plain", "takes"]

_ORDINARY = (Tensor, nn.Parameter)


def ordinary() -> bool:
    """Whether code runs step by step, with nobody who watches or transforms its operations."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def plain(tensor: Tensor) -> bool:
    """Whether it is a dense float32 tensor on the CPU, of no class of its own."""
    kind = type(tensor) in _ORDINARY and tensor.dtype == torch.float32
    return kind and tensor.is_cpu and tensor.layout == torch.strided


def takes(
    backend: str,
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    weight: Tensor,
    *others: Tensor,
    index: Tensor | None = None,
) -> bool:
    """Whether :func:`log_density` can be called: everything is as it should be, and nothing is unusual.

    Where it says no, the caller finds out whether that is an error.
    """
    if not isinstance(backend, str) or backend not in ("auto", "numba") or not ordinary():
        return False
    if not all(map(plain, (x, mean, log_std, weight, *others))):
        return False
    shape = mean.shape
    fits = len(shape) == 2 and log_std.shape == shape and weight.shape == shape and x.dim() > 0
    if not fits or any(t.shape != x.shape for t in others) or x.numel() == 0 or mean.numel() == 0:
        return False
    if kernels.unavailable("numba") is not None:
        return False
    return x.shape[-1] == shape[1] if index is None else _names_inputs(index, x.shape[-1], shape)


def _names_inputs(index: Tensor, inputs: int, shape: torch.Size) -> bool:
    kind = type(index) in _ORDINARY and index.dtype == torch.int64
    if not (kind and index.is_cpu and index.layout == torch.strided and index.shape == shape):
        return False
    from ugmm_tutorial.kernels import numba_kernels

    return numba_kernels.names_inputs(index, inputs)


def log_density(
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    weight: Tensor,
    log_background: Tensor | None = None,
    *,
    index: Tensor | None = None,
    transform: Transform = PLAIN,
    reference: Callable[..., Tensor] = reference_log_density,
) -> Tensor:
    """Outputs ``(*, J)`` at ``x`` ``(*, K)``, if :func:`takes` has agreed.

    Args:
        x: inputs, ``(*, K)``; log_background has the same shape.
        mean, log_std, weight: (J, K), from which ``transform`` makes the operator's arguments.
        index: the inputs that neurons read, (J, m), for parameters (J, m); None: all of them.
        transform: how.
        reference: the same function of all these tensors, for second derivatives.
    """
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    background = log_background
    if background is not None and background.dim() != 2:
        background = background.reshape(rows.shape)
    arguments = (rows, mean, log_std, weight, background)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in arguments):
        out = _Function.apply(*arguments, index, transform, reference)
    else:
        out, _ = _forward(arguments, index, transform, keeps_state=False)
    return out if x.dim() == 2 else out.reshape(*x.shape[:-1], len(mean))


def _forward(
    arguments: tuple[Tensor | None, ...], index: Tensor | None, transform: Transform, *, keeps_state: bool
) -> tuple[Tensor, Tensor]:
    from ugmm_tutorial.kernels import numba_kernels  # Numba takes long to import

    *contiguous, places = _contiguous(*arguments, index)
    return numba_kernels.forward(*contiguous, index=places, transform=transform, keeps_state=keeps_state)


def _contiguous(*tensors: Tensor | None) -> Any:
    return [None if t is None else t.contiguous() for t in tensors]


class _Function(torch.autograd.Function):
    """The kernel with its backward. Second derivatives, and batches of gradients, go to the reference."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mean: Tensor,
        log_std: Tensor,
        weight: Tensor,
        background: Tensor | None,
        index: Tensor | None,
        transform: Transform,
        reference: Callable[..., Tensor],
    ) -> Tensor:
        arguments = (x, mean, log_std, weight, background)
        out, state = _forward(arguments, index, transform, keeps_state=True)
        ctx.save_for_backward(*arguments, index, state)
        ctx.transform, ctx.reference = transform, reference
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *arguments, index, state = ctx.saved_tensors
        needed = ctx.needs_input_grad[:5]
        batched = torch._C._functorch.is_legacy_batchedtensor(grad)  # by is_grads_batched=True
        if torch.is_grad_enabled() or batched or not ordinary():
            with torch.enable_grad():
                gradients = differentiable_gradients(ctx.reference, grad, arguments, needed)
            return (*gradients, None, None, None)
        from ugmm_tutorial.kernels import numba_kernels

        *contiguous, places = _contiguous(grad, *arguments, state, index)
        found = numba_kernels.backward(
            *contiguous,
            needs_x=needed[0] or needed[4],
            needs_parameters=any(needed[1:4]),
            index=places,
            transform=ctx.transform,
        )
        return (*(g if need else None for g, need in zip(found, needed, strict=True)), None, None, None)
