"""Answers to chapter 11: the highest output of a neuron, bounds of a layer, a maximum found by hand."""

import math

import numpy as np
import torch
from answers_of import HALF_LOG_2PI, AnswersOfAChapter, stubs_of

from ugmm_tutorial import ugmm_log_density

# --- right answers ----------------------------------------------------------------------------------


def nearest_in_box(low, high, mean):
    return mean.clamp(low, high) - mean


def layer_bounds(low, high, mean, log_std, log_weight, nearest=nearest_in_box):
    low, high = low.unsqueeze(1), high.unsqueeze(1)

    def out(away):
        terms = log_weight - log_std - HALF_LOG_2PI - 0.5 * (away / log_std.exp()) ** 2
        return terms.logsumexp(dim=2)

    return out(torch.maximum((low - mean).abs(), (high - mean).abs())), out(nearest(low, high, mean))


def layer_bounds_by_corners(low, high, mean, log_std, log_weight):
    """The least over all corners; the most over all corners and the means that lie inside."""
    inputs = low.shape[1]
    corners = torch.cartesian_prod(*[torch.arange(2)] * inputs).bool()
    x = torch.where(corners.unsqueeze(1), high, low)  # (8, B, K)
    at_corners = ugmm_log_density(x, mean, log_std, log_weight)
    at_means = torch.stack(
        [ugmm_log_density(m.clamp(low, high), mean, log_std, log_weight)[:, j] for j, m in enumerate(mean)],
        dim=1,
    )
    return at_corners.amin(dim=0), torch.maximum(at_corners.amax(dim=0), at_means)


def highest(root, low, high):
    x = low + (high - low) * torch.rand(50_000, 3, dtype=low.dtype)
    radius = (high - low) / 20
    for _ in range(40):
        best = x[root(x).topk(100).indices]
        near = best.repeat(20, 1)
        near = near + radius * torch.randn_like(near)
        x = torch.cat([best, torch.minimum(torch.maximum(near, low), high)])
        radius = radius * 0.8
    return x[root(x).argmax()]


RIGHT = [
    ("11.1", -1.138),
    ("11.1", np.logaddexp(0.0, -0.5) - math.log(2.0) - HALF_LOG_2PI),
    ("11.2", layer_bounds),
    ("11.2", layer_bounds_by_corners),
    ("11.3", highest),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(11)


# --- wrong answers ----------------------------------------------------------------------------------


def nearer_end(low, high, mean):
    return torch.minimum((low - mean).abs(), (high - mean).abs())


def near_for_far(*arguments):
    return layer_bounds(*arguments, nearest=nearer_end)[1]


WRONG = [
    # 11.1
    ("11.1", -HALF_LOG_2PI, "cannot reach its mean"),
    ("11.1", np.logaddexp(0.0, -0.5) - HALF_LOG_2PI, "The weights are missing"),
    ("11.1", -math.log(2.0) - HALF_LOG_2PI, "Both inputs have their best place"),
    ("11.1", np.logaddexp(-4.5, -0.5) - math.log(2.0) - HALF_LOG_2PI, "The first input may be 0"),
    ("11.1", -2 * math.log(2.0) - 2 * HALF_LOG_2PI - 0.5, "not the sum of logarithms"),
    ("11.1", 0.32, "This is the density itself"),
    ("11.1", np.logaddexp(-1.125, -3.125) - math.log(2.0) - HALF_LOG_2PI, "the centres of the box"),
    ("11.1", 3.0, "Where is each term highest"),
    ("11.1", "high", "Expected one number"),
    # 11.2
    ("11.2", lambda *a: layer_bounds(*a)[::-1], "The two are exchanged"),
    (
        "11.2",
        lambda *a: layer_bounds(*a, nearest=nearer_end),
        "upper bound: a mean inside the box is reached",
    ),
    (
        "11.2",
        lambda *a: layer_bounds(*a, nearest=lambda low, high, mean: low - mean),
        "where the lower end of the box leads",
    ),
    (
        "11.2",
        lambda *a: layer_bounds(*a, nearest=lambda low, high, mean: high - mean),
        "where the upper end of the box leads",
    ),
    (
        "11.2",
        lambda *a: layer_bounds(*a, nearest=lambda low, high, mean: 0.5 * (low + high) - mean),
        "at the middle of the box",
    ),
    ("11.2", lambda *a: (layer_bounds(*a)[0],) * 2, "upper bound: the farther end gives the least"),
    ("11.2", lambda *a: (layer_bounds(*a)[1],) * 2, "lower bound: the nearest point gives the most"),
    (
        "11.2",
        lambda a, b, m, s, w: (None, layer_bounds(a, b, m, 0 * s, w - s)[1]),
        "Expected a tensor of shape",
    ),
    (
        "11.2",
        lambda a, b, m, s, w: 2 * (layer_bounds(a, b, m, 0 * s, w - s)[1],),
        "the exponential of log_std",
    ),
    ("11.2", lambda *a: (layer_bounds(*a)[0] - 1, layer_bounds(*a)[1]), "The lower bound is not right"),
    ("11.2", lambda *a: tuple(b.T for b in layer_bounds(*a)), "Boxes first"),
    (
        "11.2",
        lambda *a: (near_for_far(*a), layer_bounds(*a)[1]),
        "lower bound: the least is reached at the farther",
    ),
    ("11.2", lambda *a: layer_bounds(*a)[0], "Expected two tensors"),
    ("11.2", 0.0, "Expected the function layer_bounds"),
    # 11.3
    ("11.3", lambda root, low, high: 0.5 * (low + high), "below the certified bound"),
    ("11.3", lambda root, low, high: 2 * high, "lies outside the box"),
    (
        "11.3",
        lambda root, low, high: (highest(root, low, high), highest(root, low, high))[0],
        "200,000 are allowed",
    ),
    ("11.3", lambda root, low, high: root(low.unsqueeze(0)), "Expected a tensor of shape (3,)"),
    ("11.3", 0.0, "Expected the function highest"),
]


class TestChapter11(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
