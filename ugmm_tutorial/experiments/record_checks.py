"""Check that a record is one that a run of an experiment writes: its settings, and that its numbers agree."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

from ugmm_tutorial.experiments.experiment import Experiment
from ugmm_tutorial.training import records
from ugmm_tutorial.training.config import TrainConfig, learning_rates

__all__ = ["check", "description"]


def check(
    record: records.Record, experiment: Experiment, config: TrainConfig, path: Path, what_to_do: str
) -> None:
    """Raise if the record was made with other settings, or contradicts itself.

    The number of epochs may differ, unless the learning rates depend on it.

    Args:
        record: the record to check.
        experiment: the experiment it should belong to.
        config: the training it should come from.
        path: the record's file, for the message.
        what_to_do: the end of the message.

    Raises:
        ValueError: it was made with other settings.
        RecordError: its measurements cannot come from a run with its settings.
    """
    wanted = description(experiment, config)
    found = {
        "config": {k: v for k, v in record.config.items() if k != "epochs" or config.depends_on_length},
        "model": {k: record.model.get(k) for k in wanted["model"]},
        "data": {k: record.data.get(k) for k in wanted["data"]},
        "experiment": record.experiment,
    }
    if found != wanted:
        raise ValueError(
            f"{path} was made with other settings than {experiment.name} has now: expected {wanted}, "
            f"got {found}. {what_to_do}"
        )
    wrong = _contradiction(record, experiment, config)
    if wrong is not None:
        raise records.RecordError(f"{path} {wrong}. {what_to_do}")


def description(experiment: Experiment, config: TrainConfig) -> dict:
    """What a record of this run must say, with the number of epochs only if learning rates depend on it."""
    settings = records.as_json(asdict(config))
    if not config.depends_on_length:
        del settings["epochs"]
    network = experiment.build(config.seed)
    options = experiment.options if experiment.recorded is None else experiment.recorded
    model = {
        "preset": experiment.preset,
        "options": records.as_json(options),
        "network": type(network).__name__,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    source = experiment.source
    return {
        "config": settings,
        "model": model,
        "data": {"name": source.name, "sizes": dict(source.sizes)},
        "experiment": experiment.name,
    }


def _contradiction(record: records.Record, experiment: Experiment, config: TrainConfig) -> str | None:
    """Why the measurements cannot come from a run with the record's settings; None if they can."""
    length = len(record.metrics)
    if (said := record.config.get("epochs")) != length:
        return f"does not fit together: by its config it has {said} epochs, there are {length}"
    for number, rate in enumerate(learning_rates(replace(config, epochs=length)), start=1):
        used = record.metrics[number - 1].get("learning_rate")
        if used is None or not math.isclose(used, rate, rel_tol=1e-5):
            return (
                f"does not fit together: by its config the learning rate of epoch {number} is {rate:g}, it "
                f"says {used}"
            )
    for metric in (experiment.metric, experiment.metric.replace("accuracy", "loss")):
        if metric not in record.final:
            return (
                f"has no {metric}, which {experiment.name} measures: expected it beside "
                f"{', '.join(record.final)}"
            )
    return None
