"""Exercises of chapter 9: the highest score and who reaches it, the posterior, training for labels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ugmm_tutorial import data
from ugmm_tutorial.data import with_every_label
from ugmm_tutorial.inference import label_posterior
from ugmm_tutorial.layers import MixtureLayer, UGMMLayer
from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    Unanswered,
    as_function,
    as_number,
    as_tensor,
    call,
    compare,
    draw,
    shown,
)
from ugmm_tutorial.training.reproducible import seeded

__all__ = ["EXERCISES", "highest_score", "know_nothing", "posterior", "trained_for_labels"]


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


# --- 9.4 --------------------------------------------------------------------------------------------

#: Sizes, and the floor under the deviations. The answer has to work for any.
_EMPTIED = (((5, 6, 4, 1), 0.01), ((5, 8, 5, 3, 1), 0.002))
_IN_NATS = 1e-3  # how near to the bound every score has to come


def know_nothing(answer: object) -> str:
    """9.4: the last two layers of a network, changed so that everything scores as high as possible."""
    function = as_function(answer, "know_nothing(network)")
    for widths, floor in _EMPTIED:
        with seeded(len(widths)):
            network = UGMMNet(widths, min_std=floor).to(torch.get_default_dtype())
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        returned = call(function, network, silent=True)
        _check_two_layers(network, before, widths, returned)
        _check_everything_scores_alike(network, floor)
    return (
        "Flowers and noise have the highest score there is, and every label has a third: the joint objective "
        "has no better network to offer."
    )


def _check_two_layers(network: nn.Module, before: dict, widths: tuple[int, ...], returned: object) -> None:
    kinds = [type(module) is UGMMLayer for module in network]
    after = dict(network.named_parameters())
    if kinds != [True] * (len(widths) - 1) or {n: p.shape for n, p in after.items()} != {
        n: p.shape for n, p in before.items()
    }:
        raise NotYet("The layers should stay as they are, in number, kind and size: change their parameters.")
    changed = {int(name.split(".")[0]) for name, p in after.items() if not torch.equal(p, before[name])}
    if not changed:
        if returned is None or returned is ...:
            raise Unanswered
        raise NotYet("No parameter has changed: `know_nothing` works in place, what it returns is not used.")
    if not all(p.isfinite().all() for p in after.values()):
        raise NotYet("Some parameters are NaN or infinite: what is stored is the logarithm of a deviation.")
    if min(changed) < len(widths) - 3:
        raise NotYet(f"Layer {min(changed) + 1} has changed: only the last two layers may.")


@torch.no_grad()
def _check_everything_scores_alike(network: nn.Sequential, floor: float) -> None:
    """Check that flowers, and noise around them, have the highest score there is beside every label."""
    root, bound = network[-1], -math.log(floor * math.sqrt(2 * math.pi))
    x = torch.cat([data.iris(seed=2).train.x.double(), 5 + 5 * draw(50, 4, seed=4)]).to(root.mean)
    rows = with_every_label(x, torch.arange(3.0).to(x))
    if root.min_std != floor:
        raise NotYet("The floor itself has changed: every network has its own, leave it as it is.")
    hidden = network[:-1](rows).flatten(0, -2)
    if not hidden.isfinite().all():
        raise NotYet("The root's inputs are infinite or NaN: do not move means so far, widen deviations.")
    spread = (hidden.amax(dim=0) - hidden.amin(dim=0)).max().item()
    if spread > floor / 50:
        raise NotYet(
            f"The root's inputs still differ by {spread:.2g} nats between flowers: which deviations in the "
            "layer below make its outputs forget what they read?"
        )
    if (root.std > 1.01 * floor).any():
        raise NotYet(
            f"The root's inputs are constant, and its deviations reach {root.std.max():.2g}: a component is "
            f"highest with its deviation on the floor, here {floor:g}."
        )
    if (root.mean - hidden[:1]).abs().max() > floor / 20:
        raise NotYet("The root's means are not where its inputs are: a component is highest at its mean.")
    lowest = network(rows).min().item()
    if lowest < bound - _IN_NATS:
        raise NotYet(f"Some rows score {lowest:.3f} nats, and the highest possible score is {bound:.3f}.")


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
    "9.4": Exercise(
        know_nothing,
        "Begin with the last layer but one, `network[-2]`: with which deviations are its outputs the "
        "same for every flower?",
    ),
}
