"""The fused kernels as PyTorch operators: autograd, autocast, vmap, torch.compile and torch.export.

``torch.ops.ugmm.log_density`` and its backward know shapes and derivatives. ``numba_kernels`` and
``triton_kernels``, imported when they are first called, do the work in float32. Second derivatives go to the
reference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._decomp import register_decomposition

from ugmm_tutorial.kernels.autograd import called_by_inductor, differentiable_gradients, outputs_and_state
from ugmm_tutorial.kernels.reference import reference_log_density

__all__ = ["log_density", "one_after_the_other"]

_ARGUMENTS = "Tensor x, Tensor mean, Tensor log_std, Tensor log_weight, Tensor? log_background"
_Tensors = tuple[Tensor, ...]


@torch.library.custom_op(
    "ugmm::log_density", mutates_args=(), schema=f"({_ARGUMENTS}, str backend) -> (Tensor, Tensor)"
)
def log_density(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, log_background: Tensor | None, backend: str
) -> _Tensors:
    """Outputs (B, J) and a state (2, B, J) that the kernel's backward needs.

    Args:
        x: (B, K); log_background is (B, K) or None.
        mean, log_std, log_weight: (J, K). All float32 and on one device; any strides.
        backend: ``"numba"`` or ``"triton"``.
    """
    if len(x) == 0 or len(mean) == 0:
        return outputs_and_state(x, mean)
    return _kernel(backend).forward(*_contiguous(x, mean, log_std, log_weight, log_background))


@torch.library.custom_op(
    "ugmm::log_density_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_ARGUMENTS}, Tensor state, bool needs_x, bool needs_parameters, str backend)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _log_density_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    log_background: Tensor | None,
    state: Tensor,
    needs_x: bool,
    needs_parameters: bool,
    backend: str,
) -> _Tensors:
    """Gradients of the five arguments; those that are not needed are empty."""
    arguments = (grad, x, mean, log_std, log_weight, log_background, state)
    if grad.numel() == 0:
        return tuple(t.zero_() for t in _like(*arguments[1:6], needs_x, needs_parameters))
    kernel = _kernel(backend)
    found = kernel.backward(*_contiguous(*arguments), needs_x=needs_x, needs_parameters=needs_parameters)
    return tuple(x.new_empty(0) if g is None else g for g in found)


def _kernel(backend: str) -> ModuleType:
    # Numba and Triton take long to import, so this waits until one is needed.
    if backend == "triton":
        from ugmm_tutorial.kernels import triton_kernels

        return triton_kernels
    from ugmm_tutorial.kernels import numba_kernels

    return numba_kernels


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in tensors]


def _like(
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    log_background: Tensor | None,
    needs_x: bool,
    needs_parameters: bool,
) -> _Tensors:
    """Unfilled tensors for the gradients; those that are not needed are empty."""
    needed = (needs_x, *(needs_parameters,) * 3, needs_x and log_background is not None)
    shapes = (x.shape, *(mean.shape,) * 3, x.shape)
    return tuple(x.new_empty(s if need else (0,)) for s, need in zip(shapes, needed, strict=True))


@log_density.register_fake
def _(x: Tensor, mean: Tensor, *others: Any) -> _Tensors:
    called_by_inductor(torch.ops.ugmm.log_density.default)
    return outputs_and_state(x, mean)


@_log_density_backward.register_fake
def _(grad: Tensor, *others: Any) -> _Tensors:
    return _like(*others[:5], *others[6:8])


@register_decomposition(torch.ops.ugmm.log_density.default)
def _in_known_operators(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, log_background: Tensor | None, backend: str
) -> _Tensors:
    """For exporters that know only PyTorch's own operators, as that to ONNX: the reference, and no state."""
    arguments = (x, mean, log_std, log_weight, log_background)
    return reference_log_density(*arguments), outputs_and_state(x, mean)[1]


def _setup_context(ctx: Any, inputs: tuple[Tensor | str | None, ...], output: _Tensors) -> None:
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *arguments, state = ctx.saved_tensors
    needed = ctx.needs_input_grad[:5]
    if torch.is_grad_enabled():
        return (*differentiable_gradients(reference_log_density, grad, arguments, needed), None)
    needs_x = needed[0] or needed[4]
    gradients = _log_density_backward(grad, *arguments, state, needs_x, any(needed[1:4]), ctx.backend)
    return (*(g if need else None for g, need in zip(gradients, needed, strict=True)), None)


log_density.register_autograd(_differentiate, setup_context=_setup_context)


def one_after_the_other(
    function: Callable[..., _Tensors], info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[_Tensors, tuple[int, ...]]:
    """Call an operator once per entry: the rule for vmap, which mainly meets batched gradients."""
    results = []
    for i in range(info.batch_size):
        pairs = zip(arguments, in_dims, strict=True)
        results.append(function(*(a if dim is None else a.select(dim, i) for a, dim in pairs)))
    stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


for _operator in (log_density, _log_density_backward):
    _operator.register_vmap(partial(one_after_the_other, _operator))
for _device in ("cpu", "cuda"):
    log_density.register_autocast(_device, torch.float32)
