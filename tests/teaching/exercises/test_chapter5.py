"""Answers to chapter 5: layer normalisation by hand, its gradient, a start without it."""

import math

import torch
from answers_of import AnswersOfAChapter, stubs_of
from torch import nn

# --- right answers ----------------------------------------------------------------------------------


def layer_norm_gradient(h, g):
    spread = h.std(dim=-1, correction=0, keepdim=True)
    hat = (h - h.mean(dim=-1, keepdim=True)) / spread
    return (g - g.mean(dim=-1, keepdim=True) - hat * (g * hat).mean(dim=-1, keepdim=True)) / spread


def by_autograd(h, g):
    h = h.clone().requires_grad_()
    out = nn.functional.layer_norm(h, h.shape[-1:], eps=0.0)
    return torch.autograd.grad(out, h, g)[0]


@torch.no_grad()
def start(network, x, width=1.0):
    for layer in network:
        row = torch.randint(len(x), layer.mean.shape)
        layer.mean.copy_(x[row, torch.arange(layer.in_features)])
        layer.log_std.copy_((width * x.std(dim=0)).log().expand_as(layer.log_std))
        x = layer(x)


RIGHT = [
    ("5.1", 0.9258),
    ("5.1", 2 / math.sqrt(14 / 3)),
    ("5.1", torch.tensor([0.93])),
    ("5.2", layer_norm_gradient),
    ("5.2", by_autograd),
    ("5.3", start),
    ("5.3", lambda network, x: start(network, x, width=0.5)),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = [*stubs_of(5), ("5.3", lambda network, x: ...)]


# --- wrong answers ----------------------------------------------------------------------------------


def gradient_with(mean=1, along=1, power=1, correction=0):
    """The right gradient with its parts scaled."""

    def wrong(h, g):
        spread = h.std(dim=-1, correction=correction, keepdim=True)
        hat = (h - h.mean(dim=-1, keepdim=True)) / spread
        first, second = g.mean(dim=-1, keepdim=True), hat * (g * hat).mean(dim=-1, keepdim=True)
        return (g - mean * first - along * second) / spread**power

    return wrong


def gradient_without_normalising(h, g):
    spread, centred = h.std(-1, correction=0, keepdim=True), h - h.mean(-1, keepdim=True)
    return (g - g.mean(-1, keepdim=True) - centred * (g * centred).mean(-1, keepdim=True)) / spread


def start_then(change, first=True):
    def wrong(network, x):
        if first:
            start(network, x)
        return change(network, x)

    return wrong


def with_new_parameter(network, x):
    network[1].mean = nn.Parameter(network[1].mean.detach().clone())


@torch.no_grad()
def means_only(network, x):
    for layer in network:
        row = torch.randint(len(x), layer.mean.shape)
        layer.mean.copy_(x[row, torch.arange(layer.in_features)])
        x = layer(x)


@torch.no_grad()
def without_handing_on(network, x):
    """Every layer from what the fresh network hands on, not from the one that has been started."""
    fresh = [x]
    for layer in network[:-1]:
        fresh.append(layer(fresh[-1]))
    for layer, seen in zip(network, fresh, strict=True):
        row = torch.randint(len(seen), layer.mean.shape)
        layer.mean.copy_(seen[row, torch.arange(layer.in_features)])
        layer.log_std.copy_(seen.std(dim=0).log().expand_as(layer.log_std))


WRONG = [
    # 5.1
    ("5.1", 0.4629, "This is the second output"),
    ("5.1", -1.3887, "This is the third output"),
    ("5.1", 0.7559, "not by J - 1"),
    ("5.1", 0.4286, "its square root is the spread"),
    ("5.1", 2, "nothing is divided by the spread"),
    ("5.1", -0.4629, "the mean has not been subtracted"),
    ("5.1", -0.9258, "The sign is turned around"),
    ("5.1", 0.4, "This divides by the range"),
    ("5.1", 1, "the mean absolute deviation"),
    ("5.1", -0.2705, "root mean square of the outputs"),
    ("5.1", -3, "This is the mean of the three"),
    ("5.1", 2.1602, "This is the spread of the three"),
    ("5.1", 4.6667, "This is the variance of the three"),
    ("5.1", 0.9, "two decimals"),
    ("5.1", 7, "Subtract the mean of the three"),
    ("5.1", "0.93", "Expected one number"),
    ("5.1", (0.93, 0.46, -1.39), "with 3 numbers"),
    # 5.2
    ("5.2", gradient_with(mean=0, along=0), "this takes them as constants"),
    ("5.2", gradient_with(along=0), "that from the spread is missing"),
    ("5.2", gradient_with(mean=0), "that from the mean is missing"),
    ("5.2", gradient_with(power=0), "The division by the spread is missing"),
    ("5.2", gradient_with(power=2), "once, not squared"),
    ("5.2", gradient_with(mean=-1, along=-1), "both parts are taken off g"),
    ("5.2", gradient_with(along=-1), "the part that comes from the spread is taken off"),
    ("5.2", gradient_with(mean=-1), "the part that comes from the mean is taken off"),
    ("5.2", gradient_with(mean=5, along=5), "These are sums"),
    ("5.2", gradient_with(correction=1), "`std` by J - 1"),
    ("5.2", lambda h, g: layer_norm_gradient(h.T, g.T).T, "The statistics run over the batch"),
    ("5.2", lambda h, g: nn.functional.layer_norm(h, (5,), eps=0.0), "not a gradient"),
    ("5.2", gradient_without_normalising, "not only centred"),
    ("5.2", lambda h, g: layer_norm_gradient(h, torch.ones_like(g)), "where has g gone"),
    ("5.2", lambda h, g: layer_norm_gradient(h, g) + 1, "Its sum over the neurons must be zero"),
    ("5.2", lambda h, g: layer_norm_gradient(h, g).sum(0), "Nothing is summed over the examples"),
    ("5.2", lambda h, g: layer_norm_gradient(h, g).sum(1), "one gradient for each output"),
    ("5.2", lambda h, g: layer_norm_gradient(0 * h, g), "NaN or infinite"),
    ("5.2", 0.0, "Expected the function layer_norm_gradient"),
    # 5.3
    ("5.3", start_then(lambda network, x: network, first=False), "`start` should work in place"),
    ("5.3", start_then(lambda network, x: network.append(nn.LayerNorm(10))), "uGMM layers and nothing else"),
    ("5.3", start_then(with_new_parameter), "Parameters were replaced"),
    ("5.3", start_then(lambda network, x: network[2].log_std.data.fill_(-math.inf)), "NaN or infinite"),
    ("5.3", start_then(means_only, first=False), "a neuron's output differs between examples"),
    ("5.3", start_then(without_handing_on, first=False), "started from what the layers before it"),
    ("5.3", start_then(lambda network, x: network[0].mean.data.fill_(9e9)), "layer 1"),
    ("5.3", start_then(lambda network, x: network[6].log_std.data.fill_(-6.5)), "that is too much"),
    ("5.3", start_then(lambda network, x: network[3].mean.data.fill_(1e30)), "layer 4 are not finite"),
    ("5.3", 1.0, "Expected the function start(network, x)"),
]


class TestChapter5(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
