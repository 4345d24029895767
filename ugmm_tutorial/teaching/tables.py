"""Tables that a chapter computes, shown as a table and not as printed text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

from ugmm_tutorial.kernels.arguments import shown
from ugmm_tutorial.kernels.kinds import instance

__all__ = ["Table", "table", "with_interval"]


@dataclass(frozen=True)
class Table:
    """A table with a caption. Notebooks and the book show it from its Markdown, terminals as aligned text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    right: tuple[bool, ...]  # the columns that hold numbers

    def _repr_markdown_(self) -> str:
        rules = ["---:" if right else ":---" for right in self.right]
        lines = (self.head, rules, *self.rows)
        cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
        return f"*{self.caption}*\n\n" + "\n".join(f"| {line} |" for line in cells)

    def __repr__(self) -> str:
        columns = list(zip(self.head, *self.rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        lines = (
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, self.right, strict=True)
            ).rstrip()
            for line in (self.head, *self.rows)
        )
        return "\n".join((self.caption, *lines))


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, numbers: str = ".2f"
) -> Table:
    """A table from data: numbers stand on the right of their columns and have equally many digits.

    Args:
        head: the names of the columns, with units.
        rows: one sequence of cells for each row, in the order in which readers shall see them.
        caption: one sentence on what the table shows.
        numbers: how numbers are written, as in an f-string: ``".1%"`` gives 93.5 %.

    Raises:
        ValueError: a row has another number of cells than the head, or there is no row.

    >>> table(["learner", "right"], [["MLP", 0.5]], caption="Right answers.", numbers=".0%")
    Right answers.
    learner  right
    MLP       50 %
    """
    head = tuple(head)
    kept = [tuple(row) for row in rows]
    for row in kept:
        if len(row) != len(head):
            raise ValueError(f"expected rows of {len(head)} cells as in head, got {len(row)}: {shown(row)}")
    if not kept:
        raise ValueError("expected rows, got none")
    instance("caption", caption, str, "a sentence")
    right = tuple(all(_is_number(row[n]) for row in kept) for n in range(len(head)))
    written = tuple(tuple(_written(cell, numbers) for cell in row) for row in kept)
    return Table(head, written, caption, right)


def with_interval(mean: float, half: float, *, scale: float = 100.0, numbers: str = "+.2f") -> str:
    """A difference and the half-width of its interval as one cell.

    Args:
        mean: the difference.
        half: the half-width. NaN leaves it out.
        scale: what both are multiplied by, 100 from fractions to points.
        numbers: how the difference is written. The half-width has equally many digits and no sign.

    >>> with_interval(-0.0021, 0.0034)
    '−0.21 ± 0.34'
    """
    shown = format(scale * mean, numbers).replace("-", "−")
    return shown if math.isnan(half) else f"{shown} ± {format(scale * half, numbers.removeprefix('+'))}"


def _is_number(cell: object) -> bool:
    return isinstance(cell, Real) or (hasattr(cell, "item") and getattr(cell, "ndim", 1) == 0)


def _written(cell: object, numbers: str) -> str:
    if not _is_number(cell):
        return str(cell)
    value = cell.item() if hasattr(cell, "item") else cell
    if isinstance(value, int) and not numbers.endswith("%"):
        return f"{value:,}"
    # Figures have the minus sign, and a space before the percent sign, as the text has.
    return format(value, numbers).replace("-", "−").replace("%", " %")
