"""Numbers in the text, tied to the code that computes them.

``claim("59 times", ratio)`` in a chapter's cell fails unless ``ratio`` rounds to 59. The words come from the
prose. The book's lint finds measured numbers that no claim covers, and claims that no sentence makes.

A reader's machine may round differently from ours. In a notebook a failing claim therefore prints a note, and
the chapter goes on. Elsewhere, and with ``UGMM_CLAIMS=strict``, it raises. ``traces``
prints what a folded cell has checked.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import SupportsFloat

from ugmm_tutorial.kernels.arguments import number, shown
from ugmm_tutorial.kernels.kinds import instance

__all__ = [
    "ClaimError",
    "Finding",
    "claim",
    "is_strict",
    "plain_text",
    "show_note",
    "stated_bounds",
    "stated_numbers",
]

#: The beginning of the line that a failed claim prints.
NOTE = "Not so on this machine:"

#: The possible verdicts on the paper. A claim about which the paper says nothing has None.
VERDICTS = ("reproduces", "differs", "beyond")

_SMALL = "zero one two three four five six seven eight nine ten eleven twelve"
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100}
_WORDS = {word: number for number, word in enumerate(_SMALL.split())} | _TENS

#: The size of each unit, in the units of values: fractions, seconds, bytes, plain numbers.
_UNITS = {
    "%": 0.01,
    "points": 0.01,
    "point": 0.01,
    "ms": 1e-3,
    "milliseconds": 1e-3,
    "minutes": 60.0,
    "hours": 3600.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "million": 1e6,
    "billion": 1e9,
}

NUMBER = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d+(?:\.\d+)?|\b(?:{'|'.join(_WORDS)})\b)"
_POWER = r"(?:\s*(?:\\cdot|·)\s*10\^\{?(?P<power>-?\d+)\}?)?"
_SIGN = r"(?P<sign>(?<![\w)])[-−])?"
_QUANTITY = re.compile(rf"{_SIGN}(?P<number>{NUMBER}){_POWER}", re.IGNORECASE)
# A bound comes right before its number ("less than a factor of ten") or right after it ("1.3 % at most").
_BETWEEN = r"(?:\s+[^\W\d]+){0,3}\s*[-−]?"
_AT_MOST = re.compile(rf"\b(?:less than|fewer than|below|under|at most|up to){_BETWEEN}$", re.IGNORECASE)
_AT_LEAST = re.compile(rf"\b(?:more than|above|over|at least){_BETWEEN}$", re.IGNORECASE)
_BEHIND = r"^\s*(?:%|[^\W\d]+)?\s*(?:at (?:the )?{})\b"
_MOST_BEHIND, _LEAST_BEHIND = (re.compile(_BEHIND.format(word)) for word in ("most", "least"))


class ClaimError(AssertionError):
    """A sentence disagrees with its code. The message gives both numbers."""


@dataclass(frozen=True)
class Finding:
    """The result of one claim: every number in the unit of the text, and its allowed interval."""

    text: str
    values: tuple[float, ...]
    allowed: tuple[tuple[float, float], ...]
    record: str | None = None

    @property
    def holds(self) -> bool:
        """Whether every number lies in its interval."""
        # Allow for the last bit of a decimal fraction.
        return all(
            math.isfinite(value) and low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high)
            for value, (low, high) in zip(self.values, self.allowed, strict=True)
        )


#: Functions that get every finding, before a failing claim raises or prints a note. The book's build has one.
listeners: list[Callable[[Finding], None]] = []


def claim(
    text: str,
    value: SupportsFloat | Iterable[SupportsFloat],
    *,
    within: float | None = None,
    paper: str | None = None,
    record: str | None = None,
) -> None:
    """Assert that ``value`` agrees with the words of the text.

    A number with a unit ("4.5 ms", "94 %", "12.8 million", "59 times") must equal the value, rounded to the
    digits given. Values are fractions for percentages, seconds for times, and bytes for sizes. "Less than
    100 MiB", "more than 80 bytes" and "1.3 % at most" are bounds, each for its own number. "31 to 59 times"
    takes several values and states the smallest and the largest. Other words with several numbers, such as
    "from 94 % to 81 %", take the same number of values in the same order.

    Args:
        text: words of the chapter's prose, copied exactly.
        value: the value that the code finds, or several values for several numbers.
        within: the allowed distance in the unit of the text, instead of half of the last digit. It is for
            results that differ between machines.
        paper: "reproduces", "differs" or "beyond": how the claim relates to the paper, for the claims page.
        record: the file or folder of the repository with the value, if the chapter does not compute it.

    Raises:
        ClaimError: the value disagrees, and claims are strict (see :func:`is_strict`).
        TypeError: an argument is of another kind.
        ValueError: the text states no number, the numbers and the values differ in count, or ``paper`` is
            another word.

    >>> claim("59 times", 58.8)
    >>> claim("less than 100 MiB", 90 * 2**20)
    """
    instance("text", text, str, "a text")
    within = None if within is None else number("within", within, 0.0)
    if paper is not None and not (isinstance(paper, str) and paper in VERDICTS):
        raise ValueError(f"expected paper to be one of {', '.join(VERDICTS)} or None, got {paper!r}")
    finding = _finding(text, value, within, record)
    for listener in listeners:
        listener(finding)
    if not finding.holds:
        found = " and ".join(f"{v:.6g}" for v in finding.values)
        if is_strict():
            raise ClaimError(f"the text says {text!r}, the code finds {found}")
        show_note(f"the page says “{plain_text(text)}”, here it is {found}.")


def is_strict() -> bool:
    """Whether a failing claim raises instead of printing a note.

    The variable ``UGMM_CLAIMS`` decides; it is ``strict`` or ``note``. Without it, claims are strict, except
    in a notebook. There a different number on the reader's machine does not stop the chapter.

    Raises:
        ValueError: the variable has another value.
    """
    mode = os.environ.get("UGMM_CLAIMS") or ("note" if _in_notebook() else "strict")
    if mode not in ("strict", "note"):
        raise ValueError(f"expected UGMM_CLAIMS to be 'strict' or 'note', got {mode!r}: correct or unset it")
    return mode == "strict"


def show_note(sentence: str) -> None:
    """Print :data:`NOTE` and a sentence. The book's build turns this line into a note."""
    print(f"{NOTE} {sentence}")


def _in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def _finding(
    text: str, value: SupportsFloat | Iterable[SupportsFloat], within: float | None, record: str | None
) -> Finding:
    """Compare the numbers of the text with those of the code, in the units of the text."""
    stated = stated_numbers(text)
    several = isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0
    try:
        found = [float(v) for v in value] if several else [float(value)]  # type: ignore[union-attr, arg-type]
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"expected value to be a number, or several, got {shown(value)}") from None
    if several and " to " in text and not text.lower().startswith("from "):
        found = [min(found), max(found)]
    if len(stated) != len(found):
        raise ValueError(f"{text!r} states {len(stated)} numbers, expected {len(found)} as in value")
    allowed = [
        _interval(bound, number, half_digit if within is None else within)
        for (number, _, half_digit), bound in zip(stated, stated_bounds(text), strict=True)
    ]
    values = [got / unit for got, (_, unit, _) in zip(found, stated, strict=True)]
    return Finding(text, tuple(values), tuple(allowed), record)


def stated_numbers(text: str) -> list[tuple[float, float, float]]:
    """The numbers in some words of the text, each with the size of its unit and half of its last digit.

    Raises:
        ValueError: there is no number.
    """
    plain = plain_text(text)
    matches = list(_QUANTITY.finditer(plain))
    if not matches:
        raise ValueError(f"expected words with a number such as '59 times', got {text!r}")
    numbers = []
    ends = [match.start() for match in matches[1:]] + [len(plain)]
    unit = 1.0
    for match, end in reversed(list(zip(matches, ends, strict=True))):
        following = plain[match.end() : end]
        if following.strip() not in ("to", "and"):  # in "31 to 59 ms" both have the second one's unit
            unit = _unit(following)
        digits, power = match["number"], 10.0 ** int(match["power"] or 0)
        places = len(digits.partition(".")[2])
        number = _WORDS[digits.lower()] if digits.lower() in _WORDS else float(digits.replace(",", ""))
        sign = -1.0 if match["sign"] else 1.0
        numbers.append((sign * number * power, unit, 0.5 * 10.0**-places * power))
    return numbers[::-1]


def plain_text(text: str) -> str:
    """Prose with single spaces and without the TeX around its numbers: ``$98\\,\\%$`` becomes ``98 %``."""
    text = re.sub(r"\\[,;: ]", " ", text.replace("{,}", ",").replace("\\%", "%"))
    return re.sub(r"\s+", " ", re.sub(r"[$*]", "", text)).strip()


def _unit(following: str) -> float:
    words = re.findall(r"%|[A-Za-z]+", following)
    return math.prod(_UNITS.get(word, 1.0) for word in words)


def stated_bounds(text: str) -> list[str | None]:
    """For every number in the words: ``most`` for an upper bound, ``least`` for a lower bound, else None."""
    plain = plain_text(text)
    found: list[str | None] = []
    start = 0
    for match in _QUANTITY.finditer(plain):
        before, behind = plain[start : match.start()], plain[match.end() :]
        if _AT_MOST.search(before) or _MOST_BEHIND.search(behind):
            found.append("most")
        elif _AT_LEAST.search(before) or _LEAST_BEHIND.search(behind):
            found.append("least")
        else:
            found.append(None)
        start = match.end()
    return found


def _interval(bound: str | None, number: float, tolerance: float) -> tuple[float, float]:
    """The interval that a stated number allows for its value."""
    if bound == "most":
        return -math.inf, number
    if bound == "least":
        return number, math.inf
    return number - tolerance, number + tolerance
