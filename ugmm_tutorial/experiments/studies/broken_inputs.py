"""The study of broken inputs: what is left of the accuracy when features break after training.

``results/studies/broken_inputs.md`` declares it: question, learners, faults, budgets, and what would falsify
the answer. A unit of work is one learner on one split of one data set. Each unit is a line of one file in the
scratch folder, so an interrupted study goes on where it stopped, and that file can be taken elsewhere.

For the chapter *When inputs break*.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ugmm_tutorial import data
from ugmm_tutorial.experiments.studies import faults
from ugmm_tutorial.experiments.studies.broken_learners import LEARNERS, Fitted, settings_of
from ugmm_tutorial.experiments.studies.broken_networks import BATCH_SIZE
from ugmm_tutorial.experiments.studies.units import measured

__all__ = ["SETTINGS", "Rows", "epochs_of", "measure", "rows_of", "units"]

SETTINGS: dict = {
    "learners": {
        name: {"space": learner.space, "default": learner.default} for name, learner in LEARNERS.items()
    },
    "faults": list(faults.FAULTS),
    "fractions": [0.1, 0.2, 0.3, 0.4, 0.5],
    "tuning_fraction": 0.3,
    "sets": {
        **{name: {"splits": 5, "searches": 12} for name in data.TABLES},
        **{name: {"splits": 2, "searches": 6} for name in ("mnist", "fashion-mnist")},
    },
    "steps": 2000,  # of networks' training, about: these epochs at least, and these at most
    "epochs": [20, 100],
    "rows": {"train": 5000, "validation": 2000, "test": 3000},  # at most
    "shares": {"validation": 0.2, "test": 0.3},
    "block_fractions": [0.1, 0.2, 0.4],
    "search": "Latin hypercube",
    "search_seed": 0,
}


class _Unit(NamedTuple):
    """One learner on one split of one data set."""

    name: str
    split: int
    learner: str


class Rows(NamedTuple):
    """A split: rows in their own units, float64, and classes."""

    train: NDArray
    train_y: NDArray
    validation: NDArray
    validation_y: NDArray
    test: NDArray
    test_y: NDArray
    classes: int


def units(settings: dict) -> list[_Unit]:
    """All units of work, the first split of every data set before the second."""
    return [
        _Unit(name, split, learner)
        for split in range(max(how["splits"] for how in settings["sets"].values()))
        for name, how in settings["sets"].items()
        if split < how["splits"]
        for learner in settings["learners"]
    ]


def measure(settings: dict, progress: bool) -> dict:
    """What each learner got right, by data set and split.

    Returns:
        ``{name: {learner: [one entry for each split]}}``. An entry has ``seconds`` and, under ``clean``,
        ``broken`` and perhaps ``default``, what was found with the setting that is best on clean validation
        rows, best on broken ones, or fixed beforehand: the ``setting``, the accuracy on ``validation`` rows,
        and on test rows ``clean`` and under each fault, for every fraction.
    """
    entries = measured("broken_inputs", settings, units(settings), _work, progress)
    found: dict = {}
    for unit in units(settings):
        found.setdefault(unit.name, {}).setdefault(unit.learner, []).append(entries[unit])
    return found


def _work(unit: _Unit, settings: dict) -> dict:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rivals that have not converged
        return _measured(unit, settings)


def _measured(unit: _Unit, settings: dict) -> dict:
    begun = time.perf_counter()
    how, learner = settings["sets"][unit.name], LEARNERS[unit.learner]
    rows = rows_of(unit.name, unit.split, settings)
    epochs = epochs_of(len(rows.train), settings)
    mark = faults.marked(rows.validation.shape, settings["tuning_fraction"], seed=1000 + unit.split)
    spoilt = faults.broken(rows.validation, rows.train, faults.TUNING_FAULT, mark, seed=2000 + unit.split)

    def fitted(setting: dict) -> tuple[Fitted, float, float]:
        """The fitted learner and its accuracy on validation rows, clean and broken."""
        predict = learner.fit(rows.train, rows.train_y, rows.classes, setting, epochs, unit.split)
        right = [float((predict(x) == rows.validation_y).mean()) for x in (rows.validation, spoilt)]
        return predict, right[0], right[1]

    best: dict[str, tuple[float, dict, Fitted]] = {}
    for setting in settings_of(learner, how["searches"], settings["search_seed"]):
        predict, *right = fitted(setting)
        for way, value in zip(("clean", "broken"), right, strict=True):
            if way not in best or value > best[way][0]:
                best[way] = value, setting, predict
    if learner.default is not None:
        predict, clean, _ = fitted(learner.default)
        best["default"] = clean, learner.default, predict
    entry: dict = {
        way: {
            "setting": setting,
            "validation": value,
            **_tested(unit.name, predict, rows, unit.split, settings),
        }
        for way, (value, setting, predict) in best.items()
    }
    return entry | {"seconds": round(time.perf_counter() - begun, 1)}


def epochs_of(rows: int, settings: dict) -> int:
    """For networks: about as many steps on every table, within the least and the most epochs."""
    least, most = settings["epochs"]
    return min(most, max(least, round(settings["steps"] * BATCH_SIZE / rows)))


def _tested(name: str, predict: Fitted, rows: Rows, split: int, settings: dict) -> dict:
    """Accuracy on test rows: clean, and under every fault."""

    def right(x: NDArray) -> float:
        return round(float((predict(x) == rows.test_y).mean()), 5)

    found: dict = {"clean": right(rows.test)}
    for fault, mark_all in _marks(name, rows.test.shape, split, settings):
        change = faults.FAULTS[fault.removesuffix(", block")]
        found[fault] = [
            right(faults.broken(rows.test, rows.train, change, mark, seed=4000 + split)) for mark in mark_all
        ]
    return found


def _marks(
    name: str, shape: tuple[int, ...], split: int, settings: dict
) -> Iterator[tuple[str, list[NDArray[np.bool_]]]]:
    """Every fault, with the marks of the entries that it breaks, for each fraction."""
    for fault in settings["faults"]:
        yield fault, [faults.marked(shape, part, seed=3000 + split) for part in settings["fractions"]]
        if name in ("mnist", "fashion-mnist"):
            blocks = [
                faults.marked_blocks(shape[0], 28, part, 3000 + split) for part in settings["block_fractions"]
            ]
            yield f"{fault}, block", blocks


def rows_of(name: str, split: int, settings: dict) -> Rows:
    """A split of a data set, with at most the rows that the settings allow."""
    splits = (
        data.load(name, seed=split, **settings["shares"]) if name in data.TABLES else _images(name, split)
    )
    parts = []
    for part, most in settings["rows"].items():
        x, y = getattr(splits, part)
        parts += [x[:most].double().numpy(), y[:most].numpy()]
    return Rows(*parts, len(splits.classes))


def _images(name: str, split: int) -> data.Splits:
    """Rows of pixels from training images only: another part of them for every split."""
    whole = data.load(name, validation=0).flatten()
    order = torch.randperm(len(whole.train.y), generator=torch.Generator().manual_seed(split))
    cuts = order.split([20000, 20000, 20000])
    parts = [data.Examples(whole.train.x[cut], whole.train.y[cut]) for cut in cuts]
    return data.Splits(whole.name, whole.provenance, whole.classes, *parts)
