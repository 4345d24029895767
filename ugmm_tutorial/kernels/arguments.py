"""Checks of the operators' arguments. Errors say what was expected, what came and what to do.

Shapes: B batch, K inputs, J outputs, as in :mod:`~ugmm_tutorial.functional`. Imports nothing else of the
package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "autocasts",
    "checked",
    "fraction",
    "indices",
    "integer",
    "integers",
    "labels",
    "module",
    "number",
    "numbers_in",
    "of_one_kind",
    "one_of",
    "real",
    "reals",
    "require_shape",
    "seed",
    "shown",
    "tensor",
]

_DTYPES = (torch.float32, torch.float64)
_HALF = (torch.float16, torch.bfloat16)
_LARGEST = 2**63 - 1


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
        raise TypeError(f"expected {name} to be a torch.Tensor, got {type(value).__name__}: {shown(value)}")
    if value.layout != torch.strided:
        raise TypeError(f"expected {name} to be a dense tensor, got {value.layout}: .to_dense() makes it one")
    return value


def labels(name: str, value: object, rows: int, classes: int | None = None) -> Tensor:
    """Check class labels and return them as int64, (rows,).

    Raises:
        TypeError: they are not a dense tensor.
        ValueError: they are not one whole number for each row, from 0 to ``classes - 1`` if that is known.
    """
    y = numbers_in(name, value, floating=False, finite=False)
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


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Check a whole number, and return it as an int; NumPy's integers are integers too.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is below ``low`` or above ``high``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"expected {name} to be an integer, got {shown(value)}")
    found = int(value)
    if not low <= found <= (_LARGEST if high is None else high):
        least = f">= {low}" if found < low else "below 2**63"
        wanted = least if high is None else f"from {low} to {high}"
        raise ValueError(f"expected {name} {wanted}, got {found}")
    return found


def seed(value: object, name: str = "seed") -> int:
    """Check the seed of a generator, which may be NumPy's or PyTorch's; raises as :func:`integer`."""
    return integer(name, value, 0, 2**32 - 1)


def integers(
    name: str, values: object, low: int, high: int | None = None, *, kind: str = "", count: int | None = None
) -> list[int]:
    """Check whole numbers in their order, such as sizes or indices, and return them as a list.

    Args:
        name: of the argument.
        values: what came.
        low, high: the ends of their range, which belong to it.
        kind: what to call them, instead of naming the range.
        count: how many there must be.

    Raises:
        ValueError: they are something else, as a set is, which has no order.
    """
    try:
        if isinstance(values, str | bytes | Set | Mapping) or not isinstance(values, Iterable):
            raise TypeError
        listed = [integer(name, value, low, high) for value in values]
        if count in (None, len(listed)):
            return listed
    except (TypeError, ValueError):
        pass
    kind = kind or (f"integers from {low} on" if high is None else f"integers from {low} to {high}")
    raise ValueError(f"expected {name} to be {kind}, got {shown(values)}")


def real(name: str, value: object) -> float:
    """Check that an argument is a real number, perhaps infinite or NaN, and return it as a float.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"expected {name} to be a number, got {shown(value)}")
    return float(value)


def number(
    name: str,
    value: object,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Check a real number, finite unless ``low`` or ``high`` is infinite, and return it as a float.

    Args:
        name: of the argument.
        value: what came.
        low, high: the ends of its range, which belong to it.
        above, below: ends that do not belong to it; without ``low`` and ``high``.

    Raises:
        TypeError: it is not a number.
        ValueError: it is out of its range, or NaN.
    """
    found = real(name, value)
    enough = above < found if low is None else low <= found
    if not (enough and (found < below if high is None else found <= high)):
        if low is not None and high not in (None, math.inf):
            wanted = f"between {low:g} and {high:g}"
        else:
            least = f"> {above:g}" if low is None else f">= {low:g}"
            most = f"< {below:g}" if high is None else f"<= {high:g}"
            most = {"< inf": "finite", "<= inf": "a number"}.get(most, most)
            wanted = f"to be {most}" if least == "> -inf" else f"{least} and {most}"
        raise ValueError(f"expected {name} {wanted}, got {value}")
    return found


def reals(name: str, values: object) -> list[float]:
    """Check real numbers in a sequence, an array or a tensor, and return them as a list.

    Raises:
        TypeError: it is not a sequence, or one of them is not a number.
    """
    listed = _listed_values(values)
    if isinstance(listed, str | Mapping) or not isinstance(listed, Iterable):
        raise TypeError(f"expected {name} to be a sequence of numbers, got {shown(values)}")
    return [real(f"every one of {name}", value) for value in listed]


def indices(name: str, values: object, count: int) -> list[int]:
    """Check indices into ``count`` things, none of them negative, and return them as a list.

    Raises:
        ValueError: they are not integers.
        IndexError: one is out of range.
    """
    listed = integers(name, _listed_values(values), -_LARGEST, kind="integers")
    for index in listed:
        if not 0 <= index < count:
            raise IndexError(f"expected {name} from 0 to {count - 1}, got {index}")
    return listed


def fraction(name: str, value: object) -> float:
    """Check a probability or a share, from 0 to 1; raises as :func:`number`."""
    return number(name, value, 0.0, 1.0)


def numbers_in(
    name: str, value: object, *, dim: int | None = None, floating: bool = True, finite: bool = True
) -> Tensor:
    """Check a tensor whose values are read, and return it. If they are to be finite, it reads them once more.

    Args:
        name: of the argument.
        value: what came.
        dim: how many dimensions it must have.
        floating: whether integers are refused too.
        finite: whether NaN and infinities are refused.

    Raises:
        TypeError: it is not a dense tensor of such numbers, or it is on the device ``meta``, without values.
        ValueError: it has another number of dimensions, or a value is not finite.
    """
    t = tensor(name, value)
    if t.is_complex() or t.device.type == "meta" or (floating and not t.is_floating_point()):
        kind = "floating-point" if floating else "real"
        raise TypeError(f"expected {name} to be a tensor of {kind} numbers, got {t.dtype} on {t.device}")
    if dim is not None and t.dim() != dim:
        raise ValueError(f"expected {name} with {dim} dimensions, got shape {tuple(t.shape)}")
    if finite and not bool(t.isfinite().all()):
        raise ValueError(f"expected {name} to be finite, got {t[~t.isfinite()][0].item()}")
    return t


def module(name: str, value: object, *, trained: bool = False) -> nn.Module:
    """Check that an argument is a network or a layer with its numbers in memory, and return it.

    Raises:
        TypeError: it is something else, or it has tensors on the device ``meta``.
        ValueError: it is to be trained, and has no parameters.
    """
    if not isinstance(value, nn.Module):
        raise TypeError(f"expected {name} to be a torch.nn.Module, got {shown(value)}")
    if any(t.is_meta for t in (*value.parameters(), *value.buffers())):
        raise TypeError(f"expected {name} with numbers, got tensors on the device meta: load them first")
    if trained and next(value.parameters(), None) is None:
        raise ValueError(f"expected {name} with parameters to train, got none in {shown(value)}")
    return value


def shown(value: object) -> str:
    """What came, in at most 60 characters."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    """Check a choice among names, and return it.

    Raises:
        ValueError: it is not among them.
    """
    names = tuple(allowed)
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"unknown {name} {shown(value)}: expected one of {', '.join(names)}")
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
    # Where there is none, as on meta, asking whether it is on would raise. Nothing is compiled for meta.
    there = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device_type)
    return there and torch.is_autocast_enabled(device_type)


def _listed_values(values: Any) -> Any:
    """An array or a tensor as a list, or None if there are no numbers in its memory."""
    if isinstance(values, Tensor) and (values.layout != torch.strided or values.device.type == "meta"):
        return None
    return values.tolist() if hasattr(values, "tolist") else values


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
