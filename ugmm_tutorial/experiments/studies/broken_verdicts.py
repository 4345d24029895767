"""The four expectations that the study of broken inputs declares, and whether they came true.

``results/studies/broken_inputs.md`` states them. They were fixed before the study was run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ugmm_tutorial import data
from ugmm_tutorial.experiments.studies import broken_summary as summary
from ugmm_tutorial.experiments.studies.broken_learners import LEARNERS
from ugmm_tutorial.experiments.studies.faults import FAULTS

__all__ = ["BOUNDED", "ORDINARY", "PLACES", "Verdict", "strongest", "verdicts"]

_MIXTURES = ("uGMM", "hybrid")
#: Learners that neither know the fault nor are bounded by construction.
ORDINARY = tuple(
    name
    for name, learner in LEARNERS.items()
    if not (name in _MIXTURES or learner.knows_the_fault or learner.bounded)
)
#: Ordinary networks on bounded features.
BOUNDED = tuple(name for name, learner in LEARNERS.items() if learner.bounded)
#: 20 % and 40 %, by their places among the fractions of the study.
PLACES = {0.2: 1, 0.4: 3}
_MOST_BEHIND, _NOWHERE_BEHIND = 0.005, 0.02


@dataclass(frozen=True)
class Verdict:
    """One declared expectation: what it says, what was found, and whether it came true."""

    says: str
    found: str
    holds: bool


def strongest(found: summary.Found, name: str, way: str, fault: str, place: int) -> str:
    """The ordinary learner with the highest mean accuracy on a data set, under a fault."""
    return max(ORDINARY, key=lambda learner: summary.accuracy(found, name, learner, way, fault, place).mean())


def verdicts(
    found: summary.Found,
    learner: str,
    *,
    way: str = "broken",
    clean_way: str = "clean",
    tables: Sequence[str] = tuple(data.TABLES),
    enough: int = 9,
) -> list[Verdict]:
    """The four expectations, judged for one learner.

    Args:
        found: the results of the study.
        learner: ``"hybrid"``, of which they were declared, or ``"uGMM"``.
        way: how settings were chosen, for the first, second and fourth.
        clean_way: the same for the third, which is about clean rows.
        tables: the data sets.
        enough: on how many tables the first and the third have to hold.
    """
    others = [name for name in LEARNERS if name not in _MIXTURES and not LEARNERS[name].knows_the_fault]
    return [
        _ahead(found, learner, way, tables, enough),
        _ranks_first(found, learner, others, way, tables),
        _cost(found, learner, clean_way, tables, enough),
        _level(found, learner, way, tables),
    ]


def _ahead(found: summary.Found, learner: str, way: str, tables: Sequence[str], enough: int) -> Verdict:
    counts = {
        part: len(summary.wins(found, tables, learner, ORDINARY, way, "gross", place))
        for part, place in PLACES.items()
    }
    said = ", ".join(f"at {part:.0%} on {count} of {len(tables)}" for part, count in counts.items())
    return Verdict(
        f"ahead of every ordinary learner under gross faults, on at least {enough} tables",
        said,
        min(counts.values()) >= enough,
    )


def _ranks_first(
    found: summary.Found, learner: str, others: Sequence[str], way: str, tables: Sequence[str]
) -> Verdict:
    ranks = summary.mean_ranks(found, tables, [learner, *others], way, list(FAULTS))
    best, second = list(ranks.items())[:2]
    least = summary.critical_difference(len(ranks), len(tables))
    said = (
        f"{best[0]} with {best[1]:.1f}, then {second[0]} with {second[1]:.1f}; {learner} has "
        f"{ranks[learner]:.1f}, and only ranks {least:.1f} or more apart differ"
    )
    return Verdict("the first mean rank over all faults, fractions and tables", said, best[0] == learner)


def _cost(found: summary.Found, learner: str, way: str, tables: Sequence[str], enough: int) -> Verdict:
    behind = summary.behind(found, tables, learner, "MLP", way)
    near = sum(lag <= _MOST_BEHIND for lag in behind.values())
    worst = max(behind, key=behind.__getitem__)
    return Verdict(
        f"on clean rows half a point behind the MLP at most on {enough} tables, nowhere more than two",
        f"on {near} of {len(tables)}; most on {worst}, {100 * behind[worst]:.1f} points",
        near >= enough and behind[worst] <= _NOWHERE_BEHIND,
    )


def _level(found: summary.Found, learner: str, way: str, tables: Sequence[str]) -> Verdict:
    apart = {}
    for rival in BOUNDED:
        for part, place in PLACES.items():
            ends = [summary.difference(found, name, learner, rival, way, "gross", place) for name in tables]
            ahead = sum(mean - half > 0 for mean, half in ends)
            apart[rival, part] = ahead, sum(mean + half < 0 for mean, half in ends)
    said = "; ".join(
        f"{rival} at {part:.0%}: ahead on {ahead}, behind on {behind}"
        for (rival, part), (ahead, behind) in apart.items()
    )
    most = max(ahead + behind for ahead, behind in apart.values())
    return Verdict(
        "level with MLPs on bounded features: intervals exclude zero on at most half of the tables",
        said,
        2 * most <= len(tables),
    )
