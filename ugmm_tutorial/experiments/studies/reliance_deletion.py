"""Deletion of first-layer connections: what is deleted reads the training mean of its input instead.

Networks begin with a dense mixture layer or a linear one: J neurons that read K inputs each. A deleted
connection leaves the constant that its term or product has at the mean. For chapter 12.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from ugmm_tutorial.data import Examples
from ugmm_tutorial.functional import ugmm_log_density
from ugmm_tutorial.interpretation.importance import most_important
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.training.evaluation import evaluate

__all__ = ["best_order", "deletion_curves", "kept_connections", "with_means"]


def kept_connections(order: Tensor, keep: float) -> Tensor:
    """True for the fraction ``keep`` of each neuron's inputs with the largest values, at least one, (J, K).

    It rounds like :func:`~ugmm_tutorial.interpretation.prune`.

    >>> kept_connections(torch.tensor([[3.0, 1.0, 2.0, 0.0]]), 0.5).tolist()
    [[True, False, True, False]]
    """
    places = most_important(order, max(1, round(keep * order.shape[-1])))
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, places, True)


class _WithMeans(nn.Module):
    """A mixture layer some of whose components read the means, so that their terms are constants."""

    def __init__(self, layer: UGMMLayer, kept: Tensor, means: Tensor) -> None:
        super().__init__()
        terms = layer.component_log_densities(means)
        self.register_buffer("constant", terms.masked_fill(kept, -math.inf).logsumexp(dim=-1))
        self.register_buffer("log_weight", layer.log_weight.masked_fill(~kept, -math.inf))
        self.register_buffer("mean", layer.mean.detach().clone())
        self.register_buffer("log_std", layer.bounded_log_std.clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.logaddexp(ugmm_log_density(x, self.mean, self.log_std, self.log_weight), self.constant)


@torch.no_grad()
def with_means(model: nn.Sequential, kept: Tensor, means: Tensor) -> nn.Sequential:
    """The network whose first layer reads the mean of an input wherever a connection is not kept.

    Args:
        model: a network that begins with a linear layer or a dense mixture layer. It stays as it is; the new
            network shares its later layers, and mixtures lose their dropout.
        kept: True for connections that read their input, (J, K).
        means: of the inputs, (K,).
    """
    layer = model[0]
    if isinstance(layer, nn.Linear):
        first = copy.deepcopy(layer)
        first.weight.mul_(kept)
        first.bias.add_((layer.weight.double() * ~kept) @ means.double())
    else:
        first = _WithMeans(layer, kept, means.to(layer.mean.dtype))
    return nn.Sequential(first, *list(model)[1:]).train(model.training)


def best_order(
    model: nn.Sequential, orders: dict[str, Tensor], means: Tensor, examples: Examples, keep: float
) -> str:
    """The order whose deletion down to ``keep`` leaves the best accuracy; the first one among ties."""

    def accuracy(name: str) -> float:
        rest = with_means(model, kept_connections(orders[name], keep), means)
        return evaluate(rest, examples)["accuracy"]

    return max(orders, key=accuracy)


def deletion_curves(
    model: nn.Sequential, orders: dict[str, Tensor], means: Tensor, examples: Examples, settings: dict
) -> dict[str, list]:
    """Accuracies over the fractions of deleted connections, by order. The random entry is a list of them."""

    def curve(order: Tensor) -> list[float]:
        kept = [kept_connections(order, 1.0 - fraction) for fraction in settings["fractions"]]
        return [evaluate(with_means(model, some, means), examples)["accuracy"] for some in kept]

    curves: dict[str, list] = {name: curve(order) for name, order in orders.items()}
    shape = orders["variance"].shape
    draws = (torch.Generator().manual_seed(seed) for seed in range(settings["random_orders"]))
    curves["random"] = [curve(torch.rand(shape, generator=draw)) for draw in draws]
    return curves
