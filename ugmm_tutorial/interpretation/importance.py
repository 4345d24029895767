"""How much each component counts: measures by which to delete and to prune.

Taught in chapter 11.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ugmm_tutorial.interpretation.responsible import mean_responsibilities, statistics
from ugmm_tutorial.interpretation.tracing import layers_of

__all__ = ["IMPORTANCES", "importance", "most_important"]

IMPORTANCES = ("responsibility", "largest", "weight", "random")


def importance(
    model: nn.Module, by: str = "responsibility", *, x: Tensor | None = None, seed: int = 0
) -> list[Tensor]:
    """Importance of every component of every layer, each (J, K): larger counts more.

    Args:
        model: as for :func:`~ugmm_tutorial.interpretation.responsibilities`.
        by: ``"responsibility"``, the mean over the examples ``x``, which should be training examples;
            ``"largest"``, the largest responsibility over them, some milliseconds an image; ``"weight"``,
            the mixing weight; ``"random"``, drawn from ``seed``.
        x: inputs to measure responsibilities on, needed for them only.
        seed: for ``"random"``.

    Raises:
        TypeError: the network has other layers.
        ValueError: an unknown measure, or no examples to measure responsibilities on.

    Taught in chapter 11.
    """
    if by not in IMPORTANCES:
        raise ValueError(f"unknown importance {by!r}: expected one of {', '.join(IMPORTANCES)}")
    if by in ("responsibility", "largest"):
        if x is None:
            raise ValueError("expected x, examples to measure responsibilities on: pass training inputs")
        if by == "responsibility":
            return mean_responsibilities(model, x)
        return [layer.largest for layer in statistics(model, x)]
    if by == "weight":
        return [layer.mix_weight.detach() for layer in layers_of(model)]
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(layer.mean.shape, generator=generator) for layer in layers_of(model)]


def most_important(values: Tensor, count: int) -> Tensor:
    """Where the ``count`` largest values of each row (J, K) are, growing, (J, count); of equals the first."""
    order = values.argsort(dim=-1, descending=True, stable=True)
    return order[..., :count].sort(dim=-1).values
