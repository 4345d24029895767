"""Do the inputs of a function interact? Differences over the corners of rectangles tell.

Taught in chapter 14.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ugmm_tutorial.kernels.arguments import integer, of_one_kind
from ugmm_tutorial.kernels.kinds import function as checked_function

__all__ = ["corners", "mixed_difference"]


def corners(x: Tensor, other: Tensor, first: int = 0, second: int = 1) -> Tensor:
    """The four corners of rectangles in the plane of two inputs, with the other inputs as in ``x``.

    Args:
        x: one corner of each rectangle, (B, K).
        other: the opposite corner, (B, K); only its inputs ``first`` and ``second`` count.
        first: index of an input.
        second: index of another one.

    Returns:
        (4, B, K): x itself, x with the first input moved, with the second moved, with both.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes differ, or the indices are not two different inputs.

    >>> corners(Tensor([[0.0, 0.0]]), Tensor([[1.0, 2.0]])).squeeze(1).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 2.0]]
    """
    of_one_kind({"x": x, "other": other})
    if x.shape != other.shape or x.dim() != 2:
        raise ValueError(f"expected x and other (B, K), got {tuple(x.shape)} and {tuple(other.shape)}")
    first, second = (integer(n, k, 0, x.shape[1] - 1) for n, k in (("first", first), ("second", second)))
    if first == second:
        raise ValueError(f"expected two different inputs, got first={first} and second={second}")
    found = x.repeat(4, 1, 1)
    for corner, moved in enumerate(((), (first,), (second,), (first, second))):
        for k in moved:
            found[corner, :, k] = other[:, k]
    return found


def mixed_difference(
    function: Callable[[Tensor], Tensor], x: Tensor, other: Tensor, first: int = 0, second: int = 1
) -> Tensor:
    """f(a, b) - f(a', b) - f(a, b') + f(a', b') over the corners of rectangles.

    It is zero on every rectangle of every pair of inputs if and only if the function is additive, a sum of
    functions of one input each. Divided by the area, it tends to the mixed second derivative.

    Args:
        function: rows (B, K) to values (B, ...).
        x, other, first, second: as for :func:`corners`.

    Returns:
        (B, ...), in the unit of the function.

    Raises:
        ValueError: as for :func:`corners`.

    >>> mixed_difference(lambda x: x.prod(dim=1), Tensor([[0.0, 0.0]]), Tensor([[2.0, 3.0]]))
    tensor([6.])
    """
    neither, one, two, both = map(checked_function("function", function), corners(x, other, first, second))
    return neither - one - two + both
