"""Tensors as NumPy arrays that leave the tensors as they are.

``Tensor.numpy()`` makes a tensor's memory one that can never be resized again, which breaks code of the
caller that frees or grows it later. Imports nothing else of the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["array_of", "as_array", "numbers", "whole_numbers"]

_TYPES = {torch.float32: "<f4", torch.float64: "<f8", torch.int64: "<i8", torch.uint8: "|u1"}


class _Memory:
    """A tensor's memory, by the protocol that ``np.asarray`` understands; it keeps the tensor alive."""

    tensor: Tensor
    __array_interface__: dict[str, object]


def array_of(tensor: Tensor) -> np.ndarray:
    """An array with the memory of a contiguous tensor on the CPU; whoever writes to one writes to the other.

    >>> x = torch.zeros(2, 3)
    >>> array_of(x)[0, 0] = 5.0
    >>> x[0, 0].item(), x.untyped_storage().resizable()
    (5.0, True)
    """
    if tensor.numel() == 0:  # NumPy 1 refuses the address 0
        return np.empty(tensor.shape, _TYPES[tensor.dtype])
    memory = _Memory()
    memory.tensor = tensor
    memory.__array_interface__ = {
        "version": 3,
        "typestr": _TYPES[tensor.dtype],
        "shape": tuple(tensor.shape),
        "data": (tensor.data_ptr(), False),
    }
    return np.asarray(memory)


def numbers(name: str, values: object) -> NDArray[np.float64]:
    """A copy of an argument in float64, for functions that compute with NumPy.

    Args:
        name: of the argument.
        values: a tensor on any device, with or without gradients and of any dtype of real numbers, or what
            ``np.array`` understands.

    Raises:
        TypeError: these are no real numbers, or a tensor is sparse.

    >>> numbers("logits", torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
    array([1., 1.])
    """
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_complex() or values.device.type == "meta":
            raise TypeError(_wanted(name, "a dense tensor of real numbers", values))
        return array_of(values.detach().to("cpu", torch.float64).contiguous()).copy()
    found = _array(name, "real numbers", values)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"expected {name} to be real numbers, got {found.dtype}: {values!r:.60}")
    return found.astype(np.float64)


def whole_numbers(name: str, values: object) -> NDArray[np.int64]:
    """A copy of an argument in int64, such as class labels.

    Args:
        name: of the argument.
        values: a tensor on any device, or what ``np.array`` understands.

    Raises:
        TypeError: these are no integers, or too large ones.

    >>> whole_numbers("labels", torch.tensor([1, 2], dtype=torch.uint8))
    array([1, 2])
    """
    if isinstance(values, Tensor):
        whole = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
        if values.layout != torch.strided or not whole or values.device.type == "meta":
            raise TypeError(_wanted(name, "integers", values))
        return array_of(values.detach().to("cpu", torch.int64).contiguous()).copy()
    found = _array(name, "integers", values)
    if found.dtype.kind not in "iu" or (found.size and int(found.max()) >= 2**63):
        raise TypeError(f"expected {name} to be integers below 2**63, got {found.dtype}: {values!r:.60}")
    return found.astype(np.int64)


def as_array(name: str, values: Any) -> Any:
    """A tensor as an array, and everything else as it is: for scikit-learn's checks.

    Raises:
        TypeError: a tensor is sparse, or on the device ``meta``.

    >>> as_array("X", torch.ones(2, requires_grad=True)), as_array("X", [1])
    (array([1., 1.], dtype=float32), [1])
    """
    if not isinstance(values, Tensor):
        return values
    if values.layout != torch.strided or values.device.type == "meta":
        raise TypeError(_wanted(name, "a dense tensor", values))
    values = values.detach().cpu().resolve_conj().resolve_neg()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def _array(name: str, wanted: str, values: Any) -> np.ndarray:
    try:
        return np.array(values)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths, for example
        raise TypeError(f"expected {name} to be {wanted}, got {values!r:.80} ({error})") from None


def _wanted(name: str, wanted: str, got: Tensor) -> str:
    return f"expected {name} to be {wanted}, got {got.dtype}, {got.layout}, on {got.device}"
