"""The picture of the README shows what the record of the study holds."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import headline
import pytest

from ugmm_tutorial import data
from ugmm_tutorial.experiments import studies
from ugmm_tutorial.experiments.studies.broken_learners import LEARNERS
from ugmm_tutorial.experiments.studies.faults import FAULTS

PARTS = [0.1, 0.2, 0.5]
SVG = "{http://www.w3.org/2000/svg}"


def made_up(level):
    """Two tables with the same accuracies: all of it on whole rows, ``level`` of it where half is broken."""

    def entry(learner):
        kept = {fault: [0.9, 0.8, level.get(learner, 0.5)] for fault in FAULTS}
        of_both = {"clean": 0.95, **kept}
        return {"clean": of_both, "broken": of_both}

    return {name: {learner: [entry(learner)] * 2 for learner in LEARNERS} for name in ("one", "two")}


def drawn(level):
    kept = headline.curves(made_up(level), ("one", "two"))
    return kept, ET.fromstring(headline.svg(kept, PARTS))


def test_the_committed_picture_is_that_of_the_record():
    outcome = studies.read("broken_inputs", headline.ROOT / "results")
    parts = outcome.settings["fractions"]
    kept = headline.curves(outcome.results, tuple(data.TABLES))
    assert headline.PATH.read_text(encoding="utf-8") == headline.svg(kept, parts)


@pytest.fixture
def kept():
    """Shares of right answers with noise in two fifths of the values, from the record."""
    outcome = studies.read("broken_inputs", headline.ROOT / "results")
    place = outcome.settings["fractions"].index(0.4) + 1
    curves = headline.curves(outcome.results, tuple(data.TABLES))
    return {learner: curve[place] for learner, curve in curves.items()}


def words_of(page):
    return " ".join((headline.ROOT / page).read_text(encoding="utf-8").split())


def test_numbers_of_the_readme_are_those_of_the_record(kept):
    mixtures, replaced, mlp = (round(kept[who]) for who in ("hybrid", "MLP, outliers replaced", "MLP"))
    assert (
        f"at its entrance was right on {mixtures} %. The best ordinary rival, an MLP that replaces outliers, "
        f"was right on {replaced} %, and a plain MLP on {mlp} %." in words_of("README.md")
    )


def test_words_of_the_first_page_are_true_of_the_record(kept):
    assert (
        "was right on more than four fifths. The best ordinary rival, an MLP that replaces outliers, was "
        "right on less than three quarters, and a plain MLP on a third." in words_of("book/index.md")
    )
    assert kept["hybrid"] > 80
    assert kept["MLP, outliers replaced"] < 75
    assert kept["MLP"] == pytest.approx(100 / 3, abs=1)


def test_lines_fall_where_accuracies_do():
    kept, picture = drawn({"hybrid": 0.75})
    assert kept["hybrid"] == pytest.approx([95, 90, 80, 75])
    assert kept["MLP"] == pytest.approx([95, 90, 80, 50])
    first = picture.find(f"{SVG}polyline").get("points").split()
    across, down = zip(*([float(number) for number in point.split(",")] for point in first), strict=True)
    assert list(across) == sorted(across)
    assert list(down) == sorted(down)  # SVG counts from the top
    assert (across[1] - across[0]) / (across[-1] - across[0]) == pytest.approx(0.2, abs=0.01)
    assert (down[1] - down[0]) / (down[-1] - down[0]) == pytest.approx(0.25, abs=0.01)


def test_labels_of_equal_lines_do_not_touch_and_stay_in_the_picture():
    _, picture = drawn({"hybrid": 0.35, "MLP on Gaussians": 0.35, "forest": 0.35})
    words = [look[0] for look in headline._DRAWN.values()]
    heights = sorted(float(text.get("y")) for text in picture.findall(f"{SVG}text") if text.text in words)
    assert len(heights) == len(words)
    assert all(b - a >= 14 for a, b in pairwise(heights))
    assert heights[-1] < 290
