"""Answers to chapter 14: the fourth corner, a step of expectation maximisation, XOR with few parameters."""

import math

import numpy as np
import torch
from answers_of import HALF_LOG_2PI, AnswersOfAChapter, stubs_of, terms
from torch import nn

from ugmm_tutorial import UGMMLayer
from ugmm_tutorial.approximation import univariate
from ugmm_tutorial.networks import UGMMNet

# --- right answers ----------------------------------------------------------------------------------


def em_step(x, mass, weight, mean, std, around_old=False):
    shares = mass[:, None] * (terms(x[:, None], mean, std, weight)).softmax(dim=-1)
    count = shares.sum(dim=0)
    new = (shares * x[:, None]).sum(dim=0) / count
    away = x[:, None] - (mean if around_old else new)
    return count, new, ((shares * away**2).sum(dim=0) / count).sqrt()


def em_step_node_by_node(x, mass, weight, mean, std):
    """Densities and moments, one number at a time."""
    sums = np.zeros((3, len(mean)))
    for node, m in zip(x.tolist(), mass.tolist(), strict=True):
        each = [
            w / s * math.exp(-0.5 * ((node - a) / s) ** 2)
            for w, a, s in zip(weight.tolist(), mean.tolist(), std.tolist(), strict=True)
        ]
        for k, part in enumerate(each):
            share = m * part / sum(each)
            sums[:, k] += share, share * node, share * node**2
    new = sums[1] / sums[0]
    return tuple(torch.as_tensor(v) for v in (sums[0], new, np.sqrt(sums[2] / sums[0] - new**2)))


def em_step_of_the_package(x, mass, weight, mean, std):
    """Its quadrature weights are the masses, of a density that is one at all nodes."""
    mixture, _ = univariate.fit(
        torch.zeros_like(x), x, mass, univariate.Mixture(weight, mean, std), iterations=1
    )
    return tuple(mixture)


def xor_by_hand(x, y):
    """Two hidden neurons at one diagonal's corners; the first output is high where one of them is."""
    network = UGMMNet((2, 2, 2), dtype=x.dtype).requires_grad_(False)
    network[0].mean.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    network[1].mean.fill_(-HALF_LOG_2PI)
    network[1].log_std.copy_(torch.tensor([[0.2, 0.2], [0.5, 0.5]]).log())
    return network


class OwnNetwork(nn.Module):
    """Two layers in a module of the reader's own, with or without something else around them."""

    def __init__(self, network, before=lambda t: t, between=lambda t: t, behind=lambda t: t):
        super().__init__()
        self.hidden, self.output = network
        self.before, self.between, self.behind = before, between, behind

    def forward(self, x):
        return self.behind(self.output(self.between(self.hidden(self.before(x)))))


def xor_trained(x, y):
    best = math.inf, None
    for seed in range(4):
        torch.manual_seed(seed)
        network = UGMMNet((2, 2, 2), dtype=x.dtype)
        optimiser = torch.optim.LBFGS(network.parameters(), max_iter=60, line_search_fn="strong_wolfe")

        def loss(network=network, optimiser=optimiser):
            optimiser.zero_grad()
            value = nn.functional.cross_entropy(network(x), y)
            value.backward()
            return value

        optimiser.step(loss)
        best = min(best, (loss().item(), network), key=lambda found: found[0])
    return best[1]


RIGHT = [
    ("14.1", -1.386),
    ("14.1", -1.39),
    ("14.1", np.log(np.array([0.35 + 0.1 - 0.2]))),
    ("14.2", em_step),
    ("14.2", em_step_node_by_node),
    ("14.2", em_step_of_the_package),
    ("14.3", xor_by_hand),
    ("14.3", xor_trained),
    ("14.3", lambda x, y: OwnNetwork(xor_by_hand(x, y))),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(13)


# --- wrong answers ----------------------------------------------------------------------------------


def product(x):
    return x * x.flip(1)


class ProductOfInputs(nn.Module):
    """Right on the clouds, and its layer has no part in it."""

    def __init__(self):
        super().__init__()
        self.layer = UGMMLayer(2, 2)

    def forward(self, x):
        return torch.stack([x[:, 0] * x[:, 1], -x[:, 0] * x[:, 1]], dim=1)


WRONG = [
    # 14.1
    ("14.1", 0.25, "This is the exponential"),
    ("14.1", math.log(0.175), "Add before the logarithm"),
    ("14.1", math.log(0.45), "lies across has the other sign"),
    ("14.1", math.log(0.35 + 0.20 - 0.10), "lies across has the other sign"),
    ("14.1", math.log(0.65), "Signs alternate"),
    ("14.1", math.log10(0.25), "Natural logarithms"),
    ("14.1", 1.3863, "below one are negative"),
    ("14.1", -3.0, "Which combination"),
    ("14.1", "low", "Expected one number"),
    # 14.2
    ("14.2", lambda x, mass, *start: em_step(x, mass * 0 + 1 / 40, *start), "weights: every node counts"),
    ("14.2", lambda *a: (40 * em_step(*a)[0], *em_step(*a)[1:]), "weights: they are shares of one"),
    ("14.2", lambda x, m, w, *rest: em_step(x, m, 0 * w + 1, *rest), "need the mixing weights"),
    ("14.2", lambda x, m, *start: start, "The weights: these are those it began with"),
    (
        "14.2",
        lambda *a: (em_step(*a)[0], em_step(*a)[0] * em_step(*a)[1], em_step(*a)[2]),
        "means: divide by the component's own count",
    ),
    ("14.2", lambda *a: (em_step(*a)[0], a[3], em_step(*a)[2]), "The means: these are those it began with"),
    ("14.2", lambda *a: (*em_step(*a)[:2], em_step(*a)[2] ** 2), "deviations: take the square root"),
    ("14.2", lambda *a: em_step(*a, around_old=True), "deviations: distances are to the new means"),
    ("14.2", lambda *a: (*em_step(*a)[:2], a[4]), "The deviations: these are those it began with"),
    ("14.2", lambda *a: (*em_step(*a)[:2], 2 * em_step(*a)[2]), "The deviations are not right"),
    (
        "14.2",
        lambda x, mass, *start: (em_step(x, mass, *start)[0], em_step(x, 0 * mass + 1 / 40, *start)[1], x),
        "Expected a tensor of shape (M,)",
    ),
    ("14.2", lambda *a: em_step(*a)[0], "Expected weights, means and deviations"),
    ("14.2", lambda x, mass, w, *rest: (x[:, None] * w, x, x), "Sum over the nodes."),
    ("14.2", 0.0, "Expected the function em_step"),
    # 14.3
    ("14.3", lambda x, y: UGMMNet((2, 2)), "One layer stays below about three quarters"),
    ("14.3", lambda x, y: UGMMNet((2, 2, 2)), "What must each hidden neuron say?"),
    ("14.3", lambda x, y: UGMMNet((2, 3, 2)), "It has 36 parameters, and 24 are allowed"),
    ("14.3", lambda x, y: nn.Sequential(nn.Linear(2, 2), UGMMNet((2, 2))), "got Linear as well"),
    ("14.3", lambda x, y: UGMMNet((2, 2, 3))[:1], "One layer stays"),
    ("14.3", lambda x, y: UGMMNet((2, 3)), "Expected a tensor of shape (N, 2)"),
    ("14.3", lambda x, y: x, "Expected a module"),
    ("14.3", lambda x, y: nn.Identity(), "got a module without any"),
    ("14.3", lambda x, y: nn.LayerNorm(2, elementwise_affine=False), "got a module without any"),
    ("14.3", lambda x, y: OwnNetwork(xor_by_hand(x, y), before=product), "Hand on what a layer returns"),
    ("14.3", lambda x, y: OwnNetwork(xor_by_hand(x, y), between=torch.tanh), "Hand on what a layer returns"),
    ("14.3", lambda x, y: OwnNetwork(xor_by_hand(x, y), behind=torch.neg), "Hand on what a layer returns"),
    ("14.3", lambda x, y: ProductOfInputs(), "Hand on what a layer returns"),
    ("14.3", 0.0, "Expected the function small_network"),
]


class TestChapter14(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
