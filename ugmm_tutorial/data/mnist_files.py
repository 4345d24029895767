"""The files of MNIST: where they are stored, and how they are checked, downloaded and read.

Files that are already on the disk are never deleted or overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ugmm_tutorial.data.splits import DataError, DataUnavailableError, Examples

__all__ = ["MD5", "fetch", "folder", "read"]

#: The unzipped files of the original distribution, as torchvision keeps them under MNIST/raw.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_DOWNLOAD_TIMEOUT = 10.0  # seconds until a silent server counts as absent


def folder(root: str | Path | None) -> Path:
    """``root`` if it is given, else ``$UGMM_DATA_DIR``, else this package's folder in the user's cache."""
    from platformdirs import user_cache_path

    return Path(root or os.environ.get("UGMM_DATA_DIR") or user_cache_path("ugmm_tutorial")).expanduser()


def fetch(root: Path, *, download: bool) -> None:
    """Make sure that all four files are intact under ``root``; download missing ones if that is allowed.

    Raises:
        DataUnavailableError: a file is missing and could not be downloaded.
        DataError: a file is damaged. It is left as it is.
    """
    if _missing_files(root):
        if not download:
            raise DataUnavailableError(_how_to_get_mnist(root, "download is off"))
        _download(root)


def read(root: Path, part: str) -> Examples:
    """The images (N, 1, 28, 28) in [0, 1] and labels of ``"train"``, N = 60,000, or ``"t10k"``, 10,000."""
    # torchvision is slow to import, so this waits until it is needed. Its class MNIST is not used
    # here: if an old version of it left a folder MNIST/processed, it would read that one, unchecked.
    from torchvision.datasets.mnist import read_image_file, read_label_file

    raw = root / "MNIST" / "raw"
    x = read_image_file(str(raw / f"{part}-images-idx3-ubyte"))
    return Examples(x.unsqueeze(1).float() / 255, read_label_file(str(raw / f"{part}-labels-idx1-ubyte")))


def _missing_files(root: Path) -> list[str]:
    """Names of the MNIST files that are not under ``root``; the files that are there must be intact."""
    missing = []
    for name, md5 in MD5.items():
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


def _expected_size(name: str) -> int:
    count = 60000 if name.startswith("train") else 10000
    return 16 + count * 28 * 28 if "images" in name else 8 + count


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(root: Path) -> None:
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
            if any(_md5(fetched / name) != md5 for name, md5 in MD5.items()):
                raise RuntimeError("the downloaded files are truncated or altered")
            for name in _missing_files(root):
                (fetched / name).replace(raw / name)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataUnavailableError(_how_to_get_mnist(root, str(error))) from error


def _answers(url: str) -> bool:
    """Whether a server answers at all, asked with a timeout because torchvision sets none."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "ugmm_tutorial"})
    try:
        with urllib.request.urlopen(request, timeout=_DOWNLOAD_TIMEOUT):
            return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Within the block, a server that falls silent causes an error instead of waiting for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _how_to_get_mnist(root: Path, why: str) -> str:
    return (
        f"MNIST is not complete in {root / 'MNIST' / 'raw'} ({why}). Put the four unzipped files "
        f"there ({', '.join(MD5)}), set UGMM_DATA_DIR to a folder that has them, or use "
        "data.images() without UGMM_IMAGES, which falls back to digits that need no download"
    )
