"""Where chapters find records and measurements."""

import pytest

from ugmm_tutorial import bench, records, stored


def test_records_and_measurements_are_found():
    assert records.read_all(stored.folder("results"), "digits-mlp")
    assert bench.load(stored.folder("benchmarks") / "cpu-intel-xeon.csv").rows


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="expected 'results' or 'benchmarks', got 'data'"):
        stored.folder("data")


@pytest.mark.parametrize("name", ["results", "benchmarks"])
def test_installed_copy_comes_before_what_lies_beside_the_package_then_an_error(name, tmp_path, monkeypatch):
    """Beside an installed package may lie a folder of that name that is somebody else's."""
    package = tmp_path / "ugmm_tutorial"
    monkeypatch.setattr(stored, "_HERE", package)
    with pytest.raises(FileNotFoundError, match="wheel or a clone"):
        stored.folder(name)
    (tmp_path / name).mkdir()
    assert stored.folder(name) == tmp_path / name
    (package / "_stored" / name).mkdir(parents=True)
    assert stored.folder(name) == package / "_stored" / name
