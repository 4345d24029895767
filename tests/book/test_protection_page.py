"""The page on broken inputs says what the study of protection found."""

import protection_page
import pytest
from chapters import ROOT
from scipy import stats

from ugmm_tutorial.experiments import studies

KINDS = ["no dropout", "components", "inputs", "start at 0.5", "start at 2", "start at 4"]


def outcome(noisy, whole=(0.9,) * 6):
    """Eight tables of two splits; with noise, tables differ by a point, and networks as given."""
    tables = [*protection_page.SEEN, "magic", "segment", "texture"]
    found = {
        name: {
            kind: [[whole[k], 0.8, noisy[k] + 0.01 * (place % 2) * (k == 2)]] * 2
            for k, kind in enumerate(KINDS)
        }
        for place, name in enumerate(tables)
    }
    settings = {"networks": dict.fromkeys(KINDS), "fractions": [0.2, 0.4]}
    return studies.Outcome("protection", settings, found, 1.0, {})


def test_both_came_true_where_wider_starts_lose_and_dropped_inputs_gain():
    text = protection_page.results(outcome([0.5, 0.6, 0.7, 0.8, 0.6, 0.5]))
    assert "The first expectation came true. The second came true." in text
    assert "| inputs | 90.0 | 80.0 | 70.5 |" in text
    assert "the 3 not seen before" in text


@pytest.mark.parametrize(
    ("noisy", "whole", "said"),
    [
        ([0.5, 0.71, 0.7, 0.8, 0.6, 0.5], (0.9,) * 6, "first did not come true. The second came"),
        ([0.5, 0.6, 0.7, 0.8, 0.6, 0.6], (0.9,) * 6, "first came true. The second did not"),
        ([0.5, 0.6, 0.7, 0.8, 0.6, 0.5], (0.9,) * 5 + (0.8,), "first came true. The second did not"),
    ],
)  # fmt: skip
def test_what_fails_is_said(noisy, whole, said):
    assert said in protection_page.results(outcome(noisy, whole)).replace("expectation ", "")


def test_intervals_are_over_tables():
    found = outcome([0.5, 0.6, 0.7, 0.8, 0.6, 0.5]).results
    mean, half = protection_page.difference(found, list(found), "components", "inputs", 2)
    apart = [0.1 + 0.01 * (place % 2) for place in range(len(found))]
    low, high = stats.t.interval(0.95, len(apart) - 1, sum(apart) / len(apart), stats.sem(apart))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_the_record_says_that_both_came_true():
    """Chapter 13 and results/README.md rely on it."""
    text = protection_page.results(studies.read("protection", ROOT / "results"))
    assert text.startswith("The first expectation came true. The second came true.")
