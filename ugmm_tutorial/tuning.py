"""Searches for settings: Optuna, the same budget for every model, judged on 5,000 images set aside.

The test images are not touched: what a search finds becomes an entry of the catalogue, which is then trained
anew, on all 60,000 images, and tested at the end. Needs the extra ``tune``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ugmm_tutorial import experiments, records
from ugmm_tutorial.catalogue import Experiment
from ugmm_tutorial.training import TrainConfig, TrainingError, train

if TYPE_CHECKING:
    import optuna

__all__ = ["SEARCHES", "Search", "find", "run", "suggested"]


@dataclass(frozen=True)
class Search:
    """One model and the settings that are searched; all searches of one ``epochs`` have the same budget.

    Attributes:
        name: kebab-case, the file of its outcome.
        preset: the network, named as in the paper's Table 2.
        options: what changes the preset and stays as it is.
        inits: initialisations to choose from (mixture neurons only).
        trials: how many settings are tried.
        epochs: how long each is trained; those below the median are given up on the way.
    """

    name: str
    preset: str
    options: dict = field(default_factory=dict)
    inits: tuple[str, ...] = ()
    trials: int = 24
    epochs: int = 20


SEARCHES: dict[str, Search] = {
    search.name: search
    for search in (
        Search("mlp", "MLP"),
        Search("mlp-wide", "MLP", {"widths": (784, 352, 128, 10)}),
        Search("ugmm", "uGMM-NN", inits=("unit", "paper")),
        Search("cnn-mlp", "CNN-MLP", epochs=8),
        Search("cnn-mlp-wide", "CNN-MLP", {"widths": (363, 128, 10)}, epochs=8),
        Search("cnn-ugmm", "CNN-uGMM", inits=("unit", "paper"), epochs=8),
    )
}


def find(name: str) -> Search:
    """The search of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in SEARCHES:
        raise ValueError(f"no search is called {name!r}: expected one of {', '.join(SEARCHES)}")
    return SEARCHES[name]


def suggested(search: Search, trial: optuna.trial.BaseTrial) -> Experiment:
    """The experiment that a trial stands for: the same choices for every model, but for ``inits``."""
    rate = trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.6)
    norm = trial.suggest_categorical("norm", ["none", "layer", "after"])
    options = {"dropout": (dropout, 0.0, 0.0), "norm": norm}
    if search.inits:
        options["init"] = trial.suggest_categorical("init", list(search.inits))
    scheduler = trial.suggest_categorical("scheduler", ["multistep", "cosine"])
    config = TrainConfig(
        epochs=search.epochs,
        learning_rate=rate,
        scheduler=scheduler,
        milestones=(round(2 * search.epochs / 3),) if scheduler == "multistep" else (),
        measure=("validation",),
    )
    return Experiment(f"tune-{search.name}", search.preset, config, "mnist-split", search.options | options)


def run(search: Search, *, results: str | Path = "results", data_dir: str | Path | None = None) -> Path:
    """Try the settings that are still missing and write ``results/tuning/<name>.json`` after each.

    A search that is cut off goes on with the next trial.

    Args:
        search: which one (see :func:`find`).
        results: folder of the records.
        data_dir: where MNIST lies.

    Raises:
        ImportError: Optuna is not installed.
        DataError: see :mod:`ugmm_tutorial.data`.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError('a search needs Optuna: pip install "ugmm_tutorial[tune]"') from error
    path = Path(results, "tuning", f"{search.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(path.with_suffix(".journal")))
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.create_study(
        study_name=search.name, storage=storage, direction="maximize", load_if_exists=True
    )
    done = [t for t in study.trials if t.state.is_finished()]
    study.sampler = optuna.samplers.TPESampler(seed=len(done))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=6, n_warmup_steps=search.epochs // 4)
    objective = _Objective(search, data_dir)
    for _ in range(search.trials - len(done)):
        study.optimize(objective, n_trials=1)
        _write(study, search, path)
    return path


class _Objective:
    """Validation accuracy after the last epoch; the data are read once."""

    def __init__(self, search: Search, data_dir: str | Path | None) -> None:
        self.search, self.data_dir = search, data_dir
        self.splits = None

    def __call__(self, trial: optuna.Trial) -> float:
        import optuna

        experiment = suggested(self.search, trial)
        if self.splits is None:
            self.splits = experiments.load_data(experiment, self.data_dir)

        def look(metrics: dict) -> None:
            trial.report(metrics["validation_accuracy"], metrics["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = experiment.build()
        try:
            record = train(model, self.splits, experiment.config, progress=False, after_epoch=look)
        except TrainingError:  # diverged: no reason to stop the search
            return 0.0
        return record.final["validation_accuracy"]


def _write(study: optuna.Study, search: Search, path: Path) -> None:
    """All trials that have ended, the best one, and on what they were run."""
    trials = [
        {
            "number": t.number,
            "state": t.state.name.lower(),
            "params": t.params,
            "accuracy": t.value,
            "epochs": len(t.intermediate_values),
            "seconds": t.duration.total_seconds(),
        }
        for t in study.trials
        if t.state.is_finished()
    ]
    complete = [t for t in trials if t["state"] == "complete"]
    best = max(complete, key=lambda t: t["accuracy"], default=None)
    outcome = {
        "search": records.as_json(asdict(search)),
        "best": best,
        "trials": trials,
        "environment": records.environment("cpu"),
    }
    scratch = path.with_suffix(".json.tmp")
    scratch.write_text(json.dumps(outcome, indent=1) + "\n")
    scratch.replace(path)
