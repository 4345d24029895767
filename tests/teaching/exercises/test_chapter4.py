"""Answers to chapter 4: lost neurons, the weights under a mask, balanced masks."""

import math

import torch
from answers_of import AnswersOfAChapter, stubs_of
from torch import nn

# --- right answers ----------------------------------------------------------------------------------


def dropped_log_weight(logits, kept, p, mode):
    heaviest = nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    kept = kept | (heaviest & ~kept.any(dim=-1, keepdim=True))
    penalty = torch.zeros_like(logits).masked_fill(~kept, -math.inf)
    if mode == "renormalize":
        return (logits + penalty).log_softmax(dim=-1)
    expected = 1 - p + logits.softmax(dim=-1).amax(dim=-1, keepdim=True) * p ** logits.shape[-1]
    log_weight = logits.log_softmax(dim=-1) + penalty
    return log_weight if mode == "literal" else log_weight - expected.log()


def balanced_mask(neurons, inputs, p):
    wanted = inputs * (1 - p)
    number = (math.floor(wanted) + (torch.rand(neurons, 1) < wanted % 1)).clamp(min=1)
    return torch.rand(neurons, inputs).argsort(dim=-1).argsort(dim=-1) < number


RIGHT = [
    ("4.1", 0.4033),
    ("4.1", 1 - (1 - 0.5**4) ** 8),
    ("4.1", torch.tensor(0.4033)),
    ("4.2", dropped_log_weight),
    ("4.2", lambda *a: dropped_log_weight(*a).float()),
    ("4.3", balanced_mask),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(4)


# --- wrong answers ----------------------------------------------------------------------------------


def weights_with(change=lambda out, logits, kept, p, mode: out, rescue=None):
    """The right log-weights, changed, or under a mask that was changed beforehand."""

    def wrong(logits, kept, p, mode):
        mask = kept if rescue is None else rescue(logits, kept)
        return change(dropped_log_weight(logits, mask, p, mode), logits, kept, p, mode)

    return wrong


def weights_without_rescue(logits, kept, p, mode):
    penalty = torch.zeros_like(logits).masked_fill(~kept, -math.inf)
    if mode == "renormalize":
        return (logits + penalty).log_softmax(dim=-1)
    return logits.log_softmax(dim=-1) + penalty


def lost_rows(kept):
    return ~kept.any(dim=-1, keepdim=True)


def first_of_lost(logits, kept):
    other = nn.functional.one_hot(logits.argmin(dim=-1), logits.shape[-1]).bool()
    return kept | (other & lost_rows(kept))


def only_in(mode_changed, change):
    """A change in one of the modes."""

    def wrong(out, logits, kept, p, mode):
        return change(out, logits, kept, p) if mode == mode_changed else out

    return weights_with(wrong)


def log_expected(logits, p):
    return (1 - p + logits.softmax(-1).amax(-1, keepdim=True) * p ** logits.shape[-1]).log()


def constant_mask(neurons, inputs, p):
    generator = torch.Generator().manual_seed(0)
    rank = torch.rand(neurons, inputs, generator=generator).argsort(dim=-1).argsort(dim=-1)
    draws = torch.rand(neurons, 1, generator=generator)
    wanted = inputs * (1 - p)
    return rank < (math.floor(wanted) + (draws < wanted % 1)).clamp(min=1)


def rounded_mask(neurons, inputs, p):
    number = max(1, math.floor(inputs * (1 - p)))
    return torch.rand(neurons, inputs).argsort(dim=-1).argsort(dim=-1) < number


def unshuffled_mask(neurons, inputs, p):
    wanted = inputs * (1 - p)
    number = (math.floor(wanted) + (torch.rand(neurons, 1) < wanted % 1)).clamp(min=1)
    return torch.arange(inputs).expand(neurons, -1) < number


def unclamped_mask(neurons, inputs, p):
    wanted = inputs * (1 - p)
    number = math.floor(wanted) + (torch.rand(neurons, 1) < wanted % 1)
    return torch.rand(neurons, inputs).argsort(dim=-1).argsort(dim=-1) < number


WRONG = [
    # 4.1
    ("4.1", 0.0625, "The layer has eight"),
    ("4.1", 0.5, "how many are lost on average"),
    ("4.1", 0.5967, "that no neuron is lost"),
    ("4.1", 0.0625**8, "all eight are lost together"),
    ("4.1", 0.9375, "one given neuron keeps something"),
    ("4.1", 0.3183, "exactly one neuron lost"),
    ("4.1", 40.33, "per cent"),
    ("4.1", 1 - 0.5**8, "all four must go"),
    ("4.1", 1 - (1 - 0.5**8) ** 4, "the wrong way round"),
    ("4.1", 0.4, "three decimals"),
    ("4.1", 0.7, "First one neuron"),
    ("4.1", "0.4033", "Expected one number"),
    # 4.2
    ("4.2", weights_with(lambda out, *_: out.exp()), "these are weights"),
    ("4.2", weights_with(lambda out, logits, *_: logits.log_softmax(-1)), "here all are finite"),
    ("4.2", weights_with(lambda out, logits, kept, *_: logits * kept), "here all are finite"),
    ("4.2", weights_with(rescue=lambda logits, kept: ~kept), "the mask is turned around"),
    ("4.2", weights_without_rescue, "should keep its heaviest component"),
    ("4.2", weights_with(rescue=lambda logits, kept: kept | lost_rows(kept)), "one is enough"),
    ("4.2", weights_with(rescue=first_of_lost), "another than its heaviest"),
    ("4.2", weights_with(rescue=lambda logits, kept: logits > 0), "what `kept` says"),
    (
        "4.2",
        lambda logits, kept, p, mode: weights_without_rescue(logits, kept, p, "renormalize"),
        "literal: there is NaN",
    ),
    ("4.2", weights_with(lambda out, logits, *_: logits + out - logits.log_softmax(-1)), "these are logits"),
    (
        "4.2",
        weights_with(lambda out, logits, *_: logits.log_softmax(0) + out - logits.log_softmax(-1)),
        "runs over the neurons",
    ),
    (
        "4.2",
        lambda logits, kept, p, mode: dropped_log_weight(logits, kept, p, "renormalize"),
        "literal: the weights of what is kept sum to one again",
    ),
    (
        "4.2",
        lambda logits, kept, p, mode: dropped_log_weight(logits, kept, p, "literal"),
        "renormalize: the weights stay as they are",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: dropped_log_weight(logits, kept, p, "renormalize")),
        "not by its expectation",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: out + log_expected(logits, p)),
        "those of `literal`",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: out + log_expected(logits, p) - math.log(1 - p)),
        "the rescued neuron counts too",
    ),
    (
        "4.2",
        only_in("literal", lambda out, logits, kept, p: out - math.log(1 - p)),
        "nothing is to be divided",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: out + 2 * log_expected(logits, p)),
        "subtract its logarithm",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: out + log_expected(logits, p) - math.log(p)),
        "not kept",
    ),
    (
        "4.2",
        only_in(
            "inverted",
            lambda out, logits, kept, p: out + log_expected(logits, p) - log_expected(logits, p).exp(),
        ),
        "its logarithm is wanted",
    ),
    ("4.2", weights_with(lambda out, *_: out + 1), "the kept log-weights are others"),
    ("4.2", weights_with(lambda out, *_: out.detach()), "no gradient reaches the logits"),
    ("4.2", weights_with(lambda out, *_: out + 0 * out.detach().sub(out).abs().sqrt()), "there is NaN"),
    ("4.2", weights_with(lambda out, *_: out.T), "expected shape (J, K) = (3, 4), got (4, 3)"),
    ("4.2", lambda *a: 1.0, "got float 1.0"),
    ("4.2", torch.zeros(3, 4), "Expected the function dropped_log_weight"),
    # 4.3
    ("4.3", lambda j, k, p: torch.rand(j, k) > p, "at least one should always stay"),
    ("4.3", lambda j, k, p: (torch.rand(j, k) > p) | (torch.arange(k) == 0), "independent draws do"),
    ("4.3", lambda j, k, p: balanced_mask(j, k, 1 - p), "the mask keeps a share p"),
    ("4.3", rounded_mask, "must be drawn as well"),
    ("4.3", unshuffled_mask, "Shuffle within the rows"),
    ("4.3", lambda j, k, p: balanced_mask(1, k, p).expand(j, -1), "The neurons share one mask"),
    ("4.3", constant_mask, "no random numbers are drawn"),
    ("4.3", unclamped_mask, "at least one should always stay"),
    ("4.3", lambda j, k, p: balanced_mask(j, k, 0.2), "how many are (1 - p) of 6"),
    ("4.3", lambda j, k, p: balanced_mask(j, k, p).T, "The neurons come first"),
    ("4.3", lambda j, k, p: balanced_mask(j, k, p).float(), "Expected a boolean tensor"),
    ("4.3", lambda j, k, p: 1, "got int 1"),
    ("4.3", 0.5, "Expected the function balanced_mask"),
]


class TestChapter4(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
