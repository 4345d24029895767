"""Find experiments, searches and studies by name, with one error message for all of them.

Imports nothing else of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

__all__ = ["look_up"]

Found = TypeVar("Found")


def look_up(name: str, table: Mapping[str, Found], what: str) -> Found:
    """The entry of that name.

    Args:
        name: the name to look up.
        table: all entries by name.
        what: the word for one entry, for the message.

    Raises:
        ValueError: there is none; the message suggests similar names, or lists all.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    close = get_close_matches(str(name), table, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it is one of {', '.join(table)}"
    raise ValueError(f"no {what} is called {name!r}: {hint}")
