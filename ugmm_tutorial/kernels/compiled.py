"""``compiled``: Numba's njit, holding no lock, cached in a folder of the user's."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import platformdirs

__all__ = ["cache_folder", "compiled"]

# Numba makes its settings while it is imported: no type checker sees their names.
_settings: Any = numba.config


@cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None if nothing can be written there.

    A folder in ``NUMBA_CACHE_DIR`` if that is set, else in this package's cache of the user. Numba's own
    first choice, beside the source, is closed where the package is installed for reading only.
    """
    folder = Path(_settings.CACHE_DIR or Path(platformdirs.user_cache_dir("ugmm_tutorial")) / "numba")
    folder /= _digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


def compiled(fastmath: set[str]) -> Callable[[Callable], Callable]:
    """Decorate a kernel that Python calls: compiled at its first call, then loaded from the cache.

    Numba compiles it anew when its own file has changed, and does not look at the files that this one
    imports: so every state of them all has a folder of its own.
    """

    def decorate(function: Callable) -> Callable:
        folder, before = cache_folder(), _settings.CACHE_DIR
        # Numba looks for the folder here, and only while it decorates. Other libraries keep their own.
        _settings.CACHE_DIR = str(folder or "")
        try:
            return numba.njit(nogil=True, cache=folder is not None, fastmath=fastmath)(function)
        finally:
            _settings.CACHE_DIR = before

    return decorate


def _digest() -> str:
    """Of the sources of all kernels for Numba."""
    sources = sorted(Path(__file__).parent.glob("numba_*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in sources), digest_size=8).hexdigest()
