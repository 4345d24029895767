"""The declared expectations are judged as they are written, on accuracies made up here."""

import numpy as np
import pytest

from ugmm_tutorial.experiments.studies import broken_verdicts
from ugmm_tutorial.experiments.studies.broken_learners import LEARNERS
from ugmm_tutorial.experiments.studies.broken_verdicts import BOUNDED, ORDINARY, strongest, verdicts
from ugmm_tutorial.experiments.studies.faults import FAULTS

TABLES = ["one", "two", "three", "four"]


def results(levels, clean):
    """Three splits of four tables; ``levels`` are accuracies under every fault, by learner, or by split."""
    draw = np.random.default_rng(0)

    def entry(learner, split):
        noise = 0.002 * draw.standard_normal()
        level = np.broadcast_to(levels.get(learner, 0.6), 3)[split]
        kept = {fault: [level + noise] * 5 for fault in FAULTS}
        of_way = {"clean": clean.get(learner, 0.9) + noise, **kept}
        return {"clean": of_way, "broken": of_way, "seconds": 1.0}

    return {
        name: {learner: [entry(learner, split) for split in range(3)] for learner in LEARNERS}
        for name in TABLES
    }


def judged(found, learner="hybrid"):
    return [verdict.holds for verdict in verdicts(found, learner, tables=TABLES, enough=3)]


def test_learners_are_grouped_as_declared():
    assert set(BOUNDED) == {"MLP on Gaussians", "MLP on piecewise linear", "FastKAN"}
    assert {"MLP", "MLP, clipped", "forest", "boosting", "naive Bayes"} < set(ORDINARY)
    assert not {"uGMM", "hybrid", "MLP, trained with faults"} & set(ORDINARY)


def test_all_come_true_for_a_learner_that_is_ahead_at_no_cost():
    level = dict.fromkeys(BOUNDED, (0.83, 0.76, 0.79))
    assert judged(results({"hybrid": 0.8} | level, {})) == [True, True, True, True]
    assert judged(results({"hybrid": 0.8}, {})) == [True, True, True, False]


@pytest.mark.parametrize(
    ("levels", "clean", "expected"),
    [
        ({"hybrid": 0.8, "forest": 0.8}, {}, [False, None, True, None]),
        ({"hybrid": 0.8, "naive Bayes": 0.9}, {}, [False, False, True, None]),
        ({"hybrid": 0.8}, {"hybrid": 0.87}, [True, True, False, None]),
        ({"hybrid": 0.8}, {"hybrid": 0.92}, [True, True, True, None]),
        ({"hybrid": 0.8} | dict.fromkeys(BOUNDED, 0.9), {}, [True, False, True, False]),
    ],
)
def test_each_can_fail_alone(levels, clean, expected):
    for holds, wanted in zip(judged(results(levels, clean)), expected, strict=True):
        assert wanted is None or holds == wanted


def test_the_strongest_ordinary_learner_is_neither_bounded_nor_told_the_fault():
    level = {"forest": 0.7, "boosting": (0.9, 0.5, 0.65), "FastKAN": 0.8, "MLP, trained with faults": 0.8}
    assert strongest(results(level, {}), "one", "broken", "gross", 1) == "forest"


def test_what_was_found_is_said():
    ahead, rank, cost, level = verdicts(results({"hybrid": 0.8}, {}), "hybrid", tables=TABLES, enough=3)
    assert ahead.found == "at 20% on 4 of 4, at 40% on 4 of 4"
    assert rank.found.startswith("hybrid with 1.0")
    assert cost.found.startswith("on 4 of 4; most on ")
    assert level.found.startswith("MLP on Gaussians at 20%: ahead on 4, behind on 0; ")


def test_the_other_learner_is_judged_in_the_same_way():
    assert judged(results({"uGMM": 0.8}, {}), "uGMM")[:3] == [True, True, True]
    assert broken_verdicts.verdicts.__kwdefaults__["enough"] == 9
