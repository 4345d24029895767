"""The study of certificates: how many of MNIST's test images are proven right whatever any m pixels are?

``results/studies/certificates.md`` declares it: contestants, budgets, the rule that chooses settings, and
what would falsify the answer. Units of work are kept when they are done (see :mod:`.units`).

For the chapter *When inputs break*.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ugmm_tutorial import data
from ugmm_tutorial.data import Examples
from ugmm_tutorial.experiments.studies import certified_networks as networks
from ugmm_tutorial.experiments.studies.units import measured

__all__ = ["SETTINGS", "best", "measure", "wilson"]

_DEEP, _FLAT = [784, 256, 32, 10], [784, 256, 10]


def _grid(
    rates: tuple[float, ...], weights: tuple[float, ...], changed: tuple[int, ...] = (8,)
) -> list[dict]:
    every = product(rates, weights, changed)
    return [{"learning_rate": rate, "weight": weight, "changed": m} for rate, weight, m in every]


SETTINGS: dict = {
    "contestants": {
        "one layer": {"kind": "mixtures", "widths": _FLAT, "grid": _grid((4e-3,), (0.0,))},
        "one layer, with the bound": {
            "kind": "mixtures",
            "widths": _FLAT,
            "grid": _grid((4e-3,), (0.03, 0.1)),
        },
        "hybrid, with the bound": {
            "kind": "mixtures",
            "widths": _DEEP,
            "grid": _grid((4e-3,), (0.02, 0.05), (8, 16)),
        },
        "clipped MLP": {"kind": "clipped", "widths": _DEEP, "grid": _grid((1e-3, 3e-3), (0.0,))},
        "clipped MLP, with the bound": {
            "kind": "clipped",
            "widths": _DEEP,
            "grid": _grid((1e-3, 3e-3), (0.03, 0.1, 0.3)),
        },
    },
    "training": {"batch": 128, "bounded": 24, "epochs": [2, 6]},  # without the bound, then with it
    "choice": {"changed": 8, "images": 500, "accuracy": 0.965, "seed": 100},
    "seeds": [0, 1, 2],
    "images": 1000,
    "box": [1, 2, 4, 8, 16],
    "line": [1, 2, 4, 8],
    "attacks": {"greedy": 2, "tries": 50, "steps": 20, "far": [-3.0, 4.0]},
}


class _Unit(NamedTuple):
    """A network: a contestant with one of its settings, to choose it or to test it, and a seed."""

    purpose: str
    contestant: str
    place: int
    seed: int


def measure(settings: dict, progress: bool) -> dict:
    """What is proven of each contestant.

    Returns:
        ``{contestant: {"choice": [one entry for each setting], "setting": the chosen one, "tests": [one entry
        for each seed]}}``. An entry of the choice has the accuracy on ``validation`` images and the share
        ``certified`` of some of them. One of the tests has the accuracy on all test images, ``clean``, the
        shares certified in the ``box`` and on the ``line`` for each count, the ``attacks`` made in each and
        those that turned an answer, the ``seconds`` of training and of one certificate.
    """
    contestants, seed = settings["contestants"], settings["choice"]["seed"]
    tried = [
        _Unit("choice", name, place, seed)
        for name, how in contestants.items()
        for place in range(len(how["grid"]))
    ]
    choices = measured("certificates", settings, tried, _work, progress)
    found: dict = {}
    for unit, entry in choices.items():
        found.setdefault(unit.contestant, {"choice": []})["choice"].append(entry)
    chosen = {name: best(of["choice"], settings["choice"]["accuracy"]) for name, of in found.items()}
    units = [_Unit("test", name, place, seed) for seed in settings["seeds"] for name, place in chosen.items()]
    tests = measured("certificates", settings, units, _work, progress)
    for name, of in found.items():
        of["setting"] = contestants[name]["grid"][chosen[name]]
        of["tests"] = [entry for unit, entry in tests.items() if unit.contestant == name]
    return found


def best(entries: list[dict], accuracy: float) -> int:
    """The place of the setting that certifies most among those accurate enough, else of the most accurate.

    >>> entries = [{"validation": 0.97, "certified": 0.2}, {"validation": 0.96, "certified": 0.5}]
    >>> best(entries, 0.96), best(entries, 0.965), best(entries, 0.98)
    (1, 0, 0)
    """
    enough = [place for place, entry in enumerate(entries) if entry["validation"] >= accuracy]
    by = "certified" if enough else "validation"
    return max(enough or range(len(entries)), key=lambda place: entries[place][by])


def wilson(share: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share among so many images.

    >>> [round(end, 3) for end in wilson(0.5, 1000)]
    [0.469, 0.531]
    """
    z = 1.959964
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z * (share * (1 - share) / images + (z / (2 * images)) ** 2) ** 0.5 / (1 + z * z / images)
    return middle - half, middle + half


def _work(unit: _Unit, settings: dict) -> dict:
    torch.set_num_threads(1)
    how, splits = settings["contestants"][unit.contestant], _images()
    begun = time.perf_counter()
    network = networks.build(how["kind"], how["widths"], unit.seed)
    train = splits["train"]
    networks.train(network, train.x, train.y, how["grid"][unit.place], settings["training"], unit.seed)
    trained = time.perf_counter() - begun
    if unit.purpose == "choice":
        return _chosen_by(network, splits["validation"], settings["choice"])
    return {**_tested(network, splits["test"], settings, unit.seed), "seconds to train": round(trained, 1)}


def _images() -> Mapping[str, Examples]:
    """MNIST as rows of pixels."""
    splits = data.mnist().flatten()
    return {part: getattr(splits, part) for part in ("train", "validation", "test")}


def _evenly(examples: Examples, count: int) -> tuple[Tensor, Tensor]:
    """So many examples, evenly spaced, because MNIST's first images and its last ones are not alike."""
    step = len(examples.y) // count
    return examples.x[::step][:count], examples.y[::step][:count]


def _chosen_by(network: nn.Sequential, validation: Examples, how: dict) -> dict:
    x, y = _evenly(validation, how["images"])
    proven = networks.certified(network, x, y, changed=how["changed"], box=networks.BOX)
    return {
        "validation": round(networks.right(network, validation.x, validation.y), 5),
        "certified": round(proven.double().mean().item(), 5),
    }


def _tested(network: nn.Sequential, test: Examples, settings: dict, seed: int) -> dict:
    x, y = _evenly(test, settings["images"])
    entry: dict = {"clean": networks.right(network, test.x, test.y), "right": networks.right(network, x, y)}
    for where, box in (("box", networks.BOX), ("line", None)):
        counts = settings[where]
        proofs, begun = 0, time.perf_counter()

        def proven(index: Tensor, changed: int, box=box) -> Tensor:
            nonlocal proofs
            proofs += len(index)
            return networks.certified(network, x[index], y[index], changed=changed, box=box)

        levels = networks.levels(proven, len(x), counts)
        entry[f"seconds per certificate, {where}"] = round((time.perf_counter() - begun) / proofs, 4)
        entry[where] = [round((levels > place).double().mean().item(), 5) for place in range(len(counts))]
        made = turned = 0
        for place, changed in enumerate(counts):
            rows = levels == place + 1  # the largest count that is proven
            if rows.any():
                values = box or settings["attacks"]["far"]
                of_count = networks.attacked(
                    network, x[rows], y[rows], changed, values, settings["attacks"], seed
                )
                made, turned = made + of_count[0], turned + of_count[1]
        entry[f"attacks, {where}"] = {"made": made, "turned": turned}
    return entry
