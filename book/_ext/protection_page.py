"""What the study of protection found, as Markdown for the page of all results on broken inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ugmm_tutorial.experiments import studies
from ugmm_tutorial.training.records import mean_and_interval

#: Tables that were looked at before the study was declared. They are left out for a second reading.
SEEN = ("letter", "ring", "vehicle", "satimage", "phoneme")
#: What is compared, in words, and the two networks. The second is expected to differ from the first.
_STEPS = {
    "from a start at 0.5 to 1": ("start at 0.5", "inputs"),
    "from 1 to 2": ("inputs", "start at 2"),
    "from 2 to 4": ("start at 2", "start at 4"),
}
_DROPPED = {"inputs dropped, not components": ("components", "inputs")}

Found = dict[str, dict[str, list[list[float]]]]


def results(outcome: studies.Outcome) -> str:
    """The two verdicts, accuracies, and differences over all tables and over those not seen before."""
    found, parts = outcome.results, outcome.settings["fractions"]
    tables = list(found)
    unseen = [name for name in tables if name not in SEEN]
    last = len(parts)  # the largest part, behind whole rows
    ahead, half = difference(found, tables, *_DROPPED["inputs dropped, not components"], last)
    falls = {step: difference(found, tables, *pair, last) for step, pair in _STEPS.items()}
    stays = {step: difference(found, tables, *pair, 0) for step, pair in _STEPS.items()}
    first = ahead - half > 0
    second = all(m + h < 0 for m, h in falls.values()) and all(m + h >= 0 for m, h in stays.values())
    columns = [("whole rows", 0), *((f"noise in {part:.0%}", k + 1) for k, part in enumerate(parts))]
    accuracies = [
        [kind, *(f"{100 * _mean(found, tables, kind, at):.1f}" for _, at in columns)]
        for kind in outcome.settings["networks"]
    ]
    differences = [
        [
            words,
            *(_points(difference(found, them, *pair, at)) for them in (tables, unseen) for at in (last, 0)),
        ]
        for words, pair in (_DROPPED | _STEPS).items()
    ]
    head = [
        f"{where}, {which}"
        for which in ("all tables", f"the {len(unseen)} not seen before")
        for where in (columns[-1][0], "whole rows")
    ]
    return "\n\n".join(
        [
            f"The first expectation {_verdict(first)}. The second {_verdict(second)}. A change counts where "
            "its interval excludes zero.",
            "Right answers in per cent, mean over tables and splits.",
            _markdown(["", *(words for words, _ in columns)], accuracies),
            "Differences in points, mean over tables, with 95 % intervals over tables.",
            _markdown(["", *head], differences),
        ]
    )


def difference(found: Found, tables: Sequence[str], one: str, other: str, place: int) -> tuple[float, float]:
    """By how much accuracy grows from network ``one`` to ``other``: mean over tables, half its interval."""
    apart = [_right(found, name, other, place) - _right(found, name, one, place) for name in tables]
    return mean_and_interval(apart)


def _mean(found: Found, tables: Sequence[str], kind: str, place: int) -> float:
    return float(np.mean([_right(found, name, kind, place) for name in tables]))


def _right(found: Found, name: str, kind: str, place: int) -> float:
    return float(np.mean([split[place] for split in found[name][kind]]))


def _points(ends: tuple[float, float]) -> str:
    mean, half = ends
    return f"{100 * mean:+.1f} ± {100 * half:.1f}"


def _verdict(holds: bool) -> str:
    return "came true" if holds else "did not come true"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
