"""The difference between two sets of runs, with its interval.

Whether two intervals overlap says little about the difference between their means. This is the interval of
the difference itself. Taught in chapters 6 and 8.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ugmm_tutorial.kernels.arguments import reals
from ugmm_tutorial.training.records import mean_and_interval

__all__ = ["paired_difference", "welch_difference"]


def welch_difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean of ``ours`` minus mean of ``theirs``, and the half-width of its 95 % confidence interval.

    For runs that have nothing in common. Both sides may vary differently, and may have different numbers of
    runs. The half-width is NaN if a side has only one run.

    Source: Welch (1947), *The generalization of "Student's" problem when several different population
    variances are involved*.

    Raises:
        ValueError: a side has no values, or one that is not finite.

    >>> mean, half = welch_difference([0.982, 0.984, 0.983], [0.979, 0.981, 0.980])
    >>> f"{100 * mean:.1f} ± {100 * half:.1f} points"
    '0.3 ± 0.2 points'
    """
    sides = [_finite("ours", ours), _finite("theirs", theirs)]
    mean = statistics.fmean(sides[0]) - statistics.fmean(sides[1])
    if min(map(len, sides)) < 2:
        return mean, math.nan
    squares = [statistics.variance(side) / len(side) for side in sides]
    if not sum(squares):
        return mean, 0.0
    from scipy.stats import t

    freedom = sum(squares) ** 2 / sum(s**2 / (len(side) - 1) for s, side in zip(squares, sides, strict=True))
    return mean, float(t.ppf(0.975, freedom)) * math.sqrt(sum(squares))


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean difference of pairs, and the half-width of its 95 % confidence interval.

    For runs that belong together one by one, because they share a split of the data or a fold.

    Raises:
        ValueError: the sides have different lengths, no values, or one that is not finite.

    >>> mean, half = paired_difference([0.93, 0.91, 0.95], [0.92, 0.90, 0.93])
    >>> f"{100 * mean:.1f} ± {100 * half:.1f} points"
    '1.3 ± 1.4 points'
    """
    pairs = [_finite("ours", ours), _finite("theirs", theirs)]
    if len(pairs[0]) != len(pairs[1]):
        raise ValueError(
            f"expected as many values in theirs as in ours, {len(pairs[0])}, got {len(pairs[1])}: runs that "
            "do not belong together need welch_difference"
        )
    return mean_and_interval([one - other for one, other in zip(*pairs, strict=True)])


def _finite(name: str, values: Sequence[float]) -> list[float]:
    found = list(reals(name, values))
    if not found or not all(map(math.isfinite, found)):
        raise ValueError(f"expected {name} to be finite numbers, at least one, got {found}")
    return found
