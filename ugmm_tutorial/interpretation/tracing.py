"""The mixture layers of a network with their inputs and outputs, without dropout.

Taught in chapter 12.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels.arguments import module as checked_module
from ugmm_tutorial.kernels.arguments import numbers_in
from ugmm_tutorial.layers.dense import MixtureLayer
from ugmm_tutorial.networks import ConvNet
from ugmm_tutorial.training.evaluation import evaluating

__all__ = ["Stage", "batches", "examples", "head_of", "layers_of", "trace"]

#: One mixture layer with its inputs (B, K) and outputs (B, J).
Stage = tuple[MixtureLayer, Tensor, Tensor]

# Numbers in a block of responsibilities (b, J, K): a few such blocks at a time stay below 100 MB.
_BLOCK = 1 << 22


def head_of(model: nn.Module) -> nn.Sequential:
    """The mixture layers and LayerNorms of a network: itself, or the head of a ConvNet.

    Raises:
        TypeError: there is another kind of module, whose inputs and outputs do not correspond one to one,
            or no mixture layer at all, or the tensors have no numbers.
    """
    head = model.head if isinstance(model, ConvNet) else model
    head = nn.Sequential(head) if isinstance(head, MixtureLayer) else head
    if not isinstance(head, nn.Sequential):
        raise TypeError(
            f"expected model to be a UGMMNet or a ConvNet with such a head, got {type(model).__name__}"
        )
    for place, module in enumerate(head):
        if not isinstance(module, (MixtureLayer, nn.LayerNorm)):
            raise TypeError(
                "expected model to have mixture layers and LayerNorms only, got "
                f"{type(module).__name__} as module {place}"
            )
    if not any(isinstance(module, MixtureLayer) for module in head):
        raise TypeError("expected model to have at least one mixture layer, got none")
    checked_module("model", model)
    return head


def layers_of(model: nn.Module) -> list[MixtureLayer]:
    """The mixture layers of a network, from input to output.

    Raises:
        TypeError: as for :func:`head_of`.
    """
    return [module for module in head_of(model) if isinstance(module, MixtureLayer)]


@torch.no_grad()
def trace(model: nn.Module, x: Tensor) -> list[Stage]:
    """Run ``x`` through the network in evaluation mode and return the stage of every mixture layer."""
    head = head_of(model)
    stages: list[Stage] = []
    with evaluating(model):
        x = numbers_in("x", x, floating=False, finite=False).to(next(model.parameters()).device)
        x = model.features(x) if isinstance(model, ConvNet) else x
        for module in head:
            out = module(x)
            if isinstance(module, MixtureLayer):
                stages.append((module, x, out))
            x = out
    return stages


def examples(x: Tensor, least: int = 1) -> Tensor:
    """A batch of inputs, checked.

    Raises:
        TypeError: it is not a dense tensor of numbers.
        ValueError: it has too few rows, or is one row.
    """
    if numbers_in("x", x, floating=False, finite=False).dim() < 2 or len(x) < least:
        some = "one example" if least == 1 else "two examples"
        raise ValueError(f"expected x (N, ...) with at least {some}, got {tuple(x.shape)}")
    return x


def batches(model: nn.Module, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of all tensors, few enough that the responsibilities of every layer fit into memory.

    Raises:
        ValueError: there are no examples, or the tensors differ in length.
    """
    examples(tensors[0])
    if any(len(t) != len(tensors[0]) for t in tensors):
        raise ValueError(f"expected as many examples as labels, got {[len(t) for t in tensors]}")
    largest = max(layer.in_features * layer.out_features for layer in layers_of(model))
    rows = max(1, _BLOCK // largest)
    yield from zip(*(t.split(rows) for t in tensors), strict=True)
