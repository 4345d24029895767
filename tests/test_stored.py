"""Where chapters find records and measurements."""

import pytest

from ugmm_tutorial import bench, records, stored


def test_records_and_measurements_are_found():
    assert records.read_all(stored.folder("results"), "digits-mlp")
    assert bench.load(stored.folder("benchmarks") / "cpu-intel-xeon.csv").rows


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="expected 'results' or 'benchmarks', got 'data'"):
        stored.folder("data")


def test_checkout_comes_first_then_the_installed_copy_then_an_error(tmp_path, monkeypatch):
    package = tmp_path / "ugmm_tutorial"
    monkeypatch.setattr(stored, "_HERE", package)
    with pytest.raises(FileNotFoundError, match="wheel or a clone"):
        stored.folder("results")
    (package / "_stored" / "results").mkdir(parents=True)
    assert stored.folder("results") == package / "_stored" / "results"
    (tmp_path / "results").mkdir()
    assert stored.folder("results") == tmp_path / "results"
