"""The checks of the book's exercises: right answers pass, stubs are told apart, wrong ones get their hint."""

from __future__ import annotations

import ast
import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ugmm_tutorial import UGMMLayer, ugmm_log_density
from ugmm_tutorial.approximation import univariate
from ugmm_tutorial.density import ProductTwin, em
from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.teaching import exercises
from ugmm_tutorial.teaching.exercises import Feedback, check
from ugmm_tutorial.training.joint import JointTraining

FOLDER = Path(exercises.__file__).parent
NUMBERS = [f"{chapter}.{place}" for chapter in range(1, 13) for place in (1, 2, 3)]
LOG2E, HALF_LOG_2PI = math.log2(math.e), 0.5 * math.log(2 * math.pi)


# --- right answers ----------------------------------------------------------------------------------


def terms(x, mean, std, weight):
    z = (x - mean) / std
    return weight.log() - std.log() - HALF_LOG_2PI - 0.5 * z * z


def hard_neuron(x, mean, std, weight):
    return terms(x, mean, std, weight).max(dim=-1).values


def features(x):
    return x.square().sum(dim=-1, keepdim=True)


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


def unstable_posterior(root, x, labels):
    weights = asked(root, x, labels).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def fit_flowers(x, y):
    network = UGMMNet((5, 10, 5, 1))
    options = {"objective": "conditional", "learning_rate": 3e-2, "batch_size": 25}
    JointTraining([network], x[None], y[None], **options).run(40)
    return network


def gap_terms(x, mean, log_std, log_weight, log_background):
    z = (x.nan_to_num().unsqueeze(1) - mean) / log_std.exp()
    own = log_weight - 0.5 * z.square() - log_std - HALF_LOG_2PI
    return own - log_background.nan_to_num().unsqueeze(1)


def with_gaps(x, mean, log_std, log_weight, log_background, left_out=0.0):
    terms = gap_terms(x, mean, log_std, log_weight, log_background)
    terms = torch.where(x.isnan().unsqueeze(1), log_weight + left_out, terms)
    return log_background.nansum(dim=1, keepdim=True) + terms.logsumexp(dim=2)


def with_gaps_input_by_input(x, mean, log_std, log_weight, log_background):
    """Densities, multiplied and added one by one."""
    std, w, b = log_std.exp(), log_weight.exp(), log_background.exp()
    total = torch.zeros(len(x), len(mean), dtype=x.dtype)
    for k in range(x.shape[1]):
        term = w[:, k].expand_as(total).clone()
        for i in range(x.shape[1]):
            if i == k:
                density = (
                    torch.distributions.Normal(mean[:, k], std[:, k])
                    .log_prob(x[:, k : k + 1].nan_to_num())
                    .exp()
                )
            else:
                density = b[:, i : i + 1].expand_as(total)
            term = torch.where(x[:, i : i + 1].isnan(), term, term * density)
        total = total + term
    return total.log()


def without_ratio(x, mean, log_std, log_weight, log_background):
    terms = gap_terms(x, mean, log_std, log_weight, torch.zeros_like(x))
    terms = torch.where(x.isnan().unsqueeze(1), log_weight, terms)
    return log_background.nansum(dim=1, keepdim=True) + terms.logsumexp(dim=2)


def renormalised(x, mean, log_std, log_weight, log_background, left_out=-1e4):
    out = with_gaps(x, mean, log_std, log_weight, log_background, left_out)
    kept = (~x.isnan()).to(x.dtype) @ log_weight.exp().T
    return out - kept.log()


def fit_moons(x, components=12):
    model = ProductTwin(2, components, min_std=0.1).to(x.dtype).initialise(x, seed=0)
    em.fit(model, x, iterations=100)
    return model


def twice(model):
    """Not normalised any more."""
    log_prob = model.log_prob
    model.log_prob = lambda x: log_prob(x) + math.log(2.0)
    return model


def nearest_in_box(low, high, mean):
    return mean.clamp(low, high) - mean


def nearer_end(low, high, mean):
    return torch.minimum((low - mean).abs(), (high - mean).abs())


def layer_bounds(low, high, mean, log_std, log_weight, nearest=nearest_in_box):
    low, high = low.unsqueeze(1), high.unsqueeze(1)

    def out(away):
        terms = log_weight - log_std - HALF_LOG_2PI - 0.5 * (away / log_std.exp()) ** 2
        return terms.logsumexp(dim=2)

    return out(torch.maximum((low - mean).abs(), (high - mean).abs())), out(nearest(low, high, mean))


def near_for_far(*arguments):
    return layer_bounds(*arguments, nearest=nearer_end)[1]


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


def with_background(x, mean, log_std, log_weight, log_background):
    z = (x.unsqueeze(1) - mean) * torch.exp(-log_std)
    bracket = log_weight - log_std - HALF_LOG_2PI - 0.5 * z * z
    return torch.logsumexp(bracket - log_background.unsqueeze(1), dim=-1)


def multiplied_out(x, mean, std):
    alpha = -0.5 / std**2
    x = x.unsqueeze(1)
    return alpha * x**2 - 2 * alpha * mean * x + alpha * mean**2


def by_matrix_product(x, mean, std):
    powers = torch.stack((x**2, x, torch.ones_like(x)), dim=-1)  # (B, K, 3)
    alpha = -0.5 / std**2
    factors = torch.stack((alpha, -2 * alpha * mean, alpha * mean**2), dim=-1)  # (J, K, 3)
    return (powers.transpose(0, 1) @ factors.permute(1, 2, 0)).permute(1, 2, 0)


def dropped_log_weight(logits, kept, p, mode):
    heaviest = nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    kept = kept | (heaviest & ~kept.any(dim=-1, keepdim=True))
    penalty = torch.zeros_like(logits).masked_fill(~kept, -math.inf)
    if mode == "renormalize":
        return (logits + penalty).log_softmax(dim=-1)
    expected = 1 - p + logits.softmax(dim=-1).amax(dim=-1, keepdim=True) * p ** logits.shape[-1]
    log_weight = logits.log_softmax(dim=-1) + penalty
    return log_weight if mode == "literal" else log_weight - expected.log()


def balanced_mask(neurons, inputs, p):
    wanted = inputs * (1 - p)
    number = (math.floor(wanted) + (torch.rand(neurons, 1) < wanted % 1)).clamp(min=1)
    return torch.rand(neurons, inputs).argsort(dim=-1).argsort(dim=-1) < number


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


def confidence(outputs, labels):
    sure, said = outputs.softmax(dim=1).max(dim=1)
    right = said == labels
    tenth = sure.topk(len(labels) // 10).indices
    return sure[right].mean(), sure[~right].mean(), right[tenth].float().mean()


def judge(right_a, right_b, z=1.96):
    only_a, only_b = (right_a & ~right_b).sum().item(), (right_b & ~right_a).sum().item()
    if abs(only_a - only_b) <= z * math.sqrt(only_a + only_b):
        return "undecided"
    return "A" if only_a > only_b else "B"


def sign_test(right_a, right_b):
    only_a, only_b = (right_a & ~right_b).sum().item(), (right_b & ~right_a).sum().item()
    n, few = only_a + only_b, min(only_a, only_b)
    chance = 2 * sum(
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2))
        for i in range(few + 1)
    )
    return "undecided" if chance > 0.05 else "A" if only_a > only_b else "B"


def bootstrap(right_a, right_b):
    """Draws from the global generator, as a reader's may."""
    differing = right_a.float()[right_a != right_b]
    if len(differing) == 0:
        return "undecided"
    means = differing[torch.randint(len(differing), (300, len(differing)))].mean(dim=1) - 0.5
    low, high = means.quantile(0.025), means.quantile(0.975)
    return "A" if low > 0 else "B" if high < 0 else "undecided"


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


def product(x):
    return x * x.flip(1)


class ProductOfInputs(nn.Module):
    """Right on the clouds, and its layer has no part in it."""

    def __init__(self):
        super().__init__()
        self.layer = UGMMLayer(2, 2)

    def forward(self, x):
        return torch.stack([x[:, 0] * x[:, 1], -x[:, 0] * x[:, 1]], dim=1)


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
    ("2.1", (1, -1)),
    ("2.1", {-1.0, 1.0}),
    ("2.1", torch.tensor([1, -1])),
    ("2.1", np.array([-1.0, 1.0])),
    ("2.2", TiedStd),
    ("2.3", rescue),
    ("3.1", 0.4),
    ("3.1", 2 / 5),
    ("3.2", with_background),
    ("3.3", multiplied_out),
    ("3.3", by_matrix_product),
    ("4.1", 0.4033),
    ("4.1", 1 - (1 - 0.5**4) ** 8),
    ("4.1", torch.tensor(0.4033)),
    ("4.2", dropped_log_weight),
    ("4.2", lambda *a: dropped_log_weight(*a).float()),
    ("4.3", balanced_mask),
    ("5.1", 0.9258),
    ("5.1", 2 / math.sqrt(14 / 3)),
    ("5.1", torch.tensor([0.93])),
    ("5.2", layer_norm_gradient),
    ("5.2", by_autograd),
    ("5.3", start),
    ("5.3", lambda network, x: start(network, x, width=0.5)),
    ("6.1", 78_400),
    ("6.1", torch.tensor(78_400)),
    ("6.2", confidence),
    ("6.2", lambda outputs, labels: torch.stack(confidence(outputs, labels))),
    ("6.3", judge),
    ("6.3", lambda a, b: judge(a, b, z=2.58)),
    ("6.3", sign_test),
    ("6.3", bootstrap),
    ("7.1", 3136),
    ("7.1", 64 * 7 * 7),
    ("7.2", feature_gradient),
    ("7.2", feature_gradient_by_autograd),
    ("7.3", cheap_head),
    ("8.1", -math.log(0.05 * math.sqrt(2 * math.pi))),
    ("8.1", 2.08),
    ("8.2", posterior),
    ("8.2", posterior_written_out),
    ("8.3", fit_flowers),
    ("9.1", 400),
    ("9.1", 20.0**2),
    ("9.2", with_gaps),
    ("9.2", with_gaps_input_by_input),
    ("9.3", fit_moons),
    ("10.1", -1.138),
    ("10.1", np.logaddexp(0.0, -0.5) - math.log(2.0) - HALF_LOG_2PI),
    ("10.2", layer_bounds),
    ("10.2", layer_bounds_by_corners),
    ("10.3", highest),
    ("11.1", -2.303),
    ("11.1", math.log(1 - 0.9)),
    ("11.1", torch.tensor(-2.3)),
    ("11.2", calibration_error),
    ("11.2", lambda c, r, bins: calibration_error(c.float(), r, bins).float()),
    ("11.2", calibration_error_by_quantiles),
    ("11.2", calibration_error_in_numpy),
    ("11.3", dead),
    ("11.3", lambda outputs: dead(outputs, threshold=1e-2)),
    ("11.3", lambda outputs: dead(outputs, threshold=1e-5)),
    ("11.3", lambda outputs: dead(outputs.double(), torch.Tensor.var, torch.max)),
    ("11.3", lambda outputs: dead(outputs, spread, torch.median)),
    ("11.3", lambda outputs: dead(outputs, spread, torch.max, 1e-2)),
    ("11.3", lambda outputs: dead(outputs, spread, torch.max, 1e-5)),
    ("11.3", dead_up_to_rounding),
    ("11.3", dead_by_distances),
    ("12.1", -1.386),
    ("12.1", -1.39),
    ("12.1", np.log(np.array([0.35 + 0.1 - 0.2]))),
    ("12.2", em_step),
    ("12.2", em_step_node_by_node),
    ("12.2", em_step_of_the_package),
    ("12.3", xor_by_hand),
    ("12.3", xor_trained),
    ("12.3", lambda x, y: OwnNetwork(xor_by_hand(x, y))),
]


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_right_answers_pass_with_something_worth_knowing(number, answer):
    feedback = check(number, answer)
    assert feedback, feedback
    assert str(feedback).startswith(f"Exercise {number}: right. ")
    assert len(feedback.hint) > 40


def test_every_exercise_has_a_right_answer_here():
    assert {number for number, _ in RIGHT} == set(NUMBERS)
    assert list(exercises._EXERCISES) == NUMBERS


# --- not answered yet -------------------------------------------------------------------------------


class StubLayer(nn.Module):
    """As the notebook has it."""

    def __init__(self, in_features, out_features):
        super().__init__()

    def forward(self, x): ...


class HalfALayer(TiedStd):
    def forward(self, x): ...


def raises_not_implemented(*arguments):
    raise NotImplementedError


FUNCTIONS = [
    "1.2",
    "1.3",
    "2.3",
    "3.2",
    "3.3",
    "4.2",
    "4.3",
    "5.2",
    "5.3",
    "6.2",
    "6.3",
    "7.2",
    "7.3",
    "8.2",
    "8.3",
    "11.2",
    "11.3",
    "12.2",
    "12.3",
]
STUBS = [
    *((number, stub) for number in NUMBERS for stub in (..., None)),
    *((number, lambda *arguments: None) for number in FUNCTIONS),
    *((number, lambda *arguments: ...) for number in FUNCTIONS if number not in ("2.3", "5.3")),
    *((number, raises_not_implemented) for number in FUNCTIONS),
    ("2.1", (..., ...)),
    ("2.1", ()),
    ("2.2", StubLayer),
    ("2.2", HalfALayer),
    ("2.3", lambda layer, x: ...),
    ("5.3", lambda network, x: ...),
    ("6.2", lambda outputs, labels: (None, None, None)),
]


@pytest.mark.parametrize(("number", "stub"), STUBS)
def test_stubs_are_not_answered_yet_and_get_the_first_hint(number, stub):
    feedback = check(number, stub)
    assert not feedback
    assert str(feedback).startswith(f"Exercise {number}: not answered yet. ")
    assert feedback.hint == check(number, ...).hint
    assert len(feedback.hint) > 60


def test_first_hints_differ():
    assert len({check(number, ...).hint for number in NUMBERS}) == len(NUMBERS)


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


def directions(count):
    angles = torch.arange(count, dtype=torch.float64) * math.pi / count
    return lambda x: x @ torch.stack((angles.cos(), angles.sin()))


def rotated(x):
    return torch.stack((x[..., 0] + x[..., 1], x[..., 0] - x[..., 1]), dim=-1) / math.sqrt(2)


def background_with(after=lambda out, background: out, **changed):
    """The operator on a changed background, and its output changed."""
    subtracted = changed.get("background", lambda b: b)

    def wrong(x, mean, log_std, log_weight, log_background):
        out = with_background(x, mean, log_std, log_weight, subtracted(log_background))
        return after(out, log_background)

    return wrong


def naive_background(x, mean, log_std, log_weight, log_background):
    z = (x.unsqueeze(1) - mean) * torch.exp(-log_std)
    bracket = log_weight - log_std - HALF_LOG_2PI - 0.5 * z * z - log_background.unsqueeze(1)
    return (bracket.exp().sum(dim=-1) + 1e-30).log()


def naive_background_of_zero(*arguments):
    return with_background(*arguments).exp().log()


def subtract_first(x, mean, std):
    return -((x.unsqueeze(1) - mean) ** 2) / (2 * std**2)


def squared_later(x, mean, std):
    s = 1 / std
    return -0.5 * (x.unsqueeze(1) * s - mean * s) ** 2


def exponents_with(squared=(1.0, 1.0, 1.0), over=lambda std: 2 * std**2):
    """Multiplied out, with the three products scaled by ``squared``."""

    def wrong(x, mean, std):
        x = x.unsqueeze(1)
        a, b, c = squared
        return -(a * x**2 - 2 * b * x * mean + c * mean**2) / over(std)

    return wrong


def weights_with(change=lambda out, logits, kept, p, mode: out, rescue=None):
    """The right log-weights, changed, or under a mask that was changed beforehand."""

    def wrong(logits, kept, p, mode):
        mask = kept if rescue is None else rescue(logits, kept)
        return change(dropped_log_weight(logits, mask, p, mode), logits, kept, p, mode)

    return wrong


def gradient_with(mean=1, along=1, power=1, correction=0):
    """The right gradient with its parts scaled."""

    def wrong(h, g):
        spread = h.std(dim=-1, correction=correction, keepdim=True)
        hat = (h - h.mean(dim=-1, keepdim=True)) / spread
        first, second = g.mean(dim=-1, keepdim=True), hat * (g * hat).mean(dim=-1, keepdim=True)
        return (g - mean * first - along * second) / spread**power

    return wrong


def weights_without_rescue(logits, kept, p, mode):
    penalty = torch.zeros_like(logits).masked_fill(~kept, -math.inf)
    if mode == "renormalize":
        return (logits + penalty).log_softmax(dim=-1)
    return logits.log_softmax(dim=-1) + penalty


def lost_rows(kept):
    return ~kept.any(dim=-1, keepdim=True)


def first_of_lost(logits, kept):
    other = nn.functional.one_hot(logits.argmin(dim=-1), logits.shape[-1]).bool()
    return kept | (other & lost_rows(kept))


def only_in(mode_changed, change):
    """A change in one of the modes."""

    def wrong(out, logits, kept, p, mode):
        return change(out, logits, kept, p) if mode == mode_changed else out

    return weights_with(wrong)


def log_expected(logits, p):
    return (1 - p + logits.softmax(-1).amax(-1, keepdim=True) * p ** logits.shape[-1]).log()


def constant_mask(neurons, inputs, p):
    generator = torch.Generator().manual_seed(0)
    rank = torch.rand(neurons, inputs, generator=generator).argsort(dim=-1).argsort(dim=-1)
    draws = torch.rand(neurons, 1, generator=generator)
    wanted = inputs * (1 - p)
    return rank < (math.floor(wanted) + (draws < wanted % 1)).clamp(min=1)


def rounded_mask(neurons, inputs, p):
    number = max(1, math.floor(inputs * (1 - p)))
    return torch.rand(neurons, inputs).argsort(dim=-1).argsort(dim=-1) < number


def unshuffled_mask(neurons, inputs, p):
    wanted = inputs * (1 - p)
    number = (math.floor(wanted) + (torch.rand(neurons, 1) < wanted % 1)).clamp(min=1)
    return torch.arange(inputs).expand(neurons, -1) < number


def unclamped_mask(neurons, inputs, p):
    wanted = inputs * (1 - p)
    number = math.floor(wanted) + (torch.rand(neurons, 1) < wanted % 1)
    return torch.rand(neurons, inputs).argsort(dim=-1).argsort(dim=-1) < number


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


def confidence_with(order=(0, 1, 2), scale=1, sure=None, said_sure=None, tenth=None, third=None):
    """The right three numbers with one thing changed."""

    def wrong(outputs, labels):
        belief, right = outputs.softmax(dim=1), outputs.argmax(dim=1) == labels
        used = belief.amax(dim=1) if sure is None else sure(outputs)
        on_wrong = used if said_sure is None else said_sure(belief, labels)
        chosen = belief.amax(dim=1).argsort(descending=True)
        chosen = chosen[: len(labels) // 10] if tenth is None else chosen[tenth(len(labels) // 10)]
        share = right[chosen].double().mean() if third is None else third(right[chosen].double(), right)
        values = used[right].mean(), on_wrong[~right].mean(), share
        return tuple(scale * values[place] for place in order)

    return wrong


def averaged(which):
    def wrong(outputs, labels):
        values = list(confidence(outputs, labels))
        values[which] = outputs.softmax(dim=1).amax(dim=1).mean()
        return values

    return wrong


def larger_mean(a, b):
    difference = (a.sum() - b.sum()).item()
    return "A" if difference > 0 else "B" if difference < 0 else "undecided"


def unpaired(a, b):
    p, q, n = a.double().mean().item(), b.double().mean().item(), len(a)
    if abs(p - q) <= 1.96 * math.sqrt((p * (1 - p) + q * (1 - q)) / n):
        return "undecided"
    return "A" if p > q else "B"


def by_margin(margin):
    """Decides from a margin on, in images or as a fraction."""

    def wrong(a, b):
        size = 1 if margin >= 1 else len(a)
        difference = (a.sum() - b.sum()).item() / size
        return "A" if difference >= margin else "B" if difference <= -margin else "undecided"

    return wrong


def only_ever_a(a, b):
    return "A" if judge(a, b) == "A" else "undecided"


def swapped_names(a, b):
    return {"A": "B", "B": "A"}.get(judge(a, b), "undecided")


def first_when_nearly_equal(a, b):
    """Not symmetric, but only where the difference is small."""
    return "A" if judge(a, b) == "undecided" and 0 < (a ^ b).sum() < 70 and a.sum() > b.sum() else judge(a, b)


def zero_division(a, b):
    only_a, only_b = (a & ~b).sum().item(), (b & ~a).sum().item()
    return judge(a, b) if abs(only_a - only_b) / math.sqrt(only_a + only_b) > 0 else "undecided"


def changed_terms(change):
    def wrong(x, mean, std, weight):
        return change(terms(x, mean, std, weight), x, mean, std, weight)

    return wrong


def by_log_std(x, mean, log_std, log_weight, g):
    share = shares(x, mean, log_std, log_weight)
    return torch.einsum("bj,bjk->bk", g, share * (mean - x.unsqueeze(-2)) / log_std.square())


def over_neurons(x, mean, log_std, log_weight, g):
    share = terms(x.unsqueeze(-2), mean, log_std.exp(), log_weight.exp()).softmax(dim=-2)
    return pulled(g, share, x, mean, log_std)


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
    ("1.1", 0, "A density is no probability"),
    ("1.1", -7.5, "A density is no probability"),
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
    # 3.1
    ("3.1", 2.5, "upside down"),
    ("3.1", 1.2e10, "the height of the roof"),
    ("3.1", 3e10, "the steepness of the slope"),
    ("3.1", 3.6e20, "This is a product"),
    ("3.1", 1.8e10, "This is a difference"),
    ("3.1", 1.6, "not in float32 numbers"),
    ("3.1", 0.1, "divided by four"),
    ("3.1", 40, "the power of ten is not"),
    ("3.1", 4e-9, "the power of ten is not"),
    ("3.1", -3, "where are they equal"),
    ("3.1", "0.4", "Expected one number"),
    # 3.2
    ("3.2", background_with(background=lambda b: -b), "The background is added"),
    ("3.2", background_with(background=lambda b: 0 * b), "no effect"),
    ("3.2", background_with(background=lambda b: b / LOG2E), "too small by a factor"),
    ("3.2", background_with(background=lambda b: b * LOG2E), "too large by a factor"),
    ("3.2", background_with(background=torch.exp), "a logarithm already"),
    (
        "3.2",
        background_with(lambda out, b: out - b.sum(1, keepdim=True), background=torch.zeros_like),
        "its sum is taken off",
    ),
    (
        "3.2",
        background_with(lambda out, b: out - b.mean(1, keepdim=True), background=torch.zeros_like),
        "its mean is taken off",
    ),
    (
        "3.2",
        background_with(lambda out, b: out - b.logsumexp(1, keepdim=True), background=torch.zeros_like),
        "it has one of its own",
    ),
    ("3.2", background_with(lambda out, b: out * LOG2E), "in base 2"),
    ("3.2", background_with(lambda out, b: out + 1), "is l - log(background) what is summed"),
    ("3.2", background_with(lambda out, b: out.T), "stack along the other axis"),
    ("3.2", background_with(lambda out, b: b), "These are inputs, not neurons"),
    (
        "3.2",
        background_with(lambda out, b: out.unsqueeze(-1).expand(5, 4, 3)),
        "one value for each component",
    ),
    ("3.2", naive_background, "wrong where all terms are tiny"),
    ("3.2", naive_background_of_zero, "NaN or infinite"),
    ("3.2", lambda x, mean, *_: x - mean, "Is an unsqueeze missing"),
    ("3.2", lambda x, mean, *_: x @ mean, "Is a transpose missing"),
    ("3.2", 0.0, "Expected the function with_background"),
    # 3.3
    ("3.3", subtract_first, "this subtracts first"),
    ("3.3", lambda x, m, s: multiplied_out(x.double(), m.double(), s.double()), "or computes in float64"),
    ("3.3", squared_later, "squares it after that"),
    ("3.3", exponents_with((1, -1, 1)), "wrong sign"),
    ("3.3", exponents_with((1, 1, 0)), "The term without x is missing"),
    ("3.3", exponents_with((1, 0, 1)), "The term with x is missing"),
    ("3.3", exponents_with((1, 0.5, 1)), "The factor two"),
    ("3.3", exponents_with((2, 2, 2)), "The factor one half"),
    ("3.3", exponents_with((-1, -1, -1)), "turn the sign"),
    ("3.3", exponents_with(over=lambda std: 2 * std), "where its square belongs"),
    ("3.3", exponents_with((0, 1, 1)), "multiply the square out once more"),
    ("3.3", lambda *a: multiplied_out(*a).exp(), "the exponential already"),
    ("3.3", lambda *a: multiplied_out(*a).transpose(1, 2), "move the last axis"),
    ("3.3", lambda *a: multiplied_out(*a).transpose(0, 1), "The examples come first"),
    ("3.3", lambda *a: multiplied_out(*a).permute(2, 0, 1), "move the first axis"),
    ("3.3", lambda *a: multiplied_out(*a).sum(-1), "Nothing is summed over the inputs"),
    ("3.3", lambda x, m, s: x @ m.T.float(), "with dtype=x.dtype"),
    ("3.3", "alpha", "Expected the function exponents"),
    # 4.1
    ("4.1", 0.0625, "The layer has eight"),
    ("4.1", 0.5, "how many are lost on average"),
    ("4.1", 0.5967, "that no neuron is lost"),
    ("4.1", 0.0625**8, "all eight are lost together"),
    ("4.1", 0.9375, "one given neuron keeps something"),
    ("4.1", 0.3183, "exactly one neuron lost"),
    ("4.1", 40.33, "per cent"),
    ("4.1", 1 - 0.5**8, "all four must go"),
    ("4.1", 1 - (1 - 0.5**8) ** 4, "the wrong way round"),
    ("4.1", 0.4, "three decimals"),
    ("4.1", 0.7, "First one neuron"),
    ("4.1", "0.4033", "Expected one number"),
    # 4.2
    ("4.2", weights_with(lambda out, *_: out.exp()), "these are weights"),
    ("4.2", weights_with(lambda out, logits, *_: logits.log_softmax(-1)), "here all are finite"),
    ("4.2", weights_with(lambda out, logits, kept, *_: logits * kept), "here all are finite"),
    ("4.2", weights_with(rescue=lambda logits, kept: ~kept), "the mask is turned around"),
    ("4.2", weights_without_rescue, "should keep its heaviest component"),
    ("4.2", weights_with(rescue=lambda logits, kept: kept | lost_rows(kept)), "one is enough"),
    ("4.2", weights_with(rescue=first_of_lost), "another than its heaviest"),
    ("4.2", weights_with(rescue=lambda logits, kept: logits > 0), "what `kept` says"),
    (
        "4.2",
        lambda logits, kept, p, mode: weights_without_rescue(logits, kept, p, "renormalize"),
        "literal: there is NaN",
    ),
    ("4.2", weights_with(lambda out, logits, *_: logits + out - logits.log_softmax(-1)), "these are logits"),
    (
        "4.2",
        weights_with(lambda out, logits, *_: logits.log_softmax(0) + out - logits.log_softmax(-1)),
        "runs over the neurons",
    ),
    (
        "4.2",
        lambda logits, kept, p, mode: dropped_log_weight(logits, kept, p, "renormalize"),
        "literal: the weights of what is kept sum to one again",
    ),
    (
        "4.2",
        lambda logits, kept, p, mode: dropped_log_weight(logits, kept, p, "literal"),
        "renormalize: the weights stay as they are",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: dropped_log_weight(logits, kept, p, "renormalize")),
        "not by its expectation",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: out + log_expected(logits, p)),
        "those of `literal`",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: out + log_expected(logits, p) - math.log(1 - p)),
        "the rescued neuron counts too",
    ),
    (
        "4.2",
        only_in("literal", lambda out, logits, kept, p: out - math.log(1 - p)),
        "nothing is to be divided",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: out + 2 * log_expected(logits, p)),
        "subtract its logarithm",
    ),
    (
        "4.2",
        only_in("inverted", lambda out, logits, kept, p: out + log_expected(logits, p) - math.log(p)),
        "not kept",
    ),
    (
        "4.2",
        only_in(
            "inverted",
            lambda out, logits, kept, p: out + log_expected(logits, p) - log_expected(logits, p).exp(),
        ),
        "its logarithm is wanted",
    ),
    ("4.2", weights_with(lambda out, *_: out + 1), "the kept log-weights are others"),
    ("4.2", weights_with(lambda out, *_: out.detach()), "no gradient reaches the logits"),
    ("4.2", weights_with(lambda out, *_: out + 0 * out.detach().sub(out).abs().sqrt()), "there is NaN"),
    ("4.2", weights_with(lambda out, *_: out.T), "expected shape (J, K) = (3, 4), got (4, 3)"),
    ("4.2", lambda *a: 1.0, "got float 1.0"),
    ("4.2", torch.zeros(3, 4), "Expected the function dropped_log_weight"),
    # 4.3
    ("4.3", lambda j, k, p: torch.rand(j, k) > p, "at least one should always stay"),
    ("4.3", lambda j, k, p: (torch.rand(j, k) > p) | (torch.arange(k) == 0), "independent draws do"),
    ("4.3", lambda j, k, p: balanced_mask(j, k, 1 - p), "the mask keeps a share p"),
    ("4.3", rounded_mask, "must be drawn as well"),
    ("4.3", unshuffled_mask, "Shuffle within the rows"),
    ("4.3", lambda j, k, p: balanced_mask(1, k, p).expand(j, -1), "The neurons share one mask"),
    ("4.3", constant_mask, "no random numbers are drawn"),
    ("4.3", unclamped_mask, "at least one should always stay"),
    ("4.3", lambda j, k, p: balanced_mask(j, k, 0.2), "how many are (1 - p) of 6"),
    ("4.3", lambda j, k, p: balanced_mask(j, k, p).T, "The neurons come first"),
    ("4.3", lambda j, k, p: balanced_mask(j, k, p).float(), "Expected a boolean tensor"),
    ("4.3", lambda j, k, p: 1, "got int 1"),
    ("4.3", 0.5, "Expected the function balanced_mask"),
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
    # 6.1
    ("6.1", 7.84, "what is 0.05 points as a fraction"),
    ("6.1", 39.2, "the error must be squared"),
    ("6.1", 280, "its square root"),
    ("6.1", 313_600, "for half of the standard error"),
    ("6.1", 19_600, "for twice the standard error"),
    ("6.1", 4e6, "a (1 - a) is missing"),
    ("6.1", 3.92e6, "The factor 1 - a is missing"),
    ("6.1", 80_000, "The factor a is missing"),
    ("6.1", 10_000, "MNIST's 10,000 images"),
    ("6.1", 784, "how many points are one"),
    ("6.1", 7840, "how many points are one"),
    ("6.1", 123, "solve it for n"),
    ("6.1", "many", "Expected one number"),
    # 6.2
    ("6.2", confidence_with(order=(1, 0, 2)), "the wrong way round"),
    ("6.2", confidence_with(scale=100), "per cent"),
    ("6.2", confidence_with(sure=lambda o: o.amax(1)), "a softmax is missing"),
    ("6.2", confidence_with(sure=lambda o: o.softmax(0).amax(1)), "runs over the images"),
    ("6.2", confidence_with(sure=lambda o: o.exp().amax(1)), "division by their sum"),
    ("6.2", confidence_with(sure=lambda o: o.log_softmax(1).amax(1)), "logarithms of probabilities"),
    ("6.2", averaged(0), "The first number averages"),
    ("6.2", averaged(1), "The second number averages"),
    ("6.2", confidence_with(sure=lambda o: o.softmax(1).amin(1)), "The first number should be"),
    (
        "6.2",
        confidence_with(said_sure=lambda p, labels: p.gather(1, labels[:, None])[:, 0]),
        "took the probability of the label",
    ),
    ("6.2", confidence_with(said_sure=lambda p, labels: p.amin(1)), "The second number should be"),
    ("6.2", confidence_with(third=lambda chosen, right: right.double().mean()), "accuracy on all images"),
    ("6.2", confidence_with(tenth=lambda n: slice(-n, None)), "least sure of"),
    ("6.2", confidence_with(tenth=lambda n: slice(0, -n)), "nine tenths"),
    ("6.2", confidence_with(third=lambda chosen, right: 1 - chosen.mean()), "share of wrong answers"),
    ("6.2", confidence_with(third=lambda chosen, right: chosen.sum()), "a number of images"),
    ("6.2", confidence_with(tenth=lambda n: slice(0, n // 2)), "The third number should be"),
    ("6.2", confidence_with(order=(0, 1)), "Expected three numbers: confidence when right"),
    ("6.2", lambda o, y: dict(zip("abc", confidence(o, y), strict=True)), "a value of type dict"),
    ("6.2", (0.9, 0.5, 1.0), "Expected the function confidence"),
    # 6.3
    ("6.3", larger_mean, "one of two equally good networks better"),
    ("6.3", lambda a, b: judge(a, b, z=1.0), "one of two equally good networks better"),
    ("6.3", by_margin(0.01), "one of two equally good networks better"),
    ("6.3", unpaired, "that the images are the same"),
    ("6.3", by_margin(0.0149), "a fixed margin does not fit"),
    ("6.3", by_margin(15), "525 that only A got right"),
    ("6.3", lambda a, b: "undecided", "never decides anything"),
    ("6.3", lambda a, b: "A", "Swapping the networks"),
    ("6.3", only_ever_a, "Swapping the networks"),
    ("6.3", first_when_nearly_equal, "also where the difference is small"),
    (
        "6.3",
        swapped_names,
        "of 80 images that only A got right, and 10 that only B did, your rule makes a lead",
    ),
    ("6.3", lambda a, b: "B" if torch.equal(a, b) else judge(a, b), "but yours says B"),
    ("6.3", zero_division, "ZeroDivisionError"),
    ("6.3", lambda a, b: "a", "Expected one of 'A', 'B', 'undecided', got str 'a'"),
    ("6.3", lambda a, b: True, "got bool True"),
    ("6.3", "A", "Expected the function judge"),
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
    # 8.1
    ("8.1", 7.979, "This is the density itself"),
    ("8.1", -2.077, "The sign is turned around"),
    ("8.1", 2.996, "square root of two pi is missing"),
    ("8.1", 3.915, "stands below the fraction"),
    ("8.1", 0.579, "not a variance"),
    ("8.1", 5.989, "0.001"),
    ("8.1", 1.0, "How high is a Gaussian"),
    ("8.1", "high", "Expected one number"),
    # 8.2
    ("8.2", lambda r, x, c: asked(r, x, c), "These are scores"),
    ("8.2", lambda r, x, c: asked(r, x, c).log_softmax(1), "These are logarithms"),
    ("8.2", lambda r, x, c: asked(r, x, c).exp(), "do not sum to one"),
    ("8.2", lambda r, x, c: asked(r, x, c).softmax(0), "normalised over the examples"),
    ("8.2", lambda r, x, c: asked(r, x, c, first=True).softmax(1), "The label is the last input"),
    ("8.2", lambda r, x, c: posterior(r, x, torch.arange(4.0)), "not their places"),
    ("8.2", lambda r, x, c: asked(r, x, c) / asked(r, x, c).sum(1, keepdim=True), "gives no probabilities"),
    ("8.2", lambda r, x, c: posterior(r, x, c) ** 2, "Put each label behind"),
    ("8.2", lambda r, x, c: posterior(r, x, c).T, "Examples first"),
    ("8.2", lambda r, x, c: posterior(r, x, c).unsqueeze(2), "a last axis of length one"),
    ("8.2", lambda r, x, c: posterior(r, x, c).amax(1), "One probability for each label"),
    ("8.2", unstable_posterior, "a constant of 2000 nats"),
    ("8.2", 0.5, "Expected the function posterior"),
    # 8.3
    ("8.3", lambda x, y: UGMMNet((5, 10, 5, 1)), "92% are asked for"),
    ("8.3", lambda x, y: nn.Linear(5, 1), "There is no mixture neuron"),
    ("8.3", lambda x, y: UGMMNet((5, 3)), "one output"),
    ("8.3", lambda x, y: UGMMNet((4, 1)), "K = 4"),
    ("8.3", lambda x, y: 0.95, "Expected a trained module"),
    ("8.3", 0.95, "Expected the function fit"),
    # 9.1
    ("9.1", 20, "not in one"),
    ("9.1", 8000, "not to the side of the box"),
    ("9.1", 1200, "the weights sum to one"),
    ("9.1", 100, "The side of the box is 20"),
    ("9.1", 1, "which this is not"),
    ("9.1", 50, "Integrate one term"),
    ("9.1", "infinite", "Expected one number"),
    # 9.2
    ("9.2", lambda x, m, s, w, b: with_gaps(x, m, s, w, b) - b.nansum(1, keepdim=True), "missing in front"),
    ("9.2", without_ratio, "subtract log b_k there"),
    ("9.2", lambda *a: with_gaps(*a, left_out=-1e4), "A missing input's term is not gone"),
    ("9.2", lambda *a: with_gaps(*a, left_out=-math.inf), "A missing input's term is not gone"),
    ("9.2", renormalised, "need no new sum of one"),
    ("9.2", lambda *a: renormalised(*a, left_out=-math.inf), "need no new sum of one"),
    ("9.2", lambda x, m, s, w, b: with_gaps(x.nan_to_num(), m, s, w, b.nan_to_num()), "Zero in place"),
    ("9.2", lambda *a: with_gaps(*a).exp(), "take the logarithm"),
    ("9.2", lambda *a: 2 * with_gaps(*a), "Go through one row"),
    ("9.2", lambda x, m, s, w, b: with_gaps(x, m, s, w, b) + x.sum(1, keepdim=True), "Some are NaN"),
    ("9.2", lambda *a: with_gaps(*a).sum(1), "neurons are not mixed here"),
    ("9.2", lambda x, *a: x.nan_to_num(), "not for each input"),
    ("9.2", 1.0, "Expected the function smoothed_log_prob"),
    # 9.3
    ("9.3", lambda x: fit_moons(x, 1), "at least -1.25 are asked for"),
    ("9.3", lambda x: twice(fit_moons(x)), "it integrates to 2"),
    ("9.3", lambda x: 1.0, "Expected a density with a method log_prob"),
    ("9.3", lambda x: ProductTwin(3, 2).double(), "Your code raised ValueError"),
    ("9.3", -1.2, "Expected the function fit"),
    # 10.1
    ("10.1", -HALF_LOG_2PI, "cannot reach its mean"),
    ("10.1", np.logaddexp(0.0, -0.5) - HALF_LOG_2PI, "The weights are missing"),
    ("10.1", -math.log(2.0) - HALF_LOG_2PI, "Both inputs have their best place"),
    ("10.1", np.logaddexp(-4.5, -0.5) - math.log(2.0) - HALF_LOG_2PI, "The first input may be 0"),
    ("10.1", -2 * math.log(2.0) - 2 * HALF_LOG_2PI - 0.5, "not the sum of logarithms"),
    ("10.1", 0.32, "This is the density itself"),
    ("10.1", np.logaddexp(-1.125, -3.125) - math.log(2.0) - HALF_LOG_2PI, "the centres of the box"),
    ("10.1", 3.0, "Where is each term highest"),
    ("10.1", "high", "Expected one number"),
    # 10.2
    ("10.2", lambda *a: layer_bounds(*a)[::-1], "The two are exchanged"),
    (
        "10.2",
        lambda *a: layer_bounds(*a, nearest=nearer_end),
        "upper bound: a mean inside the box is reached",
    ),
    (
        "10.2",
        lambda *a: layer_bounds(*a, nearest=lambda low, high, mean: low - mean),
        "where the lower end of the box leads",
    ),
    (
        "10.2",
        lambda *a: layer_bounds(*a, nearest=lambda low, high, mean: high - mean),
        "where the upper end of the box leads",
    ),
    (
        "10.2",
        lambda *a: layer_bounds(*a, nearest=lambda low, high, mean: 0.5 * (low + high) - mean),
        "at the middle of the box",
    ),
    ("10.2", lambda *a: (layer_bounds(*a)[0],) * 2, "upper bound: the farther end gives the least"),
    ("10.2", lambda *a: (layer_bounds(*a)[1],) * 2, "lower bound: the nearest point gives the most"),
    (
        "10.2",
        lambda a, b, m, s, w: (None, layer_bounds(a, b, m, 0 * s, w - s)[1]),
        "Expected a tensor of shape",
    ),
    (
        "10.2",
        lambda a, b, m, s, w: 2 * (layer_bounds(a, b, m, 0 * s, w - s)[1],),
        "the exponential of log_std",
    ),
    ("10.2", lambda *a: (layer_bounds(*a)[0] - 1, layer_bounds(*a)[1]), "The lower bound is not right"),
    ("10.2", lambda *a: tuple(b.T for b in layer_bounds(*a)), "Boxes first"),
    (
        "10.2",
        lambda *a: (near_for_far(*a), layer_bounds(*a)[1]),
        "lower bound: the least is reached at the farther",
    ),
    ("10.2", lambda *a: layer_bounds(*a)[0], "Expected two tensors"),
    ("10.2", 0.0, "Expected the function layer_bounds"),
    # 10.3
    ("10.3", lambda root, low, high: 0.5 * (low + high), "below the certified bound"),
    ("10.3", lambda root, low, high: 2 * high, "lies outside the box"),
    (
        "10.3",
        lambda root, low, high: (highest(root, low, high), highest(root, low, high))[0],
        "200,000 are allowed",
    ),
    ("10.3", lambda root, low, high: root(low.unsqueeze(0)), "Expected a tensor of shape (3,)"),
    ("10.3", 0.0, "Expected the function highest"),
    # 11.1
    ("11.1", 2.303, "can it rise when terms are taken out"),
    ("11.1", math.log(0.9), "if a tenth were deleted"),
    ("11.1", -math.log(0.9), "if a tenth were deleted"),
    ("11.1", -0.9, "the share that is deleted"),
    ("11.1", 0.9, "the share that is deleted"),
    ("11.1", 0.1, "By this factor the sum changes"),
    ("11.1", 10, "By this factor the sum changes"),
    ("11.1", -1, "base 10"),
    ("11.1", -3.322, "base 2"),
    ("11.1", 3.322, "base 2"),
    ("11.1", 2.197, "log-odds"),
    ("11.1", 0, "none is renormalised"),
    ("11.1", -90, "Per cent are no nats"),
    ("11.1", -2.5, "A responsibility is a term's share"),
    ("11.1", "little", "Expected one number"),
    # 11.2
    ("11.2", lambda *a: calibration_error(*a, change=lambda gap: gap), "cancel"),
    ("11.2", lambda *a: calibration_error(*a, change=lambda gap: -gap), "cancel"),
    ("11.2", lambda c, r, bins: (r.double() - c).abs().mean(), "a distance for each example"),
    ("11.2", unsorted_bins, "hold examples as they come"),
    ("11.2", lambda c, r, bins: unsorted_bins(c.sort().values, r, bins), "`right` is not"),
    ("11.2", every_so_many, "every so many-th"),
    ("11.2", lambda c, r, bins: calibration_error(c, r, len(c) // bins), "not the number of examples in one"),
    ("11.2", bins_of_equal_width, "These bins have equal width"),
    ("11.2", lambda *a: bins_of_equal_width(*a, weighted=False), "These bins have equal width"),
    ("11.2", lambda *a: calibration_error(*a, reduce=torch.max), "the largest distance"),
    ("11.2", lambda *a: calibration_error(*a, reduce=torch.sum), "divide by their number"),
    ("11.2", lambda *a: 100 * calibration_error(*a), "per cent"),
    ("11.2", lambda *a: calibration_error(*a, change=torch.square), "Squares weigh"),
    ("11.2", lambda *a: calibration_error(*a, change=torch.square).sqrt(), "Squares weigh"),
    ("11.2", middle_of_bins, "not the middle of its range"),
    ("11.2", lambda *a: middle_of_bins(*a, of_width=True), "not the middle of its range"),
    ("11.2", lambda c, r, bins: calibration_error(c, ~r, bins), "not of wrong ones"),
    ("11.2", lambda *a: 0.5 * calibration_error(*a), "Go through one bin"),
    ("11.2", lambda c, r, bins: calibration_error(c, r, 6), "not for 60 in 4: does a number stand"),
    ("11.2", lambda c, r, bins: calibration_error(c, r, len(c) // 10 or 1), "not for 60 in 4"),
    ("11.2", lambda c, r, bins: calibration_error(c, r, min(bins, 6)), "not for 84 in 7"),
    ("11.2", lambda c, r, bins: calibration_error(c, r, max(bins, 2)), "not for 20 in 1"),
    ("11.2", lambda *a: calibration_error(*a, reduce=lambda gaps: gaps), "the mean over the bins"),
    ("11.2", lambda *a: math.nan, "not finite"),
    ("11.2", 0.1, "Expected the function calibration_error"),
    # 11.3
    ("11.3", lambda outputs: ~dead(outputs), "The wrong way round"),
    ("11.3", lambda outputs: outputs.mean(dim=0).abs() < 1e-3, "Levels tell nothing"),
    ("11.3", lambda outputs: outputs.mean(dim=0) < -1000, "Levels tell nothing"),
    ("11.3", lambda outputs: outputs.mean(dim=0) < outputs.mean(), "Levels tell nothing"),
    ("11.3", lambda outputs: outputs.std(dim=0) < 1e-3 * outputs.mean(dim=0).abs(), "Levels tell nothing"),
    ("11.3", lambda outputs: torch.isclose(outputs, outputs[:1]).all(dim=0), "Levels tell nothing"),
    ("11.3", lambda outputs: outputs.std(dim=0) < 1e-3 * outputs.std(), "such as outputs.std()"),
    ("11.3", lambda outputs: outputs.std(dim=0) < 1e-3, "times 1024, as in another unit"),
    ("11.3", lambda outputs: outputs.std(dim=0) < 0.1, "times 1/4096, as in another unit"),
    ("11.3", lambda outputs: outputs.std(dim=0) < 1e-6, "times 1/4096, as in another unit"),
    ("11.3", lambda outputs: dead(outputs, threshold=1.0), "is the threshold too high"),
    ("11.3", lambda outputs: dead(outputs) & (torch.arange(outputs.shape[1]) != 1), "yours calls it alive"),
    ("11.3", lambda outputs: dead(outputs) | (torch.arange(outputs.shape[1]) == 7), "is the threshold too"),
    ("11.3", lambda outputs: torch.ones(outputs.shape[1], dtype=torch.bool), "is the threshold too high"),
    ("11.3", lambda outputs: dead(outputs, between_quantiles), "a single example of a hundred"),
    ("11.3", lambda outputs: dead(outputs, median_distance), "a single example of a hundred"),
    ("11.3", lambda outputs: dead(outputs[:20]), "a single example of a hundred"),
    ("11.3", lambda outputs: (outputs == outputs[0]).all(dim=0), "up to the last digit of float32"),
    ("11.3", lambda outputs: outputs.std(dim=0) == 0, "up to the last digit of float32"),
    ("11.3", lambda outputs: dead(outputs, threshold=1e-9), "up to the last digit of float32"),
    ("11.3", lambda outputs: torch.zeros(outputs.shape[1], dtype=torch.bool), "yours calls it alive"),
    ("11.3", lambda outputs: dead(outputs, typical=lambda s: 1e3 * s.quantile(0.25)), "a lowest place"),
    ("11.3", lambda outputs: spread(outputs) < 1e-3 * spread(outputs).max(), "zero is not less than"),
    ("11.3", lambda outputs: outputs.std(dim=0) / outputs.std(dim=0).mean() < 1e-3, "zero over zero is NaN"),
    ("11.3", lambda outputs: dead(outputs.T), "not for each example"),
    ("11.3", lambda outputs: outputs == outputs[0], "put the examples together"),
    ("11.3", lambda outputs: dead(outputs)[None], "Take the axis of length one away"),
    ("11.3", lambda outputs: dead(outputs).any(), "not for the layer"),
    ("11.3", lambda outputs: dead(outputs).nonzero()[:, 0], "the places of dead neurons"),
    ("11.3", lambda outputs: outputs.std(dim=0), "Expected booleans, and these are numbers"),
    ("11.3", lambda outputs: dead(outputs).int(), "Expected booleans, and these are numbers"),
    ("11.3", lambda outputs: "none", "Expected booleans for 11 neurons, got str 'none'"),
    ("11.3", [True, False], "Expected the function dead"),
    # 12.1
    ("12.1", 0.25, "This is the exponential"),
    ("12.1", math.log(0.175), "Add before the logarithm"),
    ("12.1", math.log(0.45), "lies across has the other sign"),
    ("12.1", math.log(0.35 + 0.20 - 0.10), "lies across has the other sign"),
    ("12.1", math.log(0.65), "Signs alternate"),
    ("12.1", math.log10(0.25), "Natural logarithms"),
    ("12.1", 1.3863, "below one are negative"),
    ("12.1", -3.0, "Which combination"),
    ("12.1", "low", "Expected one number"),
    # 12.2
    ("12.2", lambda x, mass, *start: em_step(x, mass * 0 + 1 / 40, *start), "weights: every node counts"),
    ("12.2", lambda *a: (40 * em_step(*a)[0], *em_step(*a)[1:]), "weights: they are shares of one"),
    ("12.2", lambda x, m, w, *rest: em_step(x, m, 0 * w + 1, *rest), "need the mixing weights"),
    ("12.2", lambda x, m, *start: start, "The weights: these are those it began with"),
    (
        "12.2",
        lambda *a: (em_step(*a)[0], em_step(*a)[0] * em_step(*a)[1], em_step(*a)[2]),
        "means: divide by the component's own count",
    ),
    ("12.2", lambda *a: (em_step(*a)[0], a[3], em_step(*a)[2]), "The means: these are those it began with"),
    ("12.2", lambda *a: (*em_step(*a)[:2], em_step(*a)[2] ** 2), "deviations: take the square root"),
    ("12.2", lambda *a: em_step(*a, around_old=True), "deviations: distances are to the new means"),
    ("12.2", lambda *a: (*em_step(*a)[:2], a[4]), "The deviations: these are those it began with"),
    ("12.2", lambda *a: (*em_step(*a)[:2], 2 * em_step(*a)[2]), "The deviations are not right"),
    (
        "12.2",
        lambda x, mass, *start: (em_step(x, mass, *start)[0], em_step(x, 0 * mass + 1 / 40, *start)[1], x),
        "Expected a tensor of shape (M,)",
    ),
    ("12.2", lambda *a: em_step(*a)[0], "Expected weights, means and deviations"),
    ("12.2", lambda x, mass, w, *rest: (x[:, None] * w, x, x), "Sum over the nodes."),
    ("12.2", 0.0, "Expected the function em_step"),
    # 12.3
    ("12.3", lambda x, y: UGMMNet((2, 2)), "One layer stays below about three quarters"),
    ("12.3", lambda x, y: UGMMNet((2, 2, 2)), "What must each hidden neuron say?"),
    ("12.3", lambda x, y: UGMMNet((2, 3, 2)), "It has 36 parameters, and 24 are allowed"),
    ("12.3", lambda x, y: nn.Sequential(nn.Linear(2, 2), UGMMNet((2, 2))), "got Linear as well"),
    ("12.3", lambda x, y: UGMMNet((2, 2, 3))[:1], "One layer stays"),
    ("12.3", lambda x, y: UGMMNet((2, 3)), "Expected a tensor of shape (N, 2)"),
    ("12.3", lambda x, y: x, "Expected a module"),
    ("12.3", lambda x, y: nn.Identity(), "got a module without any"),
    ("12.3", lambda x, y: nn.LayerNorm(2, elementwise_affine=False), "got a module without any"),
    ("12.3", lambda x, y: OwnNetwork(xor_by_hand(x, y), before=product), "Hand on what a layer returns"),
    ("12.3", lambda x, y: OwnNetwork(xor_by_hand(x, y), between=torch.tanh), "Hand on what a layer returns"),
    ("12.3", lambda x, y: OwnNetwork(xor_by_hand(x, y), behind=torch.neg), "Hand on what a layer returns"),
    ("12.3", lambda x, y: ProductOfInputs(), "Hand on what a layer returns"),
    ("12.3", 0.0, "Expected the function small_network"),
]


@pytest.mark.parametrize(("number", "answer", "phrase"), WRONG)
def test_wrong_answers_are_recognised(number, answer, phrase):
    feedback = check(number, answer)
    assert not feedback.passed
    assert phrase in feedback.hint
    assert str(feedback).startswith(f"Exercise {number}: not yet. ")
    assert "\n" not in str(feedback)


def test_hints_give_no_solution_away():
    for number, solution in (
        ("1.1", "1.38"),
        ("3.1", "0.4"),
        ("4.1", "0.403"),
        ("5.1", "0.92"),
        ("5.1", "0.93"),
        ("6.1", "78,4"),
        ("6.1", "784"),
        ("11.1", "2.3"),
    ):
        hints = [
            check(n, answer).hint for n, answer, _ in WRONG if n == number and not isinstance(answer, str)
        ]
        assert not [hint for hint in hints if solution in hint]


# --- answers that misbehave -------------------------------------------------------------------------


class Awkward:
    """Raises at every turn."""

    def __getattr__(self, name):
        raise OSError("no such thing")

    def __len__(self):
        raise OSError("no length")

    def __repr__(self):
        raise OSError("no text")

    def __call__(self, *arguments):
        raise KeyError("no\nway")


class BrokenText(Exception):
    def __str__(self):
        raise OSError


def raises_an_error_without_text(*arguments):
    raise BrokenText


# From Python 3.13 on, PyTorch's question whether an object has an attribute tells of what the object raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", NUMBERS)
def test_no_answer_makes_check_raise(number):
    for answer in (
        "",
        "abc",
        b"1",
        [],
        {},
        object(),
        Awkward(),
        nn.Linear,
        torch.zeros(3, 0),
        print,
        math.sin,
        raises_an_error_without_text,
        10**400,
        np.array(["a"]),
        [[1], [2, "b"]],
        type,
        nn.Module,
    ):
        feedback = check(number, answer)
        assert isinstance(feedback, Feedback)
        assert not feedback


@pytest.mark.parametrize("number", FUNCTIONS)
def test_an_exception_in_a_function_is_named_on_one_line(number):
    hint = check(number, Awkward()).hint
    assert hint == "Your code raised KeyError: 'no\\nway'. Try it alone, on a few numbers."

    def lines(*arguments):
        raise ValueError("first\nsecond " + 1000 * "x")

    hint = check(number, lines).hint
    assert "ValueError: first second x" in hint
    assert len(hint) < 300
    assert "Has the cell that defines it been run?" in check(number, lambda *a: undefined).hint  # noqa: F821


def test_what_no_checker_foresees_still_gets_the_first_hint():
    hint = check("1.2", raises_an_error_without_text).hint
    assert hint.startswith("Checking it raised OSError. ")
    assert hint.endswith(check("1.2", ...).hint.removeprefix("not answered yet. "))


def test_functions_may_change_their_arguments():
    """They get copies, so what they do to one cannot turn up in the next comparison."""

    def destructive(x, mean, log_std, log_weight, log_background):
        out = with_background(x, mean, log_std, log_weight, log_background)
        for argument in (x, mean, log_std, log_weight, log_background):
            argument.fill_(math.nan)
        return out

    assert check("3.2", destructive)


# --- the rest of the notebook -----------------------------------------------------------------------


def test_check_leaves_answers_random_state_and_defaults_as_they_are():
    answer = torch.tensor([1.0, -1.0], requires_grad=True)
    before, torch_state = answer.detach().clone(), torch.random.get_rng_state()
    for number, given in (*RIGHT, *((n, a) for n, a, _ in WRONG[::7]), ("2.1", answer)):
        check(number, given)
        assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert torch.equal(answer.detach(), before)
    assert answer.grad is None
    assert answer.requires_grad
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_feedback_does_not_depend_on_the_random_state():
    """Not even for an answer that draws numbers itself, which always get the same ones."""

    def random_verdict(a, b):
        return "A" if torch.rand(()) < 0.5 else "undecided"

    def random_numbers(outputs, labels):
        seen.append(torch.rand(3))
        return seen[-1]

    seen = []
    for number, answer in (
        ("6.3", random_verdict),
        ("6.3", bootstrap),
        ("6.2", random_numbers),
        ("2.2", TiedStd),
    ):
        feedbacks = set()
        for seed in range(4):
            torch.manual_seed(seed)
            feedbacks.add(check(number, answer))
        assert len(feedbacks) == 1
    assert all(torch.equal(numbers, seen[0]) for numbers in seen)


@pytest.mark.parametrize("number", NUMBERS)
def test_answers_are_right_with_float64_as_the_default_and_without_gradients(number):
    try:
        torch.set_default_dtype(torch.float64)
        with torch.no_grad():
            for n, answer in RIGHT:
                assert n != number or check(n, answer), n
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


# --- check and Feedback themselves ------------------------------------------------------------------


def test_unknown_numbers_are_errors_that_list_what_there_is():
    with pytest.raises(ValueError, match=r"unknown exercise '0\.1'.*1\.1, 1\.2.*10\.3.*12\.3"):
        check("0.1", 1)
    assert check(1.1, 1.3836)  # a number instead of a string is no harm


def test_feedback_is_a_frozen_verdict_that_reads_as_a_line():
    right, wrong = Feedback("1.1", True, "Well."), Feedback("1.1", False, "Look again.")
    assert right
    assert not wrong
    assert str(right) == repr(right) == "Exercise 1.1: right. Well."
    assert str(wrong) == repr(wrong) == "Exercise 1.1: not yet. Look again."
    unanswered = Feedback("1.1", False, f"{exercises.UNANSWERED} Begin.")
    assert repr(unanswered) == "Exercise 1.1: not answered yet. Begin."
    with pytest.raises(AttributeError):
        right.passed = False


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_every_public_definition_of_the_folder_is_exported_and_documented(name):
    module = importlib.import_module(f"ugmm_tutorial.teaching.exercises.{name}".removesuffix(".__init__"))
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    public = {
        node.name: node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
    assert set(public) <= set(module.__all__)
    assert [n for n, node in public.items() if not ast.get_docstring(node)] == []
    assert [n for n in module.__all__ if not hasattr(module, n)] == []
