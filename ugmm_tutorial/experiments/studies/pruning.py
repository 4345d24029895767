"""What the tuned uGMM network can do without: components are deleted by responsibility, weight, or at random.

The networks are trained on all but the last 5,000 training images. Responsibilities are measured on training
images, accuracies on the test images. The equally tuned MLP is measured beside them, and its weights are
deleted by magnitude. The study then builds smaller networks and measures their parameters, their accuracy
before and after two more epochs, and their time (chapter 12).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ugmm_tutorial.data import Examples, Splits
from ugmm_tutorial.experiments import artifacts, catalogue
from ugmm_tutorial.experiments.bench.timing import in_turns
from ugmm_tutorial.experiments.studies.pruning_measures import (
    component_curves,
    layer_summary,
    magnitude_curves,
    map_distances,
)
from ugmm_tutorial.interpretation import (
    deletion_curve_by_example,
    importance,
    prune,
)
from ugmm_tutorial.training.evaluation import evaluate
from ugmm_tutorial.training.loop import train
from ugmm_tutorial.training.threads import one_thread

__all__ = ["SETTINGS", "measure"]

SETTINGS = {
    "experiment": "tuned-ugmm",
    "baseline": "tuned-mlp",
    "data": "mnist-split",
    "epochs": 20,
    "seeds": [0, 1, 2],
    "fractions": [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99],
    # The layers that lose components, counted from the input; None stands for all.
    "scopes": {"all layers": None, "first layer": [0], "later layers": [1, 2]},
    "random_orders": 3,
    "importance_images": 20000,
    "health_images": 2000,
    # Deleting separately for every image examines all components each time, so fewer images are used.
    "by_example_images": 500,
    "by_example_fractions": [0.0, 0.5, 0.9, 0.95, 0.99],
    "map_images": 500,
    "importance": "weight",
    "keeps": [[1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0.1, 0.1, 0.1],
              [0.1, 1.0, 1.0], [0.1, 0.5, 0.5], [0.05, 0.25, 0.25], [0.02, 0.25, 0.25]],
    "fine_tuning": {"epochs": 2, "learning_rate": 1e-3},
    "images_at_once": 1000,
    "seconds": 30.0,
}  # fmt: skip


def measure(settings: dict, progress: bool) -> dict:
    """For each seed: accuracies by order and scope, the state of the layers, and the pruned networks."""
    experiment = replace(catalogue.find(settings["experiment"]), data=settings["data"])
    data = experiment.load_data()
    results: dict[str, list] = {
        "deletion": [],
        "by_example": [],
        "layers": [],
        "maps": [],
        "pruned": [],
        "mlp": [],
        "training_seconds": [],
    }
    for seed in tqdm(settings["seeds"], disable=not progress, unit="seed"):
        model, seconds = _trained(settings["experiment"], seed, data, settings, progress)
        results["training_seconds"].append(seconds)
        by_responsibility = importance(model, x=data.train.x[: settings["importance_images"]])
        largest = importance(model, "largest", x=data.train.x[: settings["health_images"]])
        orders = {"responsibility": by_responsibility, "largest responsibility": largest}
        results["deletion"].append(component_curves(model, orders, data.test, settings))
        some = Examples(*(t[: settings["by_example_images"]] for t in data.test))
        fractions = settings["by_example_fractions"]
        results["by_example"].append(
            {
                scope: deletion_curve_by_example(model, some, fractions, layers=layers)
                for scope, layers in settings["scopes"].items()
            }
        )
        results["layers"].append(layer_summary(model, data.train.x[: settings["health_images"]]))
        results["maps"].append(
            map_distances(model, Examples(*(t[: settings["map_images"]] for t in data.test)))
        )
        results["pruned"].append(_pruned(model, by_responsibility, data, seed, settings, progress))
        mlp, _ = _trained(settings["baseline"], seed, data, settings, progress)
        results["mlp"].append(magnitude_curves(mlp, data.test, settings))
    return results


def _trained(name: str, seed: int, data: Splits, settings: dict, progress: bool) -> tuple[nn.Module, float]:
    """The experiment's network, trained on the study's data, and the seconds of training.

    A finished checkpoint is not trained again; the seconds are then those of the earlier training.
    """
    experiment = catalogue.find(name)
    config = replace(experiment.config, seed=seed, epochs=settings["epochs"], measure=())
    model = experiment.build(seed)
    path = artifacts.scratch("pruning") / f"{name}-seed{seed}-{config.epochs}-epochs.checkpoint.pt"
    record = train(model, data, config, checkpoint=path, resume=True, progress=progress)
    return model.eval(), round(record.seconds, 1)


def _pruned(
    model: nn.Module, by_responsibility: list[Tensor], data: Splits, seed: int, settings: dict, progress: bool
) -> list[dict]:
    """For every ``keep``: parameters, accuracies after pruning and after fine-tuning, and milliseconds."""
    orders = {"responsibility": by_responsibility, "weight": importance(model, "weight")}
    fine = settings["fine_tuning"]
    config = replace(
        catalogue.find(settings["experiment"]).config,
        epochs=fine["epochs"], learning_rate=fine["learning_rate"], milestones=(), seed=seed, measure=(),
    )  # fmt: skip
    rows, networks = [], {"dense": model}
    for keep in settings["keeps"]:
        by = {name: evaluate(prune(model, keep, o), data.test)["accuracy"] for name, o in orders.items()}
        small = prune(model, keep, orders[settings["importance"]])
        networks[str(keep)] = copy.deepcopy(small)
        train(small, data, config, progress=progress)
        rows.append(
            {
                "keep": keep,
                "parameters": sum(p.numel() for p in small.parameters()),
                "neurons": [len(m.mean) for m in small if hasattr(m, "mean")],
                "accuracy": by,
                "tuned_accuracy": evaluate(small, data.test)["accuracy"],
            }
        )
    times = _times(networks, data.test.x[: settings["images_at_once"]], settings)
    for row in rows:
        row["milliseconds"], row["dense_milliseconds"] = times[str(row["keep"])], times["dense"]
    return rows


def _times(networks: dict[str, nn.Module], x: Tensor, settings: dict) -> dict[str, float]:
    """The smallest time for 1000 images on one thread, in milliseconds. All networks take turns."""

    def scores(network: nn.Module):
        def call() -> Tensor:
            with torch.no_grad():
                return network(x)

        return call

    with one_thread():
        calls = {name: scores(network.eval()) for name, network in networks.items()}
        found = in_turns(calls, seconds=settings["seconds"])
    return {name: 1e6 / len(x) * least for name, (least, _) in found.items()}
