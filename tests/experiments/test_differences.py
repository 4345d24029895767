"""The interval of a difference against SciPy, by simulation, and where there is none."""

import math

import numpy as np
import pytest
from scipy import stats

from ugmm_tutorial.experiments.differences import paired_difference, welch_difference

OURS, THEIRS = [0.982, 0.985, 0.981, 0.984, 0.9835], [0.979, 0.9805, 0.9799]


def test_welch_is_scipys():
    interval = stats.ttest_ind(OURS, THEIRS, equal_var=False).confidence_interval(0.95)
    mean, half = welch_difference(OURS, THEIRS)
    assert mean == pytest.approx(np.mean(OURS) - np.mean(THEIRS))
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))
    back, same = welch_difference(THEIRS, OURS)
    assert (back, same) == pytest.approx((-mean, half))


def test_paired_is_scipys():
    others = [value - shift for value, shift in zip(OURS, (0.001, 0.003, 0.0, 0.002, 0.004), strict=True)]
    interval = stats.ttest_rel(OURS, others).confidence_interval(0.95)
    mean, half = paired_difference(OURS, others)
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))


def test_the_true_difference_lies_inside_in_nineteen_cases_of_twenty():
    draw = np.random.default_rng(0)
    trials, inside = 2000, 0
    for _ in range(trials):
        mean, half = welch_difference(draw.normal(0.98, 1e-3, 5), draw.normal(0.97, 4e-3, 4))
        inside += abs(mean - 0.01) <= half
    error = math.sqrt(0.95 * 0.05 / trials)
    # Welch's degrees of freedom are an approximation, a good one at these sizes.
    assert inside / trials == pytest.approx(0.95, abs=4 * error + 0.01)


def test_a_single_run_has_no_interval_and_equal_runs_have_one_without_width():
    mean, half = welch_difference([0.98], THEIRS)
    assert mean == pytest.approx(0.98 - np.mean(THEIRS))
    assert math.isnan(half)
    assert welch_difference([0.5, 0.5], [0.25, 0.25, 0.25]) == (0.25, 0.0)


@pytest.mark.parametrize("function", [welch_difference, paired_difference])
@pytest.mark.parametrize("values", [[], [0.9, math.nan], [math.inf]], ids=str)
def test_what_is_no_set_of_runs_is_refused_by_name(function, values):
    with pytest.raises(ValueError, match="expected ours to be finite numbers, at least one"):
        function(values, THEIRS)
    with pytest.raises(ValueError, match="expected theirs to be finite numbers, at least one"):
        function(THEIRS, values)


def test_pairs_need_partners():
    with pytest.raises(ValueError, match="expected as many values in theirs as in ours, 5, got 3"):
        paired_difference(OURS, THEIRS)
