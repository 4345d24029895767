"""What protects a hybrid network from broken inputs: which dropout, and how wide its components start.

``results/studies/protection.md`` declares it. A unit of work is one split of one table (see :mod:`.units`).

For the chapter *When inputs break*.
"""

from __future__ import annotations

from itertools import product

import torch

from ugmm_tutorial import data
from ugmm_tutorial.experiments.studies import broken_inputs, faults
from ugmm_tutorial.experiments.studies.broken_learners import LEARNERS
from ugmm_tutorial.experiments.studies.units import measured

__all__ = ["SETTINGS", "measure"]

_BASE = {"learning_rate": 4e-3, "widths": [256, 128], "input_dropout": 0.0, "init_std": 1.0}

SETTINGS: dict = {
    "sets": list(data.TABLES),
    "splits": 5,
    "networks": {
        "no dropout": _BASE,
        "components": _BASE | {"dropout": 0.2},
        "inputs": _BASE | {"input_dropout": 0.2},
        "start at 0.5": _BASE | {"input_dropout": 0.2, "init_std": 0.5},
        "start at 2": _BASE | {"input_dropout": 0.2, "init_std": 2.0},
        "start at 4": _BASE | {"input_dropout": 0.2, "init_std": 4.0},
    },
    "fractions": [0.2, 0.4],
    "rows": broken_inputs.SETTINGS["rows"],
    "shares": broken_inputs.SETTINGS["shares"],
    "steps": broken_inputs.SETTINGS["steps"],
    "epochs": broken_inputs.SETTINGS["epochs"],
}


def measure(settings: dict, progress: bool) -> dict:
    """Accuracy on the test rows, ``{data set: {network: [[clean, then for each fraction], ...]}}`` by split.

    The fault is gross noise, on the same entries for every network.
    """
    units = list(product(settings["sets"], range(settings["splits"])))
    entries = measured("protection", settings, units, _work, progress)
    return {
        name: {
            kind: [entries[name, split][kind] for split in range(settings["splits"])]
            for kind in settings["networks"]
        }
        for name in settings["sets"]
    }


def _work(unit: tuple[str, int], settings: dict) -> dict[str, list[float]]:
    name, split = unit
    torch.set_num_threads(1)
    rows = broken_inputs.rows_of(name, split, settings)
    epochs = broken_inputs.epochs_of(len(rows.train), settings)
    tests = [rows.test]
    for part in settings["fractions"]:
        mark = faults.marked(rows.test.shape, part, seed=3000 + split)
        tests.append(faults.broken(rows.test, rows.train, faults.FAULTS["gross"], mark, seed=4000 + split))
    found = {}
    for kind, setting in settings["networks"].items():
        predict = LEARNERS["hybrid"].fit(rows.train, rows.train_y, rows.classes, setting, epochs, split)
        found[kind] = [round(float((predict(x) == rows.test_y).mean()), 5) for x in tests]
    return found
