"""Where chapters find records and measurements."""

import pytest

from ugmm_tutorial.experiments import artifacts, bench
from ugmm_tutorial.training import records


def test_records_and_measurements_are_found():
    assert records.read_all(artifacts.folder("results"), "digits-mlp")
    assert bench.load(artifacts.folder("benchmarks") / "cpu-intel-xeon.csv").rows


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
