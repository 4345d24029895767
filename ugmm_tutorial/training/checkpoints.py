"""Checkpoints: a run's state as a file, written whole or not at all, and read without trusting it.

Imports nothing else of the package but :mod:`files`.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import IO

import torch

from ugmm_tutorial.training import files

__all__ = ["CheckpointError", "expect", "load", "save"]


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; it stays as it is, and the message says what to do."""


def save(state: dict, path: str | Path) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) to ``path``.

    At every moment ``path`` holds either the whole old state or the whole new one (see
    :func:`~ugmm_tutorial.training.files.replacing`).

    Raises:
        OSError: the file cannot be written, for example because the disk is full.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save({"epoch": 3}, f"{folder}/run.pt"), load(f"{folder}/run.pt")
    (None, {'epoch': 3})
    """
    with files.replacing(path, "wb") as file:
        _write(state, file)


def _write(state: dict, file: IO[bytes]) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:
        # If Ctrl-C arrives during writing or the disk is full, PyTorch's writer complains of its half-written
        # file and hides what happened.
        if isinstance(error.__context__, (KeyboardInterrupt, OSError)):
            raise error.__context__ from None
        raise


def load(path: str | Path, *, device: str | torch.device = "cpu") -> dict:
    """Read what :func:`save` wrote, without executing any code from the file (``weights_only``).

    Args:
        path: the file.
        device: where its tensors are put.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint.

    >>> load("missing.pt")
    Traceback (most recent call last):
    ugmm_tutorial.training.checkpoints.CheckpointError: No such file: ...
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch.load does not look at the checksums
        if broken is not None:
            raise zipfile.BadZipFile(f"the checksum of {broken} is wrong")
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        where = Path(path).absolute()
        raise CheckpointError(
            f"No such file: {where}. Give the path of a checkpoint that save() or training wrote"
        ) from error
    except pickle.UnpicklingError as error:  # its own text advises executing the file's code
        raise _refusal(path, "it holds other things than tensors, numbers and text") from error
    except Exception as error:  # a broken file raises errors of many kinds
        raise _refusal(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(state, dict):
        raise _refusal(path, f"it holds a {type(state).__name__}, expected a dict")
    return state


def expect(state: dict, kinds: dict[str, type], path: str | Path) -> None:
    """Check that a state has certain entries before they are used.

    Raises:
        CheckpointError: an entry is missing or has another type; the message names it and the file.

    >>> expect({"epoch": 3}, {"epoch": int}, "run.pt")  # silent: nothing is missing
    """
    for name, kind in kinds.items():
        if name not in state:
            raise _refusal(path, f"{name!r} is missing in it")
        if not isinstance(state[name], kind) or isinstance(state[name], bool):
            found = type(state[name]).__name__
            raise _refusal(path, f"expected its {name!r} to be {kind.__name__}, got {found}")


def _refusal(path: str | Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a checkpoint ({why}). Nothing was changed; move it away to start over"
    )
