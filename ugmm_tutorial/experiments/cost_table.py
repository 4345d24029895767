"""A table of networks: their counted costs, their measured times, and their accuracies.

Chapters 6 and 7 explain the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ugmm_tutorial.experiments import artifacts, bench, cost
from ugmm_tutorial.experiments.bench.networks import timed_as
from ugmm_tutorial.experiments.catalogue import group
from ugmm_tutorial.experiments.experiment import Experiment
from ugmm_tutorial.experiments.tables import accuracy
from ugmm_tutorial.experiments.text_table import aligned

__all__ = ["cost_table"]

_COUNTS = ("model", "parameters", "operations", "exponentials")


def cost_table(name: str, results: str | Path | None = None) -> str:
    """What each network of a group of experiments costs, as plain text.

    Operations and exponentials are counted for one image (see :mod:`~ugmm_tutorial.experiments.cost`). Two
    times come from the runs stored in ``benchmarks/networks-*.csv``: a training step on 128 images, and the
    prediction of the classes of 1000 images. Each run has a median; the table shows the smallest and the
    largest of these medians for each machine. On a GPU the step is one CUDA graph. The accuracies are those
    of :func:`~ugmm_tutorial.experiments.table`, which also says where records are found.

    Raises:
        ValueError: there is no such group, or a record was made with other settings than its experiment's.
        RecordError: a record cannot be read, or contradicts itself.
        FileNotFoundError: the stored measurements are neither in the package nor beside it.
    """
    experiments = group(name)
    results = results or artifacts.records_of(e.name for e in experiments)
    machines = _machines(artifacts.folder("benchmarks"))
    measured = [m for machine in machines for m in machine.columns]
    heading = (*_COUNTS, *measured, "accuracy, %")
    rows = [heading, *(_row(experiment, machines, results) for experiment in experiments)]
    part = experiments[0].metric.removesuffix("_accuracy")
    below = "\n".join(
        [*(machine.told for machine in machines), f"'-' was not timed; accuracies: {part} images"]
    )
    return f"{aligned(rows)}\n\n{below}"


@dataclass(frozen=True)
class _Machine:
    """The runs of one machine."""

    name: str
    reports: list[bench.Report]

    @property
    def kind(self) -> str:
        return "GPU" if self.reports[0].select(measure="graph") else "CPU"

    @property
    def step(self) -> str:
        """How a step is measured. On a GPU it is one CUDA graph; otherwise it would wait for Python."""
        return "graph" if self.kind == "GPU" else "step"

    @property
    def told(self) -> str:
        graphs = ", steps as CUDA graphs" if self.kind == "GPU" else ""
        runs = f"{len(self.reports)} runs" if len(self.reports) > 1 else "one run"
        return f"{self.kind}: medians of {runs} on {self.name}{graphs}"

    @property
    def columns(self) -> tuple[str, str]:
        return f"{self.kind} step, ms", f"{self.kind} 1000 images, ms"


def _machines(folder: Path) -> list[_Machine]:
    """The stored runs by machine, CPUs first."""
    found: dict[str, list[bench.Report]] = {}
    for path in sorted(folder.glob("networks-*.csv")):
        report = bench.load(path)
        found.setdefault(report.environment["device"], []).append(report)
    return sorted((_Machine(*pair) for pair in found.items()), key=lambda machine: machine.kind)


def _row(experiment: Experiment, machines: list[_Machine], results: str | Path) -> tuple[str, ...]:
    network = experiment.build(0)
    name = timed_as(network)
    first = next(p for p in network.parameters() if p.dim() > 1)
    counted = cost.count(network, torch.zeros((1, 28, 28) if first.dim() == 4 else first.shape[1:]))
    return (
        experiment.title,
        f"{counted.parameters:,}",
        f"{counted.flops:,}",
        f"{counted.exponentials:,}",
        *(
            _milliseconds(name, measure, machine.reports)
            for machine in machines
            for measure in (machine.step, "inference")
        ),
        accuracy(experiment, results),
    )


def _milliseconds(name: str | None, measure: str, reports: list[bench.Report]) -> str:
    rows = [r for report in reports for r in report.select(implementation=name, measure=measure)]
    if name is None or not rows:
        return "-"
    times = [1e3 * end(row.median for row in rows) for end in (min, max)]
    ends = [f"{time:.1f}" if time >= 1.0 else f"{time:.2f}" for time in times]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
