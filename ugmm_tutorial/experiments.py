"""The book's experiments as data, and run(), which trains one and writes its record.

An experiment never changes silently: it is a frozen entry below, and its record repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

import torch

from ugmm_tutorial import data, networks, records
from ugmm_tutorial.training import TrainConfig, train

__all__ = ["EXPERIMENTS", "Experiment", "find", "load_data", "run", "stored", "table"]


@dataclass(frozen=True)
class Experiment:
    """What is trained on what.

    ``preset`` names the network as the paper's Table 2 does, ``options`` change it; ``table`` and
    ``paper_accuracy`` (a fraction) say which row of the paper it answers, if any.
    """

    name: str
    preset: str
    config: TrainConfig
    data: str = "mnist"
    options: dict = field(default_factory=dict)
    table: int | None = None
    paper_accuracy: float | None = None

    @property
    def title(self) -> str:
        """The row's name in a table."""
        return self.preset

    def build(self) -> torch.nn.Module:
        """A fresh network, drawn from PyTorch's global random state."""
        return networks.preset(self.preset, **self.options)


def _mnist_row(name: str, preset: str, accuracy: float, rate: float, milestones: tuple) -> Experiment:
    """A row of Table 2 under the settings of Table 1; the batch size, which it leaves open, is ours."""
    config = TrainConfig(epochs=100, batch_size=128, learning_rate=rate, milestones=milestones)
    return Experiment(name, preset, config, table=2, paper_accuracy=accuracy)


def _digits_row(name: str, preset: str) -> Experiment:
    """A quick relative on scikit-learn's 8 x 8 digits, which every reader has."""
    config = TrainConfig(epochs=30, batch_size=64, learning_rate=1e-2, milestones=(20,))
    options = {"widths": (64, 64, 10), "dropout": 0.2}
    if preset != "MLP":
        options["init"] = "unit"
    return Experiment(name, preset, config, data="digits", options=options)


def _first_epoch(row: Experiment) -> Experiment:
    """The first epoch of a row alone, for readers with minutes."""
    config = replace(row.config, epochs=1)
    return replace(row, name=f"{row.name}-1-epoch", config=config, table=None, paper_accuracy=None)


_UGMM = _mnist_row("mnist-ugmm", "uGMM-NN", 0.978, 1e-2, (40,))

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        _mnist_row("mnist-mlp", "MLP", 0.9815, 1e-3, (20, 45)),
        _UGMM,
        _mnist_row("mnist-ugmm-layernorm", "uGMM-NN + LayerNorm", 0.9834, 1e-2, (40,)),
        _mnist_row("mnist-cnn-ugmm", "CNN-uGMM", 0.9877, 1e-3, (45, 80)),
        _mnist_row("mnist-cnn-ugmm-layernorm", "CNN-uGMM + LayerNorm", 0.9912, 1e-3, (45, 80)),
        _mnist_row("mnist-cnn-mlp", "CNN-MLP", 0.9935, 1e-3, (20, 45)),
        _first_epoch(_UGMM),
        _digits_row("digits-mlp", "MLP"),
        _digits_row("digits-ugmm", "uGMM-NN"),
        _digits_row("digits-ugmm-layernorm", "uGMM-NN + LayerNorm"),
    )
}

# The paper's rows train on all 60,000 images: it names no validation set for the final runs.
_LOADERS: dict[str, Callable[[str | Path | None], data.Splits]] = {
    "mnist": lambda folder: data.mnist(folder, validation=0),
    "digits": lambda folder: data.digits(),
}


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: there is none; the message offers names that are close.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    close = get_close_matches(name, EXPERIMENTS, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it is one of {', '.join(EXPERIMENTS)}"
    raise ValueError(f"no experiment is called {name!r}: {hint}")


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
    is continued from its checkpoint (the schedule does not depend on the number of epochs).

    Args:
        experiment: which one (see :func:`find`).
        seed: fixes the initial parameters, the order of the examples and the dropout masks.
        epochs: how many, instead of the experiment's own number.
        device: where to train.
        data_dir: where MNIST lies (see :func:`~ugmm_tutorial.data.mnist`).
        results: folder of the records.
        progress: show a bar.
        cuda_graph: see :func:`~ugmm_tutorial.training.train`.

    Raises:
        ValueError: a setting is out of its range, or a stored record does not fit (see :func:`stored`).
        RecordError: the stored record cannot be read. It stays as it is.
        TrainingError, CheckpointError, DataError: see :func:`~ugmm_tutorial.training.train` and
            :mod:`ugmm_tutorial.data`.
    """
    done = stored(experiment, seed=seed, epochs=epochs, results=results)
    if done is not None:
        return done
    config = _config(experiment, seed, epochs)
    path = _path(results, experiment, seed)
    splits = load_data(experiment, data_dir)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = experiment.build()
    record = train(
        model,
        splits,
        config,
        device=device,
        checkpoint=_checkpoint(path),
        resume=True,
        progress=progress,
        cuda_graph=cuda_graph,
    )
    model = record.model | _description(experiment, config)["model"]
    record = replace(record, experiment=experiment.name, model=model)
    records.write(record, path)
    return record


def stored(
    experiment: Experiment, *, seed: int = 0, epochs: int | None = None, results: str | Path = "results"
) -> records.Record | None:
    """The record of just this run, or None if it has still to be trained, wholly or in part.

    Raises:
        ValueError: a record is there that this run would destroy: of more epochs, of other settings, or
            of fewer epochs without the checkpoint to continue it from.
        RecordError: the record cannot be read.
    """
    config = _config(experiment, seed, epochs)
    path = _path(results, experiment, seed)
    if not path.exists():
        return None
    record = records.read(path)
    _check_settings(record, experiment, config, path)
    done = len(record.metrics)
    if done > config.epochs:
        raise ValueError(
            f"{path} has {done} epochs already, more than the {config.epochs} asked for. Move it away, "
            "or write elsewhere, to train anew"
        )
    if done < config.epochs and not _checkpoint(path).exists():
        raise ValueError(
            f"{path} has {done} of {config.epochs} epochs, but {_checkpoint(path).name} is not there to go "
            "on from. Move the record away, or write elsewhere, to train anew"
        )
    return record if done == config.epochs else None


def table(number: int, results: str | Path = "results") -> str:
    """The paper's table beside the records under ``results``.

    Raises:
        ValueError: no experiment belongs to that table.
    """
    rows = [e for e in EXPERIMENTS.values() if e.table == number]
    if not rows:
        tables = sorted({e.table for e in EXPERIMENTS.values() if e.table})
        raise ValueError(f"no experiment answers table {number}: expected one of {tables}")
    return records.table(
        (e.title, e.paper_accuracy, e.config.epochs, records.read_all(results, e.name)) for e in rows
    )


def _config(experiment: Experiment, seed: int, epochs: int | None) -> TrainConfig:
    return replace(
        experiment.config, seed=seed, epochs=experiment.config.epochs if epochs is None else epochs
    )


def _path(results: str | Path, experiment: Experiment, seed: int) -> Path:
    return Path(results, experiment.name, f"seed{seed}.json")


def _checkpoint(path: Path) -> Path:
    return path.with_suffix(".checkpoint.pt")


def _check_settings(record: records.Record, experiment: Experiment, config: TrainConfig, path: Path) -> None:
    """Raise if the record was made with other settings, its number of epochs apart."""
    wanted = _description(experiment, config)
    found = {
        "config": {k: v for k, v in record.config.items() if k != "epochs"},
        "model": {k: record.model.get(k) for k in wanted["model"]},
        "experiment": record.experiment,
    }
    if found != wanted:
        raise ValueError(
            f"{path} was made with other settings than {experiment.name} has now: expected {wanted}, "
            f"got {found}. Move it away to train anew"
        )


def _description(experiment: Experiment, config: TrainConfig) -> dict:
    """What a record of this run must say, whatever its number of epochs."""
    settings = records.as_json(asdict(config))
    del settings["epochs"]
    network = records.as_json({"preset": experiment.preset, "options": experiment.options})
    return {"config": settings, "model": network, "experiment": experiment.name}
