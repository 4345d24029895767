"""Neurons that read a few inputs each: the specification by gathering, and the fused kernels as an operator.

``numba_kernels`` and ``triton_sparse``, imported when they are first called, do the work in float32. Second
derivatives go to the specification. Taught in chapter 12.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._decomp import register_decomposition

from ugmm_tutorial.kernels.autograd import called_by_inductor, differentiable_gradients, outputs_and_state
from ugmm_tutorial.kernels.fused import one_after_the_other
from ugmm_tutorial.kernels.inverse_index import once
from ugmm_tutorial.kernels.reference import component_log_densities, reference_log_density

__all__ = ["sparse_component_log_densities", "sparse_log_density", "sparse_reference_log_density"]


def sparse_component_log_densities(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> Tensor:
    """Weighted log-densities of the components, ``(*, K)`` to ``(*, J, m)``; only the index is checked."""
    return component_log_densities(*_as_layers(x, index, mean, log_std, log_weight)).squeeze(-2)


def sparse_reference_log_density(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> Tensor:
    """Outputs ``(*, J)`` by gathering, differentiated by autograd; only the index is checked."""
    return reference_log_density(*_as_layers(x, index, mean, log_std, log_weight)).squeeze(-1)


def _as_layers(x: Tensor, index: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    """Arguments for the dense specification, whose neurons share their inputs: every neuron is a layer."""
    return _read(x, index), *(p.unsqueeze(-2) for p in parameters)


def _read(x: Tensor, index: Tensor) -> Tensor:
    """What each component reads, ``(*, J, m)``."""
    # Indexing would count negative numbers from the end. One past the end is refused instead: on every
    # device, under vmap, in compiled code, and without waiting for a GPU.
    place = index.where(index >= 0, x.shape[-1])
    try:
        return x[..., place]
    except IndexError:
        raise IndexError(_outside(index, x.shape[-1])) from None


def _outside(index: Tensor, inputs: int) -> str:
    expected = f"expected index from 0 to {inputs - 1}, one less than the inputs"
    if torch._C._functorch.is_functorch_wrapped_tensor(index):
        return expected  # within vmap single values cannot be read
    return f"{expected}, got {int(index.min())} to {int(index.max())}"


def _refuse_outside(index: Tensor, inputs: int) -> None:
    """On a GPU the device looks, once for an index, and stops whatever would be computed after it."""
    if index.is_cuda:
        once("within", index, inputs, partial(_assert_within, index, inputs))
    elif index.numel() and not 0 <= int(index.min()) <= int(index.max()) < inputs:
        raise IndexError(_outside(index, inputs))


def _assert_within(index: Tensor, inputs: int) -> None:
    expected = f"expected index from 0 to {inputs - 1}, one less than the inputs"
    torch._assert_async(((index >= 0) & (index < inputs)).all(), expected)


@torch.library.custom_op("ugmm::sparse_log_density", mutates_args=())
def sparse_log_density(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, backend: str = "numba"
) -> tuple[Tensor, Tensor]:
    """Outputs (B, J), and a state that the kernel's backward needs.

    Args:
        x: (B, K).
        index: (J, m), int64.
        mean, log_std, log_weight: (J, m); all float32 and on one device, any strides.
        backend: ``"numba"`` or ``"triton"``, which is taken on a GPU anyway.
    """
    _refuse_outside(index, x.shape[1])
    out, state = _unfilled(x, mean, backend)
    if out.numel() == 0:
        return out, state
    index, mean, log_std, log_weight = (t.contiguous() for t in (index, mean, log_std, log_weight))
    if _by_triton(x, backend):
        from ugmm_tutorial.kernels import triton_sparse  # Numba and Triton take long to import

        triton_sparse.forward(x, index, mean, log_std, log_weight, out, state)
        return out, state
    from ugmm_tutorial.kernels import numba_kernels

    return numba_kernels.forward(x.contiguous(), mean, log_std, log_weight, index=index)


@torch.library.custom_op(
    "ugmm::sparse_log_density_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor x, Tensor index, Tensor mean, Tensor log_std, Tensor log_weight, "
    'Tensor state, bool needs_x, str backend="numba") -> (Tensor, Tensor, Tensor, Tensor)',
)
def _sparse_log_density_backward(
    grad: Tensor,
    x: Tensor,
    index: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    state: Tensor,
    needs_x: bool,
    backend: str = "numba",
) -> tuple[Tensor, ...]:
    """Gradients of x (empty if not needed), mean, log_std and log_weight."""
    if grad.numel() == 0:
        return tuple(t.zero_() for t in _like(x, mean, needs_x))
    kept, arguments = index, (index, mean, log_std, log_weight, state)
    index, mean, log_std, log_weight, state = (t.contiguous() for t in arguments)
    if _by_triton(x, backend):
        from ugmm_tutorial.kernels import triton_sparse

        return triton_sparse.backward(grad, x, index, mean, log_std, log_weight, state, needs_x, kept)
    from ugmm_tutorial.kernels import numba_kernels

    first = (grad.contiguous(), x.contiguous(), mean, log_std, log_weight, None, state)
    found = numba_kernels.backward(*first, needs_x=needs_x, needs_parameters=True, index=index)
    return tuple(x.new_empty(0) if g is None else g for g in found[:4])


def _by_triton(x: Tensor, backend: str) -> bool:
    return x.is_cuda or backend == "triton"


def _unfilled(x: Tensor, mean: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Outputs and the state, to which Triton's kernels add a number."""
    out, state = outputs_and_state(x, mean)
    return out, x.new_empty(2 * out.numel() + 1) if _by_triton(x, backend) else state


def _like(x: Tensor, mean: Tensor, needs_x: bool) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(s) for s in (x.shape if needs_x else (0,), *(mean.shape,) * 3))


@sparse_log_density.register_fake
def _(x: Tensor, index: Tensor, mean: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    called_by_inductor(torch.ops.ugmm.sparse_log_density.default)
    return _unfilled(x, mean, others[2] if len(others) > 2 else "numba")


@_sparse_log_density_backward.register_fake
def _(grad: Tensor, x: Tensor, index: Tensor, mean: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return _like(x, mean, needs_x=others[3])


@register_decomposition(torch.ops.ugmm.sparse_log_density.default)
def _in_known_operators(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, backend: str = "numba"
) -> tuple[Tensor, Tensor]:
    """For exporters that know only PyTorch's own operators."""
    out = sparse_reference_log_density(x, index, mean, log_std, log_weight)
    return out, _unfilled(x, mean, backend)[1]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *arguments, state = ctx.saved_tensors
    needed = ctx.needs_input_grad[:5]
    if torch.is_grad_enabled():
        return (*differentiable_gradients(sparse_reference_log_density, grad, arguments, needed), None)
    gx, *of_parameters = _sparse_log_density_backward(grad, *arguments, state, needed[0], ctx.backend)
    gradients = (gx, None, *of_parameters)
    return (*(g if need else None for g, need in zip(gradients, needed, strict=True)), None)


sparse_log_density.register_autograd(_differentiate, setup_context=_setup_context)
for _operator in (sparse_log_density, _sparse_log_density_backward):
    _operator.register_vmap(partial(one_after_the_other, _operator))
for _device in ("cpu", "cuda"):
    sparse_log_density.register_autocast(_device, torch.float32)
