"""Checks of the operators' arguments. Errors say what was expected, what came and what to do.

Shapes: B batch, K inputs, J outputs, as in :mod:`~ugmm_tutorial.functional`. Imports nothing else of the
package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

import torch
from torch import Tensor

__all__ = [
    "autocasts",
    "checked",
    "fraction",
    "labels",
    "of_one_kind",
    "one_of",
    "positive_integer",
    "require_shape",
    "tensor",
]

_DTYPES = (torch.float32, torch.float64)
_HALF = (torch.float16, torch.bfloat16)


def checked(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, log_background: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """The arguments of the operator, checked against each other and lifted by :func:`of_one_kind`.

    Raises:
        TypeError, ValueError: see :func:`~ugmm_tutorial.functional.ugmm_log_density`.
    """
    named = {"x": x, "mean": mean, "log_std": log_std, "log_weight": log_weight}
    if log_background is not None:
        named["log_background"] = log_background
    named = of_one_kind(named)
    _check_shapes(named)
    return (*named.values(), *(() if "log_background" in named else (None,)))


def of_one_kind(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, on one device, all float32 or all float64. Under autocast, half precision becomes float32.

    Raises:
        TypeError: one is not a tensor or has another dtype, or the dtypes differ.
        ValueError: they are on several devices.
    """
    for name, value in named.items():
        tensor(name, value)
    first = next(iter(named.values()))
    if any(t.dtype in _HALF for t in named.values()) and autocasts(first.device.type):
        named = {name: t.float() if t.dtype in _HALF else t for name, t in named.items()}
    dtypes = {name: t.dtype for name, t in named.items()}
    if not set(dtypes.values()) <= set(_DTYPES):
        raise TypeError(
            f"expected float32 or float64, got {_listed(dtypes)}. Convert with .float(); "
            "for half precision run under torch.autocast"
        )
    if len(set(dtypes.values())) > 1:
        raise TypeError(
            f"expected one dtype for all arguments, got {_listed(dtypes)}. Convert with .to(dtype)"
        )
    devices = {name: str(t.device) for name, t in named.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(
            f"expected all arguments on one device, got {_listed(devices)}. Move with .to(device)"
        )
    return named


def tensor(name: str, value: object) -> Tensor:
    """Check that an argument is an ordinary tensor with numbers in memory, and return it.

    Raises:
        TypeError: it is something else, or sparse.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} to be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"expected {name} to be a dense tensor, got {value.layout}: .to_dense() makes it one")
    return value


def labels(name: str, value: object, rows: int, classes: int | None = None) -> Tensor:
    """Check class labels and return them as int64, (rows,).

    Raises:
        TypeError: they are not a dense tensor.
        ValueError: they are not one whole number for each row, from 0 to ``classes - 1`` if that is known.
    """
    y = tensor(name, value)
    whole = not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool)
    got = f"{tuple(y.shape)} of {str(y.dtype).removeprefix('torch.')}"
    if y.shape == (rows,) and whole:
        outside = y[(y < 0) | (y >= (classes or math.inf))]
        if not len(outside):
            return y.long()
        got = f"{outside[0].item()}"
    upper = "on" if classes is None else f"to {classes - 1}"
    raise ValueError(
        f"expected {name} as {rows} whole numbers from 0 {upper}, got {got}. A label is the number of its "
        "class: one-hot rows become labels by .argmax(dim=1)"
    )


def require_shape(name: str, value: Tensor, of: str, shape: torch.Size) -> None:
    """Refuse a tensor whose shape is not that of the argument called ``of``.

    Raises:
        ValueError: the shapes differ.
    """
    if value.shape != shape:
        raise ValueError(f"expected {name} of the shape of {of}, {tuple(shape)}, got {tuple(value.shape)}")


def positive_integer(name: str, value: object) -> int:
    """Check a number of features, components or the like, and return it as an int.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"expected {name} to be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"expected {name} >= 1, got {value}")
    return int(value)


def fraction(name: str, value: float) -> float:
    """Check a probability or a share, and return it as a float.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not between 0 and 1.
    """
    if not isinstance(value, Real):
        raise TypeError(f"expected {name} to be a number, got {value!r}")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"expected {name} between 0 and 1, got {value}")
    return float(value)


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    """Check a choice among names, and return it.

    Raises:
        ValueError: it is not among them.
    """
    if value not in (names := tuple(allowed)):
        raise ValueError(f"unknown {name} {value!r}: expected one of {', '.join(names)}")
    return value


def _check_shapes(named: dict[str, Tensor]) -> None:
    mean = named["mean"]
    if mean.dim() != 2 or mean.shape[1] == 0:
        raise ValueError(f"expected mean of shape (J, K) with K >= 1, got {tuple(mean.shape)}")
    for name in ("log_std", "log_weight"):
        require_shape(name, named[name], "mean", mean.shape)
    x = named["x"]
    if x.dim() == 0 or x.shape[-1] != mean.shape[1]:
        raise ValueError(f"expected x of shape (*, K) with K = {mean.shape[1]}, got {tuple(x.shape)}")
    require_shape("log_background", named.get("log_background", x), "x", x.shape)


def autocasts(device_type: str) -> bool:
    """Whether autocast is on for this type of device."""
    # For a device type that has no autocast, such as meta, asking whether it is on would raise.
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
