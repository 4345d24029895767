"""Answers to chapter 1: the narrowest neuron, its hard maximum, features that turn the cross into a hill."""

import math

import numpy as np
import torch
from answers_of import HALF_LOG_2PI, AnswersOfAChapter, stubs_of, terms

# --- right answers ----------------------------------------------------------------------------------


def hard_neuron(x, mean, std, weight):
    return terms(x, mean, std, weight).max(dim=-1).values


def features(x):
    return x.square().sum(dim=-1, keepdim=True)


RIGHT = [
    ("1.1", 1.3836),
    ("1.1", np.float64(1.38)),
    ("1.1", np.array([1.3836])),
    ("1.1", torch.tensor(1.3836)),
    ("1.1", torch.tensor([[1.3836]], requires_grad=True)),
    ("1.1", [1.3836]),
    ("1.2", hard_neuron),
    ("1.3", features),
    ("1.3", lambda x: x.norm(dim=-1, keepdim=True)),
    ("1.3", lambda x: x.abs().sum(dim=-1, keepdim=True)),
    ("1.4", 1.2156),
    ("1.4", 1.22),
    ("1.4", torch.tensor(1.2156)),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(1)


# --- wrong answers ----------------------------------------------------------------------------------


def directions(count):
    angles = torch.arange(count, dtype=torch.float64) * math.pi / count
    return lambda x: x @ torch.stack((angles.cos(), angles.sin()))


def rotated(x):
    return torch.stack((x[..., 0] + x[..., 1], x[..., 0] - x[..., 1]), dim=-1) / math.sqrt(2)


def changed_terms(change):
    def wrong(x, mean, std, weight):
        return change(terms(x, mean, std, weight), x, mean, std, weight)

    return wrong


WRONG = [
    # 1.1
    ("1.1", 3.989, "This is the density"),
    ("1.1", -0.919, "where has the deviation gone"),
    ("1.1", 0.6009, "base 10"),
    ("1.1", 1.996, "base 2"),
    ("1.1", 2.303, "the constant of the normal distribution is not"),
    ("1.1", 0.4647, "The constant is there twice"),
    ("1.1", 3.686, "The variance has taken"),
    ("1.1", 0.2324, "outside the square root"),
    ("1.1", -3.2215, "should a narrower Gaussian be lower"),
    ("1.1", -1.3836, "The sign is turned around"),
    ("1.1", 1, "One is the area"),
    ("1.1", 0, "A density is not a probability"),
    ("1.1", -7.5, "A density is not a probability"),
    ("1.1", 1.4, "two decimals"),
    ("1.1", 17, "At the right input the exponent vanishes"),
    ("1.1", 1.3, "At the right input the exponent vanishes"),
    ("1.1", math.inf, "not finite"),
    ("1.1", math.nan, "not finite"),
    ("1.1", "1.38", "Expected one number, got str '1.38'"),
    ("1.1", True, "got bool True"),
    ("1.1", 1j, "a value of type complex"),
    ("1.1", torch.tensor(True), "Expected one number"),
    ("1.1", (1.38, 0), "with 2 numbers"),
    ("1.1", torch.zeros(2, 2), "a tensor of shape (2, 2)"),
    ("1.1", hard_neuron, "a value of type function"),
    ("1.1", ["a"], "a value of type list"),
    # 1.2
    ("1.2", changed_terms(lambda t, *_: t.logsumexp(-1)), "the neuron itself"),
    ("1.2", changed_terms(lambda t, x, m, s, w: (t - w.log()).amax(-1)), "The weights are missing"),
    ("1.2", changed_terms(lambda t, *_: t.sum(-1)), "a product of Gaussians"),
    ("1.2", changed_terms(lambda t, *_: t.amin(-1)), "the smallest term"),
    ("1.2", lambda x, m, s, w: hard_neuron(x, m, s.sqrt(), w), "as if it were a variance"),
    ("1.2", changed_terms(lambda t, *_: t.amax(-1).exp()), "These are densities"),
    ("1.2", changed_terms(lambda t, *_: t.amax(-1) + HALF_LOG_2PI), "The constant with 2 pi"),
    ("1.2", changed_terms(lambda t, x, m, s, w: (t + s.log()).amax(-1)), "The logarithm of `std`"),
    ("1.2", changed_terms(lambda t, x, m, s, w: (t - w.log() + w).amax(-1)), "enters by its logarithm"),
    ("1.2", changed_terms(lambda t, x, m, s, w: ((t - w.log()) * w).amax(-1)), "multiplies the density"),
    ("1.2", changed_terms(lambda t, x, m, s, w: (t - 0.5 * ((x - m) / s) ** 2).amax(-1)), "one half"),
    ("1.2", changed_terms(lambda t, *_: t.mean(-1)), "The outputs are others"),
    ("1.2", changed_terms(lambda t, *_: t.amax(0)), "the maximum runs over another"),
    ("1.2", changed_terms(lambda t, *_: t.amax(1)), "the maximum runs over another"),
    ("1.2", changed_terms(lambda t, *_: t.max()), "the maximum runs over another"),
    ("1.2", changed_terms(lambda t, *_: t), "still is one value for each component"),
    ("1.2", changed_terms(lambda t, *_: t.amax(-1, keepdim=True)), "not of length one"),
    ("1.2", changed_terms(lambda t, *_: t.amax(-1).flatten()), "Print the shape"),
    ("1.2", changed_terms(lambda t, *_: t.max(dim=-1)), "values and indices"),
    ("1.2", changed_terms(lambda t, *_: t.amax(-1).log()), "NaN or infinite"),
    ("1.2", changed_terms(lambda t, *_: 3.0), "got float 3.0"),
    ("1.2", torch.zeros(4, 5), "Expected the function hard_neuron(x, mean, std, weight) itself"),
    ("1.2", lambda x: x, "The exercise's text says with which arguments"),
    # 1.3
    ("1.3", lambda x: x, "The cross is still there, along the axes"),
    ("1.3", lambda x: x**2, "The cross is still there, along the axes"),
    ("1.3", rotated, "only turned"),
    ("1.3", lambda x: x[..., 0:1] * x[..., 1:2], "as a product's would be"),
    ("1.3", lambda x: x.sum(dim=-1, keepdim=True), "One weighted sum"),
    ("1.3", directions(8), "Many directions make a soft hill"),
    ("1.3", directions(64), "Many directions make a soft hill"),
    ("1.3", lambda x: 0 * x, "the same everywhere"),
    ("1.3", lambda x: x / x.norm(dim=-1, keepdim=True), "NaN or infinite"),
    ("1.3", lambda x: torch.exp(-x.square().sum(-1, keepdim=True)), "higher away from the origin"),
    ("1.3", lambda x: 0.5 * x.norm(dim=-1, keepdim=True), "It is still high elsewhere"),
    ("1.3", lambda x: 4 * x.norm(dim=-1, keepdim=True), "too steep"),
    ("1.3", lambda x: 3 * torch.sin(math.pi / 6 * x.norm(dim=-1, keepdim=True)), "comes back: at radius 5"),
    ("1.3", lambda x: features(x) * (x.norm(dim=-1, keepdim=True) < 7), "comes back: at radius 8"),
    ("1.3", lambda x: features(x) / x.norm(dim=-1).max(), "depend on the others in the batch"),
    ("1.3", lambda x: x.norm(dim=-1), "Even a single feature needs a last axis"),
    ("1.3", lambda x: x.norm(), "Expected features (..., F)"),
    ("1.3", lambda x: x[..., :0], "Expected features (..., F)"),
    ("1.3", lambda x: [x], "a value of type list"),
    ("1.3", 7, "Expected the function features(x)"),
    # 1.4
    ("1.4", 0, "answers loudest, and moves nothing"),
    ("1.4", 1, "the responsibility changes too"),
    ("1.4", 1.4777, "take the root"),
    ("1.4", -1.2156, "positive x2"),
    ("1.4", 0.393, "how much the output changes there"),
    ("1.4", 0.3233, "This is the responsibility there"),
    ("1.4", 2, "Set the derivative"),
    ("1.4", "1.22", "Expected one number, got str '1.22'"),
]


def test_where_the_neuron_is_most_sensitive_is_found_by_search_too():
    x = torch.linspace(0.01, 5, 500_000, dtype=torch.float64, requires_grad=True)
    both = torch.stack((torch.zeros_like(x), x), dim=-1)
    out = terms(both, torch.zeros(2), torch.ones(2), torch.full((2,), 0.5)).logsumexp(dim=-1)
    (slope,) = torch.autograd.grad(out.sum(), x)
    assert math.isclose(x[slope.abs().argmax()].item(), 1.2156, abs_tol=1e-4)


class TestChapter1(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
