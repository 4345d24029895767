"""A chapter as data: its cells, prose, claims, figures, exercises. Imports neither Sphinx nor the package."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat

BOOK = Path(__file__).resolve().parents[1]
ROOT = BOOK.parent
#: Instead of a number: appendices stand behind all chapters.
APPENDICES = 99


@dataclass(frozen=True)
class Claim:
    """One call of ``claim``: words of the prose, the expression behind them, and the cell with the call."""

    text: str
    value: str
    cell: str
    paper: str | None = None
    record: str | None = None
    within: float | None = None


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book. Its file is read once."""

    path: Path

    @classmethod
    def all(cls) -> list[Chapter]:
        """Every chapter of the book and every appendix, in reading order."""
        return [cls(path) for path in sorted(BOOK.glob("[0-9A-Z]*.ipynb"))]

    @cached_property
    def notebook(self) -> nbformat.NotebookNode:
        """The file as it is stored."""
        return nbformat.read(self.path, as_version=nbformat.NO_CONVERT)

    @property
    def number(self) -> int:
        """Its place in the book, from the file's name. An appendix stands behind all chapters."""
        return APPENDICES if self.appendix else int(re.match(r"\d+", self.path.stem)[0])

    @property
    def appendix(self) -> bool:
        """Whether it is an appendix, such as ``A_...``: measurements that a chapter only mentions.

        It is shorter, and has no exercises and no quiz.
        """
        return self.path.stem[0].isalpha()

    @property
    def title(self) -> str:
        """The first heading."""
        return re.search(r"^# (.+)$", self.prose, re.MULTILINE)[1]

    @property
    def code(self) -> list[nbformat.NotebookNode]:
        """Its code cells."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def text(self) -> list[nbformat.NotebookNode]:
        """Its Markdown cells."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "markdown"]

    @cached_property
    def prose(self) -> str:
        """All Markdown, with an empty line between cells."""
        return "\n\n".join(cell.source for cell in self.text)

    @cached_property
    def captions(self) -> dict[str, str]:
        """Captions of the figures by cell id."""
        found = {cell.id: figure_of(cell).get("caption", "") for cell in self.code}
        return {name: caption for name, caption in found.items() if caption}

    @cached_property
    def claims(self) -> list[Claim]:
        """Every claim that its code cells check."""
        return [claim for cell in self.code for claim in claims_of(cell.source, cell.id)]

    @cached_property
    def given(self) -> dict[str, str]:
        """Numbers that are quoted or assumed, and their sources, from the metadata of Markdown cells."""
        return {
            words: source for cell in self.text for words, source in cell.metadata.get("given", {}).items()
        }

    def cell(self, name: str) -> nbformat.NotebookNode | None:
        """The cell with this id, or None."""
        return next((cell for cell in self.notebook.cells if cell.id == name), None)


def figure_of(cell: nbformat.NotebookNode) -> dict:
    """The figure's settings in a cell's metadata: name and caption."""
    return cell.metadata.get("mystnb", {}).get("figure", {})


def claims_of(source: str, where: str) -> list[Claim]:
    """All calls of ``claim`` in Python source. Lines with IPython commands are skipped."""
    lines = (line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:  # a block had only an indented magic, so it has no claim
        return []
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [
        Claim(
            text=_constant(call.args[0]),
            value=ast.unparse(call.args[1]),
            cell=where,
            **{k.arg: _constant(k.value) for k in call.keywords if k.arg in ("paper", "record", "within")},
        )
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "claim" and len(call.args) == 2
    ]


def _constant(node: ast.expr) -> str:
    """The value of a literal. For a variable it is its name, which the rules then do not find anywhere."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
