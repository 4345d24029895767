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
    for name in ("mnist", "fashion-mnist"):
        of_image = {}
        for rank, learner in enumerate(LEARNERS):
            kept = {"clean": 0.80 + 0.01 * rank} | {fault: [0.50 + 0.01 * rank] * 5 for fault in FAULTS}
            kept |= {f"{fault}, block": [0.60 + 0.01 * rank] * 3 for fault in FAULTS}
            of_image[learner] = [{"clean": kept, "broken": kept, "seconds": 1.0}] * 2
        found[name] = of_image
    settings = {"faults": list(FAULTS), "block_fractions": [0.1, 0.2, 0.4]}
    made_on = {"device": "a processor", "commit": "0123456789abcdef"}
    return studies.Outcome("broken_inputs", settings, found, 1.0, made_on)


def test_every_fault_has_its_tables_and_the_best_is_bold(outcome):
    text = study_page.results(outcome)
    assert len(re.findall(r"^### .+ of the entries$", text, re.MULTILINE)) == 2 * len(FAULTS)
    assert "### Clean rows" in text
    page = text[text.index("## Accuracies") :]
    rows = [line for line in page.splitlines() if line.startswith("| naive Bayes |")]
    blocks = 2 * 3
    assert len(rows) == 1 + 2 * len(FAULTS) + blocks
    assert all(row.count("**") == 2 * (len(data.TABLES) + 2) for row in rows[:-blocks])
    assert all(row.count("**") == 2 * len(FAULTS) for row in rows[-blocks:])
    assert rows[0].split("|")[2].strip() == "**94.0**"
    assert rows[-1].split("|")[2].strip() == "**74.0**"
    assert "### Blocks of 20% of the pixels, fashion-mnist" in text
    assert "a processor, commit 0123456789ab." in text


def test_both_kinds_of_mixtures_are_judged(outcome):
    text = study_page.results(outcome)
    assert text.index("### hybrid") < text.index("### uGMM")
    assert text.count("| Expected | Found | Came true |") == 2 * 3  # as declared, otherwise, and fixed
    assert text.count("| no |") + text.count("| yes |") == 2 * 3 * 4


def test_settings_of_the_verdicts_are_those_that_are_named(outcome):
    """The hybrid is ahead with the settings best on broken rows, far behind with the fixed one."""
    for of_table in outcome.results.values():
        good = {
            key: [0.99] * len(v) if isinstance(v, list) else 0.99
            for key, v in of_table["hybrid"][0]["clean"].items()
        }
        bad = of_table["MLP"][0]["clean"]
        of_table["hybrid"] = [{"broken": good, "clean": bad, "default": bad}] * len(of_table["hybrid"])
    page = study_page.results(outcome)
    declared, other, fixed = page[: page.index("### uGMM")].split("| Expected | Found | Came true |")[1:]
    won = "at 20% on 12 of 12, at 40% on 12 of 12"
    assert won in declared
    assert won not in other
    assert won not in fixed
    assert "on 0 of 12" not in other.split("on clean rows")[1]  # chosen on broken rows, 0.99 on clean ones


def test_leads_and_ranks_name_the_strongest(outcome):
    page = study_page.results(outcome)
    leads = page[page.index("### Leads") : page.index("### Mean ranks")]
    rows = [
        line.split("|") for line in leads.splitlines() if line.startswith(f"| {next(iter(data.TABLES))} |")
    ]
    assert [cell.strip() for cell in rows[0][2:4]] == ["naive Bayes", "-13.0 ± 0.0"]
    ranks = page[page.index("### Mean ranks") : page.index("## Accuracies")]
    first = ranks[ranks.index("| --- |") :].splitlines()[1]
    assert first == "| naive Bayes | 1.0 | 1.0 |"
    assert "trained with faults" not in ranks


def test_the_page_says_so_if_the_study_has_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(study_page, "_FOLDER", tmp_path)
    noted = []
    app = SimpleNamespace(env=SimpleNamespace(note_dependency=noted.append))
    source = [f"before\n\n{study_page.MARK.format('protection')}\n"]
    study_page.fill(app, "book/broken_inputs", source)
    assert source == [f"before\n\n{study_page._NOT_YET}\n"]
    assert str(tmp_path / "studies" / "protection.json") in noted
    other = ["a page without the mark"]
    study_page.fill(app, "book/index", other)
    assert other == ["a page without the mark"]
