"""What the study of reliance compares, and what was expected: differences with intervals over seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ugmm_tutorial.experiments.differences import paired_difference

__all__ = ["COMPARISONS", "Comparison", "compared"]


@dataclass(frozen=True)
class Comparison:
    """Two numbers, or two lists, of every seed's entry.

    Attributes:
        ours: the keys that lead to the first.
        theirs: the keys that lead to the second. A single number is compared with every one of a list.
        ratio: whether logarithms are compared, so that the difference is a log ratio.
        expected: that the interval lies wholly ``"below"`` or ``"above"`` zero, or that it does not lie
            wholly above it, ``"not above"``. None if nothing is expected.
        at: the setting that the list follows, and its value where the expectation is tested.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    ratio: bool = False
    expected: str | None = None
    at: tuple[str, float] | None = None


def _falls(kind: str, ours: str, theirs: str, expected: str | None = None) -> Comparison:
    paths = [(kind, "attribution", name, "fall") for name in (ours, theirs)]
    return Comparison(*paths, expected=expected, at=("pixels", 20))


#: ``results/studies/reliance.md`` declares them.
COMPARISONS: dict[str, Comparison] = {
    "effective inputs: mixtures, MLP": Comparison(
        ("mixtures", "dependence", "effective"), ("mlp", "dependence", "effective"), True, "below"
    ),
    "effective inputs of mixtures: by variance, by responsibility": Comparison(
        ("mixtures", "dependence", "effective"), ("mixtures", "dependence", "responsibility"), True, "below"
    ),
    "inputs with nine tenths of the variance: mixtures, MLP": Comparison(
        ("mixtures", "dependence", "ninety"), ("mlp", "dependence", "ninety"), True
    ),
    **{
        f"deletion in {kind}: by variance, by {order}": Comparison(
            (kind, "deletion", "variance"),
            (kind, "deletion", order),
            expected="above",
            at=("fractions", 0.9),
        )
        for kind, order in (("mixtures", "responsibility"), ("mixtures", "weight"), ("mlp", "weight"))
    },
    "deletion by variance: mixtures, MLP": Comparison(
        ("mixtures", "deletion", "variance"), ("mlp", "deletion", "variance")
    ),
    **{
        f"fall in mixtures: {name}, back-projection": _falls("mixtures", name, "back-projection", "above")
        for name in ("gradient", "integrated gradients")
    },
    "fall in mixtures: back-projection times distance, distance": _falls(
        "mixtures", "back-projection times distance", "distance", "not above"
    ),
    **{
        f"fall in {kind}: {ours}, {theirs}": _falls(kind, ours, theirs, expected)
        for kind in ("mixtures", "mlp")
        for ours, theirs, expected in (
            ("integrated gradients", "distance", "above"),
            ("gradient", "distance", None),
            ("integrated gradients", "gradient", None),
        )
    },
    "fine-tuned: mixtures, MLP": Comparison(
        ("mixtures", "pruned", "after"), ("mlp", "pruned", "after"), expected="not above", at=("keeps", 0.1)
    ),
    "mixtures: fine-tuned, dense": Comparison(("mixtures", "pruned", "after"), ("mixtures", "accuracy")),
    "milliseconds: pruned mixtures, dense MLP": Comparison(
        ("milliseconds", "pruned"), ("milliseconds", "mlp"), True, "above", ("keeps", 0.1)
    ),
}


def compared(seeds: list[dict], settings: dict) -> dict[str, dict]:
    """For every comparison ``mean`` and ``half_width``, and whether what was expected ``holds``.

    Args:
        seeds: an entry for each, at least two.
        settings: of the study.

    Returns:
        Lists for ``mean`` and ``half_width``, one value for each of the numbers compared: of the paired
        difference over seeds and its 95 % interval.
    """
    found = {}
    for name, comparison in COMPARISONS.items():
        means, halves = _differences(comparison, seeds)
        found[name] = {"mean": means, "half_width": halves}
        if comparison.expected:
            place = 0 if comparison.at is None else settings[comparison.at[0]].index(comparison.at[1])
            found[name]["holds"] = _holds(comparison.expected, means[place], halves[place])
    return found


def _differences(comparison: Comparison, seeds: list[dict]) -> tuple[list[float], list[float]]:
    ours, theirs = (
        [_numbers(entry, path, comparison.ratio) for entry in seeds]
        for path in (comparison.ours, comparison.theirs)
    )
    theirs = [row * len(mine) if len(row) == 1 else row for row, mine in zip(theirs, ours, strict=True)]
    columns = zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True)
    pairs = [paired_difference(*column) for column in columns]
    return [mean for mean, _ in pairs], [half for _, half in pairs]


def _numbers(entry: dict, path: tuple[str, ...], ratio: bool) -> list[float]:
    found = entry
    for key in path:
        found = found[key]
    numbers = found if isinstance(found, list) else [found]
    return [math.log(number) for number in numbers] if ratio else numbers


def _holds(expected: str, mean: float, half: float) -> bool:
    """Whether an interval lies where it was expected.

    >>> _holds("above", 0.3, 0.2), _holds("not above", 0.3, 0.2), _holds("below", 0.1, 0.2)
    (True, False, False)
    """
    above, below = mean - half > 0.0, mean + half < 0.0
    return {"above": above, "below": below, "not above": not above}[expected]
