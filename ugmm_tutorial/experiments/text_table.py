"""A table as plain text with aligned columns. Imports nothing else of the package."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """One line for each row, with two spaces between cells and none at the end.

    Args:
        rows: the cells of each row; all rows have the same length.
        left: indices of the left-aligned columns; all others are right-aligned.
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
