"""Files that survive a power cut: written under another name, flushed, then renamed.

Imports nothing else of the package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["append_line", "check_writable", "make_writable", "replacing"]


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """A file to write to, which replaces ``path`` as a whole when the block ends.

    At every moment ``path`` holds either all of the old content or all of the new. Once the block has ended,
    the new content survives a power cut, as far as the system flushes it (Windows flushes the file but not
    its name). If the block fails, the old content stays.

    Args:
        path: name of the file; missing folders are made.
        mode: ``"w"`` for text, ``"wb"`` for bytes.

    Raises:
        OSError: the file cannot be written, for example because the disk is full. The message names it, and
            what to do.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, replacing(f"{folder}/notes.txt") as file:
    ...     file.write("whole or not at all")
    19
    """
    path = Path(path)
    scratch = _scratch(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
        with scratch.open(mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        _flush_names(path.parent)
    except OSError as error:
        if error.filename not in (None, str(scratch), str(path.parent)):
            raise  # of another file that the block is about
        raise _about(path, error) from error
    finally:
        _remove(scratch)


def append_line(path: str | Path, line: str) -> None:
    """Add a line to the end of a file, and flush it.

    If the last line was cut off by a power cut, the new one starts after it.

    Raises:
        OSError: the file cannot be written. The message names it, and what to do.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     append_line(f"{folder}/notes.txt", "one")
    ...     append_line(f"{folder}/notes.txt", "two")
    ...     Path(folder, "notes.txt").read_text().split()
    ['one', 'two']
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _about(path, error) from error


def make_writable(path: str | Path) -> None:
    """Make the folder of ``path`` and try to write in it, before hours are spent on a file for it.

    Raises:
        OSError: this is not possible.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     make_writable(f"{folder}/runs/seed0.pt")
    """
    path = Path(path)
    scratch = _scratch(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(b"0" * 4096)
    except OSError as error:
        raise _about(path, error) from error
    finally:
        _remove(scratch)


def check_writable(path: str | Path) -> None:
    """The same without making a folder: the nearest one that exists is tried, and nothing is left behind.

    Raises:
        OSError: nothing can be written there.

    >>> check_writable("no such folder yet/seed0.json")
    """
    path = Path(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        make_writable(folder / path.name)
    except OSError as error:
        raise _about(path, error.__cause__ if isinstance(error.__cause__, OSError) else error) from error


def _about(path: Path, error: OSError) -> OSError:
    """The error with the file's name and advice. On a full disk the system names no file."""
    there = "the file as it was before stays" if path.exists() else "there is no such file yet"
    advice = "Make room, or write to another folder; the same command then goes on"
    return OSError(error.errno, f"{error.strerror or error}: {there}. {advice}", str(path))


def _remove(scratch: Path) -> None:
    with suppress(OSError):  # its folder may not be there, or not be ours
        scratch.unlink()


def _scratch(path: Path) -> Path:
    """A temporary name beside ``path``, different in every process."""
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


def _flush_names(folder: Path) -> None:
    """Flush a folder, because a rename is on the disk only when its folder is.

    Until then the old file could come back. Windows does not open folders, some network
    drives do not flush them, and a folder may be writable but not readable. By then the file is complete
    under its name, so nothing is lost if the flush fails.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
