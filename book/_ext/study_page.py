"""The page of all results on broken inputs, written from the records of its studies."""

from __future__ import annotations

from sphinx.application import Sphinx

import protection_page
from chapters import ROOT
from ugmm_tutorial import data
from ugmm_tutorial.experiments import studies
from ugmm_tutorial.experiments.studies import broken_summary as summary
from ugmm_tutorial.experiments.studies.broken_learners import LEARNERS
from ugmm_tutorial.experiments.studies.broken_verdicts import PLACES, strongest, verdicts
from ugmm_tutorial.experiments.studies.faults import FAULTS

MARK = "<!-- results of the study {} -->"
_FOLDER = ROOT / "results"
_NOT_YET = "The study has not run to its end. Its results will stand here."


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Handle Sphinx's ``source-read``: replace each study's mark on the page by what was found."""
    for study, written in {"broken_inputs": results, "protection": protection_page.results}.items():
        mark = MARK.format(study)
        if mark not in source[0]:
            continue
        record = _FOLDER / "studies" / f"{study}.json"
        for file in (record, __file__):
            app.env.note_dependency(str(file))
        text = written(studies.read(study, _FOLDER)) if record.exists() else _NOT_YET
        source[0] = source[0].replace(mark, text)


def results(outcome: studies.Outcome) -> str:
    """The verdicts, the leads, the mean ranks and the accuracies, as Markdown."""
    found, faults = outcome.results, outcome.settings["faults"]
    tables = [name for name in found if name in data.TABLES]
    made_on = outcome.environment
    parts = [
        f"{made_on['device']}, commit {str(made_on['commit'])[:12]}.",
        *(_judged(found, learner) for learner in ("hybrid", "uGMM")),
        _leads(found, tables),
        _ranks(found, tables),
        "## Accuracies\n\nPer cent of the test rows, means over splits. Settings are those that were best "
        "on clean validation rows for the first table, and on broken ones for the others.",
        _accuracies("Clean rows", found, {name: (name, "clean", "clean", 0) for name in found}),
        *(
            _accuracies(
                f"{fault.capitalize()}, {part:.0%} of the entries",
                found,
                {name: (name, "broken", fault, place) for name in found},
            )
            for fault in faults
            for part, place in PLACES.items()
        ),
        *(
            _accuracies(
                f"Blocks of {part:.0%} of the pixels, {name}",
                found,
                {fault: (name, "broken", f"{fault}, block", place) for fault in faults},
            )
            for name in found
            if name not in tables
            for place, part in enumerate(outcome.settings["block_fractions"])
        ),
    ]
    return "\n\n".join(parts)


def _judged(found: summary.Found, learner: str) -> str:
    """The four expectations, with settings chosen as declared, in the other way, and fixed beforehand."""
    ways = {
        "Settings as declared.": ("broken", "clean"),
        "The other choice of settings. Clean rows choose them for the first, second and fourth, broken rows "
        "for the third.": ("clean", "broken"),
        "One setting for all tables, fixed beforehand. Rivals without one keep their searched settings.": (
            "default",
            "default",
        ),
    }
    parts = [f"### {learner}"]
    for words, (way, clean_way) in ways.items():
        rows = [
            [verdict.says, verdict.found, "yes" if verdict.holds else "no"]
            for verdict in verdicts(found, learner, way=way, clean_way=clean_way)
        ]
        parts += [words, _markdown(["Expected", "Found", "Came true"], rows)]
    return "\n\n".join(parts)


def _leads(found: summary.Found, tables: list[str]) -> str:
    """By how many points the hybrid is ahead, table by table."""
    rows = []
    for name in tables:
        row = [name]
        for place in PLACES.values():
            rival = strongest(found, name, "broken", "gross", place)
            row += [rival, _points(found, name, rival, "broken", "gross", place)]
        row += [
            _points(found, name, "MLP on Gaussians", "broken", "gross", PLACES[0.4]),
            _points(found, name, "MLP", "clean", "clean", 0),
        ]
        rows.append(row)
    head = [
        "",
        *(words for part in PLACES for words in ("strongest ordinary learner", f"lead at {part:.0%}")),
    ]
    head += ["over the MLP on Gaussians at 40%", "over the MLP on clean rows"]
    words = (
        "### Leads of the hybrid\n\nIn points, with 95 % intervals of paired differences. Under gross faults "
        "the rival is the ordinary learner that is strongest on that table."
    )
    return f"{words}\n\n{_markdown(head, rows)}"


def _points(found: summary.Found, name: str, rival: str, way: str, fault: str, place: int) -> str:
    mean, half = summary.difference(found, name, "hybrid", rival, way, fault, place)
    return f"{100 * mean:+.1f} ± {100 * half:.1f}"


def _ranks(found: summary.Found, tables: list[str]) -> str:
    """Mean ranks of all learners that do not know the fault, for both choices of settings."""
    learners = [name for name, learner in LEARNERS.items() if not learner.knows_the_fault]
    ranks = {
        way: summary.mean_ranks(found, tables, learners, way, list(FAULTS)) for way in ("broken", "clean")
    }
    least = summary.critical_difference(len(learners), len(tables))
    words = (
        f"### Mean ranks\n\nOver all faults, fractions and tables, 1 for the best. Two learners differ where "
        f"their ranks are {least:.1f} apart (Nemenyi's test at 5 %)."
    )
    rows = [[who, f"{rank:.1f}", f"{ranks['clean'][who]:.1f}"] for who, rank in ranks["broken"].items()]
    return f"{words}\n\n{_markdown(['', 'settings best on broken rows', 'on clean rows'], rows)}"


def _accuracies(title: str, found: summary.Found, columns: dict[str, tuple[str, str, str, int]]) -> str:
    """One row for each learner; the best of a column is bold. A column has a data set, a way and a fault."""
    learners = list(next(iter(found.values())))
    values = {
        who: [100 * summary.accuracy(found, name, who, *how).mean() for name, *how in columns.values()]
        for who in learners
    }
    best = [max(column) for column in zip(*values.values(), strict=True)]
    rows = [
        [who, *(f"**{v:.1f}**" if v == top else f"{v:.1f}" for v, top in zip(line, best, strict=True))]
        for who, line in values.items()
    ]
    return f"### {title}\n\n{_markdown(['', *columns], rows)}"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)] if not head[0] else ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
