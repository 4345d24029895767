"""What the dense and the sparse operator share: shapes, compiled calls, and second derivatives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["called_by_inductor", "differentiable_gradients", "outputs_and_state"]


def called_by_inductor(operator: torch._ops.OpOverload) -> None:
    """Let compiled code call ``operator`` as it is, although exporters know it in PyTorch's own operators.

    Where the variable ``CI`` is set, as on most test servers, Inductor refuses an operator that has an unused
    decomposition. Every trace computes shapes before Inductor sees the graph, so it is told there.
    """
    lowering = sys.modules.get("torch._inductor.lowering")
    if lowering is not None and operator not in lowering.lowerings:
        lowering.make_fallback(operator, warn=False)


def outputs_and_state(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Unfilled tensors for the outputs, (B, J), and the state, (2, B, J), on the device of ``x``."""
    # len(x) would fix a size that compiled code leaves open.
    sizes = x.shape[0], mean.shape[0]
    return x.new_empty(sizes), x.new_empty((2, *sizes))


def differentiable_gradients(
    reference: Callable[..., Tensor],
    grad: Tensor,
    arguments: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again (``create_graph=True``), computed by the reference.

    Args:
        reference: the operator's specification.
        grad: gradient with respect to its outputs.
        arguments: its arguments.
        needed: which of them need a gradient; the others get None.
    """
    inputs = [a for a, need in zip(arguments, needed, strict=True) if need and a is not None]
    gradients = iter(torch.autograd.grad(reference(*arguments), inputs, grad, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)
