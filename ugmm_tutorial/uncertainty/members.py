"""Several predictions instead of one: deep ensembles, and one network with its dropout left on.

Use the mean over members, ``members.mean(dim=0)``, as probabilities. How much the members disagree measures
uncertainty (:func:`~ugmm_tutorial.uncertainty.scores.mutual_information`). Taught in chapter 12.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.layers.dense import MixtureLayer
from ugmm_tutorial.training.evaluation import evaluating
from ugmm_tutorial.uncertainty.outputs import batched, probabilities

__all__ = ["ensemble", "mc_dropout"]

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def ensemble(models: Sequence[nn.Module], x: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Probabilities of every network, (M, N, C), float64.

    Args:
        models: at least one network, all for one task, for example trained alike from M seeds.
        x: the examples.
        batch_size: how many at a time.

    Raises:
        ValueError: no networks, or they differ in classes; or as for
            :func:`~ugmm_tutorial.uncertainty.outputs.logits`.

    Source: Lakshminarayanan, Pritzel and Blundell (2017).

    >>> ensemble([nn.Linear(4, 3), nn.Linear(4, 3)], torch.rand(8, 4)).shape
    torch.Size([2, 8, 3])
    """
    if isinstance(models, str | nn.Module) or hasattr(models, "ndim") or not isinstance(models, Iterable):
        raise TypeError(f"expected models to be a sequence of networks, got {check.shown(models)}")
    models = [check.module("every one of models", model) for model in models]
    if len(models) == 0:
        raise ValueError("expected models with at least one network, got none")
    found = [probabilities(model, x, batch_size=batch_size) for model in models]
    if len(classes := {each.shape[1] for each in found}) > 1:
        raise ValueError(f"expected models with the same classes, got {sorted(classes)} of them")
    return torch.stack(found)


def mc_dropout(
    model: nn.Module, x: Tensor, *, passes: int = 20, seed: int = 0, batch_size: int = 1000
) -> Tensor:
    """Probabilities of ``passes`` runs of one network with random dropout, (passes, N, C), float64.

    Only dropout is on: of activations in an MLP, of components in a uGMM layer. Everything else, such as
    batch normalisation, is in evaluation mode. A uGMM layer draws one mask for each pass and batch. PyTorch's
    random state is restored.

    Args:
        model: a network that was trained with dropout.
        x: the examples.
        passes: number of runs, at least 1.
        seed: of the masks; they depend on ``batch_size`` too.
        batch_size: how many examples at a time.

    Raises:
        ValueError: a network without dropout, no passes, or as for
            :func:`~ugmm_tutorial.uncertainty.outputs.logits`.

    Source: Gal and Ghahramani (2016), "Dropout as a Bayesian approximation".

    >>> mc_dropout(nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), torch.rand(8, 4), passes=5).shape
    torch.Size([5, 8, 3])
    """
    passes, seed = check.integer("passes", passes, 1), check.seed(seed)
    dropping = [module for module in check.module("model", model).modules() if _drops(module)]
    if not dropping:
        raise ValueError("expected a network with dropout: without any, all passes would be the same")
    devices = [d for d in {p.device for p in model.parameters()} if d.type == "cuda"]
    with evaluating(model), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for module in dropping:
            module.train()
        return torch.stack([torch.softmax(batched(model, x, batch_size), dim=1) for _ in range(passes)])


def _drops(module: nn.Module) -> bool:
    if isinstance(module, MixtureLayer):
        return module.dropout > 0.0
    return isinstance(module, _DROPOUT) and module.p > 0.0
