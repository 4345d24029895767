"""Exercises of chapter 1, one neuron."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.functional import component_log_densities
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI
from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    as_tensor,
    call,
    close,
    compare,
    draw,
    shown,
)

__all__ = ["EXERCISES", "hard_neuron", "most_sensitive", "narrowest_neuron", "only_near_the_origin"]


# --- 1.1 --------------------------------------------------------------------------------------------


def narrowest_neuron(answer: object) -> str:
    """1.1: the largest output of a neuron with one input, mean 0 and standard deviation 0.1."""
    value, log_std = as_number(answer), math.log(0.1)
    right = -log_std - HALF_LOG_2PI
    mistakes = {
        "This is the density. The neuron hands on its logarithm.": math.exp(right),
        "This is the peak for a standard deviation of 1: where has the deviation gone?": -HALF_LOG_2PI,
        "This is the logarithm to base 10. The output is in nats.": right / math.log(10),
        "This is the logarithm to base 2. The output is in nats.": right / math.log(2),
        "The deviation is there, the constant of the normal distribution is not.": -log_std,
        "The constant is there twice: it stands under a square root.": right - HALF_LOG_2PI,
        "The variance has taken the place of the deviation.": -2 * log_std - HALF_LOG_2PI,
        "The deviation stands outside the square root.": -0.5 * log_std - HALF_LOG_2PI,
        "Check a sign: should a narrower Gaussian be lower?": log_std - HALF_LOG_2PI,
        "The sign is turned around: a density above one has a positive logarithm.": -right,
        "One is the area under the density, not its height, nor the logarithm of it.": 1.0,
    }
    if value <= 0 and not any(close(value, wrong, rtol=4e-3, atol=0.0) for wrong in mistakes.values()):
        raise NotYet("A density is not a probability: it may exceed one, and its logarithm may be positive.")
    otherwise = "At the right input the exponent vanishes; what is left of the formula there?"
    if abs(value - right) < 0.05:
        otherwise = "Nearly: please give two decimals."
    compare(value, right, mistakes, otherwise, rtol=4e-3, atol=0.0)
    return "It is reached at the mean; the narrower the component, the higher, and without any limit."


# --- 1.2 --------------------------------------------------------------------------------------------


def hard_neuron(answer: object) -> str:
    """1.2: the neuron with a maximum over components instead of the logsumexp."""
    function = as_function(answer, "hard_neuron(x, mean, std, weight)")
    x, mean = 2 * draw(4, 5, 3, seed=0), torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64)
    std = torch.tensor([0.6, 1.5, 0.8], dtype=torch.float64)
    weight = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    wrong_axis = "The components lie on the last axis, and the maximum runs over another."
    hints = {
        (4, 5, 3): "There still is one value for each component: where is the maximum over them?",
        (4, 5, 1): "The last axis should be gone, not of length one.",
        (5, 3): wrong_axis,
        (4, 3): wrong_axis,
        (): wrong_axis,
    }
    got = as_tensor(call(function, x, mean, std, weight), (4, 5), "(..., )", hints)

    terms, log_weight = _terms(x, mean, std, weight), weight.log()
    density, squares = terms - log_weight, ((x - mean) / std) ** 2
    right = terms.amax(dim=-1)
    mistakes = {
        "This is the neuron itself: its soft maximum is to become a hard one.": terms.logsumexp(dim=-1),
        "The weights are missing: a heavy component may beat a better fitting one.": density.amax(dim=-1),
        "This adds the components' logarithms, which is a product of Gaussians.": terms.sum(dim=-1),
        "This is the smallest term: the neuron listens to the loudest.": terms.amin(dim=-1),
        "`std` is used as if it were a variance.": _terms(x, mean, std.sqrt(), weight).amax(dim=-1),
        "These are densities: the output is a logarithm.": right.exp(),
        "The constant with 2 pi is missing; the outputs should be log-densities.": right + HALF_LOG_2PI,
        "The logarithm of `std` is missing: narrow components are higher.": (terms + std.log()).amax(-1),
        "A weight enters by its logarithm, next to a log-density.": (density + weight).amax(dim=-1),
        "A weight multiplies the density, not its logarithm.": (density * weight).amax(dim=-1),
        "The factor one half before the square is missing.": (terms - 0.5 * squares).amax(dim=-1),
    }
    otherwise = "The outputs are others: compare with the terms under the logsumexp, one by one."
    compare(got, right, mistakes, otherwise)
    return (
        "It lies below the neuron by minus the logarithm of the largest responsibility: log K where all "
        "components answer equally loudly."
    )


def _terms(x: Tensor, mean: Tensor, std: Tensor, weight: Tensor) -> Tensor:
    return component_log_densities(x, mean[None], std.log()[None], weight.log()[None])[..., 0, :]


# --- 1.3 --------------------------------------------------------------------------------------------

_FARTHER = (3.5, 4, 5, 6, 8, 10)  # radii where the neuron must be as low as at 3


def only_near_the_origin(answer: object) -> str:
    """1.3: features of two inputs with which one neuron is high only near the origin."""
    function = as_function(answer, "features(x)")
    angle = torch.arange(360, dtype=torch.float64) * (math.pi / 180)
    circle = torch.stack((angle.cos(), angle.sin()), dim=-1)
    # The origin, and points in 360 directions at three distances from it.
    points = torch.cat((torch.zeros(1, 2, dtype=torch.float64), 3 * circle, 0.3 * circle, 0.1 * circle))
    found = _features(function, points)
    if not close(_features(function, points[-60:].reshape(3, 20, 2)).flatten(0, 1), found[-60:], 1e-6, 1e-6):
        raise NotYet("The features of one example must not depend on the others in the batch.")

    value = _neuron(found)
    lost = value[0] - value[1:361]  # at radius 3, over all directions
    near = (value[0] - value[361:]).abs().max().item()
    if (found - found[0]).abs().max() < 1e-9:
        raise NotYet("The features are the same everywhere, so the neuron is as well.")
    if lost.min() < 3:
        raise NotYet(_why_high(found, lost))
    if near > 0.5:
        raise NotYet(f"Within a radius of 0.3 the output already changes by {near:.2f} nats: too steep.")
    for radius in _FARTHER:
        lost = value[0] - _neuron(_features(function, radius * circle))
        if lost.min() < 3:
            raise NotYet(f"Low enough at radius 3, but it comes back: {_place(radius, lost)}.")
    return (
        "The inputs have to meet before the neuron, which is what a layer below is for; one feature does "
        "it for ten inputs as well."
    )


def _features(function, x: Tensor) -> Tensor:
    got = call(function, x)
    if not isinstance(got, Tensor) or got.shape[:-1] != x.shape[:-1] or got.dim() == 0 or not got.shape[-1]:
        axis = isinstance(got, Tensor) and got.shape == x.shape[:-1]
        more = " Even a single feature needs a last axis, of length one." if axis else ""
        raise NotYet(f"Expected features (..., F) for inputs {tuple(x.shape)}, got {shown(got)}.{more}")
    return as_tensor(got, tuple(got.shape), "(..., F)", {})


def _neuron(features: Tensor) -> Tensor:
    """The output for features (..., F), up to a constant: means 0, deviations 1, equal weights."""
    return torch.logsumexp(-0.5 * features**2, dim=-1)


def _place(radius: float, lost: Tensor) -> str:
    least, where = lost.min(dim=0)
    return (
        f"at radius {radius:g}, in the direction of {int(where)} degrees, it has lost {least.item():.2f} nats"
    )


def _why_high(found: Tensor, lost: Tensor) -> str:
    """Why the neuron is still high at radius 3 in some direction."""
    origin, far, close_by = found[0], found[1:361], found[361:721]
    least = lost.min()
    place = _place(3, lost)
    axes, diagonals = slice(0, 360, 90), slice(45, 360, 90)
    cross = lost[axes].max() < min(3.0, lost[diagonals].min().item())
    linear = close(far - origin, 10 * (close_by - origin)) and close(
        far + far.roll(180, 0), 2 * origin + 0 * far
    )
    if least < 0:
        return f"The neuron is higher away from the origin than there: {place}. Its means are at 0."
    if linear and found.shape[-1] == 1:
        return f"One weighted sum of the inputs stays at 0 along a whole line: {place}."
    if linear and found.shape[-1] > 2:
        return f"Many directions make a soft hill, but each is flat along a line of its own: {place}."
    if linear and not cross:
        return f"The cross is still there, only turned or sheared: {place}."
    if close(far[axes], origin.expand(4, -1)):
        return f"Along both axes the features are those of the origin, as a product's would be: {place}."
    if cross:
        return f"The cross is still there, along the axes: {place}. One input that fits is enough."
    return f"It is still high elsewhere: {place}, and 3 are asked for. Is it the shape, or only the scale?"


# --- 1.4 --------------------------------------------------------------------------------------------


def most_sensitive(answer: object) -> str:
    """1.4: where the output of two equal standard components changes most with one of the inputs."""
    value, right = as_number(answer), 1.0
    for _ in range(60):  # x^2 = 1 / (1 - r) = 1 + exp(-x^2 / 2), a contraction
        right = math.sqrt(1 + math.exp(-(right**2) / 2))
    mistakes = {
        "This is the mean: there the input answers loudest, and moves nothing.": 0.0,
        "One deviation is right for a Gaussian alone. Here the responsibility changes too.": 1.0,
        "This is x squared: take the root.": right**2,
        "The question asks for a positive x2.": -right,
        "This is how much the output changes there. Where is it?": right / (1 + math.exp(right**2 / 2)),
        "This is the responsibility there. Where is it?": 1 / (1 + math.exp(right**2 / 2)),
    }
    otherwise = "Set the derivative of log r + log x2 to zero, with r = e / (1 + e) and e = exp(-x2^2 / 2)."
    compare(value, right, mistakes, otherwise, rtol=4e-3, atol=0.0)
    return "A little more than one deviation away. At the mean the input answers loudest, and moves nothing."


EXERCISES = {
    "1.1": Exercise(
        narrowest_neuron,
        "With one input the weight is 1, and the neuron is the log-density of one Gaussian: where is that "
        "highest?",
    ),
    "1.2": Exercise(
        hard_neuron, "Begin with the function `neuron` of this chapter: only its last line has to change."
    ),
    "1.3": Exercise(
        only_near_the_origin,
        "Look for a number that is 0 at the origin, and large as soon as either input is.",
    ),
    "1.4": Exercise(most_sensitive, "The derivative is -r x2: write r with x1 = 0, and take logarithms."),
}
