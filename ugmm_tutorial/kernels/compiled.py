"""``compiled``: Numba's njit without Python's global lock, cached in a folder of the user's.

A cache saves time and must never cost an answer. What is damaged is compiled again and replaced; what cannot
be stored is compiled at every start, and a warning says so once.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

try:
    import platformdirs
except ImportError:
    platformdirs = None  # type: ignore[assignment]

__all__ = ["cache_folder", "compiled", "inner"]

# Numba creates its settings during import, so type checkers do not see their names.
_settings: Any = numba.config


@cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None if nothing can be written there.

    It is in ``NUMBA_CACHE_DIR`` if that is set, else in this package's part of the user's cache. Numba's own
    first choice, beside the source, fails where the package is installed read-only.
    """
    if not _settings.CACHE_DIR and platformdirs is None:
        _warn_once("the package platformdirs, which knows the user's folder for caches, is not installed")
        return None
    folder = Path(_settings.CACHE_DIR or Path(platformdirs.user_cache_dir("ugmm_tutorial")) / "numba")
    folder /= _digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _warn_once(f"{folder} cannot be written to ({error})")
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
            options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "no_cfunc_wrapper": True}
            dispatcher: Any = numba.njit(error_model="numpy", **options)(function)
            if folder is not None and hasattr(dispatcher, "enable_caching"):
                dispatcher._cache = _Cache(function)
            return dispatcher
        finally:
            _settings.CACHE_DIR = before

    return decorate


def inner(fastmath: set[str] | None = None) -> Callable[[Callable], Callable]:
    """Decorate a function that only kernels call: it becomes a part of each, and has no callers from outside.

    A call that remained could reach either the copy in the kernel or the function as it was compiled alone.
    The two may round differently, so a kernel from the cache would differ from the same one just compiled.
    """
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
    # With Python's model every division would look for a zero, and no loop with one would be vectors.
    return numba.njit(fastmath=fastmath or False, error_model="numpy", **options)


class _Cache(FunctionCache):
    """Numba's cache of one function, whose files may be damaged, forbidden, or find no room."""

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return super().load_overload(*arguments)
        except Exception:  # a cut-off file can raise nearly anything
            with suppress(Exception):
                self.flush()  # forget what is stored, so that saving works again
            return None

    def save_overload(self, *arguments: Any) -> None:
        try:
            super().save_overload(*arguments)
        except Exception as error:
            _warn_once(f"{self.cache_path} cannot take it ({type(error).__name__}: {error})")


@cache
def _warn_once(reason: str) -> None:
    with suppress(RuntimeWarning):  # where warnings are errors, a lost cache is still no reason to fail
        warnings.warn(
            f"compiled kernels are not kept, so every start compiles them again: {reason}. NUMBA_CACHE_DIR "
            "names another folder",
            RuntimeWarning,
            stacklevel=2,
        )


def _digest() -> str:
    """A hash of the sources of all kernels for Numba, and of those that they take constants from."""
    folder = Path(__file__).parent
    sources = [*sorted(folder.glob("numba_*.py")), folder / "reference.py", folder / "transform.py"]
    return hashlib.blake2b(b"".join(path.read_bytes() for path in sources), digest_size=8).hexdigest()
