"""Records as a table: the accuracies of a group of experiments, beside those that the paper reports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ugmm_tutorial.experiments import artifacts, replication
from ugmm_tutorial.experiments.catalogue import group
from ugmm_tutorial.experiments.experiment import Experiment
from ugmm_tutorial.experiments.runs import Run
from ugmm_tutorial.experiments.text_table import aligned
from ugmm_tutorial.kernels.kinds import instance, path
from ugmm_tutorial.training import records

__all__ = ["accuracy", "table"]


def table(name: str, results: str | Path | None = None) -> str:
    """The records of a group of experiments as plain text: mean ± 95 % interval over seeds, last epoch.

    For the paper's Table 2 (``"2"``) the accuracies are means over its window of epochs, and each row ends
    with whether our runs exclude the paper's number (see :mod:`~ugmm_tutorial.experiments.replication`). If
    they do not, the row also says whether all of them are lower or higher. Records with fewer epochs than the
    experiment are shown only if none is complete. The column of epochs marks them, and they get no verdict.

    Args:
        name: one of :data:`~ugmm_tutorial.experiments.catalogue.GROUPS`.
        results: folder of the records, by default that of
            :func:`~ugmm_tutorial.experiments.artifacts.records_of`.

    Raises:
        ValueError: there is no such group, or a record was made with other settings than its experiment's.
        RecordError: a record cannot be read, or contradicts itself.
    """
    experiments = group(name)
    results = path("results", results) or artifacts.records_of(e.name for e in experiments)
    rows = [_row(e, _all(e, results)).cells for e in experiments]
    header = ("model", "paper", "ours", "seeds", "epochs", "verdict" if name == "2" else "")
    return aligned([header, *rows], left=(0, 5))


def accuracy(experiment: Experiment, results: str | Path | None = None) -> str:
    """An experiment's accuracy in percent, as :func:`table` shows it.

    The number of epochs is added if the experiment has more.

    Raises:
        ValueError: a record was made with other settings than the experiment's.
        RecordError: a record cannot be read, or contradicts itself.
    """
    instance("experiment", experiment, Experiment)
    results = path("results", results) or artifacts.records_of([experiment.name])
    row = _row(experiment, _all(experiment, results))
    return f"{row.ours} ({row.done} epochs)" if 0 < row.trained < row.epochs else row.ours


def _all(experiment: Experiment, results: str | Path) -> list[records.Record]:
    """All records of the experiment, of any length. Raise if one of them does not belong to it."""
    found = records.read_all(results, experiment.name)
    for record in found:
        Run(experiment, record.config["seed"], len(record.metrics), results).check(record)
    return found


@dataclass(frozen=True)
class _Row:
    """One experiment's row in a table.

    ``trained`` is the number of epochs of the shown runs, ``epochs`` the number they should have.
    """

    title: str
    paper: str
    ours: str
    seeds: int
    trained: int
    epochs: int
    words: str

    @property
    def done(self) -> str:
        return f"{self.trained} of {self.epochs}"

    @property
    def cells(self) -> tuple[str, ...]:
        return self.title, self.paper, self.ours, str(self.seeds), self.done, self.words


def _row(experiment: Experiment, made: list[records.Record]) -> _Row:
    epochs = experiment.config.epochs
    complete = [r for r in made if len(r.metrics) >= epochs]
    paper = experiment.paper_accuracy
    paper_text = "" if paper is None else f"{100 * paper:.10g}"
    if not made:
        return _Row(experiment.title, paper_text, "no record yet", 0, 0, epochs, "")
    shown = complete or made
    judged = paper is not None and complete and epochs >= replication.WINDOW[1]
    values = [replication.over_window(r) if judged else r.final[experiment.metric] for r in shown]
    mean, half = records.mean_and_interval(values)
    ours = f"{100 * mean:.2f}" + ("" if math.isnan(half) else f" ± {100 * half:.2f}")
    trained = min(len(r.metrics) for r in shown)
    words = ""
    if judged:
        verdict = replication.judge(paper, values)
        words = ": ".join(filter(None, (verdict.word, verdict.remark)))
    return _Row(experiment.title, paper_text, ours, len(shown), trained, epochs, words)
