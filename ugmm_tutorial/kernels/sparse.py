"""Neurons that read a few inputs each: the specification by gathering, and its operator for PyTorch.

Only the forward pass is fused, ``cpu.sparse_forward``: gradients are those of the specification. Taught in
chapter 11.
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


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, grad: Tensor):
    x, index, *parameters = ctx.saved_tensors
    again = torch.is_grad_enabled()  # asked for by create_graph
    needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
    arguments = [x, *parameters]
    if not again:
        arguments = [a.detach().requires_grad_(need) for a, need in zip(arguments, needed, strict=True)]
    with torch.enable_grad():
        out = sparse_reference_log_density(arguments[0], index, *arguments[1:])
        wanted = [a for a, need in zip(arguments, needed, strict=True) if need]
        gradients = iter(torch.autograd.grad(out, wanted, grad, create_graph=again))
    gx, *others = (next(gradients) if need else None for need in needed)
    return gx, None, *others


sparse_log_density.register_autograd(_differentiate, setup_context=_setup_context)
for _device in ("cpu", "cuda"):
    sparse_log_density.register_autocast(_device, torch.float32)
