"""Exercises of chapter 11: the highest output of a neuron, bounds of a layer, a maximum found by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.inference import interval_bounds, mpe
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.networks import UGMMNet
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
from ugmm_tutorial.training.reproducible import seeded

__all__ = ["EXERCISES", "bounds_of_a_layer", "found_by_hand", "highest_output"]


# --- 11.1 -------------------------------------------------------------------------------------------


def highest_output(answer: object) -> str:
    """11.1: the highest output of a neuron with means 0 and 4, its two inputs within [0, 3]."""

    def out(first: float, second: float, log_weight: float = math.log(0.5)) -> float:
        terms = (log_weight - HALF_LOG_2PI - 0.5 * d * d for d in (first, second))
        return math.log(sum(map(math.exp, terms)))

    mistakes = {
        "The second input cannot reach its mean: the box ends at 3.": out(0.0, 0.0),
        "The weights are missing: each is one half.": out(0.0, 1.0, 0.0),
        "Both inputs have their best place at once: add up both terms.": math.log(0.5) - HALF_LOG_2PI,
        "The first input may be 0, its mean.": out(3.0, 1.0),
        "Take the logarithm of the sum, not the sum of logarithms.": 2 * (math.log(0.5) - HALF_LOG_2PI) - 0.5,
        "This is the density itself; the output is its logarithm.": math.exp(out(0.0, 1.0)),
        "These are the centres of the box; each input may choose its place.": out(1.5, 2.5),
    }
    otherwise = "Where is each term highest within the box? Each reads one input, so they do not interfere."
    compare(as_number(answer), out(0.0, 1.0), mistakes, otherwise, rtol=0.0, atol=2e-3)
    return "One layer is separable: every input goes to the point of its side nearest to its mean."


# --- 11.2 -------------------------------------------------------------------------------------------


def bounds_of_a_layer(answer: object) -> str:
    """11.2: lower and upper interval bounds of a layer."""
    function = as_function(answer, "layer_bounds(low, high, mean, log_std, log_weight)")
    low, width = draw(6, 3, seed=0), 2.0 * draw(6, 3, seed=1).abs()
    layer = UGMMLayer(3, 4, min_std=0.0, dtype=torch.float64)
    log_std, logits = 0.3 * draw(4, 3, seed=3), draw(4, 3, seed=4)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (draw(4, 3, seed=2), log_std, logits), strict=True):
            parameter.copy_(value)
    arguments = low, low + width, layer.mean.detach(), log_std, logits.log_softmax(dim=-1)
    got = call(function, *(t.clone() for t in arguments))
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise NotYet(f"Expected two tensors, lower and upper bounds, got {shown(got)}.")
    hints = {
        (6, 4, 3): "Sum over the components, inside the logarithm.",
        (4, 6): "Boxes first, neurons second.",
    }
    lower, upper = (as_tensor(bound, (6, 4), "(B, J)", hints) for bound in got)
    right = interval_bounds(layer, *arguments[:2])
    if close(upper, right[0]) and close(lower, right[1]):
        raise NotYet("The two are exchanged: the lower bound comes first.")
    mistakes = _bound_mistakes(*arguments)
    _check_end("upper", upper, right[1], mistakes)
    _check_end("lower", lower, right[0], {_OF_LOWER.get(hint, hint): v for hint, v in mistakes.items()})
    return "Both are reached in a single layer; those of a second layer on top of them need not be."


_NEARER_END = "a mean inside the box is reached: the distance is then zero, not that of the nearer end."
#: Hints for wrong numbers that have another cause in the lower bound.
_OF_LOWER = {_NEARER_END: "the least is reached at the farther end, not at the nearer one."}


def _check_end(which: str, got: Tensor, right: Tensor, mistakes: dict[str, Tensor]) -> None:
    if close(got, right, rtol=1e-9, atol=1e-9):
        return
    for hint, wrong in mistakes.items():
        if close(got, wrong, rtol=1e-9, atol=1e-9):
            raise NotYet(f"The {which} bound: {hint}")
    raise NotYet(
        f"The {which} bound is not right. Take one component: how near can its input come to its mean, and "
        "how far away?"
    )


def _bound_mistakes(
    low: Tensor, high: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> dict[str, Tensor]:
    low, high = low.unsqueeze(1), high.unsqueeze(1)
    nearer_end = torch.minimum((low - mean).abs(), (high - mean).abs())
    farthest = torch.maximum((low - mean).abs(), (high - mean).abs())
    nearest = torch.maximum(low - mean, mean - high).clamp(min=0.0)

    def out(distance: Tensor, weight: Tensor = log_weight) -> Tensor:
        z = distance / log_std.exp()
        return torch.logsumexp(weight - log_std - HALF_LOG_2PI - 0.5 * z.square(), dim=2)

    return {
        _NEARER_END: out(nearer_end),
        "this is where the lower end of the box leads.": out(low - mean),
        "this is where the upper end of the box leads.": out(high - mean),
        "this is the output at the middle of the box.": out(0.5 * (low + high) - mean),
        "the farther end gives the least, the nearest point the most; here it is the other way round.": out(
            farthest
        ),
        "the nearest point gives the most, the farther end the least; here it is the other way round.": out(
            nearest
        ),
        "distances are divided by the deviation, which is the exponential of log_std.": torch.logsumexp(
            log_weight - log_std - HALF_LOG_2PI - 0.5 * nearest.square(), dim=2
        ),
    }


# --- 11.3 -------------------------------------------------------------------------------------------

_NETWORKS = 3
_MOST_POINTS = 200_000
_TOLERANCE = 1e-3


def found_by_hand(answer: object) -> str:
    """11.3: the highest point of three networks over a box of three inputs, with few evaluations."""
    function = as_function(answer, "highest(root, low, high)")
    low, high = torch.full((3,), -3.0, dtype=torch.float64), torch.full((3,), 3.0, dtype=torch.float64)
    most = 0
    for seed in range(_NETWORKS):
        network = _network(seed)
        counted = _Counted(network)
        x = as_tensor(call(function, counted, low.clone(), high.clone()), (3,), "(3,)", {})
        if not ((x >= low - 1e-9) & (x <= high + 1e-9)).all():
            raise NotYet(f"The point {[round(v, 3) for v in x.tolist()]} lies outside the box.")
        if counted.points > _MOST_POINTS:
            raise NotYet(f"{counted.points:,} points were evaluated, and {_MOST_POINTS:,} are allowed.")
        certified = mpe(network, {}, range(3), [(-3.0, 3.0)] * 3, tolerance=1e-5)
        with torch.no_grad():
            short = certified.upper_bound - network(x.unsqueeze(0)).item()
        if short > _TOLERANCE:
            raise NotYet(
                f"Network {seed + 1}: the point found is {short:.3g} nats below the certified bound. Look "
                "more closely around the best points, and around more than one of them."
            )
        most = max(most, counted.points)
    return (
        f"Within {_TOLERANCE} nats three times, with at most {most:,} points; but only bounds can prove it."
    )


def _network(seed: int) -> UGMMNet:
    with seeded(100 + seed):
        network = UGMMNet((3, 6, 1), init="paper", min_std=0.2).double().requires_grad_(False)
        # Put the means where hidden values are, so that there is something to find.
        network[1].mean.copy_(network[0](6.0 * torch.rand(1, 3, dtype=torch.float64) - 3.0))
    return network


class _Counted:
    """A network as a function that counts the rows it gets."""

    def __init__(self, network: UGMMNet) -> None:
        self.network, self.points = network, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.points += x[..., 0].numel()
        return self.network(x).squeeze(-1)


EXERCISES = {
    "11.1": Exercise(
        highest_output, "Begin with the first input alone: where in [0, 3] is its Gaussian highest?"
    ),
    "11.2": Exercise(
        bounds_of_a_layer, "Begin with the distance from a mean to the nearest point of [low, high]."
    ),
    "11.3": Exercise(found_by_hand, "Begin with 50,000 random points in the box and the best of them."),
}
