"""Arrays over memory whose address is known: cheaper than a NumPy view, and the tensor stays resizable.

Whoever passes an address keeps its tensor alive until the call returns.
"""

from __future__ import annotations

from typing import Any

from numba import carray
from numba.core import types
from numba.extending import intrinsic

from ugmm_tutorial.kernels.compiled import inner

__all__ = ["floats", "integers", "short_integers", "words_at"]


def _pointer_to(kind: Any) -> Any:
    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        signature = types.CPointer(kind)(address)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, generate

    return pointer


_float_pointer = _pointer_to(types.float32)
_integer_pointer = _pointer_to(types.int64)
_short_pointer = _pointer_to(types.int16)
_word_pointer = _pointer_to(types.int32)


@inner()
def floats(address, rows, columns):
    """A C-contiguous float32 array (rows, columns) at this address."""
    return carray(_float_pointer(address), (rows, columns))


@inner()
def integers(address, rows, columns):
    """A C-contiguous int64 array (rows, columns) at this address."""
    return carray(_integer_pointer(address), (rows, columns))


@inner()
def short_integers(address, rows, columns):
    """A C-contiguous int16 array (rows, columns) at this address."""
    return carray(_short_pointer(address), (rows, columns))


@inner()
def words_at(address, rows, columns):
    """A C-contiguous int32 array (rows, columns) at this address."""
    return carray(_word_pointer(address), (rows, columns))
