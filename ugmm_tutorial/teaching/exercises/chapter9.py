"""Exercises of chapter 9: the highest possible score, the posterior over labels, and training for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ugmm_tutorial import data
from ugmm_tutorial.inference import label_posterior
from ugmm_tutorial.layers import MixtureLayer
from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    as_tensor,
    call,
    compare,
    draw,
    shown,
)
from ugmm_tutorial.training.reproducible import seeded

__all__ = ["EXERCISES", "highest_score", "posterior", "trained_for_labels"]


# --- 9.1 --------------------------------------------------------------------------------------------


def highest_score(answer: object) -> str:
    """9.1: the value that no mean output can exceed with a floor of 0.05 under the deviations."""
    floor = 0.05
    mistakes = {
        "This is the density itself; outputs are logarithms.": 1 / (floor * math.sqrt(2 * math.pi)),
        "The sign is turned around: narrower components are higher.": math.log(
            floor * math.sqrt(2 * math.pi)
        ),
        # Two mistakes give nearly the same number; the second is -log2(floor sqrt(2 pi)).
        "The square root of two pi is missing, or the logarithm is to base 2: outputs are in nats.": (
            -math.log(floor)
        ),
        "The root of two pi stands below the fraction, with the floor.": (
            -math.log(floor / math.sqrt(2 * math.pi))
        ),
        "The floor is a deviation, not a variance.": -0.5 * math.log(2 * math.pi * floor),
        "This is the bound for the floor of the package, 0.001.": -math.log(1e-3 * math.sqrt(2 * math.pi)),
    }
    otherwise = "How high is a Gaussian of deviation 0.05 at its mean? And can a mixture of such be higher?"
    compare(
        as_number(answer), -math.log(floor * math.sqrt(2 * math.pi)), mistakes, otherwise, rtol=0, atol=5e-3
    )
    return "A mixture is a mean of its components, so none of its values is above the highest of theirs."


# --- 9.2 --------------------------------------------------------------------------------------------


def posterior(answer: object) -> str:
    """9.2: the posterior P(label | x) from a joint score."""
    function = as_function(answer, "posterior(root, x, labels)")
    with seeded(0):
        network = UGMMNet((4, 5, 1)).double().requires_grad_(False)
    x, labels = draw(6, 3, seed=1), torch.tensor([2.0, 0.0, 1.0, 4.0], dtype=torch.float64)

    def high(inputs: Tensor) -> Tensor:
        return network(inputs) + 2000.0

    hints = {
        (6, 4, 1): "The model's outputs have a last axis of length one: take it away.",
        (4, 6): "Examples first, labels second.",
        (6,): "One probability for each label, not only the largest.",
    }
    right = label_posterior(network, x, labels.tolist())
    got = as_tensor(call(function, network, x.clone(), labels.clone()), (6, 4), "(N, L)", hints)
    scores = _scores(network, x, labels)
    mistakes = {
        "These are scores: exponentials of them, divided by their sum, are probabilities.": scores,
        "These are logarithms of probabilities.": right.log(),
        "Exponentials of scores do not sum to one yet.": scores.exp(),
        "This is normalised over the examples; a flower's probabilities sum over its labels.": scores.softmax(
            0
        ),
        "The label is the last input, behind the features.": _scores(network, x, labels, first=True).softmax(
            1
        ),
        "The network reads the numbers in `labels`, not their places.": (
            _scores(network, x, torch.arange(4.0, dtype=torch.float64)).softmax(1)
        ),
        "Scores may be negative: dividing them by their sum gives no probabilities.": (
            scores / scores.sum(dim=1, keepdim=True)
        ),
    }
    otherwise = "Put each label behind each row of features, ask the network, and take a softmax over labels."
    compare(got, right, mistakes, otherwise)
    try:
        again = as_tensor(call(function, high, x.clone(), labels.clone()), (6, 4), "(N, L)", hints)
    except NotYet:
        again = torch.full_like(right, math.nan)
    if not torch.allclose(again, right, atol=1e-6):
        raise NotYet(
            "Right for these scores, but a constant of 2000 nats on all of them must change nothing: take "
            "the largest away before the exponential, or use softmax."
        )
    return "Whatever the scores leave out that is the same for all labels, such as a normaliser, cancels."


def _scores(network: nn.Module, x: Tensor, labels: Tensor, *, first: bool = False) -> Tensor:
    columns = []
    for label in labels:
        parts = [x, label.expand(len(x), 1)]
        columns.append(network(torch.cat(parts[::-1] if first else parts, dim=1)))
    return torch.cat(columns, dim=1)


# --- 9.3 --------------------------------------------------------------------------------------------

_LEAST_ACCURACY = 0.92


def trained_for_labels(answer: object) -> str:
    """9.3: a network of mixture neurons, which the reader trains on half of the flowers."""
    function = as_function(answer, "fit(x, y)")
    flowers = data.iris(test=75, seed=3)
    # The dtype of the reader's network, unless the reader chooses another.
    x, held_out = (part.x.to(torch.get_default_dtype()) for part in (flowers.train, flowers.test))
    network = call(function, x, flowers.train.y.clone())
    if not isinstance(network, nn.Module):
        raise NotYet(f"Expected a trained module, from inputs (N, 5) to (N, 1), got {shown(network)}.")
    if not any(isinstance(module, MixtureLayer) for module in network.modules()):
        raise NotYet("There is no mixture neuron in this network: it should have some.")
    network.eval()
    with torch.no_grad():
        probabilities = as_tensor(call(label_posterior, network, held_out, range(3)), (75, 3), "(N, 3)", {})
    accuracy = (probabilities.argmax(dim=1) == flowers.test.y).double().mean().item()
    if accuracy < _LEAST_ACCURACY:
        raise NotYet(
            f"{accuracy:.0%} of flowers that it has not seen are named right: {_LEAST_ACCURACY:.0%} are "
            "asked for. Which objective does a constant network not satisfy, and are the steps long enough?"
        )
    return f"{accuracy:.0%} of 75 flowers that it has not seen, after training on the other 75."


EXERCISES = {
    "9.1": Exercise(
        highest_score, "Begin with the largest value of one Gaussian density with deviation 0.05."
    ),
    "9.2": Exercise(
        posterior, "Begin with one label: a column of it behind x, and the root's output for each row."
    ),
    "9.3": Exercise(
        trained_for_labels,
        "Begin with EnsembleTrainer([UGMMNet((5, 10, 5, 1))], x[None], y[None]) and its `objective`.",
    ),
}
