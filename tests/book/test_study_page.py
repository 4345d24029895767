"""The page of the study of broken inputs says what the record holds."""

import re
from types import SimpleNamespace

import pytest
import study_page

from ugmm_tutorial import data
from ugmm_tutorial.experiments import studies
from ugmm_tutorial.experiments.studies.broken_learners import LEARNERS
from ugmm_tutorial.experiments.studies.faults import FAULTS


@pytest.fixture
def outcome():
    """Accuracies made up here: learners one point apart, the last one best."""
    found = {}
    for name in data.TABLES:
        found[name] = {}
        for rank, learner in enumerate(LEARNERS):
            kept = {"clean": 0.80 + 0.01 * rank} | {fault: [0.50 + 0.01 * rank] * 5 for fault in FAULTS}
            found[name][learner] = [{"clean": kept, "broken": kept, "seconds": 1.0}] * 3
    made_on = {"device": "a processor", "commit": "0123456789abcdef"}
    return studies.Outcome("broken_inputs", {"faults": list(FAULTS)}, found, 1.0, made_on)


def test_every_fault_has_its_tables_and_the_best_is_bold(outcome):
    text = study_page.results(outcome)
    assert len(re.findall(r"^### .+ of the entries$", text, re.MULTILINE)) == 2 * len(FAULTS)
    assert "### Clean rows" in text
    rows = [line for line in text.splitlines() if line.startswith("| naive Bayes |")]
    assert len(rows) == 1 + 2 * len(FAULTS)
    assert all(row.count("**") == 2 * len(data.TABLES) for row in rows)
    assert rows[0].split("|")[2].strip() == "**94.0**"
    assert "a processor, commit 0123456789ab." in text


def test_both_kinds_of_mixtures_are_judged(outcome):
    text = study_page.results(outcome)
    assert text.index("### hybrid") < text.index("### uGMM")
    assert text.count("| Expected | Found | Came true |") == 2
    assert text.count("| no |") + text.count("| yes |") == 8


def test_the_page_says_so_if_the_study_has_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(study_page, "_RECORD", tmp_path / "none.json")
    noted = []
    app = SimpleNamespace(env=SimpleNamespace(note_dependency=noted.append))
    source = [f"before\n\n{study_page.MARK}\n"]
    study_page.fill(app, "book/broken_inputs", source)
    assert source == [f"before\n\n{study_page._NOT_YET}\n"]
    assert str(tmp_path / "none.json") in noted
    other = ["a page without the mark"]
    study_page.fill(app, "book/index", other)
    assert other == ["a page without the mark"]
