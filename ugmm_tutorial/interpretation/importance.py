"""How much each component counts: measures for deleting and pruning.

Taught in chapter 12.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ugmm_tutorial.interpretation.responsible import mean_responsibilities, statistics
from ugmm_tutorial.interpretation.tracing import layers_of
from ugmm_tutorial.kernels.arguments import one_of
from ugmm_tutorial.kernels.arguments import seed as checked_seed

__all__ = ["IMPORTANCES", "importance", "most_important"]

IMPORTANCES = ("responsibility", "largest", "weight", "random")


def importance(
    model: nn.Module, by: str = "responsibility", *, x: Tensor | None = None, seed: int = 0
) -> list[Tensor]:
    """Importance of every input of every neuron, each (J, K); larger is more important.

    Args:
        model: as for :func:`~ugmm_tutorial.interpretation.responsibilities`.
        by: ``"responsibility"``, the mean over the examples ``x``, which should be training examples;
            ``"largest"``, the largest responsibility over them, some milliseconds per image; ``"weight"``,
            the mixing weight; ``"random"``, drawn from ``seed``.
        x: inputs to measure responsibilities on; the other measures do not need them.
        seed: for ``"random"``.

    Raises:
        TypeError: the network has other layers.
        ValueError: the measure is unknown, or there are no examples to measure responsibilities on.

    >>> from ugmm_tutorial import UGMMLayer
    >>> importance(UGMMLayer(4, 1), "weight")
    [tensor([[0.2500, 0.2500, 0.2500, 0.2500]])]
    """
    one_of("importance", by, IMPORTANCES)
    if by in ("responsibility", "largest"):
        if x is None:
            raise ValueError("expected x, examples to measure responsibilities on: pass training inputs")
        if by == "responsibility":
            return mean_responsibilities(model, x)
        return [layer.largest for layer in statistics(model, x)]
    if by == "weight":
        return [layer.by_input(layer.mix_weight.detach()) for layer in layers_of(model)]
    generator = torch.Generator().manual_seed(checked_seed(seed))
    shapes = [(layer.out_features, layer.in_features) for layer in layers_of(model)]
    return [torch.rand(shape, generator=generator) for shape in shapes]


def most_important(values: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` largest values of each row (J, K), rising, (J, count); first among ties."""
    order = values.argsort(dim=-1, descending=True, stable=True)
    return order[..., :count].sort(dim=-1).values
