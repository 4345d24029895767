"""The tables: read from the folder or from OpenML, and never another table than the one that was named."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.utils import Bunch

from ugmm_tutorial import data
from ugmm_tutorial.data import tables


@pytest.fixture
def vehicles() -> tuple[np.ndarray, list[str]]:
    """Rows of the sizes of the table of vehicles."""
    draw = np.random.default_rng(0)
    labels = [name for name, rows in zip(("bus", "opel", "saab", "van"), (218, 212, 217, 199), strict=True)
              for _ in range(rows)]  # fmt: skip
    return draw.integers(0, 400, (846, 18)).astype(float), labels


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder without tables; nothing is fetched."""
    monkeypatch.setenv("UGMM_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", _no_network)
    return tmp_path


def _no_network(*arguments, **options):
    raise OSError("no network in the tests")


def _write(root, rows, labels, name: str = "vehicle"):
    path = root / "tables" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    lines = [",".join([*map(repr, row), label]) for row, label in zip(rows.tolist(), labels, strict=True)]
    path.write_text("\n".join([",".join([*(f"x{k}" for k in range(1, 19)), "label"]), *lines]) + "\n")
    return path


def test_a_table_in_the_folder_is_read_and_split_by_class(root, vehicles):
    rows, labels = vehicles
    _write(root, rows, labels)
    splits = data.load("vehicle")
    assert splits.sizes == {"train": 465, "validation": 127, "test": 254}
    assert splits.classes == ("bus", "opel", "saab", "van")
    assert splits.features == tuple(f"x{k}" for k in range(1, 19))
    parts = (splits.train, splits.validation, splits.test)
    found = {tuple(x.tolist()): splits.classes[y] for part in parts for x, y in zip(*part, strict=True)}
    assert found == {tuple(row): label for row, label in zip(rows.tolist(), labels, strict=True)}
    for part in parts:
        assert part.y.bincount().double().div(len(part.y)).tolist() == pytest.approx(
            [218 / 846, 212 / 846, 217 / 846, 199 / 846], abs=0.02
        )


def test_splits_depend_on_the_seed_only(root, vehicles):
    _write(root, *vehicles)
    one, same, other = (
        data.table("vehicle", seed=1),
        data.table("vehicle", seed=1),
        data.table("vehicle", seed=2),
    )
    assert one.checksum() == same.checksum() != other.checksum()
    assert data.table("vehicle", validation=0.0, test=0.0).sizes == {"train": 846, "validation": 0, "test": 0}


def test_a_table_that_is_not_in_the_folder_is_fetched_and_cached(root, vehicles, monkeypatch):
    rows, labels = vehicles
    asked = []

    def fetch(name, *, version, as_frame, parser, data_home):
        asked.append((name, version, data_home.name))
        return Bunch(data=rows, target=np.array(labels))

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    fetched = data.load("vehicle")
    _write(root, rows, labels)
    assert fetched.checksum() == data.load("vehicle").checksum()
    assert asked == [("vehicle", 1, "openml")]


@pytest.mark.happens(
    "Data",
    when="a table is neither on the disk nor to be had from the network",
    see="an error with the folder and file where it may be put",
    kept="all files as they are",
)
def test_no_table_and_no_network_say_what_to_do(root):
    with pytest.raises(
        data.DataUnavailableError, match=r"no network in the tests.*header, features.*vehicle\.csv"
    ):
        data.load("vehicle")
    with pytest.raises(data.DataUnavailableError, match="download is off: put the table there"):
        data.load("vehicle", download=False)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x, y: (x[:-1], y[:-1]), "expected 846 rows of 18 features, got 845 x 18"),
        (lambda x, y: (x[:, :-1], y), "expected 846 rows of 18 features, got 846 x 17"),
        (lambda x, y: (np.where(np.arange(18) == 3, np.nan, x), y), "expected finite numbers"),
        (lambda x, y: (x, ["bus" if label == "van" else label for label in y]), "expected 4 classes, got 3"),
        (lambda x, y: (x, ["van", *y[1:]]), r"expected classes of \(199, 212, 217, 218\) rows"),
    ],
)
@pytest.mark.happens(
    "Data",
    when="a file holds another table than its name says",
    see="an error with the expected sizes and those found",
    kept="the file as it is",
)
def test_another_table_under_the_name_is_refused(damage, message, root, vehicles):
    path = _write(root, *damage(*vehicles))
    before = path.read_bytes()
    with pytest.raises(data.DataError, match=f"this is not the table vehicle: {message}"):
        data.load("vehicle")
    assert path.read_bytes() == before


def test_a_damaged_file_is_refused_by_name(root, vehicles):
    path = _write(root, *vehicles)
    path.write_text(path.read_text().replace(",van", ",x,van", 1))
    with pytest.raises(data.DataError, match=r"vehicle\.csv cannot be read as a table"):
        data.load("vehicle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "iris"}, "no table is called 'iris': expected one of letter, magic"),
        ({"name": "vehicle", "test": -0.1}, "shares >= 0 that leave rows"),
        ({"name": "vehicle", "test": 0.6, "validation": 0.5}, "shares >= 0 that leave rows"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.table(**options)


@pytest.mark.parametrize("name", data.TABLES)
def test_the_true_tables_where_they_are(name):
    """Each has its known sizes, or loading would fail; labels count from 0."""
    try:
        splits = data.load(name, download=False)
    except data.DataUnavailableError as error:
        pytest.skip(str(error)[:80])
    assert sum(splits.sizes.values()) == tables.TABLES[name].rows[0]
    assert torch.cat([splits.train.y, splits.test.y]).unique().tolist() == list(range(len(splits.classes)))
    assert splits.train.x.dtype == torch.float32
