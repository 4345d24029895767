"""Answers to chapter 9: the highest score there is, the posterior over labels, a network that earns it."""

import math

import torch
from answers_of import AnswersOfAChapter, raises_not_implemented, stubs_of
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


def emptied(wide=20.0, narrow=-50.0, beside=0.0, forget=-2, at=None):
    """An answer to 8.4, or one with a mistake in it."""

    @torch.no_grad()
    def know_nothing(network):
        network[forget].log_std.fill_(wide)
        constants = network[:-1](torch.zeros(1, network[0].in_features)) if at is None else at
        network[-1].mean.copy_(constants + beside)
        network[-1].log_std.fill_(narrow)

    return know_nothing


def emptied_through_data(network):
    """The same, with parameters written by `data`, and means from a flower that is not zero."""
    network[-2].log_std.data[:] = 15.0
    row = torch.tensor([[5.0, 3.0, 1.0, 0.2, 0.0]]).to(network[0].mean)
    network[-1].mean.data[:] = network[:-1](row)
    network[-1].log_std.data[:] = math.log(network[-1].min_std) - 10


RIGHT = [
    ("9.1", -math.log(0.05 * math.sqrt(2 * math.pi))),
    ("9.1", 2.08),
    ("9.2", posterior),
    ("9.2", posterior_written_out),
    ("9.3", fit_flowers),
    ("9.4", emptied()),
    ("9.4", emptied_through_data),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = [
    *stubs_of(9),
    *(("9.4", stub) for stub in (..., None, lambda n: None, lambda n: ..., raises_not_implemented)),
]


# --- wrong answers ----------------------------------------------------------------------------------


def replaced_layer(network):
    network[-1] = nn.Linear(network[-1].in_features, 1)


@torch.no_grad()
def emptied_by_distance(network):
    network[-2].mean.fill_(1e30)


@torch.no_grad()
def lowered_floor(network):
    emptied()(network)
    network[-1].min_std = 1e-6


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
    # 9.4
    ("9.4", emptied(wide=3.0), "still differ by"),
    ("9.4", emptied(wide=-50.0), "still differ by"),
    ("9.4", emptied(narrow=0.0), "its deviations reach 1"),
    ("9.4", emptied(narrow=math.log(0.01)), "here 0.002"),
    ("9.4", emptied(beside=0.1), "not where its inputs are"),
    ("9.4", emptied(at=0.0), "not where its inputs are"),
    ("9.4", emptied(forget=0), "Layer 1 has changed"),
    ("9.4", emptied_by_distance, "The root's inputs are infinite"),
    ("9.4", emptied(narrow=-math.inf), "NaN or infinite"),
    ("9.4", replaced_layer, "should stay as they are"),
    ("9.4", lowered_floor, "The floor itself has changed"),
    ("9.4", lambda network: UGMMNet((5, 1)), "No parameter has changed"),
    ("9.4", lambda network: network.sigma, "Your code raised AttributeError"),
    ("9.4", UGMMNet((5, 1)), "Your code raised"),
    ("9.4", 5.99, "Expected the function know_nothing"),
]


class TestChapter9(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
