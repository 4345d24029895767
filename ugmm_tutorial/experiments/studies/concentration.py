"""How many inputs share an answer, before training and after 100 epochs.

The networks are runs of the catalogue. One is the tuned uGMM network, trained five times as long as in its
search; the study ``pruning`` measures its shorter run in the same way. The others are the paper's
convolutional heads, whose inputs are features. The equally tuned MLP is measured beside the first, and its
weights are deleted by magnitude (chapters 7 and 12).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ugmm_tutorial.data import Examples, Splits
from ugmm_tutorial.experiments import artifacts
from ugmm_tutorial.experiments.catalogue import find
from ugmm_tutorial.experiments.runs import Run
from ugmm_tutorial.experiments.studies import pruning
from ugmm_tutorial.experiments.studies.pruning_measures import (
    component_curves,
    layer_summary,
    magnitude_curves,
    map_distances,
)
from ugmm_tutorial.interpretation import importance
from ugmm_tutorial.networks import ConvNet
from ugmm_tutorial.training.evaluation import evaluate

__all__ = ["SETTINGS", "measure"]

SETTINGS = {
    "networks": {
        "tuned-ugmm-long": [2, 3, 4],
        "mnist-cnn-ugmm": [1, 2],
        "mnist-cnn-ugmm-layernorm": [1, 2],
    },
    "baselines": {"tuned-mlp-long": [2, 3, 4]},
    "epochs": None,  # the number in the catalogue
    "scopes": {"all layers": None, "first layer": [0]},
    # Measured as in that study, so that the two can be compared.
    **{
        name: pruning.SETTINGS[name]
        for name in ("fractions", "random_orders", "importance_images", "health_images", "map_images")
    },
}


def measure(settings: dict, progress: bool) -> dict:
    """For each network and seed: its layers before and after training, its maps, and its deletion curves."""
    results: dict[str, dict[str, list]] = {"networks": {}, "baselines": {}}
    for name, seeds in settings["networks"].items():
        found = [_of_network(name, seed, settings, progress) for seed in tqdm(seeds, disable=not progress)]
        results["networks"][name] = found
    for name, seeds in settings["baselines"].items():
        results["baselines"][name] = []
        for seed in seeds:
            model, data = _trained(name, seed, settings, progress)
            curves = magnitude_curves(model, data.test, settings)
            results["baselines"][name].append({"seed": seed, "deletion": curves})
    return results


def _trained(name: str, seed: int, settings: dict, progress: bool) -> tuple[nn.Module, Splits]:
    """The network of a run, trained unless its checkpoint exists, and its data."""
    run = Run(find(name), seed, settings["epochs"], artifacts.scratch("concentration"))
    run.train(progress=progress)
    return run.network(), run.experiment.load_data()


def _of_network(name: str, seed: int, settings: dict, progress: bool) -> dict:
    """All measurements of one run. Of a ConvNet, only the head over its features is measured."""
    model, data = _trained(name, seed, settings, progress)
    fresh = find(name).build(seed)
    looked_at = data.train.x[: settings["health_images"]]
    before, early = _head(fresh, looked_at)
    head, late = _head(model, looked_at)
    train = _head(model, data.train.x[: settings["importance_images"]])[1]
    test = Examples(_head(model, data.test.x)[1], data.test.y)
    orders = {
        "responsibility": importance(head, x=train),
        "largest responsibility": importance(head, "largest", x=late),
    }
    return {
        "seed": seed,
        "accuracy": evaluate(head, test)["accuracy"],
        "before": layer_summary(before, early),
        "after": layer_summary(head, late),
        "maps": map_distances(head, Examples(*(t[: settings["map_images"]] for t in test))),
        "deletion": component_curves(head, orders, test, settings),
    }


@torch.no_grad()
def _head(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """The mixture layers of a network, and the inputs that reach them."""
    if not isinstance(model, ConvNet):
        return model, x
    return model.head, torch.cat([model.features(some) for some in x.split(1000)])
