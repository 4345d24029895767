"""Exercises of chapter 7, convolutional heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ugmm_tutorial import data
from ugmm_tutorial.experiments import cost
from ugmm_tutorial.functional import component_log_densities, responsibilities
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

__all__ = ["EXERCISES", "cheap_head", "feature_gradient", "features_of_digits", "number_of_features"]


# --- 7.1 --------------------------------------------------------------------------------------------


def number_of_features(answer: object) -> str:
    """7.1: the number of features that this chapter's network computes from an image of 40 x 40 pixels."""
    value = as_number(answer)
    mistakes = {
        "These are the features of an image of 28 x 28 pixels.": 1024,
        "This is the number of places; at each of them 64 filters answer.": 49,
        "The second convolution has 64 filters; 32 are the first one's.": 32 * 49,
        "Nothing is added at the border: a filter of 5 x 5 loses two pixels on every side.": 64 * 100,
        "Both convolutions are followed by pooling, which halves the side.": 64 * 14 * 14,
        "Pooling comes after each convolution, not only once after both.": 64 * 16 * 16,
        "Filters of the first convolution do not multiply: every filter of the second reads all 32.": (
            32 * 64 * 49
        ),
        "This is the side of a feature map; square it, and count the filters.": 7,
    }
    otherwise = "Follow the side of the image: a 5 x 5 filter takes four pixels off it, pooling halves it."
    compare(value, 64 * 49, mistakes, otherwise, rtol=0.0, atol=0.5)
    return "Three times as many as before, so the head's first layer has three times the components too."


# --- 7.2 --------------------------------------------------------------------------------------------


def feature_gradient(answer: object) -> str:
    """7.2: the gradient that a layer of mixture neurons sends back to its inputs."""
    function = as_function(answer, "feature_gradient(x, mean, log_std, log_weight, g)")
    x, g = draw(5, 4, seed=0), draw(5, 3, seed=1)
    mean, log_std = draw(3, 4, seed=2), 0.3 * draw(3, 4, seed=3)
    log_weight = draw(3, 4, seed=4).log_softmax(dim=-1)
    hints = {
        (4,): "Nothing is summed over the examples.",
        (5, 3, 4): "Sum over the neurons: a feature hears from all of them.",
        (5, 3): "One gradient for each feature of each example: sum over the neurons, not over the features.",
    }
    got = as_tensor(call(function, x, mean, log_std, log_weight, g), (5, 4), "(B, K)", hints)

    r = responsibilities(x, mean, log_std, log_weight)
    away, std = mean - x.unsqueeze(1), log_std.exp()

    def summed(factor: Tensor) -> Tensor:
        return (g.unsqueeze(-1) * factor).sum(dim=1)

    right = summed(r * away / std.square())
    mistakes = {
        "The sign is turned around: a component pulls its feature towards its mean.": -right,
        "g is missing: each neuron's pull counts as much as the loss wants it.": (
            (r * away / std.square()).sum(dim=1)
        ),
        "The deviation stands in the divisor squared.": summed(r * away / std),
        "Nothing is divided by the variance.": summed(r * away),
        "This divides by log_std, or its square: take the exponential first.": summed(
            r * away / log_std.square()
        ),
        "These are mixing weights; the shares depend on x.": summed(log_weight.exp() * away / std.square()),
        "The shares are missing: not every component answers equally.": summed(away / std.square()),
        "The shares sum to one over the inputs of a neuron, here over the neurons.": summed(
            _over_neurons(x, mean, log_std, log_weight) * away / std.square()
        ),
        "This is a mean over the neurons; gradients add up.": right / 3,
    }
    compare(got, right, mistakes, "Differentiate one term, log w + log N(x_k), and weight it with its share.")
    return "A feature at the means of all that listen to it gets no gradient: it is where it is wanted."


def _over_neurons(x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
    return component_log_densities(x, mean, log_std, log_weight).softmax(dim=-2)


# --- 7.3 --------------------------------------------------------------------------------------------

_MOST_EXPONENTIALS = 1500
_LEAST_ACCURACY = 0.94


def features_of_digits() -> tuple[Tensor, Tensor]:
    """Features (1797, 144) of the small digits from 16 random 3 x 3 filters, and the labels (1797,)."""
    digits = data.digits()
    parts = (digits.train, digits.validation, digits.test)
    images, labels = torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts])
    filters = draw(16, 1, 3, 3, seed=0, dtype=torch.float32)
    answers = torch.relu(nn.functional.conv2d(images.reshape(-1, 1, 8, 8), filters))
    return nn.functional.max_pool2d(answers, 2).flatten(1), labels


def cheap_head(answer: object) -> str:
    """7.3: a head of mixture neurons with few exponentials, which the reader trains on features."""
    function = as_function(answer, "cheap_head(x, y)")
    x, y = features_of_digits()
    head = call(function, x[:1200], y[:1200])
    if not isinstance(head, nn.Module):
        raise NotYet(f"Expected a trained module, from features (N, 144) to (N, 10), got {shown(head)}.")
    head.eval()
    used = call(cost.count, head, x[0]).exponentials
    if used == 0:
        raise NotYet("There is no mixture neuron in this head: it should have some.")
    if used > _MOST_EXPONENTIALS:
        raise NotYet(
            f"This head takes {used:,} exponentials for an image, and {_MOST_EXPONENTIALS:,} are allowed. "
            "Fewer neurons, or fewer features: which of them tell the digits apart?"
        )
    with torch.no_grad():
        outputs = as_tensor(call(head, x[1200:]), (597, 10), "(N, 10)", {})
    accuracy = (outputs.argmax(dim=1) == y[1200:]).double().mean().item()
    if accuracy < _LEAST_ACCURACY:
        raise NotYet(
            f"{used:,} exponentials, and {accuracy:.1%} of images that it has not seen: "
            f"{_LEAST_ACCURACY:.0%} are asked for. Where do its LayerNorms stand, and are the steps enough?"
        )
    return (
        f"{used:,} exponentials and {accuracy:.1%} right. A head over all 144 features with 64 neurons takes "
        "9,856."
    )


EXERCISES = {
    "7.1": Exercise(
        number_of_features,
        "Follow the side of the image through both convolutions and both poolings, beginning with 40 - 4.",
    ),
    "7.2": Exercise(
        feature_gradient,
        "Begin with `responsibilities(x, mean, log_std, log_weight)`, (B, J, K), and the derivative of one "
        "log-density with respect to x_k.",
    ),
    "7.3": Exercise(
        cheap_head,
        "Begin with UGMMNet((144, 10), norm='before'), train it, and count its exponentials.",
    ),
}
