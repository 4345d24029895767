"""evaluate(): how good a classifier is on some examples.

Taught in chapter 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ugmm_tutorial.data import Examples

__all__ = ["evaluate", "evaluating"]


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, *, batch_size: int = 256) -> dict[str, float]:
    """Mean cross-entropy in nats (``loss``) and share of right answers (``accuracy``), with dropout off.

    The modules of the model are left in the modes they were in.

    Raises:
        ValueError: there are no examples, or ``batch_size`` is below one.

    >>> evaluate(nn.Identity(), Examples(torch.eye(3), torch.arange(3)))["accuracy"]
    1.0
    """
    if len(examples.y) == 0:
        raise ValueError("expected examples to evaluate on, got none")
    if batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, got {batch_size}")
    device = next(model.parameters(), examples.x).device
    loss = correct = 0.0
    with evaluating(model):
        for x, y in zip(examples.x.split(batch_size), examples.y.split(batch_size), strict=True):
            scores, y = model(x.to(device)), y.to(device)
            loss += cross_entropy(scores, y, reduction="sum").item()
            correct += (scores.argmax(dim=1) == y).sum().item()
    return {"loss": loss / len(examples.y), "accuracy": correct / len(examples.y)}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode within the block, and back in its own mode afterwards.

    >>> with evaluating(model := nn.Dropout()):
    ...     model.training
    False
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
