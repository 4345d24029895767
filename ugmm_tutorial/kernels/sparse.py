"""Neurons that read a few inputs each: the specification by gathering, and its operator for PyTorch.

Only the forward pass is fused, ``cpu.sparse_forward``: gradients gather the inputs again, and second ones are
those of the specification. Taught in chapter 11.
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
def sparse_log_density(x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
    """Outputs (B, J) on the CPU: x (B, K), index (J, m) int64, the rest (J, m), all float32."""
    from ugmm_tutorial.kernels import cpu  # Numba takes long to import

    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < x.shape[1]:
        raise IndexError(
            f"expected index from 0 to {x.shape[1] - 1}, one less than the inputs, got "
            f"{int(index.min())} to {int(index.max())}"
        )
    if len(x) == 0 or len(mean) == 0:
        return x.new_empty(len(x), len(mean))
    return cpu.sparse_forward(*(t.contiguous() for t in (x, index, mean, log_std, log_weight)))


@sparse_log_density.register_fake
def _(x, index, mean, log_std, log_weight):
    return x.new_empty(x.shape[0], mean.shape[0])


@torch.library.custom_op("ugmm::sparse_log_density_backward", mutates_args=())
def _sparse_log_density_backward(
    grad: Tensor, x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, out: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, mean, log_std and log_weight, by gathering: blocks of (B, J, m) exist."""
    terms = sparse_component_log_densities(x, index, mean, log_std, log_weight)
    share = torch.exp(terms - out.unsqueeze(-1)).mul_(grad.unsqueeze(-1))
    scale = torch.exp(-log_std)
    z = (x[:, index] - mean) * scale
    pull = share * z * scale
    gx = torch.zeros_like(x).index_add_(1, index.flatten(), -pull.flatten(1))
    return gx, pull.sum(dim=0), (share * (z * z - 1.0)).sum(dim=0), share.sum(dim=0)


@_sparse_log_density_backward.register_fake
def _(grad, x, index, mean, log_std, log_weight, out):
    return tuple(torch.empty_like(t) for t in (x, mean, log_std, log_weight))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs, output)


def _differentiate(ctx, grad: Tensor):
    x, index, *parameters, out = ctx.saved_tensors
    if not torch.is_grad_enabled():
        gx, *others = _sparse_log_density_backward(grad, x, index, *parameters, out)
        return gx, None, *others
    # Asked for by create_graph: gradients that can be differentiated again are the reference's.
    needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
    wanted = [a for a, need in zip((x, *parameters), needed, strict=True) if need]
    again = sparse_reference_log_density(x, index, *parameters)
    gradients = iter(torch.autograd.grad(again, wanted, grad, create_graph=True))
    gx, *others = (next(gradients) if need else None for need in needed)
    return gx, None, *others


sparse_log_density.register_autograd(_differentiate, setup_context=_setup_context)
for _device in ("cpu", "cuda"):
    sparse_log_density.register_autocast(_device, torch.float32)
