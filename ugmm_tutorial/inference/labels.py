"""The posterior over a label: a joint score asked for every label there is, and normalised over these."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.data import beside_labels

__all__ = ["label_posterior", "label_scores"]


def label_scores(model: nn.Module, x: Tensor, labels: Sequence[float]) -> Tensor:
    """The model's output for every example beside every label: ``(*, K)`` to ``(*, L)``, in nats.

    Args:
        model: from features and label ``(*, K + 1)``, the label last, to one output ``(*, 1)``.
        x: features, ``(*, K)``, without the label and without NaN.
        labels: the L numbers that stand for the labels, as the model was trained with them. A number
            that it never saw is scored too: for a Gaussian component a label is a number like any
            other. A :class:`~ugmm_tutorial.layers.CategoricalLeafLayer` refuses what is no class.

    Raises:
        TypeError: x is no floating-point tensor.
        ValueError: there are no labels, some are not finite or stand twice; x has NaN (an unnormalised
            score cannot leave an input out: chapter 9 has models that can); or the model has more than
            one output.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(
            f"expected x to be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}"
        )
    values = [float(label) for label in labels]
    if not values or not all(map(math.isfinite, values)) or len(set(values)) < len(values):
        raise ValueError(f"expected labels to be different finite numbers, at least one, got {list(labels)}")
    if x.isnan().any():
        raise ValueError(
            "expected x without NaN: an unnormalised score cannot leave an input out. A density can: see "
            "ugmm_tutorial.density"
        )
    scores = model(beside_labels(x, torch.tensor(values, dtype=x.dtype, device=x.device)))
    if scores.shape != (*x.shape[:-1], len(values), 1):
        raise ValueError(f"expected a model with one output, got {scores.shape[-1]} for each example")
    return scores.squeeze(-1)


def label_posterior(model: nn.Module, x: Tensor, labels: Sequence[float]) -> Tensor:
    """P(label | x) = exp(model(x, label)) / sum over labels of the same: ``(*, K)`` to ``(*, L)``.

    Normalised over the given labels and nothing else: this needs no density over x (chapter 8).

    Args and Raises: as for :func:`label_scores`.

    Source: the paper's section 4.3, prediction by posterior inference.
    """
    return torch.softmax(label_scores(model, x, labels), dim=-1)
