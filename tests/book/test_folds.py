"""A title folds a cell in the book, in Jupyter and in Colab; without one a cell is open everywhere."""

import folds
import nbformat
import pytest


def cell(source, **metadata):
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def test_title_folds_everywhere_and_keeps_the_figure():
    figure = {"figure": {"name": "fig-a", "caption": "Both."}}
    found = folds.folded(cell("# @title Picture: both curves\nplot()", mystnb=figure))
    assert found == {
        "cellView": "form",
        "jupyter": {"source_hidden": True},
        "mystnb": figure | {"code_prompt_show": "Picture: both curves", "code_prompt_hide": "Hide the code"},
        "tags": ["hide-input"],
    }


def test_solution_hides_what_it_prints_too():
    found = folds.folded(cell("# @title Solution 3.2\nanswer = 1"))
    assert found["tags"] == ["hide-cell"]
    assert found["mystnb"]["code_prompt_hide"] == "Hide solution 3.2"


@pytest.mark.parametrize("source", ["x = 1", "# a title: x\nx = 1", "x = 1\n# @title late"])
def test_cell_that_loses_its_title_is_opened(source):
    once = folds.folded(cell("# @title Check: x\nx = 1", tags=["slow"]))
    assert folds.folded(cell(source, **once)) == {"tags": ["slow"]}
    assert folds.folded(cell(source)) == {}


def test_folding_twice_is_folding_once():
    made = cell("# @title Check: x\nx = 1", tags=["slow"])
    made.metadata = folds.folded(made)
    assert folds.folded(made) == made.metadata
