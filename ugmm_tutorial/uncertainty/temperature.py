"""Temperature scaling: one number, fitted on validation images, that divides all logits.

It changes how confident a network is, never what it answers. Taught in chapter 12.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ugmm_tutorial.arrays import numbers, whole_numbers

__all__ = ["fit_temperature"]


def fit_temperature(logits: ArrayLike | Tensor, labels: ArrayLike | Tensor) -> float:
    """The temperature T > 0 at which softmax(logits / T) is most likely to give the labels.

    As a function of 1 / T the likelihood has one maximum: where the mean logit expected under the softmax
    equals that of the labels. This is the root of an increasing function, which SciPy's ``brentq`` finds.
    T > 1 means that the network was overconfident.

    Args:
        logits: (N, C), of examples that were not trained on.
        labels: (N,), integers from 0 to C - 1.

    Raises:
        TypeError: logits are no real numbers.
        ValueError: shapes or labels do not fit, logits are not finite, or no temperature is best: all answers
            are right (the smaller T, the better), or they are no better than chance.

    Source: Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks".

    >>> round(fit_temperature([[2 * np.log(3), 0.0]] * 4, [0, 0, 0, 1]), 4)  # 90 % sure, 75 % right
    2.0
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    z = numbers("logits", logits)
    if z.ndim != 2:
        raise ValueError(f"expected finite logits (N, C), got shape {z.shape}")
    try:
        y = whole_numbers("labels", labels)
    except TypeError as error:
        raise ValueError(f"expected labels to be integers from 0 to {z.shape[1] - 1}") from error
    if len(z) == 0 or y.shape != (len(z),) or not np.isfinite(z).all():
        raise ValueError(
            f"expected finite logits (N, C) and labels (N,), N >= 1, got {z.shape} and {y.shape}"
        )
    if y.min() < 0 or y.max() >= z.shape[1]:
        raise ValueError(f"expected labels to be integers from 0 to {z.shape[1] - 1}")
    # Relative to the label's logit, for only differences matter, and to the largest: T grows with logits.
    largest = float(np.abs(z).max()) or 1.0
    z = z / largest
    excess = z - z[np.arange(len(z)), y][:, None]

    def slope(beta: float) -> float:
        """Derivative of the mean negative log-likelihood by beta = 1 / T."""
        return float((softmax(beta * excess, axis=1) * excess).sum(axis=1).mean())

    if excess.max() <= 0.0:
        raise ValueError(
            "expected logits with some wrong answers: with none, the lowest temperature fits best"
        )
    if excess.mean() >= 0.0:
        raise ValueError("expected logits better than chance: these fit best at an infinite temperature")
    low = high = 1.0
    while slope(low) > 0.0:
        low /= 2.0
    while slope(high) < 0.0:
        high *= 2.0
    beta = low if low == high else float(brentq(slope, low, high, xtol=1e-12))
    if not 0.0 < largest / beta < math.inf:
        raise ValueError(f"expected logits whose best temperature is a number, got {largest:g} / {beta:g}")
    return largest / beta
