"""Exercises of chapter 3, making it fast."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.functional import ugmm_log_density
from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    as_tensor,
    call,
    compare,
    draw,
    power_of_ten,
)

__all__ = ["EXERCISES", "exponents", "ridge", "second_look", "wider", "with_background"]

_LN2 = math.log(2)


# --- 3.1 --------------------------------------------------------------------------------------------


def ridge(answer: object) -> str:
    """3.1: the intensity above which a machine waits for arithmetic instead of memory."""
    value = as_number(answer)
    exponentials, bandwidth = 1.2e10, 3e10
    right = exponentials / bandwidth
    mistakes = {
        "This is upside down: bytes for each exponential.": bandwidth / exponentials,
        "This is the height of the roof. Where does the slope reach it?": exponentials,
        "This is the steepness of the slope. Where does it reach the roof?": bandwidth,
        "This is a product: check its units. Exponentials for each byte are asked for.": (
            exponentials * bandwidth
        ),
        "This is a difference of two numbers with different units.": bandwidth - exponentials,
        "The bandwidth is in bytes already, not in float32 numbers.": 4 * right,
        "The bandwidth is in bytes already, so nothing is to be divided by four.": right / 4,
    }
    otherwise = "Memory allows bandwidth times intensity, arithmetic a constant: where are they equal?"
    if value > 0 and power_of_ten(value, right, rtol=5e-3):
        otherwise = "The digits are right, the power of ten is not."
    compare(value, right, mistakes, otherwise, rtol=5e-3, atol=0.0)
    return "Left of this ridge faster arithmetic gains nothing, right of it faster memory does not."


# --- 3.2 --------------------------------------------------------------------------------------------


def second_look(answer: object) -> str:
    """3.2: the distance of all inputs beyond which a sum of 128 equal components is below 2^-50."""
    value = as_number(answer)

    def distance(halvings: float, factor: float = 2 * _LN2) -> float:
        return math.sqrt(factor * halvings)

    right = distance(50 + 7)
    mistakes = {
        "There are 128 components, and all peaks are at the shift: the sum is 128 times one of its terms.": (
            distance(50)
        ),
        "The factor 128 makes the sum larger, so the inputs can be farther away.": distance(50 - 7),
        "This is the square of the distance.": right**2,
        "The exponent is half of the squared distance: is the one half missing?": distance(57, _LN2),
        "A power of two is e to the power of a multiple of ln 2: is the ln 2 missing?": distance(57, 2),
        "ln 2 belongs there, not its inverse.": distance(57, 2 / _LN2),
        "This is where a single term leaves float32. The second look comes earlier.": distance(149),
    }
    otherwise = "The sum is 128 exp(-d^2 / 2) and shall be 2^-50: take logarithms."
    if abs(abs(value) - right) < 0.05:
        otherwise = "That is close: two decimals are asked for."
    compare(abs(value), right, mistakes, otherwise, rtol=0.0, atol=6e-3)
    return "The more components a neuron has, the farther away its inputs may be before it looks twice."


# --- 3.3 --------------------------------------------------------------------------------------------


def wider(answer: object) -> str:
    """3.3: the first whole distance at which an output is lost when the deviations are doubled."""
    value = as_number(answer)
    # The smallest of 64 largest means is near 2.5. Some processors lose a term at 13.2 deviations, others at
    # 14.4: what is exact below 2^-126 differs.
    first, last = 28, 33
    if value != int(value):
        raise NotYet("A whole distance is asked for, as the cell goes through them.")
    if value < 20:
        raise NotYet("This is where it begins with a deviation of 1. Are the components twice as wide?")
    if value > last:
        raise NotYet(
            "Not so far out. The way from the last mean to the failure doubles, but the means stay. Run it, "
            "and take the first distance at which the share is above zero."
        )
    if value < first:
        raise NotYet("There all outputs are finite still: let the distances go on to 40, and look again.")
    return "Less than twice: only the way from the last mean doubles, and that mean lies where it did."


# --- 3.4 --------------------------------------------------------------------------------------------


def with_background(answer: object) -> str:
    """3.4: the operator with a background log-density subtracted from every component."""
    signature = "with_background(x, mean, log_std, log_weight, log_background)"
    function = as_function(answer, signature)
    x, mean, log_std = (draw(*s, seed=n, dtype=torch.float32) for n, s in enumerate(((5, 3), (4, 3), (4, 3))))
    log_weight = draw(4, 3, seed=3, dtype=torch.float32).log_softmax(dim=-1)
    background = -0.5 + 0.7 * draw(5, 3, seed=4, dtype=torch.float32)
    parameters = (mean, 0.5 * log_std, log_weight)
    got = _outputs(function, x, *parameters, background)

    plain = _right(x, *parameters, None)
    right = _right(x, *parameters, background)
    too_late = background.logsumexp(dim=-1, keepdim=True)
    mistakes = {
        "The background is added: dividing by a density subtracts its logarithm.": (
            _right(x, *parameters, -background)
        ),
        "The background has no effect.": plain,
        "The background is too small by a factor of log2(e): only powers of two would need it in base 2.": (
            _right(x, *parameters, _LN2 * background)
        ),
        "The background is too large by a factor of log2(e): it was in nats where nats are summed.": (
            _right(x, *parameters, background / _LN2)
        ),
        "The background belongs to each component, under the logsumexp; its sum is taken off after it.": (
            plain - background.sum(dim=-1, keepdim=True)
        ),
        "The background belongs to each component, under the logsumexp; its mean is taken off after it.": (
            plain - background.mean(dim=-1, keepdim=True)
        ),
        "The background belongs under the logsumexp; here it has one of its own, taken off after it.": (
            plain - too_late
        ),
        "`log_background` is a logarithm already: no exponential is needed.": (
            _right(x, *parameters, background.exp())
        ),
        "The outputs are in base 2: they should be in nats.": right / _LN2,
    }
    otherwise = "The outputs are others: is a term less log(background) what is summed for every component?"
    compare(got, right, mistakes, otherwise)

    # At forty deviations, every sum of plain exponentials underflows in float32.
    far = x + 40.0
    compare(
        _outputs(function, far, *parameters, background),
        _right(far, *parameters, background),
        {},
        "Right near the means, wrong where all terms are tiny.",
    )
    return "The derivative by a background is minus the responsibility, so over the inputs they sum to -1."


def _outputs(function, *arguments: Tensor) -> Tensor:
    hints = {
        (5, 4, 3): "There still is one value for each component.",
        (4, 5): "Examples come first, then neurons: stack along the other axis.",
        (5, 3): "These are inputs, not neurons: over which axis is summed?",
    }
    return as_tensor(call(function, *arguments), (5, 4), "(B, J)", hints)


def _right(x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, background: Tensor | None) -> Tensor:
    arguments = [t.double() for t in (x, mean, log_std, log_weight)]
    background = None if background is None else background.double()
    return ugmm_log_density(*arguments, log_background=background, backend="reference")


# --- 3.5 --------------------------------------------------------------------------------------------


def exponents(answer: object) -> str:
    """3.5: the exponents as a sum of three products, which matrix units can compute."""
    function = as_function(answer, "exponents(x, mean, std)")
    x, mean = draw(5, 3, seed=0), draw(4, 3, seed=1)
    std = 1.5 + 0.2 * draw(4, 3, seed=2)
    got = _exponents(function, x, mean, std)

    rows, twice = x.unsqueeze(1), 2 * std**2
    right = -((rows - mean) ** 2) / twice
    mistakes = {
        "The term with x has the wrong sign: it grows with x times the mean.": -((rows + mean) ** 2) / twice,
        "The term without x is missing.": right + mean**2 / twice,
        "The term with x is missing.": right - 2 * rows * mean / twice,
        "The factor one half is missing.": 2 * right,
        "The factor two of the mixed product is missing.": right - rows * mean / twice,
        "The exponent is at most 0: turn the sign.": -right,
        "`std` is used where its square belongs.": -((rows - mean) ** 2) / (2 * std),
        "This is the exponential already; its exponent is asked for.": right.exp(),
    }
    otherwise = "The values are others: multiply the square out once more."
    compare(got, right, mistakes, otherwise, rtol=1e-6, atol=1e-6)
    _check_lost_digits(function)
    return (
        "Inner dimension three is little work for a matrix unit, and narrow components far from 0 lose all "
        "their digits: that is the price."
    )


def _check_lost_digits(function) -> None:
    """Check that the square is expanded. Then large numbers cancel in float32; a difference loses nothing."""
    x = 100.0 + draw(5, 3, seed=3, dtype=torch.float32)
    std = torch.full((4, 3), 1e-3, dtype=torch.float32)
    mean = x[:4] + 1e-3 * (1.5 + draw(4, 3, seed=4, dtype=torch.float32).abs())
    got = _exponents(function, x, mean, std)[torch.arange(4), torch.arange(4)]
    right = -((x[:4].double() - mean.double()) ** 2) / (2 * std.double() ** 2)
    error = ((got - right) / right).abs().max().item()
    if error < 1e-3:
        raise NotYet(
            "The values are right, but this subtracts first (or computes in float64): there is nothing for "
            "a matrix unit to do. Write alpha x^2 + beta x + gamma."
        )
    if error < 1:
        raise NotYet(
            "This multiplies the distance out, and squares it after that: expand the square as well."
        )


def _exponents(function, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    hints = {
        (5, 3, 4): "The neurons come before the inputs: move the last axis.",
        (4, 5, 3): "The examples come first, then the neurons.",
        (3, 5, 4): "The inputs come last: move the first axis.",
        (5, 4): "Nothing is summed over the inputs: there is one exponent for each of them.",
    }
    return as_tensor(call(function, x, mean, std), (5, 4, 3), "(B, J, K)", hints)


EXERCISES = {
    "3.1": Exercise(
        ridge,
        "Memory allows bandwidth times intensity, a slope; arithmetic allows a constant, a roof. Where do "
        "they meet?",
    ),
    "3.2": Exercise(
        second_look,
        "All peaks are equally high: what is one term below the static shift, and the sum of all?",
    ),
    "3.3": Exercise(
        wider,
        "Change one line, run the cell of the failure, and look where the line in the picture leaves 0.",
    ),
    "3.4": Exercise(
        with_background, "Begin with the terms of the formula, (B, J, K) or one neuron after the other."
    ),
    "3.5": Exercise(
        exponents, "Expand (x - mean)^2 and sort by powers of x: which factors depend on the parameters only?"
    ),
}
