"""The deletion test: accuracy against the fraction of components deleted.

If responsibilities say what a network relies on, deleting the least responsible components should do less
harm than deleting as many at random. By default weights are not renormalised, as in the identity
log(1 - R_D). No neuron is removed, so LayerNorms see as many values as before. Taught in chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.data import Examples
from ugmm_tutorial.interpretation.pruning import counts_of, dense_layers_of, prune
from ugmm_tutorial.interpretation.tracing import batches, head_of, layers_of
from ugmm_tutorial.kernels.arguments import indices, reals
from ugmm_tutorial.layers.dense import MixtureLayer
from ugmm_tutorial.networks import ConvNet
from ugmm_tutorial.training.evaluation import checked_examples, evaluate, evaluating

__all__ = ["deletion_curve", "deletion_curve_by_example"]


def deletion_curve(
    model: nn.Module,
    examples: Examples,
    importance: Sequence[Tensor],
    fractions: Sequence[float],
    *,
    layers: Sequence[int] | None = None,
    renormalize: bool = False,
) -> list[float]:
    """Accuracy after deleting fractions of the components of every neuron, the least important first.

    Args:
        model: as for :func:`~ugmm_tutorial.interpretation.prune`.
        examples: where accuracy is measured; use other examples than those behind ``importance``.
        importance: of the components of every layer, each (J, K). Change all signs to delete the most
            important components first.
        fractions: from 0 to below 1; every neuron keeps at least one component.
        layers: which mixture layers lose components, counted from the input; all by default.
        renormalize: whether the remaining weights are divided by their sum.

    Raises:
        TypeError, ValueError: as for :func:`~ugmm_tutorial.interpretation.prune`; ValueError for a fraction
            that is out of its range.
        IndexError: there is no such layer.

    >>> digits = Examples(torch.rand(1, 1, 28, 28), torch.tensor([2]))
    >>> len(deletion_curve(ConvNet(head="ugmm", widths=(3,)), digits, [torch.rand(3, 1024)], [0.0, 0.5]))
    2
    """
    accuracies = []
    for keep in _keeps(model, fractions, layers):
        rest = prune(model, keep, importance, renormalize=renormalize, remove_unread=False)
        accuracies.append(evaluate(rest, examples)["accuracy"])
    return accuracies


@torch.no_grad()
def deletion_curve_by_example(
    model: nn.Module,
    examples: Examples,
    fractions: Sequence[float],
    *,
    layers: Sequence[int] | None = None,
) -> list[float]:
    """Accuracy if every example deletes the components that are least responsible for this example alone.

    This is the best that the identity allows: no other choice of as many components changes an output less.
    It saves no time, because all components are computed to find the least responsible ones.

    Args and Raises: as for :func:`deletion_curve`.

    >>> digits = Examples(torch.rand(1, 1, 28, 28), torch.tensor([2]))
    >>> len(deletion_curve_by_example(ConvNet(head="ugmm", widths=(3,)), digits, fractions=[0.0, 0.5, 0.9]))
    3
    """
    examples = checked_examples(examples)
    accuracies = []
    for keep in _keeps(model, fractions, layers):
        counts = counts_of(keep, dense_layers_of(model))
        correct = 0
        for x, y in batches(model, *examples):
            correct += int((_scores(model, x, counts).argmax(dim=1).cpu() == y.cpu()).sum())
        accuracies.append(correct / len(examples.y))
    return accuracies


def _scores(model: nn.Module, x: Tensor, counts: Sequence[int]) -> Tensor:
    """Outputs (B, J) of the network in which each neuron sums only its largest terms."""
    head, each = head_of(model), iter(counts)  # a layer that keeps all runs on the fused kernel
    with evaluating(model):
        x = x.to(next(model.parameters()).device)
        x = model.features(x) if isinstance(model, ConvNet) else x
        for module in head:
            if isinstance(module, MixtureLayer) and (count := next(each)) < module.in_features:
                terms = module.component_log_densities(x)
                x = terms.topk(count, dim=-1, sorted=False).values.logsumexp(dim=-1)
            else:
                x = module(x)
    return x


def _keeps(model: nn.Module, fractions: Sequence[float], layers: Sequence[int] | None) -> list[list[float]]:
    """The share that each layer keeps, for every fraction."""
    fractions = reals("fractions", fractions)
    if not all(0.0 <= fraction < 1.0 for fraction in fractions):
        raise ValueError(f"expected fractions from 0 to below 1, got {fractions}")
    depth = len(layers_of(model))
    layers = indices("layers", range(depth) if layers is None else layers, depth)
    return [[1.0 - f if place in layers else 1.0 for place in range(depth)] for f in fractions]
