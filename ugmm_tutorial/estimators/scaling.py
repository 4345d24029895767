"""Robust scaling of features: by the median and the quartiles, which outliers cannot move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["RobustScale"]

# The distance between the quartiles of a standard normal distribution.
_QUARTILES = 1.3489795003921634


class RobustScale:
    """``(x - center) / scale`` for each column, with weighted quantiles of the training rows.

    A row of weight two counts like two copies. NaN does not count and stays NaN. ``scale`` is the distance
    between the quartiles, in units in which a normal distribution has a standard deviation of one; where half
    of a column is one value, it is the standard deviation of the rest around the center; 1 for a constant.

    Attributes:
        center, scale: (K,), float64.

    >>> scale = RobustScale(np.array([[1.0], [2.0], [3.0], [1e9]]))
    >>> scale.center
    array([2.])
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]

    def __init__(self, x: NDArray, weight: NDArray | None = None) -> None:
        weight = np.ones(len(x)) if weight is None else weight
        columns = [_column(values[~np.isnan(values)], weight[~np.isnan(values)]) for values in x.T]
        self.center, self.scale = np.array(columns, dtype=np.float64).reshape(-1, 2).T

    def __call__(self, x: NDArray) -> NDArray:
        """Scaled values, in the dtype of ``x``."""
        return ((x - self.center) / self.scale).astype(x.dtype)

    def back(self, x: NDArray) -> NDArray:
        """The values whose scaled ones these are."""
        return x * self.scale + self.center


def _column(values: NDArray, weight: NDArray) -> tuple[float, float]:
    values, weight = values[weight > 0].astype(np.float64), weight[weight > 0]
    if len(values) == 0:
        return 0.0, 1.0
    order = np.argsort(values, kind="stable")
    values, weight = values[order], weight[order]
    total = np.cumsum(weight)
    low, center, high = (values[np.searchsorted(total, part * total[-1])] for part in (0.25, 0.5, 0.75))
    scale = (high - low) / _QUARTILES
    if not scale > 0.0:
        others = values != center
        square = np.average((values[others] - center) ** 2, weights=weight[others]) if others.any() else 0.0
        scale = np.sqrt(square)
    return float(center), float(scale) if 0.0 < scale < np.inf else 1.0
