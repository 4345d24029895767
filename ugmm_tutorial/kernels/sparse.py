"""Neurons that read a few inputs each: the specification by gathering, and the fused kernel as an operator.

Second derivatives go to the specification. There is no kernel for GPUs. Taught in chapter 11.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ugmm_tutorial.kernels.reference import component_log_densities

__all__ = ["sparse_component_log_densities", "sparse_log_density", "sparse_reference_log_density"]


def sparse_component_log_densities(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> Tensor:
    """Weighted log-densities of the components, ``(*, K)`` to ``(*, J, m)``; only the index is checked."""
    # The specification reads one axis of inputs for all neurons: here every neuron is a layer of its own.
    parameters = (p.unsqueeze(-2) for p in (mean, log_std, log_weight))
    return component_log_densities(_read(x, index), *parameters).squeeze(-2)


def sparse_reference_log_density(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> Tensor:
    """Outputs ``(*, J)`` by gathering, differentiated by autograd; only the index is checked."""
    # A neuron without any component would have NaN gradients: it gets others, which do not count.
    empty = (log_weight == -math.inf).all(dim=-1)
    log_weight = log_weight.masked_fill(empty.unsqueeze(-1), 0.0)
    out = torch.logsumexp(sparse_component_log_densities(x, index, mean, log_std, log_weight), dim=-1)
    # Where an input is NaN the output is, too, as in the kernel.
    return out.masked_fill(empty & ~out.isnan(), -math.inf)


def _read(x: Tensor, index: Tensor) -> Tensor:
    """What each component reads, ``(*, J, m)``."""
    # Indexing would count negative numbers from the end: one past the end is refused on every device,
    # under vmap and in compiled code as well, and without waiting for a GPU.
    place = index.where(index >= 0, x.shape[-1])
    try:
        return x[..., place]
    except IndexError:
        raise IndexError(_outside(index, x.shape[-1])) from None


def _outside(index: Tensor, inputs: int) -> str:
    expected = f"expected index from 0 to {inputs - 1}, one less than the inputs"
    if torch._C._functorch.is_functorch_wrapped_tensor(index):
        return expected  # vmap lets nobody look at single values
    return f"{expected}, got {int(index.min())} to {int(index.max())}"


@torch.library.custom_op("ugmm::sparse_log_density", mutates_args=())
def sparse_log_density(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs (B, J) on the CPU, and a state (2, B, J) for the backward pass.

    Args:
        x: (B, K).
        index: (J, m), int64.
        mean, log_std, log_weight: (J, m); all float32, any strides.
    """
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < x.shape[1]:
        raise IndexError(_outside(index, x.shape[1]))
    if len(x) == 0 or len(mean) == 0:
        return _outputs(x, mean)
    from ugmm_tutorial.kernels import numba_kernels  # Numba takes long to import

    return numba_kernels.sparse_forward(*(t.contiguous() for t in (x, index, mean, log_std, log_weight)))


@torch.library.custom_op("ugmm::sparse_log_density_backward", mutates_args=())
def _sparse_log_density_backward(
    grad: Tensor,
    x: Tensor,
    index: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    state: Tensor,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, empty where it is not needed, mean, log_std and log_weight."""
    arguments = (grad, x, index, mean, log_std, log_weight, state)
    if grad.numel() == 0:
        gx, grad_mean, grad_log_std, grad_log_weight = _like(x, mean, needs_x)
        return gx.zero_(), grad_mean.zero_(), grad_log_std.zero_(), grad_log_weight.zero_()
    from ugmm_tutorial.kernels import numba_kernels

    return numba_kernels.sparse_backward(*(t.contiguous() for t in arguments), needs_x=needs_x)


def _outputs(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    sizes = x.shape[0], mean.shape[0]
    return x.new_empty(sizes), x.new_empty((2, *sizes))


def _like(x: Tensor, mean: Tensor, needs_x: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gx = x.new_empty(x.shape if needs_x else (0,))
    return gx, mean.new_empty(mean.shape), mean.new_empty(mean.shape), mean.new_empty(mean.shape)


@sparse_log_density.register_fake
def _(x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    return _outputs(x, mean)


@_sparse_log_density_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    index: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    state: Tensor,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _like(x, mean, needs_x)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    x, index, *parameters, state = ctx.saved_tensors
    needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
    if torch.is_grad_enabled():
        # Asked for by create_graph: gradients that can be differentiated again are the reference's.
        wanted = [a for a, need in zip((x, *parameters), needed, strict=True) if need]
        out = sparse_reference_log_density(x, index, *parameters)
        found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
        gradients = [next(found) if need else None for need in needed]
    else:
        found = _sparse_log_density_backward(grad, x, index, *parameters, state, needed[0])
        gradients = [g if need else None for g, need in zip(found, needed, strict=True)]
    return gradients[0], None, *gradients[1:]


sparse_log_density.register_autograd(_differentiate, setup_context=_setup_context)
for _device in ("cpu", "cuda"):
    sparse_log_density.register_autocast(_device, torch.float32)
