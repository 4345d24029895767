"""Measure what the layer costs on this machine: ``python -m ugmm_tutorial bench``.

Things that are compared take turns within one run, so that a busy machine slows all of them alike. Only the
ratios carry over to another machine. Taught in chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable

from ugmm_tutorial.experiments.bench import sections
from ugmm_tutorial.experiments.bench.layer_on_gpu import layer
from ugmm_tutorial.experiments.bench.missing_inputs import missing
from ugmm_tutorial.experiments.bench.networks import networks
from ugmm_tutorial.experiments.bench.processes import processes
from ugmm_tutorial.experiments.bench.report import targets, text
from ugmm_tutorial.experiments.bench.rows import Report, load
from ugmm_tutorial.experiments.bench.small_sizes import small
from ugmm_tutorial.experiments.bench.tiles_on_gpu import tiles
from ugmm_tutorial.training.records import environment

__all__ = ["SECTIONS", "Report", "load", "run", "targets", "text"]

#: The sections, in the order of the report.
SECTIONS: dict[str, Callable] = {
    "limit": sections.limit,
    "operator": sections.operator,
    "accuracy": sections.accuracy,
    "step": sections.step,
    "memory": sections.memory,
    "scaling": sections.scaling,
    "layer": layer,
    "networks": networks,
    "small": small,
    "missing": missing,
    "processes": processes,
    "tiles": tiles,
}


def run(
    device: str = "cpu",
    *,
    only: tuple[str, ...] | None = None,
    quick: bool = False,
    progress: Callable[[str], None] = lambda section: None,
) -> Report:
    """Measure and return all rows.

    Args:
        device: ``"cpu"`` or a CUDA device.
        only: names from ``SECTIONS``; by default all of them.
        quick: take seconds instead of minutes: shorter timings, no large cases and no ``torch.compile``.
        progress: called with the name of each section before it starts.

    Raises:
        ValueError: a section is unknown, or a section named in ``only`` would measure nothing.
    """
    if unknown := set(only or ()) - set(SECTIONS):
        raise ValueError(f"unknown section {min(unknown)!r}: expected {', '.join(SECTIONS)}")
    why = sections.left_out(device, quick)
    if why is not None and (named := {"memory", "scaling"} & set(only or ())):
        raise ValueError(f"section {min(named)!r} would measure nothing: {why}")
    only = tuple(SECTIONS) if only is None else only
    rows = []
    for name, measure in SECTIONS.items():
        if name in only:
            progress(name)
            rows += measure(device, quick)
    return Report(environment(device), tuple(rows))
