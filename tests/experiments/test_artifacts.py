"""Where chapters find records and measurements."""

from pathlib import Path

import pytest

from ugmm_tutorial import experiments
from ugmm_tutorial.experiments import artifacts, bench
from ugmm_tutorial.training import records


def test_records_and_measurements_are_found():
    assert records.read_all(artifacts.folder("results"), "digits-mlp")
    assert bench.load(artifacts.folder("benchmarks") / "cpu-intel-xeon.csv").rows


def test_a_folder_without_records_of_ones_own_shows_those_of_the_package(tmp_path, monkeypatch, capsys):
    from ugmm_tutorial.__main__ import main

    monkeypatch.chdir(tmp_path)
    stored = artifacts.folder("results")
    (tmp_path / "results" / "digits-mlp").mkdir(parents=True)  # somebody else's
    assert artifacts.records_of(["digits-mlp"]) == stored
    assert main(["table", "digits"]) == 0
    assert capsys.readouterr().out == experiments.table("digits", stored) + "\n"
    assert experiments.cost_table.cost_table("digits") == experiments.cost_table.cost_table("digits", stored)
    (tmp_path / "results" / "digits-mlp" / "seed0.json").write_bytes(
        (stored / "digits-mlp" / "seed0.json").read_bytes()
    )
    assert artifacts.records_of(["digits-ugmm", "digits-mlp"]) == Path("results")
    assert artifacts.records_of(["digits-ugmm"]) == stored
    assert main(["table", "digits"]) == 0
    shown = capsys.readouterr().out
    assert shown == experiments.table("digits", tmp_path / "results") + "\n"
    assert "no record yet" in shown


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="expected 'results' or 'benchmarks', got 'data'"):
        artifacts.folder("data")


@pytest.mark.parametrize("name", ["results", "benchmarks"])
def test_installed_copy_comes_before_what_lies_beside_the_package_then_an_error(name, tmp_path, monkeypatch):
    """Beside an installed package may lie a folder of that name that is somebody else's."""
    package = tmp_path / "ugmm_tutorial"
    monkeypatch.setattr(artifacts, "_PACKAGE", package)
    with pytest.raises(FileNotFoundError, match="wheel or a clone"):
        artifacts.folder(name)
    (tmp_path / name).mkdir()
    assert artifacts.folder(name) == tmp_path / name
    (package / "_stored" / name).mkdir(parents=True)
    assert artifacts.folder(name) == package / "_stored" / name
