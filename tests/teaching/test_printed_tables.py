"""Tables of a chapter: aligned as numbers, written as the text writes numbers, shown in three places."""

import numpy as np
import pytest
import torch

from ugmm_tutorial.teaching.tables import table, with_interval

ROWS = [["MLP", torch.tensor(0.931), 1200], ["a|b", np.float64(-0.5), 7]]


def made(**options):
    return table(
        ["learner", "right", "steps"], ROWS, caption="Both learners.", **{"numbers": ".1%"} | options
    )


def test_markdown_aligns_numbers_at_the_right():
    assert made()._repr_markdown_().splitlines() == [
        "*Both learners.*",
        "",
        "| learner | right | steps |",
        "| :--- | ---: | ---: |",
        "| MLP | 93.1 % | 120000.0 % |",
        r"| a\|b | −50.0 % | 700.0 % |",
    ]


def test_integers_keep_their_digits_beside_decimals():
    assert "| MLP | 0.93 | 1,200 |" in made(numbers=".2f")._repr_markdown_()


def test_text_of_a_terminal_is_aligned_too():
    assert repr(made(numbers=".2f")).splitlines() == [
        "Both learners.",
        "learner  right  steps",
        "MLP       0.93  1,200",
        "a|b      −0.50      7",
    ]


def test_a_column_with_a_word_is_text():
    found = table(["a", "b"], [[1.0, 2.0], ["none", 3.0]], caption="Mixed.")
    assert found.right == (False, True)


@pytest.mark.parametrize(
    ("rows", "match"), [([[1]], "rows of 2 cells as in head, got 1"), ([], "expected rows, got none")]
)
def test_table_that_is_none_is_refused(rows, match):
    with pytest.raises(ValueError, match=match):
        table(["a", "b"], rows, caption="None.")


def test_caption_is_a_sentence():
    with pytest.raises(TypeError, match="caption"):
        table(["a"], [[1]], caption=3)


def test_a_difference_has_its_sign_its_minus_and_as_many_digits_as_its_interval():
    assert with_interval(0.0096, 0.00246) == "+0.96 ± 0.25"
    assert with_interval(-0.05, 0.01, numbers="+.1f") == "−5.0 ± 1.0"
    assert with_interval(1.5, 0.25, scale=1.0, numbers=".2f") == "1.50 ± 0.25"
    assert with_interval(0.01, float("nan")) == "+1.00"
