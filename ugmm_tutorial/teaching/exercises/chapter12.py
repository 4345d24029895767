"""Exercises of chapter 12: the cost of deletion, calibration with bins of equal mass, and dead neurons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    as_tensor,
    call,
    close,
    draw,
    shown,
)

__all__ = ["EXERCISES", "calibration_error", "dead", "lost_by_deletion"]


# --- 12.1 -------------------------------------------------------------------------------------------


def lost_by_deletion(answer: object) -> str:
    """12.1: the change of an output when components with 90 % of the responsibility are deleted."""
    deleted = 0.9
    left = 1 - deleted
    of_either_sign = {
        "Up to the sign, this would be the change if a tenth were deleted.": math.log(deleted),
        "This is the share that is deleted; the output is the logarithm of what is left.": deleted,
        "This is a logarithm to base 10; nats have base e.": math.log10(left),
        "This is a logarithm to base 2, so these are bits.": math.log2(left),
        "These are log-odds: compare what is left with what was there, not with what is gone.": (
            math.log(deleted / left)
        ),
        "Per cent are not nats: by which factor does the sum under the logarithm shrink?": 100 * deleted,
    }
    mistakes = {
        "An output is the logarithm of a sum: can it rise when terms are taken out?": (-math.log(left),),
        "By this factor the sum changes, and the output is its logarithm.": (left, 1 / left),
        "New weights could make up for the loss, but none is renormalised here.": (0.0,),
        **{hint: (value, -value) for hint, value in of_either_sign.items()},
    }
    otherwise = "A responsibility is a term's share in the sum: which share stays, and what is its logarithm?"
    _compare(as_number(answer), math.log(left), mistakes, otherwise, rtol=0.0, atol=5e-3)
    return "Whatever the weights, means and inputs are: the change depends on the deleted share alone."


def _compare(
    value: float,
    right: Tensor | float,
    mistakes: Mapping[str, Sequence[Tensor | float]],
    otherwise: str,
    **tolerance: float,
) -> None:
    """Like ``compare``, but several wrong values may share a hint."""
    if close(value, right, **tolerance):
        return
    for hint, wrong in mistakes.items():
        if any(close(value, one, **tolerance) for one in wrong):
            raise NotYet(hint)
    raise NotYet(otherwise)


# --- 12.2 -------------------------------------------------------------------------------------------

_BINS = 6


def calibration_error(answer: object) -> str:
    """12.2: the mean distance between accuracy and confidence, over bins with equally many examples."""
    function = as_function(answer, "calibration_error(confidence, right, bins)")
    confidence, right = _claims(60, seed=0)
    _compare(
        _error_of(function, confidence, right, _BINS),
        _gaps(confidence, right, _BINS).abs().mean(),
        _calibration_mistakes(confidence, right, _BINS),
        "Go through one bin: sort by confidence, take the first N / bins examples and their two means.",
    )
    for count, bins, seed in ((60, 4, 0), (84, 7, 1), (20, 1, 2)):
        confidence, right = _claims(count, seed=seed)
        value = _error_of(function, confidence, right, bins)
        if not close(value, _gaps(confidence, right, bins).abs().mean()):
            raise NotYet(
                f"Right for 60 examples in {_BINS} bins, but not for {count} in {bins}: does a number stand "
                "in your code that should come from the arguments?"
            )
    return (
        "Even a network whose confidence is true gets more than zero: the accuracy of few examples is noisy."
    )


def _error_of(function, confidence: Tensor, right: Tensor, bins: int) -> float:
    return as_number(call(function, confidence, right, bins), "one number, the mean over the bins")


def _claims(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Confidences in random order, most of them high, and which answers are right: fewer than claimed."""
    confidence = torch.sigmoid(1.2 + 1.4 * draw(count, seed=seed))
    chance = 0.35 + 0.45 * confidence
    return confidence, torch.special.ndtr(draw(count, seed=seed + 100)) < chance


def _gaps(confidence: Tensor, right: Tensor, bins: int) -> Tensor:
    """Accuracy minus mean confidence of each bin of equal mass, (bins,)."""
    order = confidence.argsort()
    return _mean_gaps(confidence[order].reshape(bins, -1), right[order].reshape(bins, -1))


def _mean_gaps(confidence: Tensor, right: Tensor, dim: int = 1) -> Tensor:
    return right.double().mean(dim=dim) - confidence.mean(dim=dim)


def _calibration_mistakes(
    confidence: Tensor, right: Tensor, bins: int
) -> dict[str, Sequence[Tensor | float]]:
    gaps, order = _gaps(confidence, right, bins), confidence.argsort()
    c, r = confidence[order], right[order].double()
    rows, accuracy = c.reshape(bins, -1), r.reshape(bins, -1).mean(dim=1)
    middle_of_width = (torch.arange(bins, dtype=torch.float64) + 0.5) / bins

    def error(confidence: Tensor, right: Tensor, dim: int = 1) -> Tensor:
        return _mean_gaps(confidence, right, dim).abs().mean()

    return {
        "Bins that claim too much and others that claim too little cancel: absolute values come before the "
        "mean over the bins.": (gaps.mean(), -gaps.mean()),
        "This is a distance for each example, and a right answer at 0.8 is not an error of 0.2: first take "
        "the means of a bin.": ((r - c).abs().mean(),),
        "The bins hold examples as they come: sort them by confidence first.": (
            error(confidence.reshape(bins, -1), right.reshape(bins, -1)),
        ),
        "The confidences are sorted and `right` is not: bring both into the same order.": (
            error(rows, right.reshape(bins, -1)),
        ),
        "A bin should hold neighbours in confidence; these hold every so many-th example.": (
            error(c.reshape(-1, bins), r.reshape(-1, bins), dim=0),
        ),
        "`bins` is the number of bins, not the number of examples in one.": (
            error(c.reshape(-1, bins), r.reshape(-1, bins)),
        ),
        "These bins have equal width; here each holds the same number of examples.": (
            _by_width(confidence, right, bins)
        ),
        "This is the largest distance of a bin: the mean over the bins is asked for.": (gaps.abs().max(),),
        "This is the sum over the bins: divide by their number.": (gaps.abs().sum(),),
        "These are per cent: give a fraction.": (100 * gaps.abs().mean(),),
        "Squares weigh large distances more: the mean of absolute values is asked for.": (
            gaps.square().mean(),
            gaps.square().mean().sqrt(),
        ),
        "A bin's confidence is the mean over its examples, not the middle of its range.": (
            (accuracy - 0.5 * (rows[:, 0] + rows[:, -1])).abs().mean(),
            (accuracy - middle_of_width).abs().mean(),
        ),
        "Accuracy is the share of right answers, not of wrong ones.": (error(rows, 1 - r.reshape(bins, -1)),),
    }


def _by_width(confidence: Tensor, right: Tensor, bins: int) -> list[float]:
    """The error with bins of equal width: weighted by their numbers of examples, and unweighted."""
    member = (confidence * bins).long().clamp(max=bins - 1)
    held = [(confidence[member == b], right[member == b].double()) for b in range(bins)]
    sizes = [(len(c), abs((r.mean() - c.mean()).item())) for c, r in held if len(c)]
    weighted = sum(n * gap for n, gap in sizes) / len(confidence)
    return [weighted, sum(gap for _, gap in sizes) / len(sizes)]


# --- 12.3 -------------------------------------------------------------------------------------------

_EXAMPLES = 100
_LEVEL, _LAST_DIGIT = -40.5, 2.0**-18
_UNITS = {"1024": 1024.0, "1/4096": 1.0 / 4096.0}
#: The columns of the planted layer. The spreads of living neurons differ by less than a factor of ten. A rule
#: may therefore call a neuron constant if it spreads by less than a hundredth, or 1e-5, of what is usual.
_PLANTED = ("usual", "same", "usual", "rare", "usual", "usual", "rounded", "far", "usual", "same", "usual")


def dead(answer: object) -> str:
    """12.3: a rule that finds the neurons whose outputs do not depend on the example."""
    function = as_function(answer, "dead(outputs)")
    layer = _layer(_PLANTED)
    said = _verdict(function, layer)
    if said == [kind not in ("same", "rounded") for kind in _PLANTED]:
        raise NotYet("The wrong way round: True is for neurons that tell nothing.")
    # Differences of close numbers are exact, even in float32.
    if _verdict(function, layer - layer[0]) != said:
        raise NotYet(
            "Your answer changes if each neuron's first output is subtracted from all of its outputs. Levels "
            "tell nothing about an example: measure how much a neuron's outputs differ, and compare it with "
            "nothing in which levels have a part, such as outputs.std() over everything."
        )
    for factor, number in _UNITS.items():
        if _verdict(function, number * layer) != said:
            raise NotYet(
                f"With all outputs times {factor}, as in another unit, your answer changes: a fixed "
                "number of nats fits one layer only. How much do the other neurons of the layer differ?"
            )
    _check_planted(_by_kind(said))
    _check_layers_of_one_sort(function)
    return "Dead on these examples: what the neuron would say about others, no rule can read from a table."


def _verdict(function, outputs: Tensor) -> list[bool]:
    said = call(function, outputs)
    count = outputs.shape[1]
    hints = {
        (_EXAMPLES,): "One answer for each neuron, not for each example: go along the other axis.",
        (_EXAMPLES, count): "One answer for each neuron: put the examples together.",
        (1, count): "Take the axis of length one away.",
        (): "One answer for each neuron, not for the layer.",
        # As many as are dead.
        (3,): "If these are the places of dead neurons: True or False is asked for, for every neuron.",
    }
    if not isinstance(said, Tensor):
        try:
            said = torch.as_tensor(said)
        except Exception:
            raise NotYet(f"Expected booleans for {count} neurons, got {shown(said)}.") from None
    as_tensor(said.bool(), (count,), "(J,)", hints)
    if said.dtype != torch.bool:
        raise NotYet("Expected booleans, and these are numbers: from where on do you call a neuron dead?")
    return said.tolist()


def _layer(kinds: tuple[str, ...]) -> Tensor:
    """Outputs (N, J) of neurons of the named kinds, in nats and in float32, like those of a network."""
    noise = draw(_EXAMPLES, len(kinds), seed=0, dtype=torch.float32)
    columns = []
    for place, kind in enumerate(kinds):
        x = noise[:, place]
        if kind == "usual":
            columns.append(-4.0 - place + (0.4 + 0.25 * place) * x)
        elif kind == "far":
            columns.append(-5000.0 + 0.5 * x)
        elif kind == "rare":
            columns.append(torch.where(torch.arange(_EXAMPLES) == 37, -2.0, torch.full_like(x, -10.0)))
        elif kind == "rounded":
            columns.append(_LEVEL + _LAST_DIGIT * x.round())
        else:
            columns.append(torch.full_like(x, -3.25 - place))
    return torch.stack(columns, dim=1)


def _by_kind(said: list[bool]) -> dict[str, bool]:
    """Whether each kind is called dead: all neurons of kind "same", or any neuron of another kind."""
    answers: dict[str, list[bool]] = {}
    for kind, one in zip(_PLANTED, said, strict=True):
        answers.setdefault(kind, []).append(one)
    return {kind: all(each) if kind == "same" else any(each) for kind, each in answers.items()}


def _check_planted(called_dead: dict[str, bool]) -> None:
    if not called_dead["same"]:
        raise NotYet(
            "A neuron with the same output for all examples tells nothing, and yours calls it alive."
        )
    if called_dead["usual"] or called_dead["far"]:
        raise NotYet(
            "Yours calls a living neuron dead whose outputs differ by about as many nats as those of its "
            "neighbours: is the threshold too high?"
        )
    if called_dead["rare"]:
        raise NotYet(
            "One neuron is 8 nats higher for a single example of a hundred: it is a detector, and alive. "
            "Quantiles, medians and a few of the examples do not see it."
        )
    if not called_dead["rounded"]:
        raise NotYet(
            f"One neuron stays at {_LEVEL} nats up to the last digit of float32: that is rounding, not "
            "life. Instead of asking for equal outputs, compare with what is usual in the layer."
        )


def _check_layers_of_one_sort(function) -> None:
    alive = tuple(kind for kind in _PLANTED if kind in ("usual", "rare", "far"))
    if any(_verdict(function, _layer(alive))):
        raise NotYet(
            "In a layer without any dead neuron yours finds one: to be lowest among others proves nothing."
        )
    if not all(_verdict(function, _layer(("same",) * 5))):
        raise NotYet(
            "In a layer of nothing but constant neurons yours finds a living one: zero is not less than a "
            "fraction of zero, and zero over zero is NaN."
        )


EXERCISES = {
    "12.1": Exercise(
        lost_by_deletion,
        "The output is the log of a sum of terms: which share of this sum is left after the deletion?",
    ),
    "12.2": Exercise(
        calibration_error,
        "Begin with `order = confidence.argsort()`: in this order one bin follows the other in both tensors.",
    ),
    "12.3": Exercise(
        dead,
        "Begin with one number for each neuron that says how much its outputs differ between the examples.",
    ),
}
