"""Answers to chapter 12: what deletion costs, calibration with bins of equal mass, dead neurons."""

import math

import numpy as np
import torch
from answers_of import AnswersOfAChapter, stubs_of

# --- right answers ----------------------------------------------------------------------------------


def calibration_error(confidence, right, bins, change=torch.abs, reduce=torch.mean):
    order = confidence.argsort()
    c, r = confidence[order].reshape(bins, -1), right[order].double().reshape(bins, -1)
    return reduce(change(r.mean(dim=1) - c.mean(dim=1)))


def calibration_error_by_quantiles(confidence, right, bins):
    edges = torch.quantile(confidence, torch.arange(1, bins, dtype=confidence.dtype) / bins)
    member, total = torch.bucketize(confidence, edges), 0.0
    for b in range(bins):
        inside = member == b
        gap = right[inside].sum().item() / inside.sum().item() - confidence[inside].mean().item()
        total += abs(gap) * inside.sum().item() / len(confidence)
    return total


def calibration_error_in_numpy(confidence, right, bins):
    order = np.argsort(-confidence.numpy(), kind="stable")
    parts = zip(
        np.array_split(confidence.numpy()[order], bins),
        np.array_split(right.numpy()[order], bins),
        strict=True,
    )
    return np.mean([abs(c.mean() - r.mean()) for c, r in parts])


def spread(outputs):
    return outputs.amax(dim=0) - outputs.amin(dim=0)


def dead(outputs, measure=torch.Tensor.std, typical=torch.mean, threshold=1e-3):
    """With a measure of how much a neuron's outputs differ, against what is typical in the layer."""
    differ = spread(outputs) if measure is spread else measure(outputs, dim=0)
    return differ <= threshold * typical(differ)


def dead_up_to_rounding(outputs):
    rounding = 16 * torch.finfo(outputs.dtype).eps * (1 + outputs.abs().amax(dim=0))
    return dead(outputs, typical=lambda s: s.square().mean().sqrt()) | (outputs.std(dim=0) <= rounding)


def dead_by_distances(outputs):
    """Neighbours in a list sorted by output, in NumPy, as a list of booleans."""
    gaps = np.diff(np.sort(outputs.double().numpy(), axis=0), axis=0).max(axis=0)
    return [bool(gap <= 1e-3 * np.median(gaps)) for gap in gaps]


RIGHT = [
    ("12.1", -2.303),
    ("12.1", math.log(1 - 0.9)),
    ("12.1", torch.tensor(-2.3)),
    ("12.2", calibration_error),
    ("12.2", lambda c, r, bins: calibration_error(c.float(), r, bins).float()),
    ("12.2", calibration_error_by_quantiles),
    ("12.2", calibration_error_in_numpy),
    ("12.3", dead),
    ("12.3", lambda outputs: dead(outputs, threshold=1e-2)),
    ("12.3", lambda outputs: dead(outputs, threshold=1e-5)),
    ("12.3", lambda outputs: dead(outputs.double(), torch.Tensor.var, torch.max)),
    ("12.3", lambda outputs: dead(outputs, spread, torch.median)),
    ("12.3", lambda outputs: dead(outputs, spread, torch.max, 1e-2)),
    ("12.3", lambda outputs: dead(outputs, spread, torch.max, 1e-5)),
    ("12.3", dead_up_to_rounding),
    ("12.3", dead_by_distances),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(12)


# --- wrong answers ----------------------------------------------------------------------------------


def unsorted_bins(confidence, right, bins):
    c, r = confidence.reshape(bins, -1), right.double().reshape(bins, -1)
    return (r.mean(dim=1) - c.mean(dim=1)).abs().mean()


def every_so_many(confidence, right, bins):
    order = confidence.argsort()
    c, r = confidence[order].reshape(-1, bins), right[order].double().reshape(-1, bins)
    return (r.mean(dim=0) - c.mean(dim=0)).abs().mean()


def bins_of_equal_width(confidence, right, bins, weighted=True):
    total, held = 0.0, 0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            gap = (right[inside].double().mean() - confidence[inside].mean()).abs()
            total, held = total + gap * (inside.double().mean() if weighted else 1.0), held + 1
    return total if weighted else total / held


def middle_of_bins(confidence, right, bins, of_width=False):
    order = confidence.argsort()
    c, r = confidence[order].reshape(bins, -1), right[order].double().reshape(bins, -1)
    middle = (torch.arange(bins) + 0.5) / bins if of_width else (c[:, 0] + c[:, -1]) / 2
    return (r.mean(dim=1) - middle).abs().mean()


def between_quantiles(outputs, dim):
    return outputs.quantile(0.95, dim=dim) - outputs.quantile(0.05, dim=dim)


def median_distance(outputs, dim):
    return (outputs - outputs.median(dim=dim).values).abs().median(dim=dim).values


WRONG = [
    # 12.1
    ("12.1", 2.303, "can it rise when terms are taken out"),
    ("12.1", math.log(0.9), "if a tenth were deleted"),
    ("12.1", -math.log(0.9), "if a tenth were deleted"),
    ("12.1", -0.9, "the share that is deleted"),
    ("12.1", 0.9, "the share that is deleted"),
    ("12.1", 0.1, "By this factor the sum changes"),
    ("12.1", 10, "By this factor the sum changes"),
    ("12.1", -1, "base 10"),
    ("12.1", -3.322, "base 2"),
    ("12.1", 3.322, "base 2"),
    ("12.1", 2.197, "log-odds"),
    ("12.1", 0, "none is renormalised"),
    ("12.1", -90, "Per cent are not nats"),
    ("12.1", -2.5, "A responsibility is a term's share"),
    ("12.1", "little", "Expected one number"),
    # 12.2
    ("12.2", lambda *a: calibration_error(*a, change=lambda gap: gap), "cancel"),
    ("12.2", lambda *a: calibration_error(*a, change=lambda gap: -gap), "cancel"),
    ("12.2", lambda c, r, bins: (r.double() - c).abs().mean(), "a distance for each example"),
    ("12.2", unsorted_bins, "hold examples as they come"),
    ("12.2", lambda c, r, bins: unsorted_bins(c.sort().values, r, bins), "`right` is not"),
    ("12.2", every_so_many, "every so many-th"),
    ("12.2", lambda c, r, bins: calibration_error(c, r, len(c) // bins), "not the number of examples in one"),
    ("12.2", bins_of_equal_width, "These bins have equal width"),
    ("12.2", lambda *a: bins_of_equal_width(*a, weighted=False), "These bins have equal width"),
    ("12.2", lambda *a: calibration_error(*a, reduce=torch.max), "the largest distance"),
    ("12.2", lambda *a: calibration_error(*a, reduce=torch.sum), "divide by their number"),
    ("12.2", lambda *a: 100 * calibration_error(*a), "per cent"),
    ("12.2", lambda *a: calibration_error(*a, change=torch.square), "Squares weigh"),
    ("12.2", lambda *a: calibration_error(*a, change=torch.square).sqrt(), "Squares weigh"),
    ("12.2", middle_of_bins, "not the middle of its range"),
    ("12.2", lambda *a: middle_of_bins(*a, of_width=True), "not the middle of its range"),
    ("12.2", lambda c, r, bins: calibration_error(c, ~r, bins), "not of wrong ones"),
    ("12.2", lambda *a: 0.5 * calibration_error(*a), "Go through one bin"),
    ("12.2", lambda c, r, bins: calibration_error(c, r, 6), "not for 60 in 4: does a number stand"),
    ("12.2", lambda c, r, bins: calibration_error(c, r, len(c) // 10 or 1), "not for 60 in 4"),
    ("12.2", lambda c, r, bins: calibration_error(c, r, min(bins, 6)), "not for 84 in 7"),
    ("12.2", lambda c, r, bins: calibration_error(c, r, max(bins, 2)), "not for 20 in 1"),
    ("12.2", lambda *a: calibration_error(*a, reduce=lambda gaps: gaps), "the mean over the bins"),
    ("12.2", lambda *a: math.nan, "not finite"),
    ("12.2", 0.1, "Expected the function calibration_error"),
    # 12.3
    ("12.3", lambda outputs: ~dead(outputs), "The wrong way round"),
    ("12.3", lambda outputs: outputs.mean(dim=0).abs() < 1e-3, "Levels tell nothing"),
    ("12.3", lambda outputs: outputs.mean(dim=0) < -1000, "Levels tell nothing"),
    ("12.3", lambda outputs: outputs.mean(dim=0) < outputs.mean(), "Levels tell nothing"),
    ("12.3", lambda outputs: outputs.std(dim=0) < 1e-3 * outputs.mean(dim=0).abs(), "Levels tell nothing"),
    ("12.3", lambda outputs: torch.isclose(outputs, outputs[:1]).all(dim=0), "Levels tell nothing"),
    ("12.3", lambda outputs: outputs.std(dim=0) < 1e-3 * outputs.std(), "such as outputs.std()"),
    ("12.3", lambda outputs: outputs.std(dim=0) < 1e-3, "times 1024, as in another unit"),
    ("12.3", lambda outputs: outputs.std(dim=0) < 0.1, "times 1/4096, as in another unit"),
    ("12.3", lambda outputs: outputs.std(dim=0) < 1e-6, "times 1/4096, as in another unit"),
    ("12.3", lambda outputs: dead(outputs, threshold=1.0), "is the threshold too high"),
    ("12.3", lambda outputs: dead(outputs) & (torch.arange(outputs.shape[1]) != 1), "yours calls it alive"),
    ("12.3", lambda outputs: dead(outputs) | (torch.arange(outputs.shape[1]) == 7), "is the threshold too"),
    ("12.3", lambda outputs: torch.ones(outputs.shape[1], dtype=torch.bool), "is the threshold too high"),
    ("12.3", lambda outputs: dead(outputs, between_quantiles), "a single example of a hundred"),
    ("12.3", lambda outputs: dead(outputs, median_distance), "a single example of a hundred"),
    ("12.3", lambda outputs: dead(outputs[:20]), "a single example of a hundred"),
    ("12.3", lambda outputs: (outputs == outputs[0]).all(dim=0), "up to the last digit of float32"),
    ("12.3", lambda outputs: outputs.std(dim=0) == 0, "up to the last digit of float32"),
    ("12.3", lambda outputs: dead(outputs, threshold=1e-9), "up to the last digit of float32"),
    ("12.3", lambda outputs: torch.zeros(outputs.shape[1], dtype=torch.bool), "yours calls it alive"),
    ("12.3", lambda outputs: dead(outputs, typical=lambda s: 1e3 * s.quantile(0.25)), "to be lowest among"),
    ("12.3", lambda outputs: spread(outputs) < 1e-3 * spread(outputs).max(), "zero is not less than"),
    ("12.3", lambda outputs: outputs.std(dim=0) / outputs.std(dim=0).mean() < 1e-3, "zero over zero is NaN"),
    ("12.3", lambda outputs: dead(outputs.T), "not for each example"),
    ("12.3", lambda outputs: outputs == outputs[0], "put the examples together"),
    ("12.3", lambda outputs: dead(outputs)[None], "Take the axis of length one away"),
    ("12.3", lambda outputs: dead(outputs).any(), "not for the layer"),
    ("12.3", lambda outputs: dead(outputs).nonzero()[:, 0], "the places of dead neurons"),
    ("12.3", lambda outputs: outputs.std(dim=0), "Expected booleans, and these are numbers"),
    ("12.3", lambda outputs: dead(outputs).int(), "Expected booleans, and these are numbers"),
    ("12.3", lambda outputs: "none", "Expected booleans for 11 neurons, got str 'none'"),
    ("12.3", [True, False], "Expected the function dead"),
]


class TestChapter12(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
