"""Features and label as one input, as generative networks read them. Taught in chapter 8."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["beside_labels", "joint"]


def joint(x: Tensor, y: Tensor) -> Tensor:
    """Features ``(*, K)`` and labels ``(*,)`` as one input ``(*, K + 1)``, the label last, as a number.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if y.shape != x.shape[:-1]:
        raise ValueError(f"expected a label for each row of x, {tuple(x.shape[:-1])}, got {tuple(y.shape)}")
    return torch.cat([x, y.to(x.dtype).unsqueeze(-1)], dim=-1)


def beside_labels(x: Tensor, labels: Tensor) -> Tensor:
    """Every example beside every label: x ``(*, K)`` and labels (L,) to ``(*, L, K + 1)``."""
    many = x.unsqueeze(-2).expand(*x.shape[:-1], len(labels), x.shape[-1])
    return torch.cat([many, labels.unsqueeze(-1).expand(*many.shape[:-1], 1)], dim=-1)
