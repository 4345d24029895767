"""Checks that an argument is an object of the right kind, where there are no numbers to check."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch

from ugmm_tutorial.kernels.arguments import shown

__all__ = ["device", "function", "generator", "instance", "path"]

Kind = TypeVar("Kind")


def device(value: Any) -> torch.device:
    """Check the name of a device, and that tensors can be made there.

    Raises:
        ValueError: PyTorch knows no such device, or cannot use it here.
    """
    try:
        return torch.empty(0, device=torch.device(value)).device
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        said = str(error).partition("\n")[0]
        raise ValueError(f"expected device such as 'cpu' or 'cuda:0', got {shown(value)} ({said})") from None


def instance(name: str, value: object, kind: type[Kind], what: str = "") -> Kind:
    """Check that an argument is of a class, and return it.

    Args:
        name: of the argument.
        value: what came.
        kind: the class.
        what: what to call it, with its article; by default the name of the class.

    Raises:
        TypeError: it is of another class.
    """
    if not isinstance(value, kind):
        raise TypeError(f"expected {name} to be {what or f'a {kind.__name__}'}, got {shown(value)}")
    return value


def function(name: str, value: Any) -> Any:
    """Check that an argument can be called, and return it.

    Raises:
        TypeError: it cannot.
    """
    if not callable(value):
        raise TypeError(f"expected {name} to be a function, got {shown(value)}")
    return value


def generator(value: Any) -> torch.Generator | None:
    """Check a source of random numbers; None is PyTorch's own. Raises as :func:`instance`."""
    return None if value is None else instance("generator", value, torch.Generator, "a torch.Generator")


def path(name: str, value: Any) -> Path | None:
    """Check the place of a file or a folder, or None.

    Raises:
        TypeError: it is neither a string nor a path.
        ValueError: no path can have this name.
    """
    if value is None:
        return None
    if not isinstance(value, str | Path):
        raise TypeError(f"expected {name} to be a path, got {shown(value)}")
    if "\0" in str(value):
        raise ValueError(f"expected {name} without null characters, got {shown(value)}")
    return Path(value)
