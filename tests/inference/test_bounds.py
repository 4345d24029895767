"""Interval bounds of uGMM networks and their gradients: sound in floating point, exact for one layer."""

import numpy as np
import pytest
import torch

from ugmm_tutorial import UGMMLayer, UGMMNet
from ugmm_tutorial.experiments.studies import mpe_sweep
from ugmm_tutorial.inference import interval_bounds
from ugmm_tutorial.inference.bounds import output_bounds
from ugmm_tutorial.inference.derivatives import gradient_bounds, responsibility_bounds
from ugmm_tutorial.inference.network import evaluate, layers_of, only_output
from ugmm_tutorial.layers import CategoricalLeafLayer
from ugmm_tutorial.layers.ablations import LAYERS

PRECISE = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="this machine's long double is no more precise than float64"
)
QUICK = 300


def network(*widths, seed=0, **options):
    """All parameters drawn at random, float64."""
    torch.manual_seed(seed)
    net = UGMMNet(widths, dtype=torch.float64, **options)
    with torch.no_grad():
        for layer in net:
            layer.log_std.normal_(std=0.5)
            layer.mix_logits.normal_()
    return net


def box(inputs, half, seed=1):
    center = torch.randn(inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return center - half, center + half


def inside(low, high, count, seed=2):
    share = torch.rand(count, len(low), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return low + share * (high - low)


# --- Soundness


@PRECISE
def test_no_value_or_slope_of_random_networks_leaves_its_bounds():
    found = mpe_sweep.sweep(QUICK, seed=1)
    assert (found["values_outside"], found["slopes_outside"]) == (0, 0)
    assert found["points"] == QUICK * 16


@PRECISE
@pytest.mark.sweep
@pytest.mark.slow
def test_no_value_or_slope_of_ten_thousand_random_networks_leaves_its_bounds(request):
    if "sweep" not in request.config.option.markexpr:
        pytest.skip("takes minutes: run it with -m sweep")
    found = mpe_sweep.sweep(10_000, seed=2)
    assert (found["values_outside"], found["slopes_outside"]) == (0, 0)


@PRECISE
def test_the_oracle_of_the_sweep_agrees_with_the_network_and_autograd():
    rng = np.random.default_rng(3)
    for _ in range(20):
        net, _, _, points = mpe_sweep.random_case(rng)
        x = torch.from_numpy(points).requires_grad_()
        value = net(x)[:, 0]
        (slope,) = torch.autograd.grad(value.sum(), x)
        exact_value, exact_slope = mpe_sweep.exact_values_and_slopes(net, points)
        np.testing.assert_allclose(value.detach().numpy(), exact_value.astype(float), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(slope.numpy(), exact_slope.astype(float), rtol=1e-6, atol=1e-12)


@PRECISE
def test_the_sweep_notices_bounds_that_are_a_rounding_error_too_narrow(monkeypatch):
    monkeypatch.setattr(mpe_sweep, "output_bounds", _without_margins)
    assert mpe_sweep.sweep(QUICK, seed=1)["values_outside"] > 0


def _without_margins(layers, low, high):
    exact = [
        type(layer)(layer.mean, layer.inverse_std, layer.log_peak, 0.0 * layer.slack) for layer in layers
    ]
    return output_bounds(exact, low, high)


def test_float32_parameters_are_bounded_as_the_network_in_float64():
    net = network(3, 4, 2).float()
    low, high = box(3, 0.3)
    least, most = interval_bounds(net, low, high)
    value = net.double()(inside(low, high, 500))
    assert bool(((value >= least) & (value <= most)).all())


def test_a_component_without_weight_changes_nothing():
    net = network(3, 2, 1)
    with torch.no_grad():
        net[0].mix_logits[:, 1] = -torch.inf
    low, high = box(3, 0.5)
    least, most = interval_bounds(net, low, high)
    wider = torch.tensor([0.0, 100.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(interval_bounds(net, low - wider, high + wider), (least, most))
    layers = layers_of(net)
    slope = gradient_bounds(layers, output_bounds(layers, low[:, None], high[:, None]))
    assert bool((slope[0][1] <= 0).all())
    assert bool((slope[1][1] >= 0).all())
    assert float((slope[1][1] - slope[0][1]).max()) < 1e-200


# --- Tightness


def test_bounds_of_one_layer_are_the_extremes_over_corners_and_nearest_points():
    layer = network(2, 3)[0]
    low, high = box(2, 0.7)
    side = torch.linspace(0, 1, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(*(a + side * (b - a) for a, b in zip(low, high, strict=True)))
    least, most = interval_bounds(layer, low, high)
    # The means of a neuron, moved into the box, are the one point that a grid may miss.
    nearest = torch.minimum(torch.maximum(layer.mean.detach(), low), high)
    torch.testing.assert_close(most, layer(nearest).detach().diagonal(), rtol=0, atol=1e-12)
    torch.testing.assert_close(least, layer(grid).detach().amin(dim=0), rtol=0, atol=1e-12)
    assert bool((layer(grid).detach() <= most).all())


@pytest.mark.parametrize("layers", [(3, 4, 1), (3, 5, 4, 1)])
def test_bounds_shrink_in_proportion_to_the_box_and_mean_value_bounds_with_its_square(layers):
    net = layers_of(network(*layers))
    gaps, second = [], []
    for half in (1e-2, 1e-3):
        low, high = (a.unsqueeze(1) for a in box(layers[0], half))
        bounds = output_bounds(net, low, high)
        gaps.append(float(bounds[-1].out_high - bounds[-1].out_low))
        slope = gradient_bounds(net, bounds)
        second.append(float(((slope[1] - slope[0]) * (high - low)).sum()))
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.1)
    assert second[0] / second[1] == pytest.approx(100, rel=0.1)


def test_bounds_of_a_point_are_its_value_and_gradient():
    net = network(4, 5, 3, 1)
    x = inside(*box(4, 1.0), 7).requires_grad_()
    value = net(x)[:, 0]
    (slope,) = torch.autograd.grad(value.sum(), x)
    layers = layers_of(net)
    bounds = output_bounds(layers, x.detach().T, x.detach().T)
    for found in (bounds[-1].out_low[0], bounds[-1].out_high[0]):
        torch.testing.assert_close(found, value.detach(), rtol=0, atol=1e-11)
    for found in gradient_bounds(layers, bounds):
        torch.testing.assert_close(found.T, slope, rtol=1e-7, atol=1e-9)


def test_responsibility_bounds_hold_the_responsibilities_and_stay_between_zero_and_one():
    net = network(4, 3)
    low, high = box(4, 0.4)
    (layer,) = layers_of(net)
    (bounds,) = output_bounds([layer], low[:, None], high[:, None])
    least, most = (r[..., 0] for r in responsibility_bounds(layer, bounds))
    share = net[0].responsibilities(inside(low, high, 400)).detach()
    assert bool(((share >= least) & (share <= most)).all())
    assert float(least.min()) >= 0
    assert float(most.max()) <= 1


def test_responsibility_bounds_survive_the_cancellation_of_a_dominant_term():
    """Near its mean the first term is 1e19 times the second, which their sum forgets; elsewhere less."""
    net = network(2, 1)
    with torch.no_grad():
        net[0].mean.zero_()
        net[0].log_std.zero_()
        net[0].mix_logits.zero_()
    low, high = torch.tensor([[0.0, 9.38], [9.6, 9.38]], dtype=torch.float64)
    (layer,) = layers_of(net)
    (bounds,) = output_bounds([layer], low[:, None], high[:, None])
    least, most = (r[..., 0] for r in responsibility_bounds(layer, bounds))
    for x in (low, high):
        share = net[0].responsibilities(x).detach()
        assert bool(((share >= least) & (share <= most)).all())


@PRECISE
def test_responsibility_bounds_hold_far_away_where_exponents_lose_digits():
    """A thousand standard deviations from both means the terms are -5e5, known to some 1e-10 only."""
    net = UGMMNet((2, 1), dtype=torch.float64)
    rng = np.random.default_rng(0)
    for _ in range(50):
        far = 1000.0 + rng.random(2) * 1e-4
        with torch.no_grad():
            net[0].mean.copy_(torch.from_numpy(rng.normal(size=(1, 2))))
            net[0].log_std.fill_(np.log(3e-3))
            net[0].mix_logits.zero_()
        x = net[0].mean.detach()[0] + torch.from_numpy(far) * 3e-3
        (layer,) = layers_of(net)
        (bounds,) = output_bounds([layer], x[:, None], x[:, None])
        least, most = (float(r[0, 0, 0]) for r in responsibility_bounds(layer, bounds))
        z = (x.numpy().astype(np.longdouble) - net[0].mean.detach().numpy()[0]) / np.exp(
            net[0].log_std.detach().numpy()[0].astype(np.longdouble)
        )
        exact = 1 / (1 + np.exp((z[0] ** 2 - z[1] ** 2) / 2))
        assert least <= exact <= most


def test_gradient_bounds_of_overflowing_boxes_are_infinite_rather_than_nan():
    layers = only_output(layers_of(network(2, 3, 3, 3, 1)), 0)
    far = torch.full((2, 1), 1e99, dtype=torch.float64)
    bounds = output_bounds(layers, -far, far)
    slope = gradient_bounds(layers, bounds)
    assert not any(bool(g.isnan().any()) for g in slope)
    assert not bool(bounds[-1].out_high.isnan().any())


# --- The public function


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3), (0, 3)])
def test_boxes_may_have_any_leading_dimensions(shape):
    net = network(3, 4, 2)
    low = inside(*box(3, 1.0), int(np.prod(shape[:-1]))).reshape(shape)
    least, most = interval_bounds(net, low, low + 0.1)
    assert least.shape == most.shape == (*shape[:-1], 2)
    assert bool((least <= net(low)).all())
    assert bool((net(low) <= most).all())


def test_boxes_that_are_none_are_refused():
    net, zero = network(3, 2), torch.zeros(3)
    with pytest.raises(ValueError, match="a box is empty"):
        interval_bounds(net, zero + 1, zero)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="to be finite"):
            interval_bounds(net, zero, torch.full((3,), bad))
    with pytest.raises(ValueError, match=r"expected low and high of shape \(\*, 3\)"):
        interval_bounds(net, torch.zeros(2), torch.zeros(2))


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"hard"}))
def test_every_layer_that_sums_gaussian_terms_is_bounded(name):
    torch.manual_seed(0)
    net = UGMMNet((3, 4, 2), layer=name, init="paper", dropout=0.5, dtype=torch.float64).train()
    low, high = box(3, 0.2)
    least, most = interval_bounds(net, low, high)
    value = net.eval()(inside(low, high, 200))
    assert bool(((value >= least) & (value <= most)).all())
    assert float((most - least).min()) < 50


def test_networks_of_something_else_are_refused():
    zero = torch.zeros(3)
    for net, message in (
        (UGMMNet((3, 4, 2), norm="layer"), "module 1 is a LayerNorm"),
        (UGMMNet((3, 4, 2), layer="hard"), "got MaxLayer as module 0"),
        (CategoricalLeafLayer(3, 2, num_labels=2), "got CategoricalLeafLayer as module 0"),
        (torch.nn.Sequential(UGMMLayer(3, 2), torch.nn.ReLU()), "got ReLU as module 1"),
        (torch.nn.Linear(3, 2), "expected model to be a UGMMNet.*got Linear"),
        (UGMMNet((3, 4, 2)).half(), "float32 or float64, got torch.float16"),
    ):
        with pytest.raises(TypeError, match=message):
            interval_bounds(net, zero, zero)
    broken = UGMMNet((3, 4, 2))
    with torch.no_grad():
        broken[1].mean[0, 0] = torch.nan
    with pytest.raises(ValueError, match="module 1 has parameters that are not finite"):
        interval_bounds(broken, zero, zero)


def test_the_layers_seen_by_inference_are_the_network():
    net = network(4, 5, 3)
    x = inside(*box(4, 2.0), 10)
    torch.testing.assert_close(evaluate(layers_of(net), x.T).T, net(x).detach())
