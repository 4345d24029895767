"""Packages that only a part of this one needs. Imports nothing else of the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed"]


@contextmanager
def needed(package: str, by: str) -> Iterator[None]:
    """Around imports: where a package is missing, say what needs it and how it is installed.

    Args:
        package: its name for pip.
        by: what cannot be done without it; the sentence begins with it.

    Raises:
        ModuleNotFoundError: it is missing.

    >>> with needed("a-package", by="Drawing"):
    ...     import no_such_package
    Traceback (most recent call last):
        ...
    ModuleNotFoundError: Drawing needs a-package, which is not installed here: pip install a-package
    """
    try:
        yield
    except ModuleNotFoundError as error:
        said = f"{by} needs {package}, which is not installed here: pip install {package}"
        raise ModuleNotFoundError(said, name=error.name) from error
