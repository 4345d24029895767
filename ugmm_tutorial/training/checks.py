"""Whether data can train a model, asked before the first step."""

from __future__ import annotations

from ugmm_tutorial.data import Splits
from ugmm_tutorial.kernels.arguments import labels, numbers_in, shown, tensor

__all__ = ["check_classes", "check_parts"]


def check_parts(data: Splits) -> None:
    """There is something to train on, and every part has as many labels as inputs, whole numbers from 0 on.

    Raises:
        TypeError, ValueError: see :func:`~ugmm_tutorial.training.train`.
    """
    if not isinstance(data, Splits):
        raise TypeError(f"expected data to be Splits, a data set in three parts, got {shown(data)}")
    for part in data.sizes:
        x, y = getattr(data, part)
        if len(numbers_in(f"{part}.x", x, floating=False, finite=False)) != len(tensor(f"{part}.y", y)):
            raise ValueError(f"expected as many inputs as labels in {part}, got {len(x)} and {len(y)}")
        labels(f"{part}.y", y, len(x))
    if len(data.train.y) == 0:
        raise ValueError(f"expected training examples, got none in {data!r}")


def check_classes(data: Splits, classes: int) -> None:
    """Every label is a class of the model. On a GPU a wrong one would end the process.

    Raises:
        ValueError: one is not.
    """
    for part, rows in data.sizes.items():
        labels(f"{part}.y", getattr(data, part).y, rows, classes)
