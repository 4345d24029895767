"""Answers to chapter 7: larger images, the gradient of the features, a cheap head."""

import torch
from answers_of import AnswersOfAChapter, stubs_of, terms
from torch import nn

from ugmm_tutorial import ugmm_log_density
from ugmm_tutorial.networks import UGMMNet

# --- right answers ----------------------------------------------------------------------------------


def feature_gradient(x, mean, log_std, log_weight, g):
    return pulled(g, shares(x, mean, log_std, log_weight), x, mean, log_std)


def shares(x, mean, log_std, log_weight):
    return terms(x.unsqueeze(-2), mean, log_std.exp(), log_weight.exp()).softmax(dim=-1)


def pulled(g, share, x, mean, log_std, power=2):
    return torch.einsum("bj,bjk->bk", g, share * (mean - x.unsqueeze(-2)) / log_std.exp() ** power)


def feature_gradient_by_autograd(x, mean, log_std, log_weight, g):
    x = x.requires_grad_()
    return torch.autograd.grad(ugmm_log_density(x, mean, log_std, log_weight), x, g)[0]


def cheap_head(x, y, widths=(144, 10), norm="after", epochs=12):
    head = UGMMNet(widths, norm=norm).float()
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-2)
    with torch.enable_grad():
        for _ in range(epochs):
            for index in torch.randperm(len(x)).split(100):
                optimizer.zero_grad()
                nn.functional.cross_entropy(head(x[index]), y[index]).backward()
                optimizer.step()
    return head


RIGHT = [
    ("7.1", 3136),
    ("7.1", 64 * 7 * 7),
    ("7.2", feature_gradient),
    ("7.2", feature_gradient_by_autograd),
    ("7.3", cheap_head),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(7)


# --- wrong answers ----------------------------------------------------------------------------------


def by_log_std(x, mean, log_std, log_weight, g):
    share = shares(x, mean, log_std, log_weight)
    return torch.einsum("bj,bjk->bk", g, share * (mean - x.unsqueeze(-2)) / log_std.square())


def over_neurons(x, mean, log_std, log_weight, g):
    share = terms(x.unsqueeze(-2), mean, log_std.exp(), log_weight.exp()).softmax(dim=-2)
    return pulled(g, share, x, mean, log_std)


WRONG = [
    # 7.1
    ("7.1", 1024, "28 x 28"),
    ("7.1", 49, "number of places"),
    ("7.1", 1568, "32 are the first one's"),
    ("7.1", 6400, "Nothing is added at the border"),
    ("7.1", 12_544, "Both convolutions are followed by pooling"),
    ("7.1", 16_384, "Pooling comes after each"),
    ("7.1", 100_352, "reads all 32"),
    ("7.1", 7, "the side of a feature map"),
    ("7.1", 3000, "Follow the side of the image"),
    ("7.1", "many", "Expected one number"),
    # 7.2
    ("7.2", lambda *a: -feature_gradient(*a), "The sign is turned around"),
    ("7.2", lambda *a: feature_gradient(*a[:4], torch.ones_like(a[4])), "g is missing"),
    ("7.2", lambda x, m, s, w, g: pulled(g, shares(x, m, s, w), x, m, s, 1), "squared"),
    ("7.2", lambda x, m, s, w, g: pulled(g, shares(x, m, s, w), x, m, s, 0), "Nothing is divided"),
    ("7.2", lambda x, m, s, w, g: pulled(g, w.exp(), x, m, s), "These are mixing weights"),
    ("7.2", lambda x, m, s, w, g: pulled(g, torch.ones_like(w), x, m, s), "The shares are missing"),
    ("7.2", by_log_std, "take the exponential first"),
    ("7.2", over_neurons, "here over the neurons"),
    ("7.2", lambda *a: feature_gradient(*a) / 3, "gradients add up"),
    ("7.2", lambda *a: feature_gradient(*a).sum(dim=0), "Nothing is summed over the examples"),
    ("7.2", lambda x, m, s, w, g: shares(x, m, s, w), "Sum over the neurons"),
    ("7.2", lambda *a: a[-1], "sum over the neurons, not over the features"),
    ("7.2", lambda *a: 5 * feature_gradient(*a), "Differentiate one term"),
    ("7.2", 3.0, "Expected the function feature_gradient"),
    # 7.3
    ("7.3", lambda x, y: cheap_head(x, y, norm="none", epochs=3), "94% are asked for"),
    ("7.3", lambda x, y: cheap_head(x, y, (144, 16, 10), epochs=1), "1,500 are allowed"),
    ("7.3", lambda x, y: nn.Linear(144, 10), "There is no mixture neuron"),
    ("7.3", lambda x, y: UGMMNet((144, 9)), "Expected a tensor of shape (N, 10)"),
    ("7.3", lambda x, y: UGMMNet((100, 10)), "Your code raised ValueError"),
    ("7.3", lambda x, y: 0.95, "Expected a trained module"),
    ("7.3", 0.95, "Expected the function cheap_head"),
]


class TestChapter7(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
