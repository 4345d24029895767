"""What the networks of a table cost, beside how accurate they are: counted, and as it was timed.

Chapters 6 and 7 teach what it counts.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ugmm_tutorial import bench, cost, experiments, stored
from ugmm_tutorial.columns import aligned

__all__ = ["price_list"]

_HEADER = ("model", "parameters", "operations", "exponentials", "step, ms", "1000 images, ms", "accuracy, %")


def price_list(name: str, results: str | Path = "results") -> str:
    """What each network of a group of experiments takes, as plain text.

    Operations and exponentials are those of one image (see :mod:`~ugmm_tutorial.cost`). A step trains on 128
    images; it and the classes of 1000 images were timed in the runs that ``benchmarks/networks-*.csv`` store,
    and what stands here are the medians of these runs, the smallest and the largest. Accuracies are those of
    :func:`~ugmm_tutorial.experiments.table`.

    Raises:
        ValueError: there is no such group, or a record was made with other settings than its experiment's.
        RecordError: a record cannot be read, or does not fit together.
        FileNotFoundError: the package has no stored measurements beside it.
    """
    group = experiments.group(name)
    reports = [bench.load(path) for path in sorted(stored.folder("benchmarks").glob("networks-*.csv"))]
    rows = [_HEADER, *(_row(experiment, reports, results) for experiment in group)]
    part = group[0].metric.removesuffix("_accuracy")
    machines = sorted({report.environment["device"] for report in reports})
    below = (
        f"times: medians of {len(reports)} runs on {', '.join(machines)}; '-' was not timed; "
        f"accuracies: {part} images"
    )
    return f"{aligned(rows)}\n\n{below}"


def _row(
    experiment: experiments.Experiment, reports: list[bench.Report], results: str | Path
) -> tuple[str, ...]:
    network = experiment.build(0)
    first = next(p for p in network.parameters() if p.dim() > 1)
    counted = cost.count(network, torch.zeros((1, 28, 28) if first.dim() == 4 else first.shape[1:]))
    return (
        experiment.title,
        f"{counted.parameters:,}",
        f"{counted.flops:,}",
        f"{counted.exponentials:,}",
        _milliseconds(experiment, "step", reports),
        _milliseconds(experiment, "inference", reports),
        experiments.accuracy(experiment, results),
    )


def _milliseconds(experiment: experiments.Experiment, measure: str, reports: list[bench.Report]) -> str:
    name = experiment.title.removesuffix(", as slow")
    rows = [r for report in reports for r in report.select(implementation=name, measure=measure)]
    if not rows or experiment.data == "digits":  # smaller networks of the same names
        return "-"
    ends = [f"{1e3 * end(row.median for row in rows):.1f}" for end in (min, max)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
