"""The rule of Table 2: the interval against its formula and by simulation, and when it says nothing."""

import math
import random
import statistics

import pytest
from scipy import stats

from ugmm_tutorial.experiments.replication import judge, over_window
from ugmm_tutorial.training.records import Record

THREE = (0.9802, 0.9814, 0.9808)  # mean 0.9808, standard deviation 0.0006
HALF = {"97.8": 0.0005, "98.15": 0.00005, "98": 0.005, "98.125": 0.000005}  # of the last digit printed


def record(accuracies, part="test"):
    """A record of one epoch per accuracy."""
    metrics = ({"epoch": n, f"{part}_accuracy": a} for n, a in enumerate(accuracies, start=1))
    return Record(config={}, data={}, model={}, metrics=tuple(metrics), seconds=1.0, environment={})


# --- The interval


@pytest.mark.parametrize(
    "accuracies",
    [THREE, (0.977, 0.978, 0.9785, 0.9772), (0.9811, 0.9815, 0.9809, 0.9812, 0.9814, 0.9810, 0.9813)],
    ids=len,
)
def test_reach_is_students_prediction_interval_and_half_of_the_last_digit(accuracies):
    n = len(accuracies)
    mean = sum(accuracies) / n
    s = math.sqrt(sum((a - mean) ** 2 for a in accuracies) / (n - 1))
    verdict = judge(0.9815, accuracies)
    t = stats.t(n - 1).ppf(0.975)
    assert verdict.paper == 0.9815
    assert verdict.runs == n
    assert verdict.mean == pytest.approx(mean)
    assert verdict.half == pytest.approx(t * s / math.sqrt(n))
    assert verdict.reach == pytest.approx(t * s * math.sqrt(1 + 1 / n) + 0.00005)


def test_three_runs_by_hand():
    # t(0.975; 2) = 4.302653; 4.302653 * 0.0006 * sqrt(4 / 3) = 0.0029810, and 0.00005 for the rounding.
    verdict = judge(0.9815, THREE)
    assert verdict.mean == pytest.approx(0.9808)
    assert verdict.reach == pytest.approx(0.0030310, abs=1e-7)
    assert verdict.half == pytest.approx(4.302653 * 0.0006 / math.sqrt(3), abs=1e-7)


@pytest.mark.parametrize(("printed", "half"), HALF.items())
def test_a_number_is_widened_by_half_of_the_last_digit_that_is_printed(printed, half):
    # Equal runs leave an interval of no width: what remains is the rounding.
    assert judge(float(printed) / 100, [0.9] * 5).reach == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize(("paper", "half"), [(0.978, 0.0005), (0.9815, 0.00005)])
def test_equal_runs_exclude_all_but_what_rounds_to_the_papers_number(paper, half):
    for sign in (1, -1):
        assert judge(paper, [paper + sign * 0.99 * half] * 3).word == "not excluded"
        assert judge(paper, [paper + sign * 1.01 * half] * 3).word.startswith("excluded")


@pytest.mark.parametrize("n", [3, 5, 10])
def test_one_more_run_of_ours_falls_inside_in_nineteen_cases_of_twenty(n):
    """And into the confidence interval of the mean, by which one might judge, much less often."""
    draw = random.Random(n)
    trials, inside, near_the_mean = 4000, 0, 0
    for _ in range(trials):
        *ours, one_more = (draw.gauss(0.98, 1e-4) for _ in range(n + 1))
        # Printed with six decimals, the last one odd: a zero there would count as not printed.
        paper = (round(1e6 * one_more) | 1) / 1e6
        verdict = judge(paper, ours)
        inside += verdict.word == "not excluded"
        near_the_mean += abs(paper - verdict.mean) <= verdict.half
    error = math.sqrt(0.95 * 0.05 / trials)
    assert inside / trials == pytest.approx(0.95, abs=4 * error)
    # Student's t within t_{n-1} / sqrt(n + 1).
    t = stats.t(n - 1)
    expected = 1 - 2 * t.sf(t.ppf(0.975) / math.sqrt(n + 1))
    assert expected < 0.9
    assert near_the_mean / trials == pytest.approx(expected, abs=4 * math.sqrt(0.25 / trials))


# --- The word


def test_the_word_names_the_direction():
    assert judge(0.9815, THREE).word == "not excluded"
    assert judge(0.9776, THREE).word == "excluded: ours higher"
    assert judge(0.9841, THREE).word == "excluded: ours lower"


@pytest.mark.parametrize(
    ("inside", "outside", "word"),
    [(0.9838, 0.9839, "excluded: ours lower"), (0.9778, 0.9777, "excluded: ours higher")],
)
def test_the_word_changes_where_the_reach_ends(inside, outside, word):
    """At 0.9808 ± 0.003031."""
    assert judge(inside, THREE).word == "not excluded"
    assert judge(outside, THREE).word == word


@pytest.mark.parametrize(
    ("accuracies", "remark"),
    [
        ([0.5, 0.6, 0.97], "every run lower"),
        ([0.99, 0.985, 0.999], "every run higher"),
        ([0.5, 0.6, 0.99], ""),
        ([0.5, 0.6, 0.98], ""),
        ([0.97, 0.96], ""),
        ([0.5, 0.6, 0.9798], ""),  # within half of the last digit printed
        ([0.5, 0.6, 0.974], "every run lower"),
        ([0.5], ""),
        ([0.97, 0.97, 0.97], ""),
    ],
    ids=str,
)
def test_where_nothing_is_excluded_the_remark_says_on_which_side_all_runs_lie(accuracies, remark):
    verdict = judge(0.98, accuracies)
    assert verdict.remark == remark
    assert verdict.word == "not excluded" or not remark


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("ours", [0.9815, 0.9])
def test_fewer_than_three_runs_say_nothing_even_if_they_agree(ours, runs):
    verdict = judge(0.9815, [ours] * runs)
    assert (verdict.word, verdict.runs, verdict.mean) == ("too few runs", runs, ours)
    assert judge(0.9815, [ours] * 3).word != "too few runs"


def test_one_run_has_no_interval():
    verdict = judge(0.9815, [0.98])
    assert math.isnan(verdict.half)
    assert math.isnan(verdict.reach)


@pytest.mark.parametrize("reach", [0.0049, 0.0051, 0.02])
def test_a_wide_interval_excludes_what_lies_outside_of_it(reach):
    steps = (-1, -1, 0, 1, 1)
    assert statistics.stdev(steps) == 1.0
    # Five runs of standard deviation s reach t(0.975; 4) * s * sqrt(6 / 5), and the rounding.
    s = (reach - 0.00005) / (stats.t(4).ppf(0.975) * math.sqrt(6 / 5))
    ours = [0.98 + s * step for step in steps]
    for distance, word in ((0.9, "not excluded"), (1.1, "excluded: ours higher")):
        paper = (math.floor(1e4 * (0.98 - distance * reach)) | 1) / 1e4  # two decimals in percent
        verdict = judge(paper, ours)
        assert verdict.reach == pytest.approx(reach)
        assert verdict.word == word


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="expected at least one run, got none"):
        judge(0.9815, [])


# --- The window


def test_over_window_is_the_mean_of_epochs_90_to_100():
    curve = [n**2 / 1e4 for n in range(1, 101)]
    expected = sum(n**2 for n in (90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100)) / 11 / 1e4
    assert over_window(record(curve)) == pytest.approx(expected)


@pytest.mark.parametrize("epoch", [89, 90, 100, 101])
def test_epochs_outside_of_the_window_do_not_count(epoch):
    curve = [0.5] * 120
    curve[epoch - 1] = 0.61
    assert over_window(record(curve)) == pytest.approx(0.51 if 90 <= epoch <= 100 else 0.5)


def test_over_window_takes_the_metric_that_it_is_told():
    assert over_window(record([0.7] * 100, "validation"), "validation_accuracy") == pytest.approx(0.7)


@pytest.mark.parametrize("epochs", [1, 89, 99])
def test_a_run_that_ends_before_the_window_does_is_refused(epochs):
    with pytest.raises(ValueError, match=f"a record of at least 100 epochs, got {epochs}"):
        over_window(record([0.5] * epochs))


def test_a_metric_that_was_not_measured_is_refused_with_those_that_were():
    with pytest.raises(KeyError, match="no metric 'validation_accuracy' in this record: it has epoch"):
        over_window(record([0.5] * 100), "validation_accuracy")
