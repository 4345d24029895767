"""Answers to chapter 13: how high an output can get, the worst fall, a detector of broken entries."""

import math

import numpy as np
import torch
from answers_of import AnswersOfAChapter, stubs_of

# --- right answers ----------------------------------------------------------------------------------


def lowest(terms, m):
    kept = terms.sort(dim=-1).values[..., : terms.shape[-1] - m]
    return kept.logsumexp(dim=-1)


def lowest_by_topk(terms, m):
    return terms.topk(terms.shape[-1] - m, dim=-1, largest=False).values.logsumexp(dim=-1)


def lowest_one_by_one(terms, m):
    terms = terms.clone()
    for _ in range(m):
        terms.scatter_(-1, terms.argmax(dim=-1, keepdim=True), -math.inf)
    return terms.logsumexp(dim=-1)


def detect(train, x, outer=0.1, factor=3.5):
    low, middle, high = train.quantile(torch.tensor([outer, 0.5, 1 - outer]).to(train), dim=0)
    return (x < middle - factor * (middle - low)) | (x > middle + factor * (high - middle))


def detect_by_median_distance(train, x, factor=8.0):
    middle = train.median(dim=0).values
    return (x - middle).abs() > factor * (train - middle).abs().median(dim=0).values


def detect_in_numpy(train, x):
    low, high = np.quantile(train.numpy(), [0.25, 0.75], axis=0)
    return (x.numpy() < low - 3 * (high - low)) | (x.numpy() > high + 3 * (high - low))


RIGHT = [
    ("13.1", -2.736),
    ("13.1", math.log(0.7 * math.exp(-3) + 0.03)),
    ("13.1", torch.tensor(-2.74)),
    ("13.2", lowest),
    ("13.2", lowest_by_topk),
    ("13.2", lowest_one_by_one),
    ("13.3", detect),
    ("13.3", detect_by_median_distance),
    ("13.3", detect_in_numpy),
]

# --- wrong answers ----------------------------------------------------------------------------------


def detect_by_deviations(train, x, factor=5.0):
    return (x - train.mean(dim=0)).abs() > factor * train.std(dim=0)


WRONG = [
    # 13.1
    ("13.1", 0.7 * math.exp(-3) + 0.03, "This is the sum under the logarithm"),
    ("13.1", 0.264, "This is the change of the output"),
    ("13.1", math.log(math.exp(-3) + 0.03), "Its old part leaves the sum"),
    ("13.1", -3 + math.log(0.7), "how low it can get"),
    ("13.1", math.log(0.3 * math.exp(-3) + 0.03), "0.7 is what stays"),
    ("13.1", -3 + math.log(0.7) + 0.03, "Terms are added before the logarithm"),
    ("13.1", -1.188, "logarithm to base 10"),
    ("13.1", -2.0, "Write down the sum before the break"),
    ("13.1", "high", "Expected one number"),
    # 13.2
    ("13.2", lambda terms, m: terms.logsumexp(dim=-1), "Nothing has left the sum"),
    ("13.2", lambda terms, m: terms.sort(dim=-1).values[..., m:].logsumexp(dim=-1), "a sum miss most"),
    ("13.2", lambda terms, m: terms.topk(m, dim=-1).values.logsumexp(dim=-1), "terms that leave"),
    ("13.2", lambda terms, m: lowest(terms, m + 1), "one more than m"),
    ("13.2", lambda terms, m: lowest(terms, m - 1), "one input less than m"),
    ("13.2", lambda terms, m: lowest(terms, m).exp().log() + 0.1, "Try K = 3 and m = 1"),
    ("13.2", lambda terms, m: terms.sort(dim=-1).values[..., : 7 - m].sum(dim=-1), "Terms add before"),
    (
        "13.2",
        lambda terms, m: terms.exp().sort().values[..., : terms.shape[-1] - m].sum(-1).log(),
        "under- or overflows",
    ),
    ("13.2", lambda terms, m: lowest(terms, m).clamp(min=-700.0), "not for terms of -2000 nats"),
    ("13.2", lambda terms, m: terms.sort(dim=-1).values[..., : terms.shape[-1] - m], "terms that stay"),
    ("13.2", lambda terms, m: terms.logsumexp(dim=1), "not the neurons"),
    ("13.2", 0.0, "Expected the function lowest"),
    # 13.3
    ("13.3", detect_by_deviations, "The training rows hold some too"),
    ("13.3", lambda train, x: ~detect(train, x), "The wrong way round"),
    ("13.3", lambda train, x: detect(train, x, factor=1.2), "sound entries, most of them in column"),
    ("13.3", lambda train, x: detect_by_median_distance(x, x), "changes with the rows beside it"),
    ("13.3", lambda train, x: detect(train, x).any(dim=1), "not for every row"),
    ("13.3", lambda train, x: detect(train, x).any(dim=0), "not for every column"),
    ("13.3", lambda train, x: detect(train, train), "verdicts on the training rows"),
    ("13.3", lambda train, x: detect(train, x).double(), "Expected booleans"),
    ("13.3", lambda train, x: "all", "Expected booleans of shape"),
    ("13.3", 0.0, "Expected the function detect"),
]
STUBS = stubs_of(13)


class TestChapter13(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
