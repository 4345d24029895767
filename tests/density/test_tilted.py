"""The tilted model against quadrature; and that the network alone, without a base, has no finite integral."""

import itertools
import math

import pytest
import torch
from densities import F64, REACH, gaussian, grid, p_value, uniform
from torch import nn

from ugmm_tutorial.density import ProductBase, TiltedModel, gradient
from ugmm_tutorial.density.tilted import _sobol, log_upper_bound
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.networks import UGMMNet

NAN = math.nan
LABELS = (0.0, 1.0, 2.5)
SHARES = (0.5, 0.3, 0.2)


def network(inputs, seed=0, floor=0.3, **options):
    torch.manual_seed(seed)
    net = UGMMNet((inputs, 6, 1), min_std=floor, **options).double()
    with torch.no_grad():
        for layer in net:
            layer.mix_logits.normal_()
            layer.log_std.normal_().mul_(0.3).sub_(0.5)
        net[-1].mean.sub_(2.0)
    return net


def tilted(features=2, labels=None, base=gaussian, **options):
    shares = None if labels is None else SHARES
    q = ProductBase(base(features), labels, shares)
    return TiltedModel(network(features + (labels is not None)), q, **options)


def weighted(model, features=2, nodes=24):
    """Grid, quadrature weights, and q(x) q(c) exp(root) for every label, (N, C) or (N, 1)."""
    points, weights = grid(features, nodes)
    q = model.base.features.log_prob(points).sum(-1).exp()
    if len(model.base.labels) == 0:
        return points, weights, (q * model.root(points).squeeze(-1).exp())[:, None].detach()
    columns = []
    for c, share in zip(LABELS, SHARES, strict=True):
        rows = torch.cat([points, torch.full((len(points), 1), c, **F64)], dim=1)
        columns.append(share * q * model.root(rows).squeeze(-1).exp())
    return points, weights, torch.stack(columns, dim=1).detach()


BASES = pytest.mark.parametrize("base", [gaussian, uniform])


@BASES
@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize("labels", [None, LABELS])
def test_z_equals_quadrature_within_its_error(features, labels, base):
    model = tilted(features, labels, base)
    _, weights, values = weighted(model, features)
    expected = (values.sum(dim=1) * weights).sum().log()
    value, error = model.log_normalizer()
    assert 0 < error < 1e-3
    assert abs(value.item() - expected.item()) < 5 * error.item() + 1e-7


def test_the_logarithm_of_z_is_biased_low_by_half_its_variance():
    """Two scramblings of one point each, over many seeds: noisy enough to see it."""
    model = tilted(num_points=1, scramblings=2)
    with torch.no_grad():
        model.root[-1].log_std.fill_(math.log(0.3))  # sharp, so that points differ
    expected = TiltedModel(model.root, model.base, num_points=4096).log_normalizer().value.item()
    estimates = []
    for n in range(1200):
        points = [_sobol(2, 1, 2 * n), _sobol(2, 1, 2 * n + 1)]
        model._uniform.copy_(torch.cat(points))
        estimates.append(model.log_normalizer().value.detach())
    estimates = torch.stack(estimates)
    error = estimates.std().item() / math.sqrt(len(estimates))
    assert estimates.exp().mean().log().item() == pytest.approx(expected, abs=4 * error)
    assert estimates.mean().item() < expected - 3 * error
    assert estimates.mean().item() == pytest.approx(expected - estimates.var().item() / 2, abs=4 * error)


@pytest.mark.parametrize("labels", [None, LABELS])
def test_log_prob_equals_quadrature(labels):
    model = tilted(labels=labels)
    points, weights, values = weighted(model)
    z = (values.sum(dim=1) * weights).sum()
    if labels is None:
        rows, expected = points, values[:, 0] / z
    else:
        rows = torch.cat([points, torch.full((len(points), 1), LABELS[1], **F64)], dim=1)
        expected = values[:, 1] / z
    near = expected > 1e-12
    torch.testing.assert_close(model.log_prob(rows)[near], expected[near].log(), atol=1e-3, rtol=0)
    if labels is not None:
        rows[:, -1] = NAN
        torch.testing.assert_close(
            model.log_prob(rows)[near], (values.sum(dim=1) / z)[near].log(), atol=1e-3, rtol=0
        )
        posterior = model.label_log_posterior(rows[near])
        torch.testing.assert_close(posterior.exp(), (values / values.sum(1, keepdim=True))[near])


def test_missing_features_equal_quadrature():
    model = tilted(labels=LABELS)
    points, weights, values = weighted(model)
    z = (values.sum(dim=1) * weights).sum()
    side = round(len(points) ** 0.5)
    line = points[:side, 1]
    given = values.reshape(side, side, 3)
    w = weights.reshape(side, side)
    inner = w.sum(dim=0) / w.sum()  # weights of the second feature, up to the first one's
    inner = inner * 2 * REACH
    at = side // 2 + 3
    row = torch.tensor([points.reshape(side, side, 2)[at, 0, 0].item(), NAN, NAN], **F64)
    expected = (given[at].sum(dim=-1) * inner).sum() / z
    assert model.log_prob(row).item() == pytest.approx(expected.log().item(), abs=2e-3)
    row[2] = LABELS[2]
    expected = (given[at, :, 2] * inner).sum() / z
    assert model.log_prob(row).item() == pytest.approx(expected.log().item(), abs=2e-3)
    mean = (given[at, :, 2] * inner * line).sum() / (given[at, :, 2] * inner).sum()
    found = model.conditional(row).mean()
    assert found[1].item() == pytest.approx(mean.item(), abs=2e-3)
    assert found[2].item() == LABELS[2]
    everything = torch.full((3,), NAN, **F64)
    assert abs(model.log_prob(everything).item()) < 1e-12
    share = (values * weights[:, None]).sum(dim=0) / z
    centre = model.conditional(everything).mean()
    assert centre[2].item() == pytest.approx((share @ torch.tensor(LABELS, **F64)).item(), abs=2e-3)


@BASES
def test_rejection_samples_fit_the_density_and_not_the_base(base):
    model = tilted(base=base, num_points=4096)
    samples = model.sample(20000, torch.Generator().manual_seed(3))
    assert p_value(samples, lambda x: model.log_prob(x).exp()) > 1e-3
    assert p_value(samples, lambda x: model.base.features.log_prob(x).sum(-1).exp()) < 1e-6
    assert model.acceptance == pytest.approx(model.expected_acceptance(), rel=0.05)


def test_sampled_labels_and_conditionals_fit():
    model = tilted(labels=LABELS)
    samples = model.sample(20000, torch.Generator().manual_seed(4))
    _, weights, values = weighted(model)
    share = (values * weights[:, None]).sum(dim=0)
    share = share / share.sum()
    found = torch.stack([(samples[:, 2] == c).double().mean() for c in LABELS])
    torch.testing.assert_close(found, share, atol=0.015, rtol=0)
    assert (share - torch.tensor(SHARES, **F64)).abs().max() > 0.03  # the base would fail
    conditional = model.conditional(torch.tensor([NAN, NAN, LABELS[1]], **F64))
    samples = conditional.sample(20000, torch.Generator().manual_seed(5))

    def density(points):
        rows = torch.cat([points, torch.full((len(points), 1), LABELS[1], **F64)], dim=1)
        return conditional.log_prob(rows).exp()

    assert p_value(samples[:, :2], density) > 1e-3
    assert samples[:, 2].unique().tolist() == [LABELS[1]]


# --- The bound


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_holds_everywhere_and_is_no_wider_than_the_floors(seed):
    net = network(3, seed)
    bound = log_upper_bound(net)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(20000, 3, generator=draw, **F64) * torch.logspace(-2, 3, 20000, **F64)[:, None]
    highest = net(x).max().item()
    assert highest <= bound <= -math.log(0.3 * math.sqrt(2 * math.pi))


def test_the_bound_is_reached_where_every_input_is_at_its_mean():
    torch.manual_seed(0)
    layer = UGMMLayer(4, 1, min_std=0.2, init="paper", dtype=torch.float64)
    assert layer(layer.mean[0]).item() == pytest.approx(log_upper_bound(layer), abs=1e-12)
    largest = (layer.mix_weight / (layer.std * math.sqrt(2 * math.pi))).max().log().item()
    assert layer(layer.mean[0]).item() > largest + 0.1  # the largest term alone would be no bound


def test_a_bound_that_is_none_is_noticed():
    model = tilted(log_bound=-9.0)
    with pytest.raises(RuntimeError, match="log_bound is not an upper bound"):
        model.sample(10)


def test_hopeless_acceptance_is_refused():
    model = tilted(log_bound=30.0)
    with pytest.raises(RuntimeError, match="more than max_proposals"):
        model.sample(10)
    with pytest.raises(RuntimeError, match="accepted 0 of"):
        tilted(log_bound=60.0, max_proposals=5000).conditional(torch.tensor([0.1, NAN], **F64)).sample(1)


# --- Without a base


def test_the_networks_own_integral_doubles_with_the_box():
    """Along a strip, one input near its means and the other far out, exp(root) tends to a constant."""
    net = network(2)
    integrals = []
    for reach in (10.0, 20.0, 40.0, 80.0):
        line = torch.linspace(-reach, reach, 401, **F64)
        x = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1)
        integrals.append(net(x).squeeze(-1).exp().mean().item() * (2 * reach) ** 2)
    ratios = [after / before for before, after in itertools.pairwise(integrals)]
    assert all(ratio > 1.9 for ratio in ratios)
    assert ratios[-1] == pytest.approx(2.0, abs=0.05)


# --- Learning and state


def test_gradient_steps_raise_the_likelihood_and_z_follows():
    model = tilted()
    x = 0.4 * torch.randn(200, 2, generator=torch.Generator().manual_seed(2), **F64)
    with torch.no_grad():
        before = model.log_prob(x).mean().item()
    gradient.fit(model, x, epochs=10, learning_rate=0.05)
    with torch.no_grad():
        assert model.log_prob(x).mean().item() > before + 0.1
        _, weights, values = weighted(model)
        expected = (values[:, 0] * weights).sum().log()
        assert model._log_z().item() == pytest.approx(expected.item(), abs=1e-3)


def test_the_gradient_of_log_z_is_right():
    model = tilted(num_points=16, scramblings=2)
    weight = model.root[1].mean
    (found,) = torch.autograd.grad(model.log_normalizer().value, weight)
    step = 1e-5
    for k in range(3):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[0, k] += sign * step
                values.append(model._log_z().item())  # must not be remembered from before
                weight[0, k] -= sign * step
        assert found[0, k].item() == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7)


def test_the_papers_iris_network_is_tilted_unchanged():
    torch.manual_seed(1)
    net = UGMMNet((5, 10, 5, 1), min_std=0.1)
    model = TiltedModel(net, ProductBase(_single(gaussian(4)), (0.0, 1.0, 2.0)), num_points=256)
    assert model.root is net
    samples = model.sample(50, torch.Generator().manual_seed(0))
    assert samples.shape == (50, 5)
    assert model.log_prob(samples).isfinite().all()
    assert model.log_prob(samples).dtype == torch.float32


def _single(background):
    return type(background)(*(b.float() for b in background.buffers()))


# --- Bad input


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: TiltedModel(network(3), ProductBase(gaussian(2))), Exception, "K = 3"),
        (
            lambda: TiltedModel(UGMMLayer(2, 2).double(), ProductBase(gaussian(2))),
            ValueError,
            r"to \(2, 1\), got \(2, 2\)",
        ),
        (lambda: TiltedModel(nn.Linear(2, 1).double(), ProductBase(gaussian(2))), ValueError, "log_bound"),
        (lambda: TiltedModel(UGMMNet((2, 1)), ProductBase(gaussian(2))), TypeError, "one dtype"),
        (
            lambda: TiltedModel(nn.Sequential(network(2), nn.Identity()), ProductBase(gaussian(2))),
            ValueError,
            "log_bound",
        ),
        (lambda: tilted(num_points=100), ValueError, "power of 2"),
        (lambda: tilted(scramblings=1), ValueError, "at least 2"),
        (lambda: tilted(log_bound=NAN), ValueError, "got NaN"),
        (lambda: ProductBase(gaussian(2), (0.0, 0.0)), ValueError, "differ"),
        (lambda: ProductBase(gaussian(2), (0.0, 1.0), (0.5, 0.6)), ValueError, "sum to one"),
        (lambda: ProductBase(gaussian(2), (0.0, 1.0), (1.0,)), ValueError, "one probability for each"),
        (lambda: tilted(labels=LABELS).log_prob(torch.ones(2, 3, **F64) * 0.5), ValueError, "among"),
        (lambda: tilted().label_log_posterior(torch.zeros(1, 2, **F64)), ValueError, "with labels"),
        (lambda: tilted().initialise(torch.zeros(1, 2, **F64)), NotImplementedError, "TiltedModel"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_dropout_in_the_last_layer_is_refused_while_training():
    layer = UGMMLayer(2, 1, dropout=0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"root\.eval"):
        TiltedModel(layer, ProductBase(gaussian(2)))
    TiltedModel(layer.eval(), ProductBase(gaussian(2)))
