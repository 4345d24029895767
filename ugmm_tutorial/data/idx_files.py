"""The files of MNIST and of Fashion-MNIST: how they are checked, downloaded and read.

Files that are already on the disk are never deleted or overwritten.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ugmm_tutorial.data.splits import DataError, DataUnavailableError, Examples
from ugmm_tutorial.optional import needed

if TYPE_CHECKING:
    import pooch

__all__ = ["MD5", "fetch", "read"]

#: The unzipped files of the original distributions, as torchvision keeps them under NAME/raw.
MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
_DOWNLOAD_TIMEOUT = 10.0  # seconds, after which a silent server counts as absent


def fetch(root: Path, name: str, *, download: bool) -> None:
    """Make sure that all four files are intact under ``root``; download missing ones if that is allowed.

    Args:
        root: the folder that has ``NAME/raw``.
        name: a key of :data:`MD5`.
        download: whether missing files may be downloaded.

    Raises:
        DataUnavailableError: a file is missing and could not be downloaded.
        DataError: a file is damaged. It is left as it is.
    """
    if _missing_files(root, name):
        if not download:
            raise DataUnavailableError(_how_to_get(root, name, "download is off"))
        _download(root, name)


def read(root: Path, name: str, part: str) -> Examples:
    """The images (N, 1, 28, 28) in [0, 1] and labels of ``"train"``, N = 60,000, or ``"t10k"``, 10,000."""
    # Files that fetch() has checked hold what MD5 says: 16 or 8 bytes about shapes, then the numbers. So they
    # are read without torchvision, which may be missing and is slow to import.
    raw = root / name / "raw"
    x = np.fromfile(raw / f"{part}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)
    y = np.fromfile(raw / f"{part}-labels-idx1-ubyte", np.uint8, offset=8)
    return Examples(torch.from_numpy(x).float() / 255, torch.from_numpy(y).long())


def _missing_files(root: Path, name: str) -> list[str]:
    """The files that are not under ``root``; those that are there must be intact."""
    missing = []
    for file, md5 in MD5[name].items():
        path = root / name / "raw" / file
        if not path.exists():
            missing.append(file)
            continue
        try:
            found = _md5(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}). Nothing was changed") from error
        if found != md5:
            raise DataError(
                f"{path} is truncated or altered: expected {_expected_size(file)} bytes with MD5 "
                f"{md5}, got {path.stat().st_size} bytes with MD5 {found}. Nothing was changed. "
                "Move the file away to have it downloaded again, or point UGMM_DATA_DIR elsewhere"
            )
    return missing


def _expected_size(file: str) -> int:
    count = 60000 if file.startswith("train") else 10000
    return 16 + count * 28 * 28 if "images" in file else 8 + count


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(root: Path, name: str) -> None:
    """Fetch the missing files into a temporary folder, check them, then move them into place."""
    with needed("torchvision", by="A download of images"):
        from torchvision import datasets

    files = _missing_files(root, name)
    mirrors = [mirror for mirror in getattr(datasets, name).mirrors if _answers(f"{mirror}{files[0]}.gz")]
    if not mirrors:
        raise DataUnavailableError(_how_to_get(root, name, "no mirror of it answered"))
    raw = root / name / "raw"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        # On the same disk as their place, so that a move is one step.
        with tempfile.TemporaryDirectory(dir=root, prefix=".mnist-") as scratch:
            fetched = [_fetch_one(file, MD5[name][file], mirrors, Path(scratch)) for file in files]
            for path in fetched:
                path.replace(raw / path.name)
    except OSError as error:
        raise DataUnavailableError(_how_to_get(root, name, str(error))) from error


def _fetch_one(file: str, md5: str, mirrors: list[str], into: Path) -> Path:
    """The file, from the first mirror that has it unharmed; OSError where none has."""
    path, zipped = into / file, into / f"{file}.gz"
    for mirror in mirrors:
        try:
            _downloader()(mirror + zipped.name, str(zipped), None)
            with gzip.open(zipped) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
            if _md5(path) == md5:
                return path
            reason = "it is truncated or altered"
        except (OSError, EOFError, zlib.error) as error:
            reason = str(error)
    raise OSError(f"{file} could not be downloaded: {reason}")


def _answers(url: str) -> bool:
    """Whether a server has this file."""
    try:
        return bool(_downloader()(url, None, None, check_only=True))
    except OSError:
        return False


def _downloader() -> pooch.HTTPDownloader:
    with warnings.catch_warnings():
        # pooch imports a progress bar, which warns in notebooks without widgets.
        warnings.simplefilter("ignore")
        import pooch

    return pooch.HTTPDownloader(timeout=_DOWNLOAD_TIMEOUT)


def _how_to_get(root: Path, name: str, why: str) -> str:
    text = (
        f"{name} is not complete in {root / name / 'raw'} ({why}). Put the four unzipped files "
        f"there ({', '.join(MD5[name])}), or set UGMM_DATA_DIR to a folder that has them"
    )
    if name == "MNIST":
        text += ", or use data.images() without UGMM_IMAGES, which falls back to digits that need no download"
    return text
