"""Answers to chapter 9: the highest score there is, the posterior over labels, a network that earns it."""

import math

import torch
from answers_of import AnswersOfAChapter, stubs_of
from torch import nn

from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.training.joint import EnsembleTrainer

# --- right answers ----------------------------------------------------------------------------------


def asked(root, x, labels, first=False):
    """Scores by a loop over labels."""
    parts = [(x, c.to(x.dtype).expand(len(x), 1)) for c in labels]
    return torch.cat([root(torch.cat(p[::-1] if first else p, dim=1)) for p in parts], dim=1)


def posterior(root, x, labels):
    return asked(root, x, labels).softmax(dim=1)


def posterior_written_out(root, x, labels):
    scores = asked(root, x, labels)
    weights = (scores - scores.amax(dim=1, keepdim=True)).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def fit_flowers(x, y):
    network = UGMMNet((5, 10, 5, 1))
    options = {"objective": "conditional", "learning_rate": 3e-2, "batch_size": 25}
    EnsembleTrainer([network], x[None], y[None], **options).run(40)
    return network


RIGHT = [
    ("9.1", -math.log(0.05 * math.sqrt(2 * math.pi))),
    ("9.1", 2.08),
    ("9.2", posterior),
    ("9.2", posterior_written_out),
    ("9.3", fit_flowers),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(9)


# --- wrong answers ----------------------------------------------------------------------------------


def unstable_posterior(root, x, labels):
    weights = asked(root, x, labels).exp()
    return weights / weights.sum(dim=1, keepdim=True)


WRONG = [
    # 9.1
    ("9.1", 7.979, "This is the density itself"),
    ("9.1", -2.077, "The sign is turned around"),
    ("9.1", 2.996, "square root of two pi is missing"),
    ("9.1", 3.915, "stands below the fraction"),
    ("9.1", 0.579, "not a variance"),
    ("9.1", 5.989, "0.001"),
    ("9.1", 1.0, "How high is a Gaussian"),
    ("9.1", "high", "Expected one number"),
    # 9.2
    ("9.2", lambda r, x, c: asked(r, x, c), "These are scores"),
    ("9.2", lambda r, x, c: asked(r, x, c).log_softmax(1), "These are logarithms"),
    ("9.2", lambda r, x, c: asked(r, x, c).exp(), "do not sum to one"),
    ("9.2", lambda r, x, c: asked(r, x, c).softmax(0), "normalised over the examples"),
    ("9.2", lambda r, x, c: asked(r, x, c, first=True).softmax(1), "The label is the last input"),
    ("9.2", lambda r, x, c: posterior(r, x, torch.arange(4.0)), "not their places"),
    ("9.2", lambda r, x, c: asked(r, x, c) / asked(r, x, c).sum(1, keepdim=True), "gives no probabilities"),
    ("9.2", lambda r, x, c: posterior(r, x, c) ** 2, "Put each label behind"),
    ("9.2", lambda r, x, c: posterior(r, x, c).T, "Examples first"),
    ("9.2", lambda r, x, c: posterior(r, x, c).unsqueeze(2), "a last axis of length one"),
    ("9.2", lambda r, x, c: posterior(r, x, c).amax(1), "One probability for each label"),
    ("9.2", unstable_posterior, "a constant of 2000 nats"),
    ("9.2", 0.5, "Expected the function posterior"),
    # 9.3
    ("9.3", lambda x, y: UGMMNet((5, 10, 5, 1)), "92% are asked for"),
    ("9.3", lambda x, y: nn.Linear(5, 1), "There is no mixture neuron"),
    ("9.3", lambda x, y: UGMMNet((5, 3)), "one output"),
    ("9.3", lambda x, y: UGMMNet((4, 1)), "K = 4"),
    ("9.3", lambda x, y: 0.95, "Expected a trained module"),
    ("9.3", 0.95, "Expected the function fit"),
]


class TestChapter9(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
