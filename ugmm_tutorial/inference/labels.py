"""The posterior over a label: the joint scores of all labels, normalised over the labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.data import with_every_label
from ugmm_tutorial.kernels.arguments import numbers_in, reals, shown

__all__ = ["label_posterior", "label_scores"]


def label_scores(model: nn.Module, x: Tensor, labels: Sequence[float]) -> Tensor:
    """The model's output for every example beside every label: ``(*, K)`` to ``(*, L)``, in nats.

    Args:
        model: maps features and label ``(*, K + 1)``, the label last, to one output ``(*, 1)``.
        x: features, ``(*, K)``, without the label and without NaN.
        labels: the L numbers that stand for the labels, as the model was trained with them. A number
            that it never saw is scored too, because a Gaussian component reads a label like any other
            number. A :class:`~ugmm_tutorial.layers.CategoricalLeafLayer` raises if it is not a class.

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: there are no labels, or some are repeated or not finite; x has NaN (an unnormalised
            score cannot leave an input out, but the models of chapter 10 can); or the model has more than
            one output.

    >>> from ugmm_tutorial import UGMMNet
    >>> label_scores(UGMMNet([5, 8, 1]), torch.rand(32, 4), labels=[0, 1, 2]).shape
    torch.Size([32, 3])
    """
    if not callable(model):
        raise TypeError(f"expected model to be a network, got {shown(model)}")
    numbers_in("x", x, finite=False)
    values = reals("labels", labels)
    if not values or not all(map(math.isfinite, values)) or len(set(values)) < len(values):
        raise ValueError(f"expected labels to be different finite numbers, at least one, got {list(labels)}")
    if x.isnan().any():
        raise ValueError(
            "expected x without NaN: an unnormalised score cannot leave an input out. A density can: see "
            "ugmm_tutorial.density"
        )
    scores = model(with_every_label(x, torch.tensor(values, dtype=x.dtype, device=x.device)))
    shape = (*x.shape[:-1], len(values), 1)
    if not isinstance(scores, Tensor) or scores.shape != shape:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else shown(scores)
        raise ValueError(f"expected a model with one output, of shape {shape}, got {got}")
    return scores.squeeze(-1)


def label_posterior(model: nn.Module, x: Tensor, labels: Sequence[float]) -> Tensor:
    """P(label | x) = exp(model(x, label)) / sum over labels of the same: ``(*, K)`` to ``(*, L)``.

    It is normalised over the given labels only, which needs no density over x (chapter 9).

    Args and Raises: as for :func:`label_scores`.

    Source: the paper's section 4.3, prediction by posterior inference.

    >>> label_posterior(lambda row: row[..., -1:].log(), torch.zeros(4), labels=[1, 3])
    tensor([0.2500, 0.7500])
    """
    return torch.softmax(label_scores(model, x, labels), dim=-1)
