"""How good probabilities are, how well they are calibrated, and how well a score separates two sets.

Metrics that scikit-learn has come from there; the calibration error with bins of equal mass is our own.
Taught in chapter 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ugmm_tutorial.arrays import numbers, whole_numbers
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.optional import needed

__all__ = [
    "Reliability",
    "accuracy",
    "auroc",
    "brier_score",
    "calibrated_ece",
    "expected_calibration_error",
    "negative_log_likelihood",
    "reliability",
]

# How far the sum of float32 probabilities may be from one.
_SUM_TOLERANCE = 1e-4


def accuracy(probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """Share of examples whose most probable class is their label.

    Args:
        probabilities: (N, C), each row sums to one; N >= 1 and C >= 2.
        labels: (N,), integers from 0 to C - 1.

    Raises:
        ValueError: shapes do not fit, or the rows are not probabilities.
        TypeError: labels are not integers.

    >>> accuracy([[0.9, 0.1], [0.4, 0.6]], [0, 0])
    0.5
    """
    p, y = _checked(probabilities, labels)
    return float((p.argmax(axis=1) == y).mean())


def negative_log_likelihood(probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """Mean of -log p(label), in nats; 0 is best. scikit-learn's ``log_loss``.

    A probability of zero at the label counts as the rounding error of float64, 36 nats.

    Args and Raises: as for :func:`accuracy`.

    >>> round(negative_log_likelihood([[0.5, 0.5]], [0]), 4)
    0.6931
    """
    with needed("scikit-learn", by="This measure"):
        from sklearn.metrics import log_loss

    p, y = _checked(probabilities, labels)
    return float(log_loss(y, p, labels=np.arange(p.shape[1])))


def brier_score(probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """Mean of sum_c (p_c - [c is the label])^2: 0 is best, 2 is worst. Brier (1950), for all classes.

    scikit-learn's ``brier_score_loss`` over all pairs of an example and a class, times the number of classes.

    Args and Raises: as for :func:`accuracy`.

    >>> brier_score([[0.5, 0.5], [1.0, 0.0]], [0, 0])
    0.25
    """
    with needed("scikit-learn", by="This measure"):
        from sklearn.metrics import brier_score_loss

    p, y = _checked(probabilities, labels)
    truth = np.arange(p.shape[1]) == y[:, None]
    return float(brier_score_loss(truth.ravel(), p.ravel())) * p.shape[1]


@dataclass(frozen=True)
class Reliability:
    """Examples in bins by confidence, the probability of the predicted class; arrays (bins,).

    Attributes:
        count: examples in each bin.
        confidence: their mean confidence.
        accuracy: the share of them that is predicted correctly.

    >>> Reliability(np.array([10, 30]), confidence=np.array([0.75, 1.0]), accuracy=np.array([0.5, 0.5])).ece
    0.4375
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean of ``|accuracy - confidence|`` over bins, by count."""
        return float(np.average(np.abs(np.subtract(self.accuracy, self.confidence)), weights=self.count))

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy; negative for an underconfident predictor."""
        return float(np.average(np.subtract(self.confidence, self.accuracy), weights=self.count))

    def accuracy_interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of each bin's exact 95 % interval, (bins,) (Clopper and Pearson 1934)."""
        from scipy.stats import beta

        n, right = np.asarray(self.count), np.multiply(self.count, self.accuracy)
        low, high = beta.ppf(0.025, right, n - right + 1), beta.ppf(0.975, right + 1, n - right)
        return np.where(right > 0, low, 0.0), np.where(right < n, high, 1.0)


def reliability(
    probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor, *, bins: int = 15
) -> Reliability:
    """Sort the examples by confidence into bins of equal mass, and measure the accuracy of each bin.

    The bins hold N / bins examples, up to one. Examples of equal confidence share their mean accuracy, so
    their order does not matter.

    Args:
        probabilities: (N, C).
        labels: (N,).
        bins: number of bins, from 1 to N.

    Raises:
        ValueError: as for :func:`accuracy`, or a number of bins that N examples cannot fill.
        TypeError: labels or ``bins`` are not integers.

    Source: equal mass, Nguyen and O'Connor (2015); top-label confidence, Guo et al. (2017).

    >>> reliability([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], [0, 0, 1, 1], bins=2).accuracy
    array([0.5, 1. ])
    """
    p, y = _checked(probabilities, labels)
    confidence, right = p.max(axis=1), (p.argmax(axis=1) == y).astype(float)
    return _EqualMass(confidence, bins).reliability(right)


def expected_calibration_error(
    probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor, *, bins: int = 15
) -> float:
    """Mean distance between confidence and accuracy over bins of equal mass, from 0 to 1.

    Even a calibrated predictor rarely reaches zero: the accuracy of a bin of n examples differs from its
    expectation a by about sqrt(2 a (1 - a) / (pi n)). :func:`calibrated_ece` shows the effect on the ECE.

    Args and Raises: as for :func:`reliability`.

    >>> expected_calibration_error([[1.0, 0.0], [1.0, 0.0]], [0, 1], bins=1)
    0.5
    """
    return reliability(probabilities, labels, bins=bins).ece


def calibrated_ece(
    probabilities: ArrayLike | Tensor, *, bins: int = 15, draws: int = 200, seed: int = 0
) -> np.ndarray:
    """Draws of the ECE that a predictor with these confidences would have if it were calibrated, (draws,).

    In each draw, every answer is right with its confidence as the probability. The mean over draws is the
    bias of the ECE at N examples. An ECE above most of the draws is evidence of miscalibration.

    Args:
        probabilities: (N, C).
        bins: as for :func:`reliability`.
        draws: number of draws, at least 1.
        seed: of the draws.

    Raises:
        TypeError, ValueError: as for :func:`reliability`; or ``draws`` or ``seed`` is out of its range.

    Source: consistency resampling, Bröcker and Smith (2007).

    >>> bool(calibrated_ece([[0.75, 0.25]] * 100).mean() > 0.01)  # calibrated, and yet not zero
    True
    """
    draws, seed = check.integer("draws", draws, 1), check.seed(seed)
    confidence = _checked_rows(probabilities).max(axis=1)
    equal_mass, coins = _EqualMass(confidence, bins), np.random.default_rng(seed)
    right = (coins.random(len(confidence)) < confidence for _ in range(draws))
    return np.array([equal_mass.reliability(r).ece for r in right])


def auroc(inside: ArrayLike | Tensor, outside: ArrayLike | Tensor) -> float:
    """Share of pairs in which the outside example has the larger score; equal scores count one half.

    In this package a larger score means further out of distribution. 1 separates the two sets, 0.5 is
    guessing, and below 0.5 the outside examples seem closer to the training data than the inside ones. It is
    scikit-learn's ``roc_auc_score`` with the outside as the positive class.

    Args:
        inside: scores of in-distribution examples, (N,).
        outside: scores of out-of-distribution examples, (M,).

    Raises:
        ValueError: scores are not (N,) with N >= 1, or NaN.

    >>> auroc(inside=[1.0, 2.0], outside=[2.0, 3.0])
    0.875
    """
    with needed("scikit-learn", by="This measure"):
        from sklearn.metrics import roc_auc_score

    scores = [numbers(name, s) for name, s in (("inside", inside), ("outside", outside))]
    for name, s in zip(("inside", "outside"), scores, strict=True):
        if s.ndim != 1 or len(s) == 0 or np.isnan(s).any():
            raise ValueError(f"expected {name} to be scores (N,), N >= 1, without NaN, got {s.shape}")
    # scikit-learn takes only finite scores, so an infinite one becomes the largest float.
    joined = np.nan_to_num(np.concatenate(scores))
    return float(roc_auc_score(np.repeat([0, 1], [len(s) for s in scores]), joined))


class _EqualMass:
    """Examples sorted once into bins of equal mass by their confidence."""

    def __init__(self, confidence: np.ndarray, bins: int) -> None:
        if not 1 <= check.integer("bins", bins, -len(confidence)) <= len(confidence):
            raise ValueError(f"expected 1 to {len(confidence)} bins for as many examples, got {bins}")
        _, self._tie, self._tied = np.unique(confidence, return_inverse=True, return_counts=True)
        self._order = np.argsort(confidence)
        sizes = np.full(bins, len(confidence) // bins)
        sizes[: len(confidence) % bins] += 1
        self.count, self._first = sizes, np.cumsum(sizes) - sizes
        self.confidence = self._means(confidence)

    def reliability(self, right: np.ndarray) -> Reliability:
        """The accuracy of each bin, where ``right`` (N,) holds zeros and ones."""
        shared = np.bincount(self._tie, weights=right) / self._tied
        return Reliability(self.count, self.confidence, self._means(shared[self._tie]))

    def _means(self, values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[self._order], self._first) / self.count


def _checked_rows(probabilities: ArrayLike | Tensor) -> np.ndarray:
    """Probabilities in float64 whose rows sum to one."""
    p = numbers("probabilities", probabilities)
    if p.ndim != 2 or len(p) == 0 or p.shape[1] < 2:
        raise ValueError(f"expected probabilities (N, C) with N >= 1 and C >= 2, got {p.shape}")
    sums = p.sum(axis=1, keepdims=True)
    # Written so that NaN fails.
    if not ((p >= 0).all() and (np.abs(sums - 1) <= _SUM_TOLERANCE).all()):
        raise ValueError(
            "expected probabilities >= 0 whose rows sum to one; take the softmax of logits before"
        )
    return p / sums


def _checked(probabilities: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities in float64 whose rows sum to one, and labels."""
    p = _checked_rows(probabilities)
    y = whole_numbers("labels", labels)
    if y.shape != (len(p),):
        raise ValueError(f"expected labels, one label for each of the {len(p)} rows, got {y.shape}")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise ValueError(f"expected labels from 0 to {p.shape[1] - 1}, got {y.min()} to {y.max()}")
    return p, y
