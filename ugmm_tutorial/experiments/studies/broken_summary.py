"""What the study of broken inputs says: paired differences, mean ranks, and the declared claims.

``found`` is always the results of the study: ``{data set: {learner: [one entry for each split]}}``. ``way``
is how settings were chosen: ``"clean"``, ``"broken"`` or ``"default"``. A learner without a default has the
settings that were best for such rows: those of ``"clean"`` on clean rows, else those of ``"broken"``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ugmm_tutorial.training.records import mean_and_interval

__all__ = ["accuracy", "behind", "critical_difference", "curve", "difference", "mean_ranks", "wins"]

Found = dict[str, dict[str, list[dict]]]


def accuracy(
    found: Found, name: str, learner: str, way: str, fault: str = "clean", place: int = 0
) -> NDArray:
    """Accuracy on the test rows of every split, (splits,).

    Args:
        found: the results.
        name: of the data set.
        learner: its name.
        way: how settings were chosen.
        fault: a fault, or ``"clean"``.
        place: of the fraction among those of the fault.
    """
    values = []
    for entry in found[name][learner]:
        of_way = entry[way if way in entry else "clean" if fault == "clean" else "broken"]
        values.append(of_way["clean"] if fault == "clean" else of_way[fault][place])
    return np.array(values)


def curve(found: Found, names: Sequence[str], learner: str, way: str, fault: str) -> NDArray:
    """Accuracy on whole rows, then for each share of broken values; mean over data sets, (shares + 1,)."""
    shares = range(len(found[names[0]][learner][0]["clean"][fault]))
    places = [("clean", 0), *((fault, place) for place in shares)]
    return np.array(
        [np.mean([accuracy(found, name, learner, way, *place).mean() for name in names]) for place in places]
    )


def difference(
    found: Found, name: str, learner: str, rival: str, way: str, fault: str = "clean", place: int = 0
) -> tuple[float, float]:
    """The learner's accuracy minus the rival's, mean over splits, and the half-width of its 95 % interval."""
    one, other = (accuracy(found, name, who, way, fault, place) for who in (learner, rival))
    return mean_and_interval((one - other).tolist())


def wins(
    found: Found, names: Iterable[str], learner: str, rivals: Iterable[str], way: str, fault: str, place: int
) -> list[str]:
    """The data sets on which the learner is ahead of every rival, with intervals above zero."""
    rivals = list(rivals)

    def ahead(name: str, rival: str) -> bool:
        mean, half = difference(found, name, learner, rival, way, fault, place)
        return mean - half > 0.0

    return [name for name in names if all(ahead(name, rival) for rival in rivals)]


def behind(found: Found, names: Iterable[str], learner: str, rival: str, way: str) -> dict[str, float]:
    """By how much the learner is behind the rival on clean rows, in accuracy, by data set."""
    return {name: -difference(found, name, learner, rival, way)[0] for name in names}


def mean_ranks(
    found: Found, names: Sequence[str], learners: Sequence[str], way: str, faults: Sequence[str]
) -> dict[str, float]:
    """The rank of each learner, 1 for the best: the mean over faults, fractions and data sets.

    Equal learners share their ranks. Each data set counts once.
    """
    from scipy.stats import rankdata

    ranks = np.zeros(len(learners))
    for name in names:
        of_table = []
        for fault in faults:
            places = range(len(found[name][learners[0]][0]["clean"][fault])) if fault != "clean" else [0]
            for place in places:
                means = [accuracy(found, name, who, way, fault, place).mean() for who in learners]
                of_table.append(rankdata([-mean for mean in means]))
        ranks += np.mean(of_table, axis=0) / len(names)
    order = np.argsort(ranks, kind="stable")
    return {learners[k]: float(ranks[k]) for k in order}


def critical_difference(learners: int, tables: int) -> float:
    """The difference of mean ranks from which on two learners differ, by Nemenyi's test at 5 %.

    Source: Demšar (2006), *Statistical Comparisons of Classifiers over Multiple Data Sets*.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(0.95, learners, math.inf)) / math.sqrt(2.0)
    return quantile * math.sqrt(learners * (learners + 1) / (6.0 * tables))
