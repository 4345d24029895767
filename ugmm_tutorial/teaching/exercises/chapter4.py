"""Exercises of chapter 4, dropout on components."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    call,
    close,
    compare,
    draw,
    shown,
)

__all__ = ["EXERCISES", "all_lost", "balanced_mask", "dropped_log_weight"]


# --- 4.1 --------------------------------------------------------------------------------------------


def all_lost(answer: object) -> str:
    """4.1: the probability that any of 8 neurons over 4 inputs loses all its components at p = 0.5."""
    value = as_number(answer)
    one = 0.5**4
    right = 1 - (1 - one) ** 8
    mistakes = {
        "This is one neuron's probability. The layer has eight.": one,
        "Eight times one neuron's probability is how many are lost on average; some steps lose two.": 8 * one,
        "This is the probability that no neuron is lost.": 1 - right,
        "This is the probability that all eight are lost together.": one**8,
        "This is the probability that one given neuron keeps something.": 1 - one,
        "This is exactly one neuron lost: two or more count as well.": 8 * one * (1 - one) ** 7,
        "These are per cent: give a fraction.": 100 * right,
        "A neuron has four components, and all four must go.": 1 - 0.5**8,
        "The numbers of neurons and of inputs are the wrong way round.": 1 - (1 - 0.5**8) ** 4,
    }
    otherwise = "First one neuron: all four components must be dropped. Then: no such neuron among eight."
    if abs(value - right) < 0.01:
        otherwise = "Nearly: please give three decimals."
    compare(value, right, mistakes, otherwise, rtol=2e-3, atol=0.0)
    return "Two steps of five would meet a lost neuron: without a rescue such a training ends at once."


# --- 4.2 --------------------------------------------------------------------------------------------

_MODES = ("literal", "renormalize", "inverted")
_P = 0.4


def dropped_log_weight(answer: object) -> str:
    """4.2: log-weights under a given mask, in three modes. An empty neuron keeps its heaviest component."""
    function = as_function(answer, "dropped_log_weight(logits, kept, p, mode)")
    logits = draw(3, 4, seed=0)
    kept = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    for mode in _MODES:
        leaf = logits.clone().requires_grad_()
        # The reader's function gets a copy, through which gradients still reach the leaf.
        got = _log_weights(call(function, leaf, kept, _P, mode), mode)
        _check_pattern(got.detach(), logits, kept, mode)
        _check_values(got.detach(), logits, kept, mode)
        finite = got[got > -math.inf]
        (gradient,) = torch.autograd.grad(
            (finite * torch.arange(len(finite))).sum(), leaf, allow_unused=True
        ) if finite.requires_grad else (None,)  # fmt: skip
        if gradient is None or not gradient.any():
            raise NotYet(f"{mode}: the values are right, but no gradient reaches the logits. Detached?")
        if not gradient.isfinite().all():
            raise NotYet(f"{mode}: the values are right, but the gradient of the logits is NaN or infinite.")
    return (
        "One mask, three sets of weights: they differ by one number a neuron, log S or the logarithm of its "
        "mean."
    )


def _log_weights(value: object, mode: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise NotYet(f"{mode}: expected a tensor of shape (J, K) = (3, 4), got {shown(value)}.")
    if value.shape != (3, 4):
        raise NotYet(f"{mode}: expected shape (J, K) = (3, 4), got {tuple(value.shape)}.")
    if value.isnan().any():
        raise NotYet(
            f"{mode}: there is NaN. A softmax over nothing but -inf gives that, and so does 0 times -inf: "
            "rescue first, then add 0 or -inf."
        )
    return value.double()


def _rescued(logits: Tensor, kept: Tensor) -> Tensor:
    heaviest = torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    return kept | (heaviest & ~kept.any(dim=-1, keepdim=True))


def _check_pattern(got: Tensor, logits: Tensor, kept: Tensor, mode: str) -> None:
    stays, lost = got > -math.inf, ~kept.any(dim=-1)
    right = _rescued(logits, kept)
    if torch.equal(stays, right):
        return
    if stays.all():
        if (got >= 0).all():
            raise NotYet(f"{mode}: these are weights. The operator takes their logarithms.")
        raise NotYet(f"{mode}: a dropped component has weight 0, log-weight -inf; here all are finite.")
    if torch.equal(stays[~lost], ~kept[~lost]):
        raise NotYet(f"{mode}: the mask is turned around: `kept` is True where a component stays.")
    if torch.equal(stays[~lost], kept[~lost]):
        if not stays[lost].any():
            raise NotYet(f"{mode}: the neuron that lost everything should keep its heaviest component.")
        if stays[lost].all():
            raise NotYet(f"{mode}: the neuron that lost everything has all components back: one is enough.")
        raise NotYet(f"{mode}: the neuron that lost everything keeps another than its heaviest component.")
    raise NotYet(f"{mode}: a neuron that lost nothing should keep what `kept` says, and no more.")


def _check_values(got: Tensor, logits: Tensor, kept: Tensor, mode: str) -> None:
    stays = _rescued(logits, kept)
    penalty = torch.zeros_like(logits).masked_fill(~stays, -math.inf)
    literal = logits.log_softmax(dim=-1) + penalty
    weight = logits.softmax(dim=-1)
    expected = 1 - _P + weight.amax(dim=-1, keepdim=True) * _P**4
    answers = {
        "literal": literal,
        "renormalize": (logits + penalty).log_softmax(dim=-1),
        "inverted": literal - expected.log(),
    }
    right = answers[mode]
    mistakes = {
        "these are logits: without a softmax the weights sum to anything.": logits + penalty,
        "the softmax runs over the neurons; weights sum to one over the inputs.": (
            logits.log_softmax(dim=0) + penalty
        ),
        "the weights of what is kept sum to one again: here they stay as they are.": answers["renormalize"],
        "the weights stay as they are: what is kept should sum to one again.": literal,
        "the expected sum is 1 - p and a little more: the rescued neuron counts too.": (
            literal - math.log(1 - _P)
        ),
        "the expected sum divides the weights: subtract its logarithm.": literal + expected.log(),
        "p is the probability of being dropped, not kept.": literal - math.log(_P),
        "the constant is subtracted as it is: its logarithm is wanted.": literal - expected,
    }
    special = {
        ("inverted", 2): "this divides by the sum that is kept, not by its expectation.",
        ("inverted", 3): "nothing is divided here: the weights are those of `literal`.",
        ("literal", 4): "nothing is to be divided here.",
    }
    for number, (hint, wrong) in enumerate(mistakes.items()):
        if not close(wrong[stays], right[stays]) and close(got[stays], wrong[stays]):
            raise NotYet(f"{mode}: {special.get((mode, number), hint)}")
    if not close(got[stays], right[stays]):
        raise NotYet(f"{mode}: the kept log-weights are others. Compare with this chapter's three formulas.")


# --- 4.3 --------------------------------------------------------------------------------------------


def balanced_mask(answer: object) -> str:
    """4.3: a mask that keeps equally many components in every neuron, up to a difference of one."""
    function = as_function(answer, "balanced_mask(neurons, inputs, p)")
    whole = _mask(function, 600, 6, 0.5)
    _check_counts(whole, 3, 3)
    broken = _mask(function, 2000, 5, 0.3)
    _check_counts(broken, 3, 4)
    again = _mask(function, 600, 6, 0.5)
    if len(whole.unique(dim=0)) == 1 and not torch.equal(again, whole):
        raise NotYet("The neurons share one mask: each should draw its own.")
    share = broken.double().mean().item()
    if close(share, 0.3, atol=0.02):
        raise NotYet("p is the probability of being dropped: the mask keeps a share p.")
    if not close(share, 0.7, atol=0.02):
        raise NotYet(
            f"Of five components 3.5 should stay on average, here {5 * share:.2f} do: how many stay must be "
            "drawn as well."
        )
    for mask, p in ((whole, 0.5), (broken, 0.3)):
        by_input = mask.double().mean(dim=0)
        worst = (by_input - (1 - p)).abs().argmax().item()
        if abs(by_input[worst] - (1 - p)) > 0.1:
            raise NotYet(
                f"Input {worst} is kept with probability {by_input[worst]:.2f} at p = {p}: every one should "
                "have the same chance. Shuffle within the rows."
            )
    if torch.equal(again, whole):
        raise NotYet("The second call returns the mask of the first: no random numbers are drawn.")
    _check_counts(_mask(function, 200, 4, 0.95), 1, 1)
    return (
        "With equal weights the kept weight no longer varies where K (1 - p) is whole: then literal and "
        "renormalize differ by a constant. What answers can still be dropped."
    )


def _mask(function, neurons: int, inputs: int, p: float) -> Tensor:
    mask = call(function, neurons, inputs, p)
    if not isinstance(mask, Tensor):
        raise NotYet(f"Expected a boolean tensor of shape (neurons, inputs), got {shown(mask)}.")
    if mask.shape != (neurons, inputs):
        turned = " The neurons come first." if mask.shape == (inputs, neurons) else ""
        raise NotYet(f"Expected shape {(neurons, inputs)}, got {tuple(mask.shape)}.{turned}")
    if mask.dtype != torch.bool:
        raise NotYet(f"Expected a boolean tensor, True where a component stays, got {mask.dtype}.")
    return mask


def _check_counts(mask: Tensor, low: int, high: int) -> None:
    """Check that every row keeps ``low`` to ``high`` components, and that counts differ by at most one."""
    counts = mask.sum(dim=-1)
    fewest, most = counts.min().item(), counts.max().item()
    if fewest == 0:
        raise NotYet("A neuron has lost all its components: at least one should always stay.")
    inputs = mask.shape[1]
    if most - fewest > 1:
        raise NotYet(
            f"Neurons over {inputs} inputs keep {fewest} to {most} components: independent draws do. The "
            "number should be the same for all, up to one."
        )
    if not low <= fewest <= most <= high:
        kept = f"{fewest}" if fewest == most else f"{fewest} or {most}"
        if low <= inputs - most <= inputs - fewest <= high:
            raise NotYet("p is the probability of being dropped: the mask keeps a share p.")
        raise NotYet(f"Of {inputs} components {kept} stay: how many are (1 - p) of {inputs}?")


EXERCISES = {
    "4.1": Exercise(
        all_lost,
        "What is the probability that one neuron loses all four components, and that none of eight does?",
    ),
    "4.2": Exercise(
        dropped_log_weight,
        "Begin with `literal`: `logits.log_softmax(dim=-1)`, and -inf where `kept` is False. Then the neuron "
        "that keeps nothing, then the other two modes.",
    ),
    "4.3": Exercise(
        balanced_mask,
        "Give every component of a row a random number, and keep those with the smallest: how many, and how "
        "is that number drawn where K (1 - p) is not whole?",
    ),
}
