"""What the answers of tuned networks rest on, in mixtures and in an MLP: inputs whose change changes them.

``results/studies/reliance.md`` declares it. Responsibilities count pixels that never change; here inputs are
replaced by their training means, in neurons, in connections and in single images. Then both networks keep
few connections and are trained on. For chapter 12.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from ugmm_tutorial.data import Splits
from ugmm_tutorial.experiments import artifacts
from ugmm_tutorial.experiments.bench.timing import in_turns
from ugmm_tutorial.experiments.catalogue import find
from ugmm_tutorial.experiments.studies.reliance_attributions import (
    attributions,
    evenly_spaced,
    faithfulness,
)
from ugmm_tutorial.experiments.studies.reliance_deletion import (
    best_order,
    deletion_curves,
    kept_connections,
    with_means,
)
from ugmm_tutorial.experiments.studies.reliance_measures import dependence, training_means
from ugmm_tutorial.experiments.studies.reliance_summary import compared
from ugmm_tutorial.experiments.studies.units import measured
from ugmm_tutorial.interpretation import importance, prune
from ugmm_tutorial.training.evaluation import evaluate
from ugmm_tutorial.training.loop import train
from ugmm_tutorial.training.threads import one_thread

__all__ = ["SETTINGS", "measure"]

SETTINGS: dict = {
    "networks": {"mixtures": "tuned-ugmm", "mlp": "tuned-mlp"},
    "data": "mnist-split",
    "epochs": 20,
    "seeds": [0, 1, 2, 3, 4],
    "dependence_images": 10_000,
    "fractions": [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99],
    "random_orders": 3,
    "attribution_images": 500,
    "steps": 32,
    "pixels": [5, 10, 20, 50, 100],
    "keeps": [0.1, 0.05, 0.02],
    "fine_tuning": {"epochs": 2, "learning_rate": 1e-3},
    "images_at_once": 1000,
    "timing_seconds": 30.0,
}


def measure(settings: dict, progress: bool) -> dict:
    """An entry for each seed, and the declared comparisons over seeds."""
    units = [(seed,) for seed in settings["seeds"]]
    of_seed = measured("reliance", settings, units, _measured, progress)
    seeds = [of_seed[unit] for unit in units]
    return {"seeds": seeds, "comparisons": compared(seeds, settings)}


def _measured(unit: tuple[int], settings: dict) -> dict:
    torch.set_num_threads(1)
    (seed,) = unit
    data = replace(find(settings["networks"]["mixtures"]), data=settings["data"]).load_data()
    entry: dict = {}
    networks: dict[str, list[nn.Module]] = {}
    for kind, name in settings["networks"].items():
        entry[kind], networks[kind] = _of_network(name, seed, data, settings)
    dense, *pruned = networks["mixtures"]
    entry["milliseconds"] = _times(dense, pruned, networks["mlp"][0], data.test.x, settings)
    return entry


def _of_network(name: str, seed: int, data: Splits, settings: dict) -> tuple[dict, list[nn.Module]]:
    """What is found of an experiment's network; it, and what is left of it for each ``keep``."""
    model, seconds = _trained(name, seed, data, settings)
    means = training_means(data.train.x)
    orders, numbers = dependence(model[0], data.train.x[: settings["dependence_images"]], means)
    pruned, networks = _pruned(name, model, orders, means, data, seed, settings)
    entry = {
        "accuracy": evaluate(model, data.test)["accuracy"],
        "training_seconds": seconds,
        "dependence": numbers,
        "deletion": deletion_curves(model, orders, means, data.test, settings),
        "attribution": _attribution(model, means, data, seed, settings),
        "pruned": pruned,
    }
    return entry, [model, *networks]


def _trained(name: str, seed: int, data: Splits, settings: dict) -> tuple[nn.Module, float]:
    """The experiment's network, trained on the study's data, and the seconds of training.

    A checkpoint is gone on from; the seconds are then those of all epochs.
    """
    experiment = find(name)
    config = replace(experiment.config, seed=seed, epochs=settings["epochs"], measure=())
    model = experiment.build(seed)
    path = artifacts.scratch("reliance") / f"{name}-seed{seed}-{config.epochs}-epochs.checkpoint.pt"
    record = train(model, data, config, checkpoint=path, resume=True, progress=False)
    return model.eval(), round(record.seconds, 1)


def _attribution(model: nn.Sequential, means: Tensor, data: Splits, seed: int, settings: dict) -> dict:
    """For every score: how much the network's answers suffer without the pixels that it ranks highest."""
    x, _ = evenly_spaced(data.test, settings["attribution_images"])
    base = means.to(x.dtype)
    with torch.no_grad():
        answers = model(x).argmax(dim=1)
    scores = attributions(model, x, answers, base, steps=settings["steps"], seed=seed)
    return {
        name: faithfulness(model, x, answers, score, base, settings["pixels"])
        for name, score in scores.items()
    }


def _pruned(
    name: str,
    model: nn.Sequential,
    orders: dict[str, Tensor],
    means: Tensor,
    data: Splits,
    seed: int,
    settings: dict,
) -> tuple[dict[str, list], list[nn.Module]]:
    """For every ``keep`` the order, accuracies ``before`` and ``after`` fine-tuning, and the network."""
    fine = settings["fine_tuning"]
    config = replace(
        find(name).config, epochs=fine["epochs"], learning_rate=fine["learning_rate"],
        milestones=(), seed=seed, measure=(),
    )  # fmt: skip
    found: dict[str, list] = {"order": [], "before": [], "after": []}
    networks = []
    for keep in settings["keeps"]:
        order = best_order(model, orders, means, data.validation, keep)
        small = _with_few(model, orders[order], keep, means)
        found["order"].append(order)
        found["before"].append(evaluate(small, data.test)["accuracy"])
        train(small, data, config, progress=False)
        found["after"].append(evaluate(small, data.test)["accuracy"])
        networks.append(small.eval())
    return found, networks


def _with_few(model: nn.Sequential, order: Tensor, keep: float, means: Tensor) -> nn.Module:
    """A network that can be trained on, whose first-layer neurons keep this fraction of their inputs.

    Mixtures lose the other components. Linear neurons lose the other weights, which stay zero in training,
    and their biases take over what these gave for the means: the better start, and it costs nothing.
    """
    if not isinstance(model[0], nn.Linear):
        _, *others = importance(model, "weight")
        return prune(model, [keep, *(1.0 for _ in others)], [order, *others])
    kept = kept_connections(order, keep)
    small = copy.deepcopy(with_means(model, kept, means))
    torch_prune.custom_from_mask(small[0], "weight", kept)
    return small


def _times(
    dense: nn.Module, pruned: list[nn.Module], mlp: nn.Module, x: Tensor, settings: dict
) -> dict[str, float | list[float]]:
    """The smallest times for 1000 images on one thread, in milliseconds. All networks take turns."""
    x = x[: settings["images_at_once"]]

    def scores(network: nn.Module):
        def call() -> Tensor:
            with torch.no_grad():
                return network(x)

        return call

    networks = {"mixtures": dense, "mlp": mlp} | {f"pruned {n}": small for n, small in enumerate(pruned)}
    with one_thread():
        calls = {name: scores(network.eval()) for name, network in networks.items()}
        found = in_turns(calls, seconds=settings["timing_seconds"])
    times = {name: 1e6 / len(x) * least for name, (least, _) in found.items()}
    return {
        "mixtures": times["mixtures"],
        "mlp": times["mlp"],
        "pruned": [times[f"pruned {n}"] for n in range(len(pruned))],
    }
