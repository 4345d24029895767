"""Neurons that read a few inputs each: the specification by gathering, and the fused kernel as an operator.

Second derivatives go to the specification. There is no kernel for GPUs. Taught in chapter 11.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ugmm_tutorial.kernels.reference import component_log_densities

__all__ = ["sparse_component_log_densities", "sparse_log_density", "sparse_reference_log_density"]


def sparse_component_log_densities(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> Tensor:
    """Weighted log-densities of the components, ``(*, K)`` to ``(*, J, m)``, unchecked."""
    read = x[..., index]
    # The specification reads one axis of inputs for all neurons: here every neuron is a layer of its own.
    terms = component_log_densities(read, mean.unsqueeze(-2), log_std.unsqueeze(-2), log_weight.unsqueeze(-2))
    return terms.squeeze(-2)


def sparse_reference_log_density(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> Tensor:
    """Outputs ``(*, J)`` by gathering, differentiated by autograd, unchecked."""
    return torch.logsumexp(sparse_component_log_densities(x, index, mean, log_std, log_weight), dim=-1)


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
        raise IndexError(
            f"expected index from 0 to {x.shape[1] - 1}, one less than the inputs, got "
            f"{int(index.min())} to {int(index.max())}"
        )
    if len(x) == 0 or len(mean) == 0:
        return _outputs(x, mean)
    from ugmm_tutorial.kernels import cpu  # Numba takes long to import

    return cpu.sparse_forward(*(t.contiguous() for t in (x, index, mean, log_std, log_weight)))


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
        gx, *others = _like(x, mean, needs_x)
        return gx.zero_(), *(g.zero_() for g in others)
    from ugmm_tutorial.kernels import cpu

    return cpu.sparse_backward(*(t.contiguous() for t in arguments), needs_x=needs_x)


def _outputs(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    sizes = x.shape[0], mean.shape[0]
    return x.new_empty(sizes), x.new_empty((2, *sizes))


def _like(x: Tensor, mean: Tensor, needs_x: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gx = x.new_empty(x.shape if needs_x else (0,))
    return gx, *(mean.new_empty(mean.shape) for _ in range(3))


@sparse_log_density.register_fake
def _(x, index, mean, log_std, log_weight):
    return _outputs(x, mean)


@_sparse_log_density_backward.register_fake
def _(grad, x, index, mean, log_std, log_weight, state, needs_x):
    return _like(x, mean, needs_x)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _differentiate(ctx, grad: Tensor, _):
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
