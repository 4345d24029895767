"""Checks that an argument is of one kind: a device, a function, a path, a learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch

from ugmm_tutorial.kernels.arguments import number, shown

__all__ = ["FASTEST", "device", "dtype", "function", "generator", "instance", "learning_rate", "path"]

#: No learning rate reaches it: Adam divides one by small numbers, and float32 ends at 3e38.
FASTEST = 1e36

Kind = TypeVar("Kind")


def device(value: Any, *, meta: bool = False) -> torch.device:
    """Check the name of a device, and that tensors can be made there.

    Args:
        value: what came.
        meta: whether ``"meta"`` will do, where tensors have no numbers.

    Raises:
        ValueError: PyTorch knows no such device, or cannot use it here.
    """
    try:
        found = torch.empty(0, device=torch.device(value)).device
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        said = str(error).partition("\n")[0]
        raise ValueError(f"expected device such as 'cpu' or 'cuda:0', got {shown(value)} ({said})") from None
    if found.type == "meta" and not meta:
        raise ValueError("expected device with memory, such as 'cpu' or 'cuda:0', got 'meta'")
    return found


def dtype(value: Any) -> torch.dtype:
    """Check the dtype of parameters, float32 or float64; None is PyTorch's default.

    Raises:
        TypeError: it is another one, or no dtype.
    """
    found = torch.get_default_dtype() if value is None else value
    if not isinstance(found, torch.dtype) or found not in (torch.float32, torch.float64):
        raise TypeError(f"expected dtype float32 or float64, got {shown(found)}; use torch.autocast for half")
    return found


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


def learning_rate(value: object) -> float:
    """Check a learning rate, and return it as a float. Raises as :func:`~.arguments.number`."""
    return number("learning_rate", value, above=0.0, below=FASTEST)
