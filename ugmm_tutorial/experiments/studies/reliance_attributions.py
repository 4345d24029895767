"""Which pixels a network's answer for one image rests on, by several scores, and how faithful these are.

A score is faithful if the answer suffers when the pixels that it ranks highest are replaced by their training
means. Networks end in class scores (B, C), images are rows (B, K). For chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.data import Examples
from ugmm_tutorial.interpretation import back_project
from ugmm_tutorial.layers.dense import MixtureLayer

__all__ = [
    "attributions",
    "evenly_spaced",
    "faithfulness",
    "gradients",
    "integrated_gradients",
    "log_probabilities",
]


def evenly_spaced(examples: Examples, count: int) -> Examples:
    """So many examples, evenly spaced: MNIST's first test images are harder than its last.

    >>> evenly_spaced(Examples(torch.zeros(6, 1), torch.arange(6)), 3).y.tolist()
    [0, 2, 4]
    """
    places = torch.arange(count) * len(examples.y) // count
    return Examples(examples.x[places], examples.y[places])


def log_probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Log-softmax of the class scores, (B, C), in float64: a probability near one has a gradient there."""
    return model(x).double().log_softmax(dim=-1)


def gradients(model: nn.Module, x: Tensor, answers: Tensor) -> Tensor:
    """Gradient of the log-probability of each row's answer with respect to its inputs, (B, K).

    Args:
        model: a network in evaluation mode, so that rows do not depend on one another.
        x: inputs, (B, K).
        answers: a class for each, (B,).
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        chosen = log_probabilities(model, x).gather(1, answers.unsqueeze(1))
        return torch.autograd.grad(chosen.sum(), x)[0]


def integrated_gradients(model: nn.Module, x: Tensor, answers: Tensor, base: Tensor, steps: int) -> Tensor:
    """Mean gradient on the way from ``base`` (K,) to each row, times the way, (B, K).

    The gradients are taken in the middle of ``steps`` equal parts. Summed over the inputs, the scores are the
    difference of the answer's log-probability between the row and ``base``, up to the error of that sum.

    Source: Sundararajan, Taly and Yan (2017), *Axiomatic attribution for deep networks*.
    """
    total = torch.zeros_like(x)
    for step in range(steps):
        share = (step + 0.5) / steps
        total += gradients(model, base + share * (x - base), answers)
    return total / steps * (x - base)


def attributions(
    model: nn.Sequential, x: Tensor, answers: Tensor, base: Tensor, *, steps: int, seed: int
) -> dict[str, Tensor]:
    """Scores of the inputs for the answer of each row, (B, K) each; larger speaks more for the answer.

    Args:
        model, x, answers: as for :func:`gradients`.
        base: what an input is compared with, its training mean, (K,).
        steps: of the integrated gradients.
        seed: of the random scores.

    Returns:
        ``"gradient"`` times (x - base), ``"integrated gradients"``, ``"distance"`` |x - base|, which knows
        nothing of the network, and ``"random"``. For mixtures also ``"back-projection"``, the back-projected
        responsibilities of the answer, and the same ``"back-projection times distance"``.
    """
    distance = (x - base).abs()
    scores = {
        "gradient": gradients(model, x, answers) * (x - base),
        "integrated gradients": integrated_gradients(model, x, answers, base, steps),
        "distance": distance,
        "random": torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)),
    }
    if isinstance(model[0], MixtureLayer):
        shares = back_project(model, x)[torch.arange(len(x)), answers]
        scores |= {"back-projection": shares, "back-projection times distance": shares * distance}
    return scores


@torch.no_grad()
def faithfulness(
    model: nn.Module, x: Tensor, answers: Tensor, scores: Tensor, base: Tensor, counts: Sequence[int]
) -> dict[str, list[float]]:
    """What replacing the highest-ranked inputs of each row does to its answer, means over the rows.

    Args:
        model, x, answers: as for :func:`gradients`; ``answers`` are those of the network.
        scores: of the inputs, (B, K).
        base: what replaces them, (K,).
        counts: how many inputs are replaced.

    Returns:
        For each count: ``fall``, by how much the log-probability of the answer falls, in nats; ``changed``,
        the share of rows with another answer.
    """
    before = log_probabilities(model, x).gather(1, answers.unsqueeze(1)).squeeze(1)
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    found: dict[str, list[float]] = {"fall": [], "changed": []}
    for count in counts:
        after = log_probabilities(model, torch.where(ranks < count, base, x))
        found["fall"].append((before - after.gather(1, answers.unsqueeze(1)).squeeze(1)).mean().item())
        found["changed"].append((after.argmax(dim=1) != answers).double().mean().item())
    return found
