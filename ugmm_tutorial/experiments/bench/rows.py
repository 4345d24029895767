"""A measurement is a row. A report is a CSV file with the machine and the versions above its rows."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ugmm_tutorial.training import files

__all__ = ["Report", "Row", "load"]


@dataclass(frozen=True)
class Row:
    """One measured number.

    Attributes:
        section: part of the report.
        implementation: what was measured, such as ``"cpu"`` or ``"linear"``.
        batch, inputs, outputs, depth: B, K, J and the number of such layers; 1 for what has no meaning.
        measure: ``"forward"`` or ``"both"`` (forward and backward) in seconds, ``"graph"`` for both, or for a
            step, as one CUDA graph, ``"extra"`` in bytes beyond outputs and gradients, or another measure of
            the section.
        value: the smallest of the repeated measurements, because noise can only make them larger.
        median: their median.
        unit: the unit of value and median.
    """

    section: str
    implementation: str
    batch: int
    inputs: int
    outputs: int
    depth: int
    measure: str
    value: float
    median: float
    unit: str

    @property
    def exponentials(self) -> int:
        """How many exponentials one forward pass takes: one per example, neuron and input."""
        return self.batch * self.inputs * self.outputs * self.depth


@dataclass(frozen=True)
class Report:
    """All rows of one run, and its machine and versions (as in a record of an experiment)."""

    environment: dict
    rows: tuple[Row, ...]

    def select(self, **wanted) -> list[Row]:
        """The rows whose attributes have these values, in the order in which they were measured."""
        return [r for r in self.rows if all(getattr(r, name) == value for name, value in wanted.items())]

    def value(self, **wanted) -> float | None:
        """The value of the only matching row, or None if there is none.

        Raises:
            LookupError: several rows match.
        """
        rows = self.select(**wanted)
        if len(rows) > 1:
            raise LookupError(f"{len(rows)} rows have {wanted}")
        return rows[0].value if rows else None

    def save(self, path: str | Path) -> None:
        """Write a CSV file whose first line, a comment, holds the environment as JSON.

        Raises:
            OSError: the file cannot be written. An older one stays.
        """
        with files.replacing(path) as file:
            file.write(f"# {json.dumps(self.environment)}\n")
            writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
            writer.writeheader()
            for row in self.rows:
                numbers = {name: f"{getattr(row, name):.6g}" for name in ("value", "median")}
                writer.writerow(asdict(row) | numbers)


def load(path: str | Path) -> Report:
    """Read what :meth:`Report.save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not such a report.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    try:
        environment = json.loads(lines[0].removeprefix("# "))
        rows = [_row(cells) for cells in csv.DictReader(lines[1:])]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a report of `python -m ugmm_tutorial bench`: {error}") from error
    return Report(environment, tuple(rows))


def _row(cells: dict[str, str]) -> Row:
    convert = {"int": int, "float": float, "str": str}
    return Row(**{f.name: convert[f.type](cells[f.name]) for f in fields(Row)})
