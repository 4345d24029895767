"""Every live statement of the chapters was measured on what stands for other machines, and has room."""

import ast
import copy
import json
import math
import os
import subprocess
import sys

import kernel_run
import nbformat
import portable_tests
import probes
import pytest
import torch
import training_tests
from chapters import ROOT, Chapter, claims_of
from margins import NEEDED, Statement, pooled_spread, statements
from portability import read, statements_of, uses_digits
from probes import comparisons
from variations import VARIATIONS

CHAPTERS = Chapter.all()


@pytest.fixture(scope="module")
def report():
    return read()


@pytest.fixture(scope="module")
def measured(report):
    return statements_of(report)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.path.stem)
def test_every_live_claim_of_a_chapter_was_measured_elsewhere(chapter, measured):
    known = {(s.cell, s.text) for s in measured if s.chapter == chapter.path.stem}
    live = {(claim.cell, claim.text) for claim in chapter.claims if claim.record is None}
    assert live - known == set(), "run `make portability` and commit its report"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.path.stem)
def test_every_comparison_of_an_assertion_was_measured_elsewhere(chapter, measured):
    texts = {cell.id: {s.text for s in measured if s.cell == cell.id} for cell in chapter.code}
    for cell in chapter.code:
        lacking = set(comparisons(cell.source)) - texts[cell.id]
        assert lacking == set(), f"{cell.id}: run `make portability` and commit its report"


def test_no_statement_has_a_margin_under_three_spreads(measured):
    assert [f"{s.chapter}, {s.cell}: {s.text}" for s in measured if not s.enough] == []


def test_chapters_came_to_their_end_under_every_variation(report):
    assert report["stopped"] == []
    assert report["variations"] == [v.name for v in VARIATIONS]


def test_tests_that_train_or_compare_passed_under_every_variation_of_the_machine(report):
    assert list(report["tests"]) == [v.name for v in VARIATIONS if v.digits == "mnist"]
    for outcome in report["tests"].values():
        assert outcome["failed"] == []
        assert outcome["passed"] > 1000


def test_no_comparison_of_a_test_has_a_margin_under_three_spreads(report):
    compared = statements_of(report, "comparisons")
    assert len(compared) > 100
    assert [f"{s.chapter}::{s.cell}: {s.text}" for s in compared if not s.enough] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "chapter", [c for c in CHAPTERS if uses_digits(c)], ids=lambda chapter: chapter.path.stem
)
def test_chapter_holds_on_the_digits_of_last_resort(chapter):
    """On MNIST the book that is built shows it, and on MNIST's 5,000 nbval: see conftest.py at the top."""
    variables = {"UGMM_IMAGES": "digits", "OMP_NUM_THREADS": "1"}
    text = nbformat.writes(chapter.notebook)
    run = kernel_run.execute(chapter.path.stem, text, str(chapter.path.parent), variables=variables)
    assert run.error is None
    assert run.notes == ()


@pytest.mark.parametrize(("chosen", "taken"), [("", "mnist-5k"), ("digits", "digits")])
def test_nbval_takes_other_digits_than_the_book_unless_they_are_chosen(chosen, taken, tmp_path):
    pytest.importorskip("mlxtend", reason="the extra [book] is not installed")
    cell = nbformat.v4.new_code_cell(f"import os\nassert os.environ['UGMM_IMAGES'] == {taken!r}")
    (tmp_path / "a.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook(cells=[cell])), "utf-8")
    command = [sys.executable, "-m", "pytest", tmp_path, "-c", ROOT / "pyproject.toml", "-p", "conftest"]
    variables = {k: v for k, v in os.environ.items() if k != "UGMM_IMAGES"} | {"PYTHONPATH": str(ROOT)}
    if chosen:
        variables["UGMM_IMAGES"] = chosen
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_variations_are_ten_or_more_with_three_sources_of_digits_and_three_thread_counts():
    assert len(VARIATIONS) >= 10
    assert {v.digits for v in VARIATIONS} == {"mnist", "mnist-5k", "digits"}
    assert {v.threads for v in VARIATIONS} == {1, 2, 4}
    assert sum(v.noise is not None for v in VARIATIONS) >= 3
    assert {v.variables.get("ATEN_CPU_CAPABILITY") for v in VARIATIONS} == {None, "default", "avx2"}


def test_report_was_made_with_the_margin_that_is_asked_for(report):
    assert report["needed"] == NEEDED == 3


def claimed(values, low=0.0, high=math.inf, cell="a", text="more than 0", **more):
    return {"cell": cell, "kind": "claim", "text": text, "values": values, "allowed": [[low, high]], **more}


def test_spread_is_pooled_within_sources_and_margin_is_that_of_the_worst_source():
    runs = [("mnist", "1", [claimed([[v]])]) for v in (10.0, 12.0)]
    runs += [("digits", "1", [claimed([[v]])]) for v in (4.0, 6.0)]
    (found,) = statements(runs)
    assert found.spread == pytest.approx(math.sqrt(2))
    assert found.margin == 5
    assert (found.low, found.high) == (4, 12)
    assert found.enough


@pytest.mark.parametrize(
    ("values", "enough"),
    [
        ((9.0, 9.0), True),
        ((9.0, 9.9), False),
        ((9.9, 10.1), False),
        ((10.0, 10.0), True),
        ((11.0, 11.0), False),
    ],
)
def test_statement_needs_three_spreads_of_room_and_to_hold_everywhere(values, enough):
    runs = [("mnist", "1", [claimed([[v]], -math.inf, 10.0)]) for v in values]
    (found,) = statements(runs)
    assert found.enough == enough


def test_claims_of_several_numbers_or_in_a_loop_are_judged_one_by_one():
    entry = claimed([[1.0, 2.0], [3.0, 4.0]]) | {"allowed": [[0.0, math.inf], [1.0, 2.5]]}
    found = statements([("mnist", "1", [entry])])
    assert [(s.number, s.low, s.allowed) for s in found] == [
        (0, 1.0, (0.0, None)),
        (1, 2.0, (1.0, 2.5)),
        (2, 3.0, (0.0, None)),
        (3, 4.0, (1.0, 2.5)),
    ]
    assert [s.enough for s in found] == [True, True, True, False]


def test_numbers_that_vary_by_factors_are_judged_by_their_logarithms():
    runs = [("mnist", "1", [claimed([[v]], 1e4)]) for v in (3e7, 11e7, 4e7)]
    (found,) = statements(runs)
    assert found.factor
    assert found.margin == pytest.approx(math.log(3e7 * 11e7 * 4e7) / 3 - math.log(1e4))
    assert found.enough
    runs = [("mnist", "1", [claimed([[v]], 1e7)]) for v in (3e7, 11e7, 4e7)]
    assert not statements(runs)[0].enough


def test_equal_numbers_do_not_vary_although_their_mean_misses_them_by_a_bit():
    value = 98.55000000000001
    (found,) = statements([("mnist", "1", [claimed([[value]])]) for _ in range(7)])
    assert not found.varies
    assert found.enough


def test_one_run_a_source_says_nothing_of_the_spread():
    assert pooled_spread([[1.0], [7.0]]) == 0
    assert pooled_spread([[1.0, 3.0], [7.0]]) == pytest.approx(math.sqrt(2))


def test_statement_survives_the_report(report):
    (found,) = statements([("mnist", "1", [claimed([[2.0]], 1.0, 3.0)])])
    again = json.loads(json.dumps(found.as_record()))
    assert Statement(**again | {"allowed": tuple(again["allowed"])}) == found


def test_report_without_a_claim_is_noticed(measured):
    chapter = next(c for c in CHAPTERS if any(claim.record is None for claim in c.claims))
    lacking = [s for s in copy.copy(measured) if s.chapter != chapter.path.stem]
    with pytest.raises(AssertionError, match="make portability"):
        test_every_live_claim_of_a_chapter_was_measured_elsewhere(chapter, lacking)


@pytest.mark.parametrize(
    ("source", "followed"),
    [
        ("assert a < b", ["a < b"]),
        ("assert a < b < c", ["a < b < c [0]", "a < b < c [1]"]),
        ("assert a == b", []),
        ("assert a < b and c >= d", ["a < b", "c >= d"]),
        ("assert (x < 1).all()", ["x < 1"]),
        ("assert all(v > 0 for v in x)", ["v > 0"]),
        ("assert (x < 1).sum() == 3", []),
        ("assert (x < 1).float().mean() > 0.2", ["(x < 1).float().mean() > 0.2"]),
        ("if a < b:\n    assert c", []),
        ("%pip install x\nassert a < b", ["a < b"]),
    ],
)
def test_comparisons_that_must_be_true_are_followed(source, followed):
    assert comparisons(source) == followed


def test_words_of_a_claim_are_found_in_its_cell():
    (claim,) = claims_of('claim("more than 3", x, within=2)', "here")
    assert (claim.cell, claim.within) == ("here", 2)


# --- what tests compare ------------------------------------------------------------------------------


def noted(source):
    """What a test of this source would note."""
    watching = training_tests._Probes({}, strict=True)
    tree = training_tests._Instrument(watching).visit(ast.parse(source))
    names = {"approx": pytest.approx, "torch": torch, probes._NAME: watching}
    exec(compile(ast.fix_missing_locations(tree), "test", "exec"), names)
    return {entry["text"]: entry["values"][0][0] for entry in watching.found.values()}


@pytest.mark.parametrize(
    ("source", "margin"),
    [
        ("assert 3.0 == approx(2.5, abs=2)", 0.75),
        ("assert approx(2.5, rel=0.4) == 3.0", 0.5),
        ("assert 2.5 == approx(2.5)", 1.0),
        ("assert [1.0, 3.0] == approx([1.0, 2.5], abs=1)", 0.5),
        ("assert {'a': 3.0} == approx({'a': 2.5}, abs=1)", 0.5),
        ("assert torch.ones(2) == approx(torch.full((2,), 1.5), abs=1)", 0.5),
        ("assert 1.0 < 3.0", 2.0),
        ("torch.testing.assert_close(torch.ones(2), torch.ones(2), rtol=0.1, atol=0.1)", 1.0),
        ("assert not torch.allclose(torch.ones(2), torch.zeros(2), atol=0.25)", 3.0),
        ("assert float('inf') == approx(float('inf'))", None),
        ("seconds = 3.0\nassert seconds > 0.0", None),
        ("assert 'a' == 'a'", None),
    ],
)
def test_comparisons_of_a_test_note_how_far_they_are_from_failing(source, margin):
    assert list(noted(source).values()) == ([] if margin is None else [pytest.approx(margin)])


@pytest.mark.slow
def test_a_run_of_tests_says_what_they_compared_and_which_failed(tmp_path):
    file = tmp_path / "test_some.py"
    file.write_text(
        "import torch\n"
        "def test_trains():\n"
        "    x = torch.nn.Parameter(torch.ones(1))\n"
        "    torch.optim.SGD([x]).step()\n"
        "def test_neither_trains_nor_compares():\n    assert [] == []\n"
        "def test_fails():\n    assert 1 > 2\n"
    )
    outcome = portable_tests._pytest(VARIATIONS[0], None, [str(file)])
    assert list(outcome["passed"].values()) == [2]
    assert [name.rpartition("::")[2] for name in outcome["failed"]] == ["test_fails"]
    assert [name.rpartition("::")[2] for name in outcome["margins"]] == ["test_trains"]
    (name,) = outcome["margins"]
    again = portable_tests._pytest(VARIATIONS[0], [name], [str(file)])
    assert (list(again["passed"].values()), again["failed"], list(again["margins"])) == ([1], [], [name])
    left_out = portable_tests._pytest(VARIATIONS[0], ["another.py::test"], [str(file)])
    assert left_out == {"passed": {}, "failed": [], "margins": {}}


def test_only_files_of_tests_that_have_changed_run_again(tmp_path, monkeypatch):
    ran = []

    def run(variation, names, files):
        ran.append((names, files))
        tests = names or [f"{file}::test" for file in files]
        return {
            "passed": {file: sum(test.startswith(file) for test in tests) for file in files},
            "failed": [f"{files[-1]}::test"],
            "margins": {test: {"a < b": 1.0} for test in tests},
        }

    monkeypatch.setattr(portable_tests, "_pytest", run)

    def outcome(state, names=None):
        ran.clear()
        return portable_tests._outcome(VARIATIONS[0], tmp_path, state, names)

    first = outcome({"a.py": "1", "b.py": "1"})
    assert ran == [(None, ["a.py", "b.py"])]
    assert outcome({"a.py": "1", "b.py": "1"}) == first
    assert ran == []
    changed = outcome({"a.py": "1", "b.py": "2"}, ["a.py::test", "b.py::test"])
    assert ran == [(["b.py::test"], ["b.py"])]
    assert changed == first | {"state": {"a.py": "1", "b.py": "2"}}
    gone = outcome({"a.py": "1"})
    assert ran == []
    assert (gone["passed"], gone["failed"], list(gone["margins"])) == ({"a.py": 1}, [], ["a.py::test"])
