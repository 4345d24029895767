"""UGMMDensity: normalised densities of tables, fitted by EM."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ugmm_tutorial.arrays import as_array
from ugmm_tutorial.density import DiagonalGaussianMixture, SmoothedUGMM, em
from ugmm_tutorial.estimators.scaling import RobustScale
from ugmm_tutorial.kernels.arguments import integer, number, one_of

__all__ = ["KINDS", "UGMMDensity"]

#: The densities, by name.
KINDS = {"smoothed": SmoothedUGMM, "diagonal": DiagonalGaussianMixture}


class UGMMDensity(DensityMixin, BaseEstimator):
    """The density of a table: a mixture of smoothed uGMM neurons, or a diagonal Gaussian mixture.

    Only normalised models are offered, so scores are log-densities. NaN may be a missing value, in fitting
    and in scoring; it is marginalised exactly.

    Parameters:
        n_components: neurons, or Gaussians.
        kind: ``"smoothed"`` (:class:`~ugmm_tutorial.density.SmoothedUGMM`) or ``"diagonal"``
            (:class:`~ugmm_tutorial.density.DiagonalGaussianMixture`).
        min_std: smallest standard deviation, in units of the scaled features.
        max_iter: at most this many iterations of EM.
        tol: EM ends when the mean log-likelihood grows by less than this, in nats per row.
        allow_nan: whether NaN is a missing value; otherwise it is an error.
        random_state: seed or generator of the start, and of samples. Global generators stay as they are.

    Attributes:
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
        n_iter_: iterations of EM.
        log_likelihoods_: mean log-likelihood in nats per row, in the features' units, before every iteration
            and after the last.
        model_: the fitted density of scaled features, in float64.
        scale_: the scaling of features.

    Taught in chapter 10.

    >>> from sklearn.datasets import load_iris
    >>> x = load_iris().data
    >>> density = UGMMDensity(n_components=3, random_state=0).fit(x)
    >>> density.score_samples(x[:5]).shape, density.sample(2).shape
    ((5,), (2, 4))
    """

    def __init__(
        self,
        n_components: int = 8,
        *,
        kind: str = "smoothed",
        min_std: float = 0.1,
        max_iter: int = 100,
        tol: float = 1e-3,
        allow_nan: bool = False,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.kind = kind
        self.min_std = min_std
        self.max_iter = max_iter
        self.tol = tol
        self.allow_nan = allow_nan
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fit to rows ``X`` (N, K); ``y`` is ignored.

        Raises:
            ValueError: a setting is out of its range, rows are not finite, or there are fewer rows than
                components.
        """
        one_of("kind", self.kind, KINDS)
        integer("n_components", self.n_components, 1)
        integer("max_iter", self.max_iter, 1)
        number("tol", self.tol, -np.inf)
        rows = self._rows(X, reset=True)
        if len(rows) < self.n_components:
            raise ValueError(
                f"expected at least n_components={self.n_components} rows, got n_samples={len(rows)}"
            )
        self.scale_ = RobustScale(rows)
        scaled = torch.from_numpy(self.scale_(rows))
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        sizes = (rows.shape[1], self.n_components)
        with torch.random.fork_rng(devices=[]):  # initial values are drawn, and then replaced by clusters
            model = KINDS[self.kind](*sizes, min_std=self.min_std, dtype=torch.float64)
            self.model_ = model.initialise(scaled, seed)
        history = em.fit(self.model_, scaled, iterations=self.max_iter, tolerance=self.tol)
        shift = self._log_volume(~np.isnan(rows)).mean()
        self.log_likelihoods_ = [value - float(shift) for value in history]
        self.n_iter_ = len(history) - 1
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Log-density of each row in nats, (N,), in the features' units; NaN is marginalised."""
        check_is_fitted(self)
        rows = self._rows(X)
        with torch.no_grad():
            found = self.model_.log_prob(torch.from_numpy(self.scale_(rows))).numpy()
        return found - self._log_volume(~np.isnan(rows))

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Mean log-density of the rows in nats."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> NDArray[np.float64]:
        """Independent draws, (n_samples, K); by default from the estimator's ``random_state``."""
        check_is_fitted(self)
        n_samples = integer("n_samples", n_samples, 0)
        state = self.random_state if random_state is None else random_state
        seed = check_random_state(state).randint(np.iinfo(np.int32).max)
        draws = self.model_.sample(n_samples, torch.Generator().manual_seed(int(seed)))
        return self.scale_.back(draws.numpy())

    def bic(self, X: ArrayLike) -> float:
        """The Bayesian information criterion on rows: lower is better.

        It counts all free parameters: means and standard deviations, weights, and for smoothed neurons the
        weights of their inputs and the background.
        """
        scores = self.score_samples(X)
        return -2.0 * float(scores.sum()) + self._free_parameters() * float(np.log(len(scores)))

    def _free_parameters(self) -> int:
        inputs, count = self.n_features_in_, self.model_.mean.shape[0]
        total = 2 * inputs * count + count - 1
        return total if self.kind == "diagonal" else total + count * (inputs - 1) + 2 * inputs

    def _log_volume(self, known: NDArray) -> NDArray[np.float64]:
        """What scaling adds to the log-density of a row with these known values."""
        return known @ np.log(self.scale_.scale)

    def _rows(self, X: ArrayLike, *, reset: bool = False) -> NDArray[np.float64]:
        finite = "allow-nan" if self.allow_nan else True
        X = as_array("X", X)
        return validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=finite, copy=True)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.allow_nan
        return tags
