"""Searches for settings with Optuna. Every model has the same budget and is judged on 5,000 set-aside images.

A search never touches the test images. Its best settings become an entry of the catalogue. That entry is
trained anew on all 60,000 images and then tested. Needs the extra ``tune``.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ugmm_tutorial.experiments.experiment import Experiment
from ugmm_tutorial.experiments.lookup import look_up
from ugmm_tutorial.training import files, records
from ugmm_tutorial.training.config import TrainConfig
from ugmm_tutorial.training.loop import TrainingError, train

if TYPE_CHECKING:
    import optuna

__all__ = ["SEARCHES", "Search", "find", "run", "suggested", "trials_within"]


@dataclass(frozen=True)
class Search:
    """One model and the settings to search. Searches with the same ``epochs`` have the same budget.

    Attributes:
        name: in kebab-case; also the name of the file with its outcome.
        preset: the network, named as in the paper's Table 2.
        options: fixed changes to the preset.
        inits: initialisations to choose from (mixture neurons only).
        trials: the number of settings to try.
        epochs: the length of a trial; a trial that falls below the median is stopped early.
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


_DATA = "mnist-split"
# A trial of another machine that has no outcome after this time is taken for lost.
_GIVEN_UP_AFTER = datetime.timedelta(days=1)
# A process that has a trial writes its name on it within this time, or is lost.
_NAMED_WITHIN = datetime.timedelta(seconds=10)


def find(name: str) -> Search:
    """The search of that name.

    Raises:
        ValueError: there is none.
    """
    return look_up(name, SEARCHES, "search")


def suggested(search: Search, trial: optuna.trial.BaseTrial) -> Experiment:
    """The experiment of a trial. Every model has the same choices, except for ``inits``."""
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
    return Experiment(f"tune-{search.name}", search.preset, config, _DATA, search.options | options)


def run(search: Search, *, results: str | Path = "results", data_dir: str | Path | None = None) -> Path:
    """Run the missing trials and write ``results/tuning/<name>.json`` after each.

    An interrupted search continues from its journal, which is beside that file. The trial that was running is
    lost and does not count. A file with all trials of this search is left unchanged, with or without a
    journal. Several processes may search at once: together they run as many trials as one would, each with
    its own settings. The file is whole when the last of them is done.

    Args:
        search: the search (see :func:`find`).
        results: folder of the records.
        data_dir: the folder with MNIST.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: the file or the journal comes from a search with other settings, or the file has only some
            of the trials and there is no journal to continue from. Both are left unchanged.
        RecordError: the file cannot be read. It is left unchanged.
        DataError: see :mod:`ugmm_tutorial.data`.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError('a search needs Optuna: pip install "ugmm_tutorial[tune]"') from error
    path = Path(results, "tuning", f"{search.name}.json")
    if _is_complete(path, search):
        return path
    files.make_writable(path)
    study = _study(path, search)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=6, n_warmup_steps=search.epochs // 4)
    if len(_counted(study)) < search.trials:
        objective = _Objective(search, data_dir)
        with suppress(_BudgetSpentError):  # another process was faster with the last one
            while _taken(study.get_trials(deepcopy=False)) < search.trials:
                study.optimize(objective, n_trials=1)
                _write(study, search, path)
    _write(study, search, path)  # an earlier search may have stopped between its last trial and the file
    return path


def trials_within(trials: list[dict], epochs: int) -> list[dict]:
    """The first trials of a stored search: those that ended within a total of ``epochs`` epochs.

    Searches with the same number of trials may train for different numbers of epochs in total, because each
    one stops trials that are below its own median.
    """
    ends = itertools.accumulate(trial["epochs"] for trial in trials)
    return [trial for trial, end in zip(trials, ends, strict=True) if end <= epochs]


def _settings(search: Search) -> dict:
    """All settings that a trial depends on. The number of trials is left out, because it may grow."""
    return {name: value for name, value in records.as_json(asdict(search)).items() if name != "trials"}


def _is_complete(path: Path, search: Search) -> bool:
    """Whether the file has all trials.

    Raise if it belongs to another search, or if trials are missing and there is no journal to continue from.
    """
    if not path.exists():
        return False
    try:
        outcome = json.loads(path.read_text())
        made = {name: value for name, value in outcome["search"].items() if name != "trials"}
        done = sum(trial["state"] in _STATES for trial in outcome["trials"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise records.RecordError(
            f"{path} is not the outcome of a search ({type(error).__name__}: {error}). Nothing was changed; "
            "move it away to have it written anew"
        ) from error
    _check_settings(made, search, path)
    journal = path.with_suffix(".journal")
    if done < search.trials and not journal.exists():
        raise ValueError(
            f"{path} has {done} of {search.trials} trials, but {journal.name} is not there to go on from. "
            "Nothing was changed; move the file away, or write elsewhere, to search anew"
        )
    return done >= search.trials


def _study(path: Path, search: Search) -> optuna.Study:
    """The study in the journal beside ``path``, or a new one."""
    import optuna

    journal = path.with_suffix(".journal")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    study = optuna.create_study(
        study_name=search.name, storage=storage, direction="maximize", load_if_exists=True
    )
    if "search" in study.user_attrs:  # older journals do not store it
        _check_settings(study.user_attrs["search"], search, journal)
    else:
        study.set_user_attr("search", _settings(search))
    return study


def _check_settings(made: dict, search: Search, path: Path) -> None:
    if made != _settings(search):
        raise ValueError(
            f"{path} was made with other settings than the search {search.name} has now: expected "
            f"{_settings(search)}, got {made}. Nothing was changed; move {search.name}.json and "
            f"{search.name}.journal away, or write elsewhere, to search anew"
        )


# States with an outcome. A trial that was interrupted or failed has none, and another one replaces it.
_STATES = ("complete", "pruned")


def _counted(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if trial.state.name.lower() in _STATES]


class _BudgetSpentError(Exception):
    """All trials of the search are done, or run in other processes."""


def _claim(trial: optuna.Trial, search: Search) -> None:
    """Let a trial count, if the ones before it leave room. Its number alone decides what it draws.

    Two processes never have a trial of the same number, so none repeats another's settings.

    Raises:
        _BudgetSpentError: the trials before it are enough.
    """
    import optuna

    trial.set_user_attr("process", {"host": platform.node(), "pid": os.getpid()})
    if _taken(_named(trial)) >= search.trials:
        raise _BudgetSpentError
    trial.study.sampler = optuna.samplers.TPESampler(seed=trial.number)


def _named(trial: optuna.Trial) -> list[optuna.trial.FrozenTrial]:
    """The trials before this one, as soon as those that have just begun say whose they are.

    Another process first has a trial and then writes its name on it. Between the two it would look lost, and
    this trial would take its place.
    """
    deadline = time.monotonic() + _NAMED_WITHIN.total_seconds()
    while True:
        before = [t for t in trial.study.get_trials(deepcopy=False) if t.number < trial.number]
        now = datetime.datetime.now()
        if time.monotonic() > deadline or not any(
            t.state.name == "RUNNING" and not t.user_attrs and now - t.datetime_start < _NAMED_WITHIN
            for t in before
        ):
            return before
        time.sleep(0.05)


def _taken(trials: list[optuna.trial.FrozenTrial]) -> int:
    """How many of the trials have an outcome or will have one."""
    return sum(trial.state.name.lower() in _STATES or _runs(trial) for trial in trials)


def _runs(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether the process of an unfinished trial is alive, as far as this machine can tell."""
    process = trial.user_attrs.get("process", {})
    if trial.state.name != "RUNNING" or not process:
        return False
    if process["host"] != platform.node() or os.name != "posix":
        started = trial.datetime_start
        return started is not None and datetime.datetime.now() - started < _GIVEN_UP_AFTER
    if process["pid"] == os.getpid():
        return False  # a trial of this process that ended in an error
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process
        return True
    return True


class _Objective:
    """Validation accuracy after the last epoch. The data are read once, before the first trial."""

    def __init__(self, search: Search, data_dir: str | Path | None) -> None:
        self.search = search
        anyone = Experiment(f"tune-{search.name}", search.preset, TrainConfig(), _DATA)
        self.splits = anyone.load_data(data_dir)

    def __call__(self, trial: optuna.Trial) -> float:
        import optuna

        _claim(trial, self.search)
        experiment = suggested(self.search, trial)

        def look(metrics: dict) -> None:
            trial.report(metrics["validation_accuracy"], metrics["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

        model = experiment.build(0)
        try:
            record = train(model, self.splits, experiment.config, progress=False, after_epoch=look)
        except TrainingError:  # training diverged, which is no reason to stop the search
            return 0.0
        return record.final["validation_accuracy"]


def _write(study: optuna.Study, search: Search, path: Path) -> None:
    """Write all trials that count, the best one, and the machine and versions they ran on."""
    trials = [
        {
            "number": t.number,
            "state": t.state.name.lower(),
            "params": t.params,
            "accuracy": t.value,
            "epochs": len(t.intermediate_values),
            "seconds": t.duration.total_seconds(),
        }
        for t in _counted(study)
    ]
    complete = [t for t in trials if t["state"] == "complete"]
    best = max(complete, key=lambda t: t["accuracy"], default=None)
    outcome = {
        "search": records.as_json(asdict(search)),
        "best": best,
        "trials": trials,
        "environment": records.environment("cpu"),
    }
    records.write_json(outcome, path)
