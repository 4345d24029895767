"""Files that survive a power cut: written under another name, flushed, then renamed.

Imports nothing else of the package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["make_writable", "replacing"]


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """A file to write to, which takes the name ``path`` when the block ends, as a whole.

    At every moment ``path`` holds either all of the old content or all of the new one; when the block has
    ended, the new one is there even after a power cut, as far as the system's flushing goes (Windows flushes
    the file but not its name). If the block fails, the old one stays.

    Args:
        path: missing folders are made.
        mode: ``"w"`` for text, ``"wb"`` for bytes.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    try:
        with scratch.open(mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        _flush_names(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def make_writable(path: str | Path) -> None:
    """Make the folder of ``path`` and try to write in it, before hours are spent on what belongs there.

    Raises:
        OSError: it is not possible.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    try:
        scratch.touch()
    finally:
        scratch.unlink(missing_ok=True)


def _scratch(path: Path) -> Path:
    """A temporary name beside ``path``, another one in every process."""
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


def _flush_names(folder: Path) -> None:
    """A rename is on the disk only when its folder is: until then the old file could come back.

    Windows does not open folders, some network drives do not flush them, and a folder may be writable but not
    readable. The file is whole under its name by then, so nothing is lost if this cannot be done.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
