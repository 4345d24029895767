"""Features and label as one input, as generative networks read them. Taught in chapter 9."""

from __future__ import annotations

import torch
from torch import Tensor

from ugmm_tutorial.kernels.arguments import numbers_in

__all__ = ["with_every_label", "with_labels"]


def with_labels(x: Tensor, y: Tensor) -> Tensor:
    """Features ``(*, K)`` and labels ``(*,)`` as one input ``(*, K + 1)``, with the label last, as a number.

    Raises:
        ValueError: the shapes do not fit together.

    >>> with_labels(torch.tensor([[5.1, 3.5]]), torch.tensor([2]))
    tensor([[5.1000, 3.5000, 2.0000]])
    """
    for name, given in (("x", x), ("y", y)):
        numbers_in(name, given, floating=name == "x", finite=False)
    if x.dim() == 0 or y.shape != x.shape[:-1]:
        raise ValueError(
            f"expected y, a label for each row of x, {tuple(x.shape[:-1])}, got {tuple(y.shape)}"
        )
    return torch.cat([x, y.to(x.dtype).unsqueeze(-1)], dim=-1)


def with_every_label(x: Tensor, labels: Tensor) -> Tensor:
    """Every example paired with every label: x ``(*, K)`` and labels (L,) to ``(*, L, K + 1)``.

    >>> with_every_label(torch.tensor([5.1]), torch.tensor([0, 1]))
    tensor([[5.1000, 0.0000],
            [5.1000, 1.0000]])
    """
    for name, given, floating in (("x", x, True), ("labels", labels, False)):
        numbers_in(name, given, floating=floating, finite=False)
    if x.dim() == 0 or labels.dim() != 1:
        raise ValueError(f"expected x (*, K) and labels (L,), got {tuple(x.shape)} and {tuple(labels.shape)}")
    many = x.unsqueeze(-2).expand(*x.shape[:-1], len(labels), x.shape[-1])
    return torch.cat([many, labels.unsqueeze(-1).expand(*many.shape[:-1], 1)], dim=-1)
