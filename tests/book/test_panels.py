"""Panels are found in the code and in the picture, and every copy shows one of them."""

import re

import numpy as np
import panels
import pytest
from docutils import nodes
from docutils.utils import new_document
from PIL import Image


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("fig, ax = plt.subplots()", 1),
        ("fig, axes = plt.subplots(1, 2, figsize=(8, 3))", 2),
        ("fig, axes = plt.subplots(2, 3)", 3),
        ("fig, axes = plt.subplots(nrows=1, ncols=2)", 2),
        ("fig, axes = plt.subplots(3, 1)", 1),
        ("fig, axes = plt.subplots(1, 12)", 1),
        ("fig, axes = plt.subplots(5, 2)", 1),
    ],
)
def test_columns_are_those_of_the_code(source, columns):
    assert panels.columns_of(source) == columns


def picture(*inked, width=300):
    found = np.full((50, width), 255, dtype=np.uint8)
    for start, end in inked:
        found[10:40, start:end] = 0
    return found


def test_gap_is_the_widest_near_its_place():
    # Labels at 130 to 134 and 142 to 146 belong to the second panel.
    found = panels.gaps(picture((5, 110), (130, 134), (142, 146), (150, 290)), columns=2)
    assert found == [pytest.approx(120 / 300)]


def test_three_panels_have_two_gaps():
    found = panels.gaps(picture((5, 95), (105, 195), (205, 295)), columns=3)
    assert found == [pytest.approx(100 / 300), pytest.approx(200 / 300)]


@pytest.mark.parametrize("inked", [(5, 295), (5, 250)])
def test_panels_without_a_gap_stay_together(inked):
    assert panels.gaps(picture(inked), columns=2) is None


class App:
    class builder:
        format = "html"

    def __init__(self, folder):
        self.srcdir = folder


def document(source):
    found = new_document("page")
    cell = nodes.container(nb_element="cell_code")
    figure = nodes.figure("", nodes.image(uri="a.png", alt="what is to be seen"), nodes.caption("", "Both."))
    cell += [nodes.literal_block(source, source), figure]
    found += cell
    return found


def test_every_panel_has_a_copy_and_only_the_first_describes_the_figure(tmp_path):
    Image.fromarray(picture((5, 110), (150, 290))).save(tmp_path / "a.png")
    page = document("plt.subplots(1, 2)")
    panels.stack(App(tmp_path), page)
    said = [image["alt"] for image in page.findall(nodes.image)]
    assert said == ["what is to be seen", "Panel 2 of this figure."]
    styles = re.findall(r"--from:([\d.]+);--share:([\d.]+)", page.pformat())
    assert np.array(styles, float) == pytest.approx(
        np.array([[0, 130 / 300], [130 / 300, 170 / 300]]), abs=1e-4
    )
    assert len(list(page.findall(nodes.caption))) == 1


@pytest.mark.parametrize("source", ["plt.subplots()", "plt.subplots(1, 3)"])
def test_a_figure_that_cannot_be_divided_stays_as_it_is(tmp_path, source):
    Image.fromarray(picture((5, 290))).save(tmp_path / "a.png")
    page = document(source)
    before = page.pformat()
    panels.stack(App(tmp_path), page)
    assert page.pformat() == before
