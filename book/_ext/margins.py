"""The room of a statement: its distance from being false, relative to its spread over other machines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

#: A statement needs a margin of this many spreads.
NEEDED = 3.0


@dataclass(frozen=True)
class Statement:
    """One number of a claim or one comparison of an assertion, over all variations.

    ``low`` and ``high`` are the smallest and the largest value, and ``allowed`` is the allowed interval.
    ``spread`` is the standard deviation within a source of digits, pooled over the sources. ``margin`` is the
    smallest distance between a source's mean and an end of the interval. If ``factor`` is set, both refer to
    natural logarithms.
    """

    chapter: str
    cell: str
    text: str
    number: int
    live: bool
    low: float
    high: float
    allowed: tuple[float | None, float | None]
    spread: float
    margin: float
    factor: bool = False

    @property
    def enough(self) -> bool:
        """Whether it holds under every variation, with enough room."""
        least, most = self.allowed
        # Allow for the last bit of a decimal fraction, as the claim does.
        holds = (least is None or self.low >= least - 1e-9 * abs(least)) and (
            most is None or self.high <= most + 1e-9 * abs(most)
        )
        return holds and self.margin >= NEEDED * self.spread - 1e-9 * abs(self.low)

    @property
    def varies(self) -> bool:
        """Whether its number differed. The mean of equal numbers may differ from them by the last bit."""
        return self.spread > 1e-12 * max(abs(self.low), abs(self.high))

    @property
    def room(self) -> float:
        """Margin divided by spread; infinite if nothing varied."""
        return math.inf if not self.varies else self.margin / self.spread

    def as_record(self) -> dict:
        """The statement for the report, with four digits."""
        record = asdict(self)
        for name in ("low", "high", "spread", "margin"):
            record[name] = _four_digits(record[name])
        record["allowed"] = [None if v is None else _four_digits(v) for v in self.allowed]
        return record


def statements(runs: Iterable[tuple[str, str, Sequence[Mapping]]]) -> list[Statement]:
    """Statements from runs. A run is given by its source of digits, its chapter, and its findings."""
    gathered: dict[tuple, dict] = {}
    for source, chapter, found in runs:
        for entry in found:
            for number, value in _numbers(entry):
                text = f"assert {entry['text']}" if entry["kind"] == "assert" else entry["text"]
                key = (chapter, entry["cell"], text, number)
                kept = gathered.setdefault(key, {"entry": entry, "by": {}})
                kept["by"].setdefault(source, []).append(value)
    return [_statement(*key, kept["entry"], kept["by"]) for key, kept in gathered.items()]


def _numbers(entry: Mapping) -> Iterable[tuple[int, float]]:
    """Number and value of everything in an entry. An entry that a loop repeats has several values.

    A whole assertion counts as 1 if it held and as -1 if it failed.
    """
    if entry["kind"] == "assert":
        return [(0, -1.0 if entry.get("failed") else 1.0)]
    return enumerate(value for values in entry["values"] for value in values)


def _statement(
    chapter: str, cell: str, text: str, number: int, entry: Mapping, by: Mapping[str, list[float]]
) -> Statement:
    allowed = entry.get("allowed", [(0.0, math.inf)])
    low, high = allowed[number % len(allowed)]
    values = [value for group in by.values() for value in group]
    groups, ends, factor = list(by.values()), (low, high), _is_factor(values, low, high)
    if factor:
        groups = [[math.log(value) for value in group] for group in groups]
        ends = tuple(math.log(end) if end > 0 else -math.inf for end in ends)
    means = [fmean(group) for group in groups]
    return Statement(
        chapter=chapter,
        cell=cell,
        text=text,
        number=number,
        live=not entry.get("record"),
        low=min(values),
        high=max(values),
        allowed=(low if math.isfinite(low) else None, high if math.isfinite(high) else None),
        spread=pooled_spread(groups),
        margin=min(min(mean - ends[0], ends[1] - mean) for mean in means),
        factor=factor,
    )


def _is_factor(values: list[float], low: float, high: float) -> bool:
    """Whether a positive number with one bound varies by more than a factor of two.

    An example is "more than 10,000 times" where 3 to 11 million were found.
    """
    bound = low if math.isinf(high) else high
    one_sided = math.isinf(low) != math.isinf(high)
    return one_sided and bound > 0 and min(values) > 0 and max(values) > 2 * min(values)


def pooled_spread(groups: Iterable[Sequence[float]]) -> float:
    """The standard deviation around the means of several groups. Groups of one do not contribute."""
    squares, freedom = 0.0, 0
    for group in groups:
        middle = fmean(group)
        squares += sum((value - middle) ** 2 for value in group)
        freedom += len(group) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def _four_digits(value: float) -> float:
    return float(f"{value:.4g}")
