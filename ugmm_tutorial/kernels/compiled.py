"""``compiled``: Numba's njit without Python's global lock, cached in a folder of the user's."""

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

# Numba creates its settings during import, so type checkers do not see their names.
_settings: Any = numba.config


@cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None if nothing can be written there.

    It is in ``NUMBA_CACHE_DIR`` if that is set, else in this package's part of the user's cache. Numba's own
    first choice, beside the source, fails where the package is installed read-only.
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
    """Decorate a kernel that Python calls: it is compiled at its first call and later loaded from the cache.

    Numba compiles it anew when its own file has changed, but ignores changes in the files that it imports. So
    the cache has one folder for each state of all these files together.
    """

    def decorate(function: Callable) -> Callable:
        folder, before = cache_folder(), _settings.CACHE_DIR
        # Numba reads this setting only while it decorates. Afterwards other libraries get theirs back.
        _settings.CACHE_DIR = str(folder or "")
        try:
            return numba.njit(nogil=True, cache=folder is not None, fastmath=fastmath)(function)
        finally:
            _settings.CACHE_DIR = before

    return decorate


def _digest() -> str:
    """A hash of the sources of all kernels for Numba."""
    sources = sorted(Path(__file__).parent.glob("numba_*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in sources), digest_size=8).hexdigest()
