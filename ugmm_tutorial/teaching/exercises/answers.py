"""Functions for all exercises: read a reader's answer, call it safely, and compare it.

A checker returns a sentence worth knowing if the answer is right, and raises :class:`NotYet` with a hint if
it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Exercise",
    "NotYet",
    "Unanswered",
    "as_function",
    "as_number",
    "as_numbers",
    "as_tensor",
    "call",
    "close",
    "compare",
    "draw",
    "power_of_ten",
    "shown",
]


class NotYet(Exception):
    """The answer is not right yet. The message is the hint."""


class Unanswered(NotYet):
    """The answer is still the stub from the notebook."""


class Exercise(NamedTuple):
    """One exercise: the function that checks its answer, and the hint for readers who have not begun."""

    checker: Callable[[object], str]
    first_hint: str


# --- reading ----------------------------------------------------------------------------------------


def shown(answer: object) -> str:
    """A short description of an answer, for hints."""
    if isinstance(answer, Tensor):
        return f"a tensor of shape {tuple(answer.shape)}"
    if isinstance(answer, (str, int, float)):
        text = repr(answer)
        return f"{type(answer).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
    return f"a value of type {type(answer).__name__}"


def as_number(answer: object, wanted: str = "one number") -> float:
    """The answer as a float. It may be an int, a float, or anything else that holds exactly one number."""
    return as_numbers(answer, wanted, count=1)[0]


def as_numbers(answer: object, wanted: str, count: int | None = None) -> list[float]:
    """The answer as a list of floats: a number, a tuple, list or set of numbers, an array or a tensor."""
    if answer is None or answer is ...:
        raise Unanswered
    values = _flat(answer)
    if values is None or (count is not None and len(values) != count):
        many = f" with {len(values)} numbers" if values is not None and count != len(values) else ""
        raise NotYet(f"Expected {wanted}, got {shown(answer)}{many}.")
    if any(not abs(value) < float("inf") for value in values):
        raise NotYet(f"Expected {wanted}, got a value that is not finite.")
    return values


def _flat(answer: object) -> list[float] | None:
    """All numbers in an answer, or None if it contains anything else."""
    if isinstance(answer, (tuple, list, set, frozenset)):
        if any(value is None or value is ... for value in answer):
            raise Unanswered
        parts = [_flat(value) for value in answer]
        return None if None in parts else [value for part in parts for value in part]
    if isinstance(answer, (str, bytes, bool)):
        return None  # conversion to numbers might accept them
    try:
        # torch.tensor also reads NumPy's scalars and arrays.
        values = answer.detach().cpu() if isinstance(answer, Tensor) else torch.tensor(answer)
    except Exception:
        return None
    usable = values.dtype != torch.bool and not values.is_complex()
    return values.double().flatten().tolist() if usable else None


def as_function(answer: object, signature: str) -> Callable:
    """The answer itself, if it can be called."""
    if not callable(answer):
        raise NotYet(f"Expected the function {signature} itself, not called, got {shown(answer)}.")
    return answer


def as_tensor(value: object, shape: tuple[int, ...], axes: str, hints: Mapping[tuple, str]) -> Tensor:
    """What a reader's function returned, in float64, if it is a finite tensor of that shape.

    Args:
        value: the returned value.
        shape: the shape it must have.
        axes: the names of its axes, for the hint.
        hints: the mistake behind some wrong shapes.
    """
    if isinstance(value, tuple) and hasattr(value, "indices"):
        raise NotYet("A maximum along an axis returns values and indices: return the values only.")
    if not isinstance(value, Tensor):
        raise NotYet(f"Expected a tensor of shape {axes} = {shape}, got {shown(value)}.")
    if value.shape != shape:
        why = hints.get(tuple(value.shape), "Print the shape after every line: where does it change?")
        raise NotYet(f"Expected a tensor of shape {axes} = {shape}, got {tuple(value.shape)}. {why}")
    value = value.detach().cpu().double()
    if not value.isfinite().all():
        raise NotYet(
            "Some values are NaN or infinite: look for a division by zero, for the logarithm of something "
            "that is not positive, and for an exponential that under- or overflows."
        )
    return value


# --- calling ----------------------------------------------------------------------------------------

_ADVICE = {
    "leaf Variable": "Parameters may be changed in place only under torch.no_grad().",
    "must match": "Two shapes do not fit: print them. Is an unsqueeze missing?",
    "cannot be multiplied": "Two shapes do not fit: print them. Is a transpose missing?",
    "same dtype": "Tensors that you create must have the dtype of the arguments, as with dtype=x.dtype.",
    "positional argument": "The exercise's text says with which arguments it is called.",
    "is not defined": "Has the cell that defines it been run?",
}


def call(function: Callable, *arguments: object, silent: bool = False) -> object:
    """Call the reader's function on copies of our tensors. An exception becomes a hint.

    ``silent`` functions work in place and may return nothing. For all others, this means unanswered.
    """
    copies = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    try:
        result = function(*copies)
    except NotImplementedError:
        raise Unanswered from None
    except (Exception, SystemExit, GeneratorExit) as error:
        text = " ".join(str(error).split())[:160].rstrip(".")
        advice = next((a for part, a in _ADVICE.items() if part in text), "Try it alone, on a few numbers.")
        raise NotYet(f"Your code raised {type(error).__name__}: {text}. {advice}") from None
    if (result is None or result is ...) and not silent:
        raise Unanswered
    return result


# --- comparing --------------------------------------------------------------------------------------


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal random numbers from their own generator. The reader's random state does not change."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype, device="cpu")


def close(value: Tensor | float, other: Tensor | float, rtol: float = 1e-4, atol: float = 1e-4) -> bool:
    """Whether two numbers, or two tensors of the same shape, agree."""
    value, other = (torch.as_tensor(v, dtype=torch.float64) for v in (value, other))
    return value.shape == other.shape and torch.allclose(value, other, rtol=rtol, atol=atol)


def compare(
    value: Tensor | float,
    right: Tensor | float,
    mistakes: Mapping[str, Tensor | float],
    otherwise: str,
    **tolerance: float,
) -> None:
    """Raise the hint of the first mistake that gives this value, or ``otherwise``. A right value passes."""
    if close(value, right, **tolerance):
        return
    for hint, wrong in mistakes.items():
        if close(value, wrong, **tolerance):
            raise NotYet(hint)
    raise NotYet(otherwise)


def power_of_ten(value: float, right: float, rtol: float) -> bool:
    """Whether a value has the right digits but the wrong power of ten."""
    shifts = (n for n in range(-15, 16) if n)
    return any(close(value, right * 10.0**n, rtol=rtol, atol=0.0) for n in shifts)
