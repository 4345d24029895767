"""Exercises of chapter 8, comparing honestly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral

import torch
from torch import Tensor

from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    call,
    compare,
    draw,
    shown,
)

__all__ = ["EXERCISES", "discoveries", "half_width", "headline"]


# --- 8.1 --------------------------------------------------------------------------------------------


def half_width(answer: object) -> str:
    """8.1: the half-width of the interval of the mean of 0.10, 0.30 and 0.50 points."""
    value = as_number(answer)
    deviation, quantile = 0.2, 4.30
    right = quantile * deviation / math.sqrt(3)
    population = deviation * math.sqrt(2 / 3)
    mistakes = {
        "This is the mean: how far does its interval reach?": 0.3,
        "This is the standard deviation of the three, not yet of their mean.": deviation,
        "This is the standard error of the mean: Student's quantile is missing.": deviation / math.sqrt(3),
        "The mean of three varies less than one of them: divide by the root of 3.": quantile * deviation,
        "Divide by the root of 3, not by 3.": quantile * deviation / 3,
        "The standard deviation divides by 3 - 1 = 2, not by 3.": quantile * population / math.sqrt(3),
        "1.96 is for many runs; three runs need 4.30.": 1.96 * deviation / math.sqrt(3),
        "This reaches from end to end: half of it to either side.": 2 * right,
        "This is the lower end of the interval: how far is it from the mean?": 0.3 - right,
        "This is the upper end of the interval: how far is it from the mean?": 0.3 + right,
    }
    otherwise = "Standard deviation (divisor 2), divided by the root of 3, times 4.30."
    compare(value, right, mistakes, otherwise, rtol=0.0, atol=4e-3)
    return "0.30 ± 0.50: three runs that all say 'better' do not exclude zero."


# --- 8.2 --------------------------------------------------------------------------------------------

#: p-values, and those that survive Holm's correction at 0.05.
_CASES = (
    ([0.01, 0.04, 0.03, 0.005], [0, 3]),
    ([0.2, 0.001], [1]),
    ([0.02, 0.03, 0.04], []),
    ([0.04], [0]),
    ([0.0001, 0.9, 0.011, 0.02, 0.012, 0.5], [0]),
    ([0.3, 0.024, 0.001], [1, 2]),
)


def discoveries(answer: object) -> str:
    """8.2: Holm's correction for many tests."""
    function = as_function(answer, "discoveries(p_values, risk)")
    for p_values, right in _CASES:
        found = _indices(call(function, list(p_values), 0.05), len(p_values))
        if found == right:
            continue
        case = f"For {p_values} and a risk of 0.05 expected {right}, got {found}. "
        order = sorted(range(len(p_values)), key=lambda place: p_values[place])
        ranks = {place: rank for rank, place in enumerate(order)}
        count = len(p_values)
        each = [k for k, p in enumerate(p_values) if p <= 0.05 / (count - ranks[k])]
        mistakes = {
            "No p-value was corrected for how many there are.": [
                k for k, p in enumerate(p_values) if p <= 0.05
            ],
            "This is Bonferroni: after the smallest, the next may be compared with risk / (n - 1).": [
                k for k, p in enumerate(p_values) if p <= 0.05 / count
            ],
            "Stop at the first that fails: those after it are no discoveries, either.": each,
            "This compares them in the order in which they came: sort them first.": _unsorted(p_values),
            "The indices are sorted by p-value: return them in ascending order.": [
                k for k in order if k in right
            ],
        }
        hints = [hint for hint, wrong in mistakes.items() if wrong == found]
        raise NotYet(case + (hints[0] if hints else "Sort, compare with risk / (n - rank), stop."))
    if _indices(call(function, [], 0.05), 0):
        raise NotYet("Among no p-values there is no discovery.")
    p_values = [0.01, 0.04, 0.03, 0.005]
    if _indices(call(function, p_values, 0.2), 4) != [0, 1, 2, 3]:
        raise NotYet("With a risk of 0.2 all four are discoveries: is the risk fixed at 0.05?")
    return "At most one family in twenty has a false discovery, however many comparisons it holds."


def _unsorted(p_values: list[float]) -> list[int]:
    found = []
    for rank, p in enumerate(p_values):
        if p > 0.05 / (len(p_values) - rank):
            break
        found.append(rank)
    return found


def _indices(found: object, count: int) -> list[int]:
    listed = found.tolist() if isinstance(found, Tensor) else found
    if not isinstance(listed, Iterable) or isinstance(listed, str | dict):
        raise NotYet(f"Return a list of indices, got {shown(found)}.")
    listed = list(listed)
    if not all(isinstance(k, Integral) and not isinstance(k, bool) for k in listed):
        raise NotYet(f"Return indices, integers from 0, got {shown(found)}.")
    if not all(0 <= k < count for k in listed):
        raise NotYet(f"Indices begin at 0, so the last of {count} is {count - 1}; got {shown(found)}.")
    return [int(k) for k in listed]


# --- 8.3 --------------------------------------------------------------------------------------------


def headline(answer: object) -> str:
    """8.3: the cell of a map of differences that best supports a wish."""
    function = as_function(answer, "headline(means, halves, wish)")
    means, halves = 0.2 * draw(4, 3, seed=0), 0.3 + 0.5 * draw(4, 3, seed=1).abs()
    means[2, 1], halves[2, 1] = 3.0, 2.9  # the largest difference, hardly clear of zero
    means[1, 2], halves[1, 2] = 1.5, 0.2
    means[3, 0], halves[3, 0] = -1.2, 0.1
    means[0, 0], halves[0, 0] = -2.5, 2.4
    for wish, right, largest in (("ahead", (1, 2), (2, 1)), ("behind", (3, 0), (0, 0))):
        said = _cell(call(function, means, halves, wish))
        if said == right:
            continue
        if said == largest:
            raise NotYet(
                "This is the largest difference, but its interval almost touches zero. Which interval is "
                "farthest from zero?"
            )
        if said == ((3, 0) if wish == "ahead" else (1, 2)):
            raise NotYet(f"This cell speaks for the other side: the wish is {wish!r}.")
        raise NotYet(f"For {wish!r} expected the cell {right}, got {said}.")
    unclear = torch.full((2, 2), 0.1, dtype=torch.float64)
    for wish in ("ahead", "behind"):
        if (said := _cell(call(function, unclear, 2 * unclear, wish, silent=True))) is not None:
            raise NotYet(f"No interval is clear of zero here, so return None, got {said}.")
        one_side = unclear if wish == "behind" else -unclear
        if (said := _cell(call(function, one_side, 0.5 * unclear, wish, silent=True))) is not None:
            raise NotYet(f"Every cell speaks for the other side here, so return None, got {said}.")
    return "Both headlines are true of their cells. The map is what a fair sentence is about."


def _cell(found: object) -> tuple[int, int] | None:
    if found is None:
        return None
    listed = found.tolist() if isinstance(found, Tensor) else found
    if not isinstance(listed, tuple | list) or len(listed) != 2:
        raise NotYet(f"Return a pair (row, column) or None, got {shown(found)}.")
    row, column = (k.item() if isinstance(k, Tensor) else k for k in listed)
    if not isinstance(row, Integral) or not isinstance(column, Integral):
        raise NotYet(f"Return a pair of integers (row, column) or None, got {shown(found)}.")
    return int(row), int(column)


EXERCISES = {
    "8.1": Exercise(half_width, "The half-width is Student's quantile times the standard error of the mean."),
    "8.2": Exercise(
        discoveries, "`sorted(range(n), key=...)` gives the places of the p-values from the smallest on."
    ),
    "8.3": Exercise(
        headline, "Which end of an interval decides whether it is clear of zero, and for which wish?"
    ),
}
