"""Studies: the file each writes and reads, and the stored outcomes of those that have run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from committed import committed

from ugmm_tutorial import __main__
from ugmm_tutorial.experiments import artifacts, studies
from ugmm_tutorial.training import records

STORED = [path.stem for path in committed("results/studies/*.json")]


@pytest.fixture
def counting(monkeypatch):
    """A study that is quick and counts how often it is measured."""
    module = SimpleNamespace(SETTINGS={"n": (1, 2)}, calls=0)

    def measure(settings, progress):
        module.calls += 1
        return {"sum": sum(settings["n"])}

    module.measure = measure
    monkeypatch.setitem(studies.STUDIES, "counting", "How many?")
    find = studies.find
    monkeypatch.setattr(studies, "find", lambda name: module if name == "counting" else find(name))
    return module


def test_an_outcome_is_written_once_and_read_back(counting, tmp_path):
    made = studies.run("counting", results=tmp_path)
    assert (made.study, made.settings, made.results) == ("counting", {"n": [1, 2]}, {"sum": 3})
    assert made.seconds >= 0.0
    assert made.environment["versions"]["torch"]
    assert studies.read("counting", tmp_path) == made == studies.run("counting", results=tmp_path)
    assert counting.calls == 1
    assert [path.name for path in (tmp_path / "studies").iterdir()] == ["counting.json"]


def test_an_outcome_of_other_settings_is_refused_and_kept(counting, tmp_path):
    studies.run("counting", results=tmp_path)
    before = (tmp_path / "studies" / "counting.json").read_bytes()
    counting.SETTINGS = {"n": (1, 3)}
    for call in (studies.run, lambda name, results: studies.read(name, results)):
        with pytest.raises(ValueError, match=r"other settings .* expected \{'n': \[1, 3\]\}"):
            call("counting", results=tmp_path)
    assert (tmp_path / "studies" / "counting.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", '{"study": "counting"}'])
def test_a_file_that_is_no_outcome_is_named_and_kept(counting, tmp_path, text):
    path = tmp_path / "studies" / "counting.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(records.RecordError, match=r"counting\.json is not the outcome of a study"):
        studies.run("counting", results=tmp_path)
    assert path.read_text() == text


def test_what_is_not_there_says_how_to_make_it(counting, tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m ugmm_tutorial study counting"):
        studies.read("counting", tmp_path)
    with pytest.raises(
        ValueError, match="no study is called 'flowers': it is one of approximation, broken_inputs"
    ):
        studies.find("flowers")


def test_a_study_that_fails_leaves_nothing(counting, tmp_path):
    counting.measure = lambda settings, progress: {"nan": float("nan")}
    with pytest.raises(ValueError, match="JSON"):
        studies.run("counting", results=tmp_path)
    assert not list(tmp_path.rglob("*.json*"))


def test_a_study_that_could_not_be_written_is_not_measured(counting, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        studies.run("counting", results=tmp_path / "file")

    def refuse(self, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(PermissionError):
        studies.run("counting", results=tmp_path)
    assert counting.calls == 0


def test_a_study_whose_file_cannot_be_finished_leaves_no_temporary_one(counting, tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        studies.run("counting", results=tmp_path)
    assert list((tmp_path / "studies").iterdir()) == []


def test_the_command_line_runs_and_prints_a_study(counting, tmp_path, capsys):
    assert __main__.main(["study", "counting", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert '"sum": 3' in printed
    assert "How many?" in printed
    with pytest.raises(SystemExit):
        __main__.main(["study", "flowers"])
    assert "no study is called 'flowers'" in capsys.readouterr().err


@pytest.mark.parametrize("name", [n for n in studies.STUDIES if n != "counting"])
def test_every_study_has_settings_that_json_can_hold_and_says_what_it_asks(name):
    module = studies.find(name)
    assert json.loads(json.dumps(module.SETTINGS)) == records.as_json(module.SETTINGS)
    assert callable(module.measure)
    assert studies.STUDIES[name].endswith("?")


@pytest.mark.parametrize("name", STORED)
def test_stored_outcomes_belong_to_studies_and_their_settings(name):
    outcome = studies.read(name, artifacts.folder("results"))
    assert outcome.results
    assert "dirty" not in outcome.environment["commit"]
