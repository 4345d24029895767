"""Words with numbers against values: what agrees, what does not, what is no claim."""

import math
import re

import numpy as np
import pytest
import torch

from ugmm_tutorial.teaching import claims
from ugmm_tutorial.teaching.claims import ClaimError, claim, is_strict, plain_text, stated_numbers

AGREEING = [
    ("59 times", 58.6),
    ("59 times", 59.49),
    ("about 94 %", 0.942),
    ("0.14 points", 0.0014),
    ("4.5 ms", 0.00455),
    ("5 minutes", 318.0),
    ("2 hours", 7300.0),
    ("$12.8$ million", 128 * 128 * 784),
    ("0.4 billion exponentials a second", 4.2e8),
    ("69 GB", 4 * 1024 * 4096 * 4096),
    ("1.4 MiB", 1.4 * 2**20),
    ("78,400 images", 78_400),
    (r"$4.2 \cdot 10^{12}$", 4.24e12),
    (r"less than $4 \cdot 10^{-7}$ nats", 3e-7),
    ("three times the parameters", 2.99),
    ("Four blocks", 4.02),
    ("less than 100 MiB", 90 * 2**20),
    ("more than 80 bytes", 84.5),
    ("at most ten images", 10),
    ("less than a factor of ten", 3.0),
    ("1.3 % at most", 0.011),
    ("0.2 points at the most", 0.001),
    ("more than 2 of 3 runs", [2.9, 3]),
    ("more than 50 % and less than 45 %", [0.6, 0.3]),
    ("2.8 to 4.5 times below", [4.5, 2.8]),
    ("31 to 59 times", [58.7, 30.9]),
    ("6 to 10 times", [6.5, 8.0, 10.4]),
    ("4.5 to 7.3 ms", np.array([0.00455, 0.00728])),
    ("Four blocks of 51 MB", [4.0, 51.4e6]),
    ("$-1.53$ nats", -1.531),
    ("−0.3 points", -0.003),
    ("from 94 % to 81 %", [0.94, 0.81]),
    ("784-128 weights", [784, 128]),
]
DISAGREEING = [
    ("59 times", 59.51),
    ("about 94 %", 94.2),
    ("0.14 points", 0.14),
    ("4.5 ms", 4.5),
    ("less than 100 MiB", 101 * 2**20),
    ("more than 80 bytes", 79.9),
    ("31 to 59 times", [31.0, 60.0]),
    ("31 to 59 times", [29.0, 59.0]),
    ("Four blocks of 51 MB", [51.4e6, 4.0]),
    ("-1.53 nats", 1.53),
    ("1.53 nats", -1.53),
    ("from 94 % to 81 %", [0.81, 0.94]),
    # A bound belongs to the number beside it, not to every number of the words.
    ("Above 97 % came 23, 22 and 11", [0.98, 24, 24, 24]),
    ("2.8 to 4.5 times below", [0.01, 0.02]),
    ("0.3 points below the MLP", -0.5),
    ("more than 2 of 3 runs", [2.9, 99]),
    ("more than 50 % and less than 45 %", [0.6, 0.5]),
    ("more than 50 % and less than 45 %", [0.4, 0.3]),
    ("1.3 % at most", 0.014),
    ("less than a factor of ten", 11.0),
    ("59 times", math.nan),
    ("less than one byte", math.nan),
    ("more than one byte", math.inf),
]


@pytest.mark.parametrize(("text", "value"), AGREEING)
def test_value_that_rounds_to_the_words_passes(text, value):
    claim(text, value)


@pytest.mark.parametrize(("text", "value"), DISAGREEING)
def test_value_that_does_not_fails_and_names_both(text, value):
    with pytest.raises(ClaimError, match=re.escape(repr(text))):
        claim(text, value)


def test_error_is_an_assertion_and_gives_the_value_in_the_unit_of_the_text():
    with pytest.raises(AssertionError, match=r"'94 %', the code finds 81.2"):
        claim("94 %", 0.812)


def test_tolerance_is_in_the_unit_of_the_text():
    claim("about 58 %", 0.601, within=2.5)
    with pytest.raises(ClaimError):
        claim("about 58 %", 0.61, within=2.5)


@pytest.mark.parametrize("value", [58.9, np.float32(58.9), np.array(58.9), torch.tensor(58.9)])
def test_values_may_be_of_any_library(value):
    claim("59 times", value)


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        ("many times", 3.0, "expected words with a number"),
        ("59 times", [1.0, 59.0], "states 1 numbers, expected 2"),
        ("31 to 59 times", 59.0, "states 2 numbers, expected 1"),
    ],
)
def test_what_is_no_claim_is_refused(text, value, message):
    with pytest.raises(ValueError, match=message):
        claim(text, value)


def test_verdict_on_the_paper_is_one_of_three():
    claim("59 times", 59, paper="beyond")
    with pytest.raises(ValueError, match="reproduces, differs, beyond"):
        claim("59 times", 59, paper="better")


def test_stated_numbers_give_number_unit_and_half_of_the_last_digit():
    assert stated_numbers("4.50 ms") == [(4.5, 1e-3, pytest.approx(0.005))]
    assert stated_numbers("31 to 59 ms")[0][:2] == (31, 1e-3)
    assert stated_numbers("a 3 and b 4 %") == [(3, 1.0, 0.5), (4, 0.01, 0.5)]


def test_plain_text_drops_tex_and_line_breaks():
    assert plain_text("$98\\,\\%$ of\n  $10{,}000$") == "98 % of 10,000"


@pytest.fixture
def noting(monkeypatch):
    monkeypatch.setenv("UGMM_CLAIMS", "note")


@pytest.mark.usefixtures("noting")
def test_claim_that_fails_leaves_a_note_where_claims_are_not_strict(capsys):
    claim("more than $95\\,\\%$", 0.94725)
    printed = capsys.readouterr().out
    assert printed == "Not so on this machine: the page says “more than 95 %”, here it is 94.725.\n"


@pytest.mark.usefixtures("noting")
def test_claim_that_holds_leaves_none(capsys):
    claim("more than 95 %", 0.96)
    assert capsys.readouterr().out == ""


def test_claims_are_strict_outside_of_notebooks(monkeypatch):
    monkeypatch.delenv("UGMM_CLAIMS")
    assert is_strict()
    with pytest.raises(ClaimError):
        claim("more than 95 %", 0.94)


def test_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("UGMM_CLAIMS", "lenient")
    with pytest.raises(ValueError, match="expected UGMM_CLAIMS to be 'strict' or 'note', got 'lenient'"):
        claim("more than 95 %", 0.94)


def test_listeners_hear_of_every_claim_with_its_interval(monkeypatch):
    heard = []
    monkeypatch.setattr(claims, "listeners", [heard.append])
    claim("31 to 59 times", [58.7, 30.9], record="somewhere")
    with pytest.raises(ClaimError):
        claim("at most 4 ms", 0.005)
    assert [finding.text for finding in heard] == ["31 to 59 times", "at most 4 ms"]
    assert heard[0].values == (30.9, 58.7)
    assert heard[0].allowed == ((30.5, 31.5), (58.5, 59.5))
    assert heard[0].record == "somewhere"
    assert heard[1].values == (5.0,)
    assert heard[1].allowed == ((-math.inf, 4.0),)
    assert [finding.holds for finding in heard] == [True, False]
