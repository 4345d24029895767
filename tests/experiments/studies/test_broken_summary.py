"""Sums of the study of broken inputs, on accuracies made up here."""

import numpy as np
import pytest
from scipy import stats

from ugmm_tutorial.experiments.studies import broken_summary as summary

FAULTS = ["gross", "missing"]


def entry(clean, gross, missing):
    return {"clean": {"clean": clean, "gross": gross, "missing": missing}, "seconds": 1.0}


@pytest.fixture
def found():
    """Two tables, three splits; one learner is ahead under gross faults on the first table only."""
    steady = [entry(0.90, [0.8, 0.7], [0.8, 0.7]), entry(0.92, [0.8, 0.72], [0.8, 0.7]),
              entry(0.91, [0.81, 0.71], [0.8, 0.7])]  # fmt: skip
    brittle = [entry(0.95, [0.5, 0.30], [0.9, 0.8]), entry(0.96, [0.5, 0.33], [0.9, 0.8]),
               entry(0.97, [0.5, 0.32], [0.9, 0.8])]  # fmt: skip
    noisy = [entry(0.95, [0.9, 0.9], [0.9, 0.8]), entry(0.96, [0.3, 0.1], [0.9, 0.8]),
             entry(0.97, [0.5, 0.32], [0.9, 0.8])]  # fmt: skip
    return {"one": {"steady": steady, "brittle": brittle}, "two": {"steady": steady, "brittle": noisy}}


def test_differences_are_paired(found):
    mean, half = summary.difference(found, "one", "steady", "brittle", "clean", "gross", 1)
    differences = np.array([0.40, 0.39, 0.39])
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_a_win_needs_an_interval_above_zero(found):
    for name, place, expected in (("one", 0, ["one"]), ("two", 1, [])):
        assert summary.wins(found, [name], "steady", ["brittle"], "clean", "gross", place) == expected
    assert summary.wins(found, ["one", "two"], "brittle", ["steady"], "clean", "gross", 0) == []


def test_the_cost_on_clean_rows(found):
    assert summary.behind(found, ["one"], "steady", "brittle", "clean") == {"one": pytest.approx(0.05)}


def test_a_curve_begins_with_whole_rows_and_counts_each_table_once(found):
    right = summary.curve(found, ["one", "two"], "brittle", "clean", "gross")
    assert right == pytest.approx([0.96, (0.5 + 1.7 / 3) / 2, (0.95 / 3 + 1.32 / 3) / 2])


def test_ranks_are_means_over_faults_fractions_and_tables(found):
    ranks = summary.mean_ranks(found, ["one"], ["steady", "brittle"], "clean", ["gross"])
    assert ranks == {"steady": 1.0, "brittle": 2.0}
    ranks = summary.mean_ranks(found, ["one", "two"], ["steady", "brittle"], "clean", ["clean", *FAULTS])
    assert ranks == {"brittle": pytest.approx(1.4), "steady": pytest.approx(1.6)}
    assert list(ranks) == ["brittle", "steady"]  # best first


def test_equals_share_their_rank(found):
    found["one"]["copy"] = found["one"]["steady"]
    ranks = summary.mean_ranks(found, ["one"], ["steady", "copy", "brittle"], "clean", ["gross"])
    assert ranks == {"steady": 1.5, "copy": 1.5, "brittle": 3.0}


def test_a_learner_without_a_default_has_the_settings_best_for_such_rows(found):
    for steady, brittle in zip(found["one"]["steady"], found["one"]["brittle"], strict=True):
        steady["broken"] = brittle["clean"]
    whole = summary.accuracy(found, "one", "steady", "default")
    assert whole.tolist() == [0.90, 0.92, 0.91]
    spoilt = summary.accuracy(found, "one", "steady", "default", "gross", 1)
    assert spoilt.tolist() == [0.30, 0.33, 0.32]


@pytest.mark.parametrize(("learners", "tables", "known"), [(4, 14, 1.25), (5, 30, 1.11), (10, 12, 3.91)])
def test_critical_differences_are_those_of_the_table(learners, tables, known):
    """Demšar (2006): q = 2.569, 2.728 and 3.164 for 4, 5 and 10 learners."""
    assert summary.critical_difference(learners, tables) == pytest.approx(known, abs=0.006)
