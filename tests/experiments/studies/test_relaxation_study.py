"""The study of linear relaxations: its planes against values, and its counts."""

import math

import pytest
import torch

from ugmm_tutorial import UGMMNet
from ugmm_tutorial.experiments.studies import relaxation
from ugmm_tutorial.inference.bounds import output_bounds
from ugmm_tutorial.inference.network import evaluate, layers_of

WIDTHS = [(2, 4, 1), (3, 5, 1), (3, 4, 3, 1)]


def boxes(net_widths, seed, width, count=40):
    torch.manual_seed(seed)
    net = UGMMNet(net_widths).double()
    with torch.no_grad():
        for layer in net:
            layer.log_std.normal_(0.0, 0.4)
            layer.mix_logits.normal_()
        for layer in list(net)[1:]:
            layer.mean.sub_(2.0)
    middle = 3.0 * torch.randn(net_widths[0], count, dtype=torch.float64)
    return layers_of(net), middle - 0.5 * width, middle + 0.5 * width


def highest(layers, low, high, points=400):
    share = torch.rand(*low.shape, points, dtype=torch.float64)
    share[..., 0] = 0.5
    x = low.unsqueeze(2) + (high - low).unsqueeze(2) * share
    return evaluate(layers, x.flatten(1))[0].unflatten(0, (low.shape[1], points))


@pytest.mark.parametrize("width", [2.0, 0.3, 0.01])
@pytest.mark.parametrize("net_widths", WIDTHS)
@pytest.mark.parametrize("seed", range(3))
def test_both_bounds_hold(net_widths, seed, width):
    layers, low, high = boxes(net_widths, seed, width)
    bounds = output_bounds(layers, low, high)
    values = highest(layers, low, high).amax(dim=1)
    for bound in (relaxation.linear_bound, relaxation.mean_value_bound):
        assert (bound(layers, bounds, low, high) >= values - 1e-10).all()


@pytest.mark.parametrize("net_widths", WIDTHS)
def test_the_linear_bound_loses_in_proportion_to_the_square_of_the_width(net_widths):
    slopes = []
    for width in (0.02, 0.01):
        layers, low, high = boxes(net_widths, 1, width)
        x = torch.where(
            torch.cartesian_prod(*[torch.arange(2)] * len(low)).bool().T.unsqueeze(1),
            high.unsqueeze(2),
            low.unsqueeze(2),
        )
        corners = evaluate(layers, x.flatten(1))[0].unflatten(0, (low.shape[1], -1)).amax(dim=1)
        bound = relaxation.linear_bound(layers, output_bounds(layers, low, high), low, high)
        slopes.append((bound - corners).median().item())
    assert math.log2(slopes[0] / slopes[1]) == pytest.approx(2.0, abs=0.3)


def test_a_box_of_one_point_has_its_value():
    layers, low, _ = boxes((3, 5, 1), 0, 0.0)
    bound = relaxation.linear_bound(layers, output_bounds(layers, low, low), low, low)
    torch.testing.assert_close(bound, evaluate(layers, low)[0])


@pytest.mark.slow
def test_the_study_counts_closed_boxes_and_no_violations():
    small = {"networks": {"minibatch": 60}, "widths": [0.3, 0.01], "boxes": 20, "points": 5}
    found = relaxation.measure(relaxation.SETTINGS | small, progress=False)
    (network,) = found.values()
    assert set(network) == {"anywhere", "near the optimum"}
    for place in network.values():
        assert len(place) == 2
        for entry in place:
            assert set(entry["excess"]) == {"interval", "mean value", "linear"}
            assert entry["violations"] == {"interval": 0, "mean value": 0, "linear": 0}
            assert entry["closed"]["interval"] <= min(entry["closed"].values())
            assert entry["excess"]["interval"] > 0.0
