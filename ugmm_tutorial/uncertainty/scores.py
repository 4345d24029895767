"""Out-of-distribution scores: one number per example, larger where the network should be less certain.

Softmax scores depend only on differences between logits. The others depend on their level too: the largest
logit and the energy for any network, and for a uGMM network also the log-densities of its layers. Taught in
chapter 12.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels.arguments import numbers_in, shown
from ugmm_tutorial.layers.dense import MixtureLayer
from ugmm_tutorial.uncertainty.outputs import layer_log_densities, logits

__all__ = ["atypicality", "entropy", "mutual_information", "ood_scores"]


def ood_scores(model: nn.Module, x: Tensor, *, batch_size: int = 1000) -> dict[str, Tensor]:
    """Scores (N,) of the examples ``x``, float64, by name; a larger one is further out of distribution.

    - ``"max softmax"``: one minus the largest probability (Hendrycks and Gimpel 2017);
    - ``"entropy"``: of the probabilities, in nats;
    - ``"max logit"``: minus the largest logit (Hendrycks et al. 2022);
    - ``"energy"``: minus the logsumexp of the logits (Liu et al. 2020).

    For a network with uGMM layers also, in nats and before any LayerNorm on its outputs,

    - ``"root maximum"``: minus the largest output of the last uGMM layer;
    - ``"root logsumexp"``: minus the logsumexp of its outputs; if these were log p(x | c), this would be
      minus log p(x), up to a constant;
    - ``"layer 1"``, ``"layer 2"``, ...: minus the sum over the neurons of each layer before the last.

    Args, Raises:
        as for :func:`~ugmm_tutorial.uncertainty.outputs.logits`.

    >>> list(ood_scores(nn.Linear(4, 3), torch.rand(8, 4)))
    ['max softmax', 'entropy', 'max logit', 'energy']
    """
    z = logits(model, x, batch_size=batch_size)
    largest, winner = z.max(dim=1)
    # One minus a probability near one would cancel, and all confident answers would tie.
    others = z.scatter(1, winner.unsqueeze(1), -torch.inf)
    found = {
        "max softmax": torch.sigmoid(torch.logsumexp(others, dim=1) - largest),
        "entropy": _entropy(torch.softmax(z, dim=1)),
        "max logit": -largest,
        "energy": -torch.logsumexp(z, dim=1),
    }
    if any(isinstance(module, MixtureLayer) for module in model.modules()):
        *hidden, root = layer_log_densities(model, x, batch_size=batch_size)
        found["root maximum"] = -root.amax(dim=1)
        found["root logsumexp"] = -torch.logsumexp(root, dim=1)
        found |= {f"layer {n}": -layer.sum(dim=1) for n, layer in enumerate(hidden, start=1)}
    return found


def atypicality(scores: Tensor, reference: Tensor) -> Tensor:
    """Distance of scores (N,) from their mean over reference examples, on either side: (N,).

    It is made for log-densities. An image that is *too* likely is atypical as well, for example a black one
    under a density that has learnt that most pixels are black.

    Args:
        scores: of the examples in question, (N,).
        reference: the same score of in-distribution examples that were not trained on, (M,).

    Raises:
        ValueError: scores are not (N,) and (M,), M >= 1.

    Source: the typicality test of Nalisnick, Matsukawa, Teh and Lakshminarayanan (2019), "Detecting
    out-of-distribution inputs to deep generative models using typicality", for a single example.

    >>> atypicality(torch.tensor([1.0, 5.0, 9.0]), reference=torch.tensor([4.0, 6.0]))
    tensor([4., 0., 4.])
    """
    for name, values in (("scores", scores), ("reference", reference)):
        numbers_in(name, values)
    if scores.dim() != 1 or reference.dim() != 1 or len(reference) == 0:
        shapes = f"{tuple(scores.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"expected scores (N,) and reference (M,), M >= 1, got {shapes}")
    return (scores - reference.mean()).abs()


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last axis: ``(*, C)`` to ``(*)``.

    Raises:
        TypeError, ValueError: they are no such tensor, or no probabilities that sum to one.

    >>> entropy(torch.tensor([0.5, 0.5]))
    tensor(0.6931)
    """
    return _entropy(_probabilities("probabilities", probabilities))


def mutual_information(members: Tensor) -> Tensor:
    """How much the members disagree, in nats: (M, N, C) to (N,), 0 where all agree.

    It is the entropy of their mean minus the mean of their entropies.

    Raises:
        ValueError: probabilities are not (M, N, C).

    Source: Houlsby et al. (2011); for ensembles and dropout, Gal (2016).

    >>> mutual_information(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    tensor([0.6931])
    """
    if _probabilities("members", members).dim() != 3 or len(members) == 0:
        raise ValueError(f"expected probabilities (M, N, C) of members, got {tuple(members.shape)}")
    # Rounding may make the difference slightly negative.
    return (_entropy(members.mean(dim=0)) - _entropy(members).mean(dim=0)).clamp(min=0.0)


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


def _probabilities(name: str, values: Tensor) -> Tensor:
    """Probabilities along the last axis, checked; in half precision they need not sum to one exactly."""
    if numbers_in(name, values).dim() == 0:
        raise ValueError(f"expected {name} to be probabilities (*, C), got a single number")
    if not (bool((values >= 0.0).all()) and bool(((values.sum(dim=-1) - 1.0).abs() < 0.01).all())):
        raise ValueError(f"expected {name} to be probabilities >= 0 with sum 1, got {shown(values.tolist())}")
    return values
