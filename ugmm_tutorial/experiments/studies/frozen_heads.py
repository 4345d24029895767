"""Which head makes more of the same features, and which deviations suit features.

``results/studies/frozen_heads.md`` declares it. For the chapter on convolutional heads.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ugmm_tutorial import data
from ugmm_tutorial.experiments.studies.units import measured
from ugmm_tutorial.networks import MLP, ConvNet, UGMMNet
from ugmm_tutorial.training import TrainConfig, evaluate, train

__all__ = ["HEADS", "SETTINGS", "features_of", "measure"]

_WIDTHS = (1024, 64, 10)


def _normalised(std: float, norm: str) -> nn.Module:
    """Features with a LayerNorm in front, then mixtures whose first layer starts at these deviations."""
    head = UGMMNet(_WIDTHS, norm=norm)
    with torch.no_grad():
        head[0].log_std.fill_(math.log(std))
    return nn.Sequential(nn.LayerNorm(_WIDTHS[0]), head)


#: A fresh head by its name.
HEADS = {
    "linear": partial(MLP, _WIDTHS),
    "linear, normalised": partial(MLP, _WIDTHS, norm="before"),
    "linear, equal parameters": partial(MLP, (1024, 192, 10), norm="before"),
    "mixtures, raw features": partial(UGMMNet, _WIDTHS, norm="layer"),
    "mixtures, normalised": partial(UGMMNet, _WIDTHS, norm="before"),
    **{f"deviations {std:g}": partial(_normalised, std, "after") for std in (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)},
}

SETTINGS: dict = {
    "images": {"train": 6000, "validation": 1000, "test": 10_000},
    "seeds": 5,
    "filters": {"epochs": 5, "batch_size": 64, "learning_rate": 1e-3, "scheduler": "cosine"},
    "heads": {"epochs": 10, "batch_size": 64, "scheduler": "cosine"},
    "learning_rates": [1e-3, 3e-3, 1e-2],
    "kinds": list(HEADS),
}


def measure(settings: dict, progress: bool) -> dict:
    """For each head one entry a seed: learning rate, accuracy on validation images, and on test images."""
    units = [(seed,) for seed in range(settings["seeds"])]
    of_seed = measured("frozen_heads", settings, units, _measured, progress)
    return {kind: [of_seed[unit][kind] for unit in units] for kind in settings["kinds"]}


def features_of(network: ConvNet, images: data.Splits, factor: float = 1.0) -> data.Splits:
    """The data with every image replaced by its features (1024,), times a factor."""
    parts = {}
    with torch.no_grad():
        for name in ("train", "validation", "test"):
            part = getattr(images, name)
            rows = [network.eval().features(x) for x in part.x.split(500)]
            parts[name] = data.Examples(factor * torch.cat(rows), part.y)
    return replace(images, **parts)


def _measured(unit: tuple[int], settings: dict) -> dict:
    torch.set_num_threads(1)
    (seed,) = unit
    images = data.mnist().take(**settings["images"])
    torch.manual_seed(seed)
    network = ConvNet(head="linear")
    train(network, images, TrainConfig(seed=seed, **settings["filters"]), progress=False)
    examples = features_of(network, images)
    found = {"filters": round(evaluate(network, images.test)["accuracy"], 5)}
    for kind in settings["kinds"]:
        tried = [_trained(kind, seed, rate, examples, settings) for rate in settings["learning_rates"]]
        found[kind] = max(tried, key=lambda entry: entry["validation"])
    return found


def _trained(kind: str, seed: int, rate: float, examples: data.Splits, settings: dict) -> dict:
    torch.manual_seed(seed)
    head = HEADS[kind]()
    config = TrainConfig(learning_rate=rate, seed=seed, measure=("validation",), **settings["heads"])
    train(head, examples, config, progress=False)
    ended = {part: evaluate(head, getattr(examples, part)) for part in ("validation", "test")}
    return {
        "learning_rate": rate,
        "validation": round(ended["validation"]["accuracy"], 5),
        "test": round(ended["test"]["accuracy"], 5),
        "test_loss": round(ended["test"]["loss"], 5),
    }
