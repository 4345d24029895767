"""Exercises of chapter 5, layer normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ugmm_tutorial.layers.dense import UGMMLayer
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
)

__all__ = ["EXERCISES", "gradient_by_hand", "normalised_by_hand", "start_from_data"]


# --- 5.1 --------------------------------------------------------------------------------------------


def normalised_by_hand(answer: object) -> str:
    """5.1: the first of three outputs, -1, -2 and -6 nats, after LayerNorm."""
    value = as_number(answer)
    h = torch.tensor([-1.0, -2.0, -6.0], dtype=torch.float64)
    centred = h - h.mean()
    variance = centred.square().mean()
    right = (centred / variance.sqrt())[0]
    mistakes = {
        "This is the second output: the first is asked for.": (centred / variance.sqrt())[1],
        "This is the third output: the first is asked for.": (centred / variance.sqrt())[2],
        "LayerNorm's variance divides by J = 3, not by J - 1.": (centred / h.std())[0],
        "This divides by the variance; its square root is the spread.": (centred / variance)[0],
        "The mean is subtracted, but nothing is divided by the spread.": centred[0],
        "This is divided by the spread, but the mean has not been subtracted.": (h / variance.sqrt())[0],
        "The sign is turned around: the first output is the largest of the three.": -right,
        "This divides by the range; the spread is the root of the mean squared deviation.": centred[0] / 5,
        "This divides by the mean absolute deviation; LayerNorm squares first.": (
            centred[0] / centred.abs().mean()
        ),
        "This divides by the root mean square of the outputs, without their mean taken off.": (
            h[0] / h.square().mean().sqrt()
        ),
        "This is the mean of the three, the first step.": h.mean(),
        "This is the spread of the three, the divisor.": variance.sqrt(),
        "This is the variance of the three; its root is the divisor.": variance,
    }
    otherwise = "Subtract the mean of the three, then divide by the root of the mean squared deviation."
    if abs(value - right) < 0.05:
        otherwise = "Nearly: please give two decimals."
    compare(value, right, mistakes, otherwise, rtol=0.0, atol=6e-3)
    return "Add any constant to the three outputs, or double them: the answer stays what it is."


# --- 5.2 --------------------------------------------------------------------------------------------


def gradient_by_hand(answer: object) -> str:
    """5.2: the gradient of a LayerNorm (without gain, bias and epsilon) with respect to its inputs."""
    function = as_function(answer, "layer_norm_gradient(h, g)")
    h, g = 0.5 * draw(6, 5, seed=0) - 2.0, draw(6, 5, seed=1)
    hints = {
        (5,): "Nothing is summed over the examples.",
        (6,): "There is one gradient for each output of each example.",
        (6, 1): "There is one gradient for each output of each example.",
    }
    got = as_tensor(call(function, h, g), (6, 5), "(B, J)", hints)

    m, spread = h.mean(-1, keepdim=True), h.std(-1, correction=0, keepdim=True)
    hat = (h - m) / spread
    mean_g, along = g.mean(-1, keepdim=True), hat * (g * hat).mean(-1, keepdim=True)
    sample = h.std(-1, keepdim=True)
    by_column = (h - h.mean(0)) / h.std(0, correction=0)
    right = (g - mean_g - along) / spread
    mistakes = {
        "The mean and the spread depend on h as well: this takes them as constants.": g / spread,
        "The part that comes from the mean is there, that from the spread is missing.": (g - mean_g) / spread,
        "The part that comes from the spread is there, that from the mean is missing.": (g - along) / spread,
        "The division by the spread is missing.": g - mean_g - along,
        "The spread stands in the divisor once, not squared.": right / spread,
        "A sign is wrong: both parts are taken off g.": (g + mean_g + along) / spread,
        "A sign is wrong: the part that comes from the spread is taken off.": (g - mean_g + along) / spread,
        "A sign is wrong: the part that comes from the mean is taken off.": (g + mean_g - along) / spread,
        "These are sums over the neurons where means belong.": (
            (g - g.sum(-1, keepdim=True) - hat * (g * hat).sum(-1, keepdim=True)) / spread
        ),
        "The variance of LayerNorm divides by J, and `std` by J - 1 unless told otherwise.": (
            (g - mean_g - (h - m) / sample * (g * (h - m) / sample).mean(-1, keepdim=True)) / sample
        ),
        "The statistics run over the batch: in LayerNorm they run over the neurons of one example.": (
            (g - g.mean(0) - by_column * (g * by_column).mean(0)) / h.std(0, correction=0)
        ),
        "This is the normalised output itself, not a gradient.": hat,
        "In the part that comes from the spread, h must be normalised, not only centred.": (
            (g - mean_g - (h - m) * (g * (h - m)).mean(-1, keepdim=True)) / spread
        ),
        "This is the right gradient for g = 1, which is zero: where has g gone?": torch.zeros_like(g),
    }
    otherwise = (
        "Its sum over the neurons must be zero, and so must its sum after multiplication with h: are they?"
    )
    compare(got, right, mistakes, otherwise)
    return (
        "What is left is orthogonal to (1, ..., 1) and to h, and the narrower the spread, the larger it is."
    )


# --- 5.3 --------------------------------------------------------------------------------------------

_WIDTHS = (20, *[24] * 6, 10)
_LEAST_SIGNAL = 0.05


def start_from_data(answer: object) -> str:
    """5.3: an initialisation that lets the signal reach the end of a deep network without LayerNorm."""
    function = as_function(answer, "start(network, x)")
    examples = torch.sigmoid(draw(600, 4, seed=2) @ draw(4, 20, seed=3)).float()
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = UGMMNet(_WIDTHS).float()
        before = [(name, id(p), p.shape) for name, p in network.named_parameters()]
        state = {name: p.detach().clone() for name, p in network.named_parameters()}
        returned = call(function, network, examples[:300], silent=True)
        _check_in_place(network, before, state, returned)
        _check_signal(network, examples[300:])
    return (
        "The neurons have a place and a width for every input, so a scale that nobody chose can be met by a "
        "better start; only LayerNorm keeps it met while the layers below learn."
    )


def _check_in_place(network: nn.Module, before: list, state: dict, returned: object) -> None:
    if not all(type(module) is UGMMLayer for module in network):
        raise NotYet(
            "The network should stay one of uGMM layers and nothing else: change what they start from."
        )
    after = [(name, id(p), p.shape) for name, p in network.named_parameters()]
    if after != before:
        raise NotYet(
            "Parameters were replaced: an optimiser made before would still hold the old ones. Change their "
            "values in place, with copy_."
        )
    if not all(p.isfinite().all() for p in network.parameters()):
        raise NotYet("Some parameters are NaN or infinite: is the logarithm of a zero deviation among them?")
    if all(torch.equal(p, state[name]) for name, p in network.named_parameters()):
        if returned is None or returned is ...:
            raise Unanswered
        raise NotYet("No parameter has changed: `start` should work in place, not return something.")


@torch.no_grad()
def _check_signal(network: nn.Module, x: Tensor) -> None:
    """Check each layer's signal: the median spread of its neurons over examples unknown to ``start``."""
    for number, layer in enumerate(network, start=1):
        x = layer(x)
        if not x.isfinite().all():
            raise NotYet(f"The outputs of layer {number} are not finite.")
        signal = x.std(dim=0).median().item()
        if signal > 1e6:
            raise NotYet(
                f"In layer {number} the signal has grown to {signal:.0f} nats: that is too much. Is each "
                "layer started from what the layers before it, already started, hand on?"
            )
        if signal < _LEAST_SIGNAL:
            advice = (
                "Is each layer started from what the layers before it, already started, hand on?"
                if number > 2
                else "Are the deviations as wide as the input's own?"
            )
            raise NotYet(
                f"In layer {number} a neuron's output differs between examples by {signal:.4f} nats, and "
                f"{_LEAST_SIGNAL} are asked for in every layer. {advice}"
            )


EXERCISES = {
    "5.1": Exercise(
        normalised_by_hand,
        "Begin with the mean of the three outputs, and then the three squared distances from it.",
    ),
    "5.2": Exercise(
        gradient_by_hand,
        "Write h_hat = (h - m) / s and differentiate: m and s depend on every h_j of the same example.",
    ),
    "5.3": Exercise(
        start_from_data,
        "Go through the layers: place means where each input lives, make deviations as wide as it varies, "
        "and hand x on through the layer that you have just changed.",
    ),
}
