"""What a folded cell has checked, in one line below it: "✓ 6 numbers checked".

Cells that begin with ``# @title`` are folded in the book, in Jupyter and in Colab. :func:`watch` makes a
notebook print a line below each of them that makes a claim or an assertion.
"""

from __future__ import annotations

import ast
import sys
from typing import Any

from ugmm_tutorial.teaching import claims

__all__ = ["MARK", "checked", "watch"]

#: The beginning of the line. The book's build gives it a quieter look.
MARK = "✓"

_FOLDED, _SOLUTION = "# @title ", "# @title Solution "


class _Counter:
    """Counts the numbers of the claims that held since it was last asked."""

    def __init__(self) -> None:
        self.numbers = 0

    def __call__(self, finding: claims.Finding) -> None:
        self.numbers += len(finding.values) if finding.holds else 0

    def after_cell(self, result: Any) -> None:
        """Print the line, if the cell that has just run is folded and ended without an error."""
        source = getattr(result.info, "raw_cell", None) or ""
        numbers, self.numbers = self.numbers, 0
        if result.success and (line := checked(source, numbers)):
            print(line)


def checked(source: str, numbers: int) -> str:
    """The line below a cell, or an empty text if it is not folded or checks nothing.

    Args:
        source: the code of the cell.
        numbers: how many numbers of the text its claims have found right.

    >>> checked("# @title Check: the sum\\nassert 1 + 1 == 2", 0)
    '✓ 1 assertion holds'
    """
    if not source.startswith(_FOLDED) or source.startswith(_SOLUTION):
        return ""
    asserted = _assertions(source)
    parts = [f"{numbers} {'number' if numbers == 1 else 'numbers'} checked"] if numbers else []
    if asserted:
        parts.append("1 assertion holds" if asserted == 1 else f"{asserted} assertions hold")
    return f"{MARK} {', '.join(parts)}" if parts else ""


def watch() -> None:
    """Print the line below every folded cell of this notebook from now on. Elsewhere nothing happens."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or any(isinstance(listener, _Counter) for listener in claims.listeners):
        return
    counter = _Counter()
    claims.listeners.append(counter)
    shell.events.register("post_run_cell", counter.after_cell)


def _assertions(source: str) -> int:
    """Assertions in the source: statements, and calls of PyTorch's or NumPy's functions for them."""
    lines = (line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:  # a block had only an indented magic
        return 0
    return sum(
        isinstance(node, ast.Assert)
        or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr.startswith("assert_")
        )
        for node in ast.walk(tree)
    )
