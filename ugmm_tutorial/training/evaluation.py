"""evaluate(): how good a classifier is on some examples.

Taught in chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ugmm_tutorial.data import Examples
from ugmm_tutorial.kernels.arguments import integer, labels, module, numbers_in
from ugmm_tutorial.kernels.kinds import instance

__all__ = ["checked_examples", "class_scores", "evaluate", "evaluating"]


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, *, batch_size: int = 256) -> dict[str, float]:
    """Mean cross-entropy in nats (``loss``) and share of right answers (``accuracy``), with dropout off.

    The modules of the model are left in the modes they were in. Where a score is NaN there is no answer, so
    both numbers are NaN.

    Args:
        model: from inputs to class scores (B, C).
        examples: inputs (N, ...) and their labels (N,), whole numbers from 0 to C - 1.
        batch_size: examples at a time; the numbers do not depend on it, up to rounding.

    Raises:
        TypeError: inputs or labels are no tensors.
        ValueError: there are no examples, ``batch_size`` is below one, the model gives no scores (B, C), or
            labels are not numbers of these classes.

    >>> evaluate(nn.Identity(), Examples(torch.eye(3), torch.arange(3)))["accuracy"]
    1.0
    """
    module("model", model)
    examples = checked_examples(examples)
    batch_size = integer("batch_size", batch_size, 1)
    device = next(model.parameters(), examples.x).device
    loss = correct = 0.0
    with evaluating(model):
        for x, right in zip(*(part.split(batch_size) for part in examples), strict=True):
            scores = class_scores(model, x.to(device))
            right = labels("examples.y", right, len(x), scores.shape[1]).to(device)
            loss += cross_entropy(scores, right, reduction="sum").item()
            correct += (scores.argmax(dim=1) == right).sum().item()
            correct += math.nan if scores.isnan().any() else 0.0
    return {"loss": loss / len(examples.y), "accuracy": correct / len(examples.y)}


def checked_examples(examples: Examples) -> Examples:
    """A part of a data set to evaluate on, with int64 labels.

    Raises:
        TypeError: it is something else, or inputs or labels are no tensors.
        ValueError: there are no examples, or labels do not fit.
    """
    instance("examples", examples, Examples, "Examples, a part of a data set")
    x = numbers_in("examples.x", examples.x, floating=False, finite=False)
    if x.dim() == 0 or len(examples.x) == 0:
        raise ValueError("expected examples to evaluate on, got none")
    return Examples(examples.x, labels("examples.y", examples.y, len(examples.x)))


def class_scores(model: nn.Module, x: Tensor) -> Tensor:
    """What the model gives for a batch, (B, C).

    Raises:
        ValueError: it gives something else.
    """
    scores = model(x)
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(x):
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"expected a model that gives scores ({len(x)}, classes), got {got}")
    return scores


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode within the block, and back in its own mode afterwards.

    >>> with evaluating(model := nn.Dropout()):
    ...     model.training
    False
    """
    instance("model", model, nn.Module, "a torch.nn.Module")
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
