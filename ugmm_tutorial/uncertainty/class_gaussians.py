"""A density of a network's features, to compare with the log-densities of the network itself.

Taught in chapter 12.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ugmm_tutorial.arrays import numbers, whole_numbers
from ugmm_tutorial.optional import needed

__all__ = ["ClassGaussians"]


class ClassGaussians:
    """Gaussians around the class means of some features, with one covariance for all classes.

    The covariance is shrunk towards a multiple of the identity (Ledoit and Wolf 2004, by scikit-learn).
    Otherwise units that never change would leave it without an inverse.

    Args:
        features: (N, K) of the training examples, for example
            :func:`~ugmm_tutorial.uncertainty.outputs.penultimate`.
        labels: (N,).

    Raises:
        TypeError: features are no real numbers, or labels no integers.
        ValueError: shapes do not fit.

    Source: Lee, Lee, Lee and Shin (2018).

    >>> ClassGaussians([[0.0], [2.0], [8.0], [10.0]], [0, 0, 1, 1]).score([[1.0], [9.0], [5.0]]).round(6)
    array([ 0.,  0., 16.])
    """

    def __init__(self, features: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> None:
        with needed("scikit-learn", by="A shrunk covariance"):
            from sklearn.covariance import LedoitWolf

        f, y = numbers("features", features), whole_numbers("labels", labels)
        if f.ndim != 2 or y.shape != (len(f),) or len(f) < 2 or not np.isfinite(f).all():
            raise ValueError(
                f"expected finite features (N, K) and labels (N,), N >= 2, got {f.shape} and {y.shape}"
            )
        classes, member = np.unique(y, return_inverse=True)
        self.means = np.stack([f[y == c].mean(axis=0) for c in classes])
        self._covariance = LedoitWolf(assume_centered=True).fit(f - self.means[member])

    def score(self, features: ArrayLike | Tensor) -> np.ndarray:
        """Squared Mahalanobis distances of features (N, K) to the nearest class mean, (N,)."""
        f = numbers("features", features)
        if f.ndim != 2 or f.shape[1] != self.means.shape[1] or len(f) == 0 or not np.isfinite(f).all():
            raise ValueError(f"expected finite features (N, {self.means.shape[1]}), got {f.shape}")
        return np.min([self._covariance.mahalanobis(f - mean) for mean in self.means], axis=0)
