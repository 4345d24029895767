"""Finding something by its name: one error for experiments, searches and studies. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

__all__ = ["look_up"]

Found = TypeVar("Found")


def look_up(name: str, table: Mapping[str, Found], what: str) -> Found:
    """The entry of that name.

    Args:
        name: what was asked for.
        table: what there is.
        what: one of these, for the message.

    Raises:
        ValueError: there is none; the message offers names that are close, or all of them.
    """
    if name in table:
        return table[name]
    close = get_close_matches(name, table, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it is one of {', '.join(table)}"
    raise ValueError(f"no {what} is called {name!r}: {hint}")
