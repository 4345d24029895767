"""The page of all results of the study of broken inputs, written from its record."""

from __future__ import annotations

from sphinx.application import Sphinx

from chapters import ROOT
from ugmm_tutorial.experiments import studies
from ugmm_tutorial.experiments.studies import broken_summary as summary
from ugmm_tutorial.experiments.studies.broken_verdicts import PLACES, verdicts

MARK = "<!-- results of the study of broken inputs -->"
_RECORD = ROOT / "results" / "studies" / "broken_inputs.json"
_NOT_YET = "The study has not run to its end. Its results will stand here."


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Handle Sphinx's ``source-read``: replace the mark on the page by what was found."""
    if MARK not in source[0]:
        return
    for file in (_RECORD, __file__):
        app.env.note_dependency(str(file))
    text = results(studies.read("broken_inputs", ROOT / "results")) if _RECORD.exists() else _NOT_YET
    source[0] = source[0].replace(MARK, text)


def results(outcome: studies.Outcome) -> str:
    """The verdicts, the mean ranks and the accuracies, as Markdown."""
    found, faults = outcome.results, outcome.settings["faults"]
    made_on = outcome.environment
    parts = [
        f"{made_on['device']}, commit {str(made_on['commit'])[:12]}.",
        *(_judged(found, learner) for learner in ("hybrid", "uGMM")),
        "## Accuracies\n\nPer cent of the test rows, means over splits. Settings are those that were best "
        "on clean validation rows for the first table, and on broken ones for the others.",
        _table("Clean rows", found, "clean", "clean", 0),
        *(
            _table(f"{fault.capitalize()}, {part:.0%} of the entries", found, "broken", fault, place)
            for fault in faults
            for part, place in PLACES.items()
        ),
    ]
    return "\n\n".join(parts)


def _judged(found: summary.Found, learner: str) -> str:
    rows = [
        f"| {verdict.says} | {verdict.found} | {'yes' if verdict.holds else 'no'} |"
        for verdict in verdicts(found, learner)
    ]
    head = ["| Expected | Found | Came true |", "|---|---|---|"]
    return "\n".join([f"### {learner}", "", *head, *rows])


def _table(title: str, found: summary.Found, way: str, fault: str, place: int) -> str:
    """One row for each learner, one column for each data set; the best of a column is bold."""
    names, learners = list(found), list(next(iter(found.values())))
    values = {
        who: [100 * summary.accuracy(found, name, who, way, fault, place).mean() for name in names]
        for who in learners
    }
    best = [max(column) for column in zip(*values.values(), strict=True)]
    rows = [
        f"| {who} | "
        + " | ".join(
            f"**{value:.1f}**" if value == top else f"{value:.1f}"
            for value, top in zip(line, best, strict=True)
        )
        + " |"
        for who, line in values.items()
    ]
    head = [f"| | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    return "\n".join([f"### {title}", "", *head, *rows])
