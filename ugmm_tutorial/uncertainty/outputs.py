"""What a trained network returns: logits, probabilities, and the log-densities of its uGMM layers.

The functions take any ``torch.nn.Module`` that gives logits (N, C). Results are float64, from evaluation mode
and without gradients, and the network is left as it was. Taught in chapter 12.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.layers.dense import MixtureLayer
from ugmm_tutorial.training.evaluation import evaluating

__all__ = ["batched", "layer_log_densities", "logits", "penultimate", "probabilities"]


def logits(model: nn.Module, x: Tensor, *, batch_size: int = 1000) -> Tensor:
    """The network's outputs at ``x``, (N, C), float64.

    Args:
        model: the network; it is taken in evaluation mode, and left in the mode it was in.
        x: N examples.
        batch_size: how many examples at a time.

    Raises:
        TypeError: the model is no module, ``x`` no tensor with values, or ``batch_size`` no integer.
        ValueError: no examples, ``batch_size`` below one, or outputs that are not (N, C).

    >>> logits(nn.Linear(4, 3), torch.rand(8, 4)).shape
    torch.Size([8, 3])
    """
    with evaluating(check.module("model", model)):
        return batched(model, x, batch_size)


def probabilities(model: nn.Module, x: Tensor, *, batch_size: int = 1000) -> Tensor:
    """The softmax of the network's outputs, (N, C), float64.

    Args, Raises:
        as for :func:`logits`.

    >>> probabilities(nn.Identity(), torch.zeros(1, 4))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]], dtype=torch.float64)
    """
    return torch.softmax(logits(model, x, batch_size=batch_size), dim=1)


def layer_log_densities(model: nn.Module, x: Tensor, *, batch_size: int = 1000) -> list[Tensor]:
    """Outputs (N, J) of every uGMM layer, first to last, in nats, before any LayerNorm that follows.

    Args:
        as for :func:`logits`.

    Raises:
        ValueError: as for :func:`logits`, or a network without uGMM layers.

    >>> from ugmm_tutorial import UGMMNet
    >>> [out.shape for out in layer_log_densities(UGMMNet([16, 8, 3]), torch.rand(5, 16))]
    [torch.Size([5, 8]), torch.Size([5, 3])]
    """
    layers = [part for part in check.module("model", model).modules() if isinstance(part, MixtureLayer)]
    if not layers:
        raise ValueError(f"expected model with uGMM layers, got {type(model).__name__}")
    return _seen(model, x, batch_size, layers, lambda inputs, output: output)


def penultimate(model: nn.Module, x: Tensor, *, batch_size: int = 1000) -> Tensor:
    """The inputs (N, K) of the last linear or uGMM layer: the features that the network decides on.

    Args:
        as for :func:`logits`.

    Raises:
        ValueError: as for :func:`logits`, or a network without such layers.

    >>> penultimate(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), torch.rand(8, 4)).shape
    torch.Size([8, 16])
    """
    parts = check.module("model", model).modules()
    layers = [part for part in parts if isinstance(part, (MixtureLayer, nn.Linear))]
    if not layers:
        raise ValueError(f"expected model with linear or uGMM layers, got {type(model).__name__}")
    return _seen(model, x, batch_size, layers[-1:], lambda inputs, output: inputs[0])[0]


@torch.no_grad()
def batched(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    """Outputs (N, C), float64, batch by batch; every module stays in its mode."""
    batch_size = check.integer("batch_size", batch_size, 1)
    if check.numbers_in("x", x, floating=False, finite=False).dim() == 0 or len(x) == 0:
        raise ValueError(f"expected x with at least one example, got {tuple(x.shape)}")
    device = next(model.parameters(), x).device
    out = torch.cat([model(part.to(device)).double().cpu() for part in x.split(batch_size)])
    if out.dim() != 2 or len(out) != len(x):
        raise ValueError(f"expected model to give logits (N, C), got {tuple(out.shape)}")
    return out


def _seen(
    model: nn.Module, x: Tensor, batch_size: int, layers: Sequence[nn.Module], what: Callable
) -> list[Tensor]:
    """``what(inputs, output)`` of each layer at all examples."""
    found: list[list[Tensor]] = [[] for _ in layers]
    hooks = [
        layer.register_forward_hook(
            lambda module, inputs, output, kept=kept: kept.append(what(inputs, output).double().cpu())
        )
        for layer, kept in zip(layers, found, strict=True)
    ]
    try:
        logits(model, x, batch_size=batch_size)
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(kept) for kept in found]
