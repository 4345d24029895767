"""Answers to chapter 2: where a deviation rests, one deviation a neuron, a rescue of forgotten means."""

import math

import numpy as np
import torch
from answers_of import AnswersOfAChapter, stubs_of
from torch import nn

from ugmm_tutorial import UGMMLayer, ugmm_log_density

# --- right answers ----------------------------------------------------------------------------------


class TiedStd(nn.Module):
    """Right; the methods are what wrong ones replace."""

    log_std_shape = staticmethod(lambda k, j: (j, 1))

    def __init__(self, in_features, out_features):
        super().__init__()
        self.mean = nn.Parameter(torch.randn(out_features, in_features))
        self.log_std = nn.Parameter(torch.zeros(self.log_std_shape(in_features, out_features)))
        self.mix_logits = nn.Parameter(torch.zeros(out_features, in_features))

    def log_weight(self):
        return self.mix_logits.log_softmax(dim=-1)

    def wide(self):
        return self.log_std.expand_as(self.mean)

    def forward(self, x):
        return ugmm_log_density(x, self.mean, self.wide(), self.log_weight())


@torch.no_grad()
def rescue(layer, x):
    forgotten = layer.responsibilities(x).mean(dim=0) < 1e-6
    for j, k in forgotten.nonzero().tolist():
        layer.mean[j, k] = x[:, k].median()


RIGHT = [
    ("2.1", (1, -1)),
    ("2.1", {-1.0, 1.0}),
    ("2.1", torch.tensor([1, -1])),
    ("2.1", np.array([-1.0, 1.0])),
    ("2.2", TiedStd),
    ("2.3", rescue),
]


# --- not answered yet -------------------------------------------------------------------------------


class StubLayer(nn.Module):
    """As the notebook has it."""

    def __init__(self, in_features, out_features):
        super().__init__()

    def forward(self, x): ...


class HalfALayer(TiedStd):
    def forward(self, x): ...


STUBS = [
    *stubs_of(2),
    ("2.1", (..., ...)),
    ("2.1", ()),
    ("2.2", StubLayer),
    ("2.2", HalfALayer),
    ("2.3", lambda layer, x: ...),
]


# --- wrong answers ----------------------------------------------------------------------------------


def layer_with(**replaced):
    """The right layer with some of its methods replaced."""
    return type("Wrong", (TiedStd,), replaced)


def log_std_of(shape):
    return layer_with(log_std_shape=staticmethod(shape), wide=lambda self: 0 * self.mean)


class NoParameter(TiedStd):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        del self.log_std
        self.log_std = torch.zeros(out_features, 1)


class OtherName(TiedStd):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.logits = self.mix_logits
        del self.mix_logits


class OneMore(TiedStd):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.bias = nn.Parameter(torch.zeros(out_features))


class Transposed(TiedStd):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.mean = nn.Parameter(torch.zeros(in_features, out_features))


class DoubledGradient(TiedStd):
    def wide(self):
        twice = 2 * self.log_std - self.log_std.detach()
        return twice.expand_as(self.mean)


def forgotten_by(layer, x):
    return layer.responsibilities(x).mean(dim=0) < 1e-6


def rescue_to(place, mask=forgotten_by):
    """A rescue that puts the forgotten means at ``place(x, k)``."""

    @torch.no_grad()
    def wrong(layer, x):
        for j, k in mask(layer, x).nonzero().tolist():
            layer.mean[j, k] = place(x, k)

    return wrong


def rescue_then(change):
    @torch.no_grad()
    def wrong(layer, x):
        rescue(layer, x)
        change(layer)

    return wrong


def rescue_without_no_grad(layer, x):
    layer.mean[forgotten_by(layer, x)] = 3.0


@torch.no_grad()
def rescue_a_copy(layer, x):
    layer.mean[forgotten_by(layer, x)].fill_(3.0)


@torch.no_grad()
def rescue_by_returning(layer, x):
    return torch.where(forgotten_by(layer, x), x.mean(dim=0), layer.mean)


def rescue_with_a_new_parameter(layer, x):
    layer.mean = nn.Parameter(rescue_by_returning(layer, x))


def median_of(x, k):
    return x[:, k].median()


WRONG = [
    # 2.1
    ("2.1", 1, "There is a second"),
    ("2.1", [-1], "There is a second"),
    ("2.1", 0, "it is the mean that rests"),
    ("2.1", (1, -1, 0), "it is the mean that rests"),
    ("2.1", math.sqrt(2), "The square root of 2"),
    ("2.1", (1, -1, 3), "At z = 3 the gradient is not zero"),
    ("2.1", "one", "Expected one number or several"),
    # 2.2
    ("2.2", log_std_of(lambda k, j: (j, k)), "one for each component"),
    ("2.2", log_std_of(lambda k, j: (1, k)), "shared by the neurons"),
    ("2.2", log_std_of(lambda k, j: (k,)), "shared by the neurons"),
    ("2.2", log_std_of(lambda k, j: (j,)), "needs a second axis"),
    ("2.2", log_std_of(lambda k, j: ()), "a single one for the whole layer"),
    ("2.2", log_std_of(lambda k, j: (1,)), "a single one for the whole layer"),
    ("2.2", log_std_of(lambda k, j: (1, 1)), "a single one for the whole layer"),
    ("2.2", log_std_of(lambda k, j: (k, 1)), "the first axis is the neurons'"),
    ("2.2", NoParameter, "`log_std` is a plain tensor"),
    ("2.2", OtherName, "There is no parameter `mix_logits`"),
    ("2.2", OneMore, "there also is bias"),
    ("2.2", Transposed, "The neurons come first"),
    ("2.2", UGMMLayer, "one for each component"),
    ("2.2", layer_with(log_weight=lambda self: self.mix_logits), "do not sum to one"),
    ("2.2", layer_with(log_weight=lambda self: self.mix_logits.log_softmax(0)), "runs over the neurons"),
    ("2.2", layer_with(log_weight=lambda self: self.mix_logits.softmax(-1)), "not the weights"),
    ("2.2", layer_with(wide=lambda self: self.log_std.exp().expand_as(self.mean)), "got the deviation"),
    ("2.2", layer_with(wide=lambda self: 0 * self.mean), "has no effect"),
    ("2.2", layer_with(wide=lambda self: -self.log_std.expand_as(self.mean)), "are not those of"),
    ("2.2", layer_with(wide=lambda self: self.log_std.log().expand_as(self.mean)), "NaN or infinite"),
    ("2.2", layer_with(wide=lambda self: self.log_std), "expected log_std of the shape of mean"),
    (
        "2.2",
        layer_with(wide=lambda self: self.log_std.data.expand_as(self.mean)),
        "No gradient reaches `log_std`",
    ),
    (
        "2.2",
        layer_with(forward=lambda self, x: TiedStd.forward(self, x).detach()),
        "No gradient reaches `mean`",
    ),
    ("2.2", DoubledGradient, "the gradient of `log_std` is not"),
    ("2.2", layer_with(forward=lambda self, x: x.unsqueeze(-2) - self.mean), "one value for each component"),
    ("2.2", layer_with(forward=lambda self, x: TiedStd.forward(self, x.flatten(0, -2))), "Print the shape"),
    (
        "2.2",
        layer_with(forward=lambda self, x: TiedStd.forward(self, x).view(x.shape[0], -1, 4)),
        "Your code raised RuntimeError",
    ),
    ("2.2", TiedStd(3, 2), "Pass the class, not a layer made from it"),
    ("2.2", dict, "Expected a subclass of nn.Module"),
    ("2.2", 5, "Expected a subclass of nn.Module, got int 5"),
    # 2.3
    ("2.3", rescue_a_copy, "Indexing with a mask makes a copy"),
    ("2.3", rescue_by_returning, "should work in place"),
    ("2.3", rescue_with_a_new_parameter, "an optimiser still holds the old one"),
    ("2.3", rescue_without_no_grad, "only under torch.no_grad()"),
    ("2.3", rescue_to(lambda x, k: 0.0), "nowhere near its data"),
    ("2.3", rescue_to(lambda x, k: torch.randn(())), "nowhere near its data"),
    ("2.3", rescue_to(lambda x, k: x.mean()), "nowhere near its data"),
    ("2.3", rescue_to(lambda x, k: math.nan), "nowhere near its data"),
    ("2.3", rescue_to(median_of, lambda layer, x: torch.ones_like(layer.mean)), "All means have moved"),
    (
        "2.3",
        rescue_to(median_of, lambda la, x: (la.responsibilities(x) < 1e-6).any(dim=0)),
        "has moved, although",
    ),
    ("2.3", rescue_to(median_of, lambda la, x: la.responsibilities(x).mean(0) < 0.25), "has moved, although"),
    ("2.3", rescue_to(median_of, lambda la, x: la.responsibilities(x).mean(0) < 0.05), "has moved, although"),
    ("2.3", rescue_to(median_of, lambda la, x: la.responsibilities(x).mean(0) < 1e-3), "neuron 3 has moved"),
    (
        "2.3",
        rescue_to(median_of, lambda la, x: la.responsibilities(x).amax(0) < 1e-6),
        "nowhere near its data",
    ),
    ("2.3", rescue_to(median_of, lambda la, x: la.responsibilities(x).amin(0) < 1e-6), "has moved, although"),
    ("2.3", rescue_to(lambda x, k: 15.0 if k == 0 else median_of(x, k)), "is still forgotten"),
    ("2.3", rescue_then(lambda layer: layer.log_std.zero_()), "`log_std` has changed"),
    ("2.3", rescue_then(lambda layer: layer.mix_logits.zero_()), "`mix_logits` has changed"),
    ("2.3", rescue_then(lambda layer: layer.reset_parameters()), "has changed"),
    ("2.3", torch.zeros(3), "Expected the function rescue(layer, x)"),
]


class TestChapter2(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
