"""A target beside what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "Target",
    "at_least",
    "at_most",
    "error",
    "exactly",
    "milliseconds",
    "minutes",
    "percent",
    "seconds",
    "times",
]

Show = Callable[[float], str]


@dataclass(frozen=True)
class Target:
    """A target and what was measured. ``reached`` is None if it was not measured."""

    what: str
    wanted: str
    measured: str
    reached: bool | None


def at_least(what: str, bound: float, show: Show, over: float | None, under: float | None) -> Target:
    """The verdict on a ratio that shall not be smaller than ``bound``; not measured if a part is None."""
    if over is None or under is None:
        return Target(what, f"≥ {show(bound)}", "—", None)
    return Target(what, f"≥ {show(bound)}", show(over / under), over / under >= bound)


def at_most(what: str, bound: float, show: Show, over: float | None, under: float | None) -> Target:
    """The verdict on a ratio that shall not be larger than ``bound``; not measured if a part is None."""
    if over is None or under is None:
        return Target(what, f"≤ {show(bound)}", "—", None)
    return Target(what, f"≤ {show(bound)}", show(over / under), over / under <= bound)


def percent(value: float) -> str:
    """A share as text."""
    return f"{100 * value:.0f} %"


def times(value: float) -> str:
    """A factor as text."""
    return f"{value:.1f}x" if value < 20 else f"{value:.0f}x"


def exactly(value: float) -> str:
    """A factor near one as text."""
    return f"{value:.2f}x"


def minutes(value: float) -> str:
    """Minutes as text."""
    return f"{value:.1f} min"


def milliseconds(value: float) -> str:
    """Milliseconds as text."""
    return f"{value:.2f} ms"


def error(value: float) -> str:
    """A relative error as text."""
    return f"{value:.0e}"


def seconds(value: float) -> str:
    """Seconds as text."""
    return f"{value:.1f} s"
