"""Measurements that the studies of pruning and concentration share: layers, maps, and deletion curves.

Taught in chapter 12.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from ugmm_tutorial.data import Examples
from ugmm_tutorial.interpretation import back_project, deletion_curve, health, importance, statistics
from ugmm_tutorial.training.evaluation import evaluate
from ugmm_tutorial.training.reproducible import seeded

__all__ = ["component_curves", "layer_summary", "magnitude_curves", "map_distances"]


def layer_summary(model: nn.Module, x: Tensor) -> list[dict]:
    """For every layer: dead neurons, silent components and twins, and how many components share an answer."""
    rows = []
    for state, found in zip(health(model, x), statistics(model, x), strict=True):
        effective = found.effective
        rows.append(
            {
                "neurons": len(effective),
                "components": found.mean.shape[1],
                "constant": int(state.constant.sum()),
                "unread": int(state.unread.sum()),
                "dead": int(state.dead.sum()),
                "silent": int(state.silent.sum()),
                "twins": sum(len(group) for group in state.twins),
                "effective": effective.mean().item(),
                "effective_smallest": effective.min().item(),
                "effective_largest": effective.max().item(),
                "top_share": found.mean.amax(dim=1).mean().item(),
            }
        )
    return rows


@torch.no_grad()
def map_distances(model: nn.Module, examples: Examples) -> dict[str, float]:
    """How the back-projected maps of images differ. Distances are total variations, from 0 to 1.

    Returns:
        ``ink``: the share of pixels that are not blank;
        ``share_on_ink``: the share of the true class's map that lies on such pixels;
        ``pixels``: how many pixels share this map, exp(entropy);
        ``between_classes``: the distance between the maps of the true class and the strongest other class,
        for the same image;
        ``between_images``: the distance between the true class's maps for this image and for the next image
        of another class.
    """
    x, y = examples
    maps, rows = back_project(model, x), torch.arange(len(y))
    own = maps[rows, y]
    rival = model(x).scatter(1, y.unsqueeze(1), -torch.inf).argmax(dim=1)
    ink = (x != 0.0).to(maps.dtype)
    other = torch.stack([(rows + step) % len(y) for step in range(1, len(y))], dim=1)
    other = other.gather(1, (y[other] != y.unsqueeze(1)).int().argmax(dim=1, keepdim=True)).squeeze(1)
    return {
        "ink": ink.mean().item(),
        "share_on_ink": (own * ink).sum(dim=1).mean().item(),
        "pixels": torch.special.entr(own).sum(dim=1).exp().mean().item(),
        "between_classes": 0.5 * (own - maps[rows, rival]).abs().sum(dim=1).mean().item(),
        "between_images": 0.5 * (own - maps[other, y]).abs().sum(dim=1).mean().item(),
    }


def component_curves(
    model: nn.Module, orders: dict[str, list[Tensor]], test: Examples, settings: dict
) -> dict:
    """Accuracies over the fractions, by scope and order. The random entry is a list over several orders."""
    fractions = settings["fractions"]
    orders = orders | {
        "weight": importance(model, "weight"),
        "most responsible first": [-values for values in orders["responsibility"]],
    }
    drawn = [importance(model, "random", seed=seed) for seed in range(settings["random_orders"])]
    curves = {}
    for scope, layers in settings["scopes"].items():

        def curve(order: list[Tensor], layers: list[int] | None = layers) -> list[float]:
            return deletion_curve(model, test, order, fractions, layers=layers)

        curves[scope] = {name: curve(order) for name, order in orders.items()}
        curves[scope]["random"] = [curve(order) for order in drawn]
    return curves


def magnitude_curves(model: nn.Module, test: Examples, settings: dict) -> dict:
    """The same for the weights of an MLP, deleted by magnitude in each layer and at random. Biases stay."""
    curves: dict[str, dict] = {}
    for scope, layers in settings["scopes"].items():
        curves[scope] = {"magnitude": [], "random": [[] for _ in range(settings["random_orders"])]}
        for fraction in settings["fractions"]:
            cut = _without(model, fraction, layers, torch_prune.l1_unstructured)
            curves[scope]["magnitude"].append(evaluate(cut, test)["accuracy"])
            for seed, curve in enumerate(curves[scope]["random"]):
                with seeded(seed):
                    cut = _without(model, fraction, layers, torch_prune.random_unstructured)
                curve.append(evaluate(cut, test)["accuracy"])
    return curves


def _without(model: nn.Module, fraction: float, layers: list[int] | None, method) -> nn.Module:
    """A copy of an MLP in which some linear layers lack a fraction of their weights."""
    cut = copy.deepcopy(model)
    linear = [module for module in cut if isinstance(module, nn.Linear)]
    for place, module in enumerate(linear):
        if layers is None or place in layers:
            method(module, "weight", amount=fraction)
    return cut
