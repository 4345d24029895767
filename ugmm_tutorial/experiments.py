"""run() trains an experiment of the catalogue and writes its record; table() shows records as a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from ugmm_tutorial import checkpoints, data, records, verdicts
from ugmm_tutorial.catalogue import EXPERIMENTS, GROUPS, Experiment, find, group
from ugmm_tutorial.columns import aligned
from ugmm_tutorial.train_config import TrainConfig, learning_rates
from ugmm_tutorial.training import train

__all__ = [
    "EXPERIMENTS",
    "GROUPS",
    "Experiment",
    "accuracy",
    "find",
    "group",
    "load_data",
    "load_model",
    "run",
    "stored",
    "table",
]

# The paper's rows train on all 60,000 images: it names no validation set for the final runs.
_LOADERS: dict[str, Callable[[str | Path | None], data.Splits]] = {
    "mnist": lambda folder: data.mnist(folder, validation=0),
    "mnist-split": lambda folder: data.mnist(folder),
    "digits": lambda folder: data.digits(),
}
_SIZES: dict[str, dict[str, int]] = {
    "mnist": {"train": 60_000, "validation": 0, "test": 10_000},
    "mnist-split": {"train": 55_000, "validation": 5_000, "test": 10_000},
    "digits": {"train": 1257, "validation": 180, "test": 360},
}


def load_data(experiment: Experiment, data_dir: str | Path | None = None) -> data.Splits:
    """The experiment's data, in the shape its network takes."""
    splits = _LOADERS[experiment.data](data_dir)
    return splits if experiment.preset.startswith("CNN") else splits.flatten()


def run(
    experiment: Experiment,
    *,
    seed: int = 0,
    epochs: int | None = None,
    device: str = "cpu",
    data_dir: str | Path | None = None,
    results: str | Path = "results",
    progress: bool = True,
    cuda_graph: bool = False,
) -> records.Record:
    """Train an experiment and write ``results/<experiment>/seed<N>.json``; go on if it was cut off.

    The checkpoint lies beside the record. A record of as many epochs is returned as it is; one of fewer
    is continued from its checkpoint, unless its schedule depends on the number of epochs; its notes are kept.

    Args:
        experiment: which one (see :func:`find`).
        seed: fixes the initial parameters, the order of the examples and the dropout masks; below 2**32.
        epochs: how many, instead of the experiment's own number.
        device: where to train.
        data_dir: where MNIST lies (see :func:`~ugmm_tutorial.data.mnist`).
        results: folder of the records.
        progress: show a bar.
        cuda_graph: see :func:`~ugmm_tutorial.training.train`.

    Raises:
        ValueError: a setting is out of its range, or a stored record does not fit (see :func:`stored`).
        RecordError: the stored record cannot be read. It stays as it is.
        OSError: a file cannot be written.
        TrainingError, CheckpointError, DataError: see :func:`~ugmm_tutorial.training.train` and
            :mod:`ugmm_tutorial.data`.
    """
    done = stored(experiment, seed=seed, epochs=epochs, results=results)
    if done is not None:
        return done
    config = _config(experiment, seed, epochs)
    path = _path(results, experiment, seed)
    splits = load_data(experiment, data_dir)
    record = train(
        experiment.build(seed),
        splits,
        config,
        device=device,
        checkpoint=_checkpoint(path),
        resume=True,
        progress=progress,
        cuda_graph=cuda_graph,
    )
    earlier = _found(experiment, config, path)  # by now another process may have written one, even a longer
    if earlier is not None and len(earlier.metrics) == config.epochs:
        return earlier
    model = record.model | _description(experiment, config)["model"]
    notes = () if earlier is None else earlier.notes
    record = replace(record, experiment=experiment.name, model=model, notes=notes)
    records.write(record, path)
    return record


def stored(
    experiment: Experiment, *, seed: int = 0, epochs: int | None = None, results: str | Path = "results"
) -> records.Record | None:
    """The record of just this run, or None if it has still to be trained, wholly or in part.

    Raises:
        ValueError: a record is there that this run would destroy: of more epochs, of other settings, or
            of fewer epochs without the checkpoint to continue it from.
        RecordError: the record cannot be read, or does not fit together.
    """
    config = _config(experiment, seed, epochs)
    path = _path(results, experiment, seed)
    record = _found(experiment, config, path)
    if record is None or len(record.metrics) == config.epochs:
        return record
    if not _checkpoint(path).exists():
        raise ValueError(
            f"{path} has {len(record.metrics)} of {config.epochs} epochs, but {_checkpoint(path).name} is "
            "not there to go on from. Move the record away, or write elsewhere, to train anew"
        )
    return None


def load_model(experiment: Experiment, *, seed: int = 0, results: str | Path = "results") -> nn.Module:
    """The network of a run, as its last checkpoint has it: on the CPU, in evaluation mode.

    Checkpoints lie beside the records that :func:`run` writes; they are not committed.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: it cannot be read, or holds another network.
    """
    path = _checkpoint(_path(results, experiment, seed))
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: python -m ugmm_tutorial train {experiment.name} --seed {seed} makes it"
        )
    state = checkpoints.load(path)
    model = experiment.build(seed)
    try:
        model.load_state_dict(state["model"])
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise checkpoints.CheckpointError(
            f"{path} does not hold the network of {experiment.name} ({error}). Nothing was changed; move it "
            "away to train anew"
        ) from error
    return model.eval()


def table(name: str, results: str | Path = "results") -> str:
    """The records of a group of experiments as plain text: mean ± 95 % interval over seeds, last epoch.

    For the paper's Table 2 (``"2"``) the accuracies are means over its window of epochs, and each row ends in
    a verdict (see :mod:`~ugmm_tutorial.verdicts`), with what all runs agree on where that is undecided.
    Records of fewer epochs than the experiment's are marked and not judged.

    Raises:
        ValueError: there is no such group, or a record was made with other settings than its experiment's.
        RecordError: a record cannot be read, or does not fit together.
    """
    rows = [_row(e, _all(e, results)).cells for e in group(name)]
    header = ("model", "paper", "ours", "seeds", "epochs", "verdict" if name == "2" else "")
    return aligned([header, *rows], left=(0, 5))


def accuracy(experiment: Experiment, results: str | Path = "results") -> str:
    """What :func:`table` shows as an experiment's accuracy, in percent, and how many epochs if not all.

    Raises:
        ValueError: a record was made with other settings than the experiment's.
        RecordError: a record cannot be read, or does not fit together.
    """
    row = _row(experiment, _all(experiment, results))
    return f"{row.ours} ({row.done} epochs)" if 0 < row.trained < row.epochs else row.ours


def _all(experiment: Experiment, results: str | Path) -> list[records.Record]:
    """The experiment's records, of whatever length; raise if one of them is another's."""
    found = records.read_all(results, experiment.name)
    for record in found:
        seed = record.config["seed"]
        config = _config(experiment, seed, len(record.metrics))
        _check_settings(record, experiment, config, _path(results, experiment, seed))
    return found


@dataclass(frozen=True)
class _Row:
    """What a table says of an experiment: how long the shown runs are, and how long they should be."""

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
    judged = paper is not None and complete and epochs >= verdicts.WINDOW[1]
    values = [verdicts.over_window(r) if judged else r.final[experiment.metric] for r in shown]
    mean, half = records.mean_and_interval(values)
    ours = f"{100 * mean:.2f}" + ("" if math.isnan(half) else f" ± {100 * half:.2f}")
    trained = min(len(r.metrics) for r in shown)
    words = ""
    if judged:
        verdict = verdicts.judge(paper, values)
        words = ": ".join(filter(None, (verdict.word, verdict.remark)))
    return _Row(experiment.title, paper_text, ours, len(shown), trained, epochs, words)


def _config(experiment: Experiment, seed: int, epochs: int | None) -> TrainConfig:
    return replace(
        experiment.config, seed=seed, epochs=experiment.config.epochs if epochs is None else epochs
    )


def _path(results: str | Path, experiment: Experiment, seed: int) -> Path:
    return Path(results, experiment.name, f"seed{seed}.json")


def _checkpoint(path: Path) -> Path:
    return path.with_suffix(".checkpoint.pt")


def _found(experiment: Experiment, config: TrainConfig, path: Path) -> records.Record | None:
    """The record at ``path``, if there is one; raise if it is of other settings or of more epochs."""
    if not path.exists():
        return None
    record = records.read(path)
    _check_settings(record, experiment, config, path)
    if len(record.metrics) > config.epochs:
        raise ValueError(
            f"{path} has {len(record.metrics)} epochs already, more than the {config.epochs} asked for. "
            f"Move {_files(path)} away, or write elsewhere, to train anew"
        )
    return record


def _files(path: Path) -> str:
    """What must go before a run is trained anew: with the checkpoint left there, it would go on from it."""
    checkpoint = _checkpoint(path)
    return f"it and {checkpoint.name}" if checkpoint.exists() else "it"


def _check_settings(record: records.Record, experiment: Experiment, config: TrainConfig, path: Path) -> None:
    """Raise if the record was made with other settings, its number of epochs apart."""
    wanted = _description(experiment, config)
    found = {
        "config": {k: v for k, v in record.config.items() if k != "epochs" or config.depends_on_length},
        "model": {k: record.model.get(k) for k in wanted["model"]},
        "data": {k: record.data.get(k) for k in wanted["data"]},
        "experiment": record.experiment,
    }
    if found != wanted:
        raise ValueError(
            f"{path} was made with other settings than {experiment.name} has now: expected {wanted}, "
            f"got {found}. Move {_files(path)} away to train anew"
        )
    _check_fit(record, experiment, config, path)


def _check_fit(record: records.Record, experiment: Experiment, config: TrainConfig, path: Path) -> None:
    """Raise if the measurements of a record cannot be those of a run with its settings."""
    move = f"Move {_files(path)} away to train anew"
    length = len(record.metrics)
    if (said := record.config.get("epochs")) != length:
        raise records.RecordError(
            f"{path} does not fit together: by its config it has {said} epochs, there are {length}. {move}"
        )
    for number, rate in enumerate(learning_rates(replace(config, epochs=length)), start=1):
        used = record.metrics[number - 1].get("learning_rate")
        if used is None or not math.isclose(used, rate, rel_tol=1e-5):
            raise records.RecordError(
                f"{path} does not fit together: by its config the learning rate of epoch {number} is "
                f"{rate:g}, it says {used}. {move}"
            )
    for metric in (experiment.metric, experiment.metric.replace("accuracy", "loss")):
        if metric not in record.final:
            raise records.RecordError(
                f"{path} has no {metric}, which {experiment.name} measures: expected it beside "
                f"{', '.join(record.final)}. {move}"
            )


def _description(experiment: Experiment, config: TrainConfig) -> dict:
    """What a record of this run must say, whatever its number of epochs."""
    settings = records.as_json(asdict(config))
    if not config.depends_on_length:
        del settings["epochs"]
    network = experiment.build(config.seed)
    model = {
        "preset": experiment.preset,
        "options": records.as_json(experiment.options),
        "network": type(network).__name__,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    # The same images under one name, cut in other places.
    images = {"name": experiment.data.removesuffix("-split"), "sizes": _SIZES[experiment.data]}
    return {"config": settings, "model": model, "data": images, "experiment": experiment.name}
