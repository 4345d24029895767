"""Rows of text in straight columns."""

from __future__ import annotations

import pytest

from ugmm_tutorial.experiments.text_table import aligned


def test_numbers_end_and_names_begin_below_each_other():
    rows = [("model", "paper", "verdict"), ("MLP", "98.15", ""), ("a longer name", "9", "yes")]
    assert aligned(rows, left=(0, 2)).splitlines() == [
        "model          paper  verdict",
        "MLP            98.15",
        "a longer name      9  yes",
    ]


def test_first_column_alone_begins_by_default():
    assert aligned([("a", "bc"), ("de", "f")]) == "a   bc\nde   f"


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        aligned([("a", "b"), ("c",)])
