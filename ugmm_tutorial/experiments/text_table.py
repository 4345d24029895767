"""Rows of cells as plain text in straight columns. Imports nothing else of the package."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """One line for each row, two spaces between cells; nothing stands behind the last one.

    Args:
        rows: all with as many cells.
        left: numbers of the columns whose cells begin below each other; those of the others end so.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
