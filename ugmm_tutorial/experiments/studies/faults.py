"""Faults of measurements: what happens to some features of a row after training.

Every fault replaces the marked entries of a table, in its own units. Which entries are marked, and by what
they are replaced, depends on a seed only, so that every learner sees the same broken rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAULTS", "TUNING_FAULT", "broken", "marked", "marked_blocks"]

Table = NDArray[np.float64]


def _noise(deviations: float) -> Callable[[Table, Table, np.random.Generator], Table]:
    def fault(x: Table, train: Table, draw: np.random.Generator) -> Table:
        return train.mean(axis=0) + deviations * train.std(axis=0) * draw.standard_normal(x.shape)

    return fault


def _stuck(x: Table, train: Table, draw: np.random.Generator) -> Table:
    """Every feature has one value at which it sticks: that of a training row."""
    rows = draw.integers(0, len(train), x.shape[1])
    return np.broadcast_to(train[rows, np.arange(x.shape[1])], x.shape)


def _scaled(factor: float) -> Callable[[Table, Table, np.random.Generator], Table]:
    return lambda x, train, draw: factor * x


def _another_row(x: Table, train: Table, draw: np.random.Generator) -> Table:
    """Each entry from a training row of its own: every value is a usual one of its feature."""
    return np.take_along_axis(train, draw.integers(0, len(train), x.shape), axis=0)


def _missing(x: Table, train: Table, draw: np.random.Generator) -> Table:
    return np.full(x.shape, np.nan)


def _heavy_tails(x: Table, train: Table, draw: np.random.Generator) -> Table:
    return np.median(train, axis=0) + train.std(axis=0) * draw.standard_cauchy(x.shape)


#: The faults by name. Deviations are those of the training rows.
FAULTS: dict[str, Callable[[Table, Table, np.random.Generator], Table]] = {
    "gross": _noise(10.0),
    "moderate": _noise(3.0),
    "stuck": _stuck,
    "unit x 1000": _scaled(1000.0),
    "unit x 0.001": _scaled(0.001),
    "another row": _another_row,
    "missing": _missing,
}
#: Settings may be chosen on validation rows broken in this way, which no test row is: Cauchy noise.
TUNING_FAULT = _heavy_tails


def broken(
    x: Table,
    train: Table,
    fault: Callable[[Table, Table, np.random.Generator], Table],
    mark: NDArray[np.bool_],
    seed: int,
) -> Table:
    """A copy of the rows with the marked entries replaced.

    Args:
        x: rows (N, K) in their own units.
        train: training rows, which say what is usual.
        fault: a value of :data:`FAULTS`, or :data:`TUNING_FAULT`.
        mark: which entries are broken, (N, K).
        seed: of the values that replace them.

    >>> x = np.zeros((1, 2))
    >>> broken(x, x, FAULTS["missing"], np.array([[True, False]]), 0)
    array([[nan,  0.]])
    """
    return np.where(mark, fault(x, train, np.random.default_rng(seed)), x)


def marked(shape: tuple[int, int], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Entries that break independently. For a larger fraction more break, and all that did before."""
    return np.random.default_rng(seed).random(shape) < fraction


def marked_blocks(rows: int, side: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """For square images, a square block of about that part of the pixels at a random place."""
    size = round(side * np.sqrt(fraction))
    draw = np.random.default_rng(seed)
    top, left = draw.integers(0, side - size + 1, (2, rows, 1, 1))
    down, right = np.mgrid[:side, :side]
    inside = (down >= top) & (down < top + size) & (right >= left) & (right < left + size)
    return inside.reshape(rows, side * side)
