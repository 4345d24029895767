"""Mixed differences tell additive functions from others; one layer is additive before its logarithm."""

from __future__ import annotations

import itertools

import pytest
import torch

from ugmm_tutorial.approximation.constructions import bump_network, exponential_layer
from ugmm_tutorial.approximation.mixed_differences import corners, mixed_difference
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.networks import UGMMNet

F64 = {"dtype": torch.float64}


def points(rows, inputs, seed=0, low=-1.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(rows, inputs, generator=generator, **F64)


def test_corners_move_two_inputs_and_leave_the_others():
    found = corners(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 20.0, 30.0]]), 2, 0)
    assert found[:, 0].tolist() == [[1, 2, 3], [1, 2, 30], [10, 2, 3], [10, 2, 30]]


def test_the_difference_of_a_product_is_the_area_of_the_rectangle():
    x, other = points(20, 3, 0), points(20, 3, 1)
    found = mixed_difference(lambda t: 5 * t[:, 0] * t[:, 2] + t[:, 1].exp(), x, other, 0, 2)
    side = other - x
    torch.testing.assert_close(found, 5 * side[:, 0] * side[:, 2])
    torch.testing.assert_close(
        mixed_difference(lambda t: 5 * t[:, 0] * t[:, 2], x, other, 0, 1), torch.zeros(20, **F64)
    )


def test_divided_by_the_area_it_tends_to_the_mixed_derivative():
    torch.manual_seed(3)
    network = UGMMNet((2, 5, 1), dtype=torch.float64)
    x = points(1, 2)[0]
    hessian = torch.autograd.functional.hessian(lambda t: network(t)[0], x)
    step = 1e-4
    with torch.no_grad():
        found = mixed_difference(network, x[None], x[None] + step) / step**2
    torch.testing.assert_close(found[0, 0], hessian[0, 1], rtol=1e-3, atol=1e-5)


def test_the_exponential_of_one_layer_is_additive_and_of_two_is_not():
    torch.manual_seed(0)
    x, other = points(50, 3, 0), points(50, 3, 1)
    layer = UGMMLayer(3, 4, init="paper", min_std=0.1, dtype=torch.float64)
    deep = UGMMNet((3, 6, 4), init="paper", min_std=0.1, dtype=torch.float64)
    for first, second in itertools.combinations(range(3), 2):
        with torch.no_grad():
            one = mixed_difference(lambda t: layer(t).exp(), x, other, first, second)
            two = mixed_difference(lambda t: deep(t).exp(), x, other, first, second)
            itself = mixed_difference(layer, x, other, first, second)
        assert one.abs().max() < 1e-12
        assert two.abs().max() > 1e-3
        assert itself.abs().max() > 1e-2  # the logarithm is not additive


def test_two_classes_of_one_layer_never_split_four_corners_crosswise():
    """Over random layers and random rectangles: at most three corners as XOR wants them."""
    x, other = points(200, 2, 0, -2, 2), points(200, 2, 1, -2, 2)
    where = corners(x, other)
    crosswise = 0
    for seed in range(30):
        torch.manual_seed(seed)
        one = UGMMLayer(2, 2, init="paper", dtype=torch.float64)
        two = UGMMNet((2, 8, 2), init="paper", dtype=torch.float64)
        with torch.no_grad():
            right = [net(where).argmax(dim=-1) for net in (one, two)]
        for net, label in enumerate(right):
            xor = (label[0] == label[3]) & (label[1] == label[2]) & (label[0] != label[1])
            if net == 0:
                assert not xor.any()
            else:
                crosswise += int(xor.sum())
    assert crosswise > 0


def test_bumps_are_those_of_their_formula():
    centres, log_values = points(7, 3, 2), points(7, 1, 3)[:, 0]
    x = points(40, 3, 4)
    network = bump_network(centres, log_values, radius=0.8)
    with torch.no_grad():
        out = network(x)[:, 0]
    expected = torch.logsumexp(log_values - (torch.cdist(x, centres) / 0.8) ** 4, dim=1)
    difference = out - expected
    assert (difference - difference.mean()).abs().max() < 5e-3
    assert expected.std() > 0.5
    # Wider is closer, as the square.
    with torch.no_grad():
        closer = bump_network(centres, log_values, radius=0.8, wide=300.0)(x)[:, 0] - expected
    assert (closer - closer.mean()).abs().max() < 0.03 * (difference - difference.mean()).abs().max()


def test_finer_bumps_approximate_a_function_with_an_interaction_more_closely():
    x, worst = points(300, 2, 5), []
    for side in (12, 24, 48):
        ticks = torch.linspace(-1.6, 1.6, side, **F64)
        centres = torch.cartesian_prod(ticks, ticks)
        values = 2 * centres[:, 0] * centres[:, 1]
        network = bump_network(centres, values, radius=1.7 * (ticks[1] - ticks[0]).item())
        with torch.no_grad():
            error = network(x)[:, 0] - 2 * x[:, 0] * x[:, 1]
        worst.append((error - error.mean()).abs().max().item())
    assert worst[0] < 0.4
    assert worst[1] < worst[0] / 3
    assert worst[2] < worst[1] / 3


def test_far_away_means_make_exponentials():
    slope, share = 2 * points(5, 3, 6), points(5, 3, 7, 0.1, 1.0)
    x = points(40, 3, 8)
    with torch.no_grad():
        out = exponential_layer(slope, share, wide=300.0)(x)
    expected = torch.logsumexp(share.log() + slope * x.unsqueeze(1), dim=-1)
    difference = out - expected
    assert (difference - difference.mean(dim=0)).abs().max() < 1e-4
    assert expected.std(dim=0).min() > 0.05


def test_of_two_inputs_a_linear_readout_makes_an_interaction_and_of_one_only_parabolas():
    generator = torch.Generator().manual_seed(9)
    x = points(400, 2, 10)

    def unexplained(features, y):
        rows = torch.cat([features, torch.ones(len(y), 1, **F64)], dim=1)
        solved = torch.linalg.lstsq(rows, y[:, None], driver="gelsd").solution
        return ((rows @ solved)[:, 0] - y).square().mean().sqrt() / y.std()

    for inputs, limit in ((2, 0.02), (1, None)):
        slope = 4 * torch.randn(40, inputs, generator=generator, **F64)
        layer = exponential_layer(slope, torch.rand(40, inputs, generator=generator, **F64) + 1e-3)
        with torch.no_grad():
            features = layer(x[:, :inputs])
        if limit:
            assert unexplained(features, x[:, 0] * x[:, 1]) < limit
        else:
            cubic = x[:, 0] ** 3
            parabola = torch.stack([x[:, 0], x[:, 0] ** 2], dim=1)
            # One neuron of one input is the logarithm of one Gaussian.
            assert unexplained(features, cubic) > 0.99 * unexplained(parabola, cubic)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: corners(torch.zeros(2, 2), torch.zeros(3, 2)), r"expected x and other \(B, K\)"),
        (lambda: corners(torch.zeros(2), torch.zeros(2)), r"expected x and other \(B, K\)"),
        (
            lambda: corners(torch.zeros(2, 2), torch.zeros(2, 2), 1, 1),
            "two different inputs, got first=1 and second=1",
        ),
        (lambda: corners(torch.zeros(2, 2), torch.zeros(2, 2), 0, 2), "second from 0 to 1, got 2"),
        (lambda: bump_network(torch.zeros(3, 2), torch.zeros(2), 1.0), r"expected centres \(J, K\)"),
        (lambda: bump_network(torch.zeros(3, 2), torch.zeros(3), 0.0), "radius > 0"),
        (lambda: exponential_layer(torch.zeros(3, 2), torch.ones(2, 3)), "expected slope and share"),
        (lambda: exponential_layer(torch.zeros(3, 2), torch.zeros(3, 2)), "share > 0, got 0"),
        (lambda: exponential_layer(torch.ones(3, 2), torch.ones(3, 2), 1e20), "whose squares torch.float32"),
        (lambda: exponential_layer(torch.ones(3, 2).double(), torch.ones(3, 2), 1e300), "got wide=1e.300"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "build", [lambda t: bump_network(t, torch.zeros(3), 1.0), lambda t: exponential_layer(t, t + 1)]
)
def test_numbers_of_half_precision_are_refused_by_name(build):
    with pytest.raises(TypeError, match=r"expected (centres|slope) in float64 or float32, got torch.float16"):
        build(torch.zeros(3, 2).half())


@pytest.mark.parametrize(("radius", "wide"), [(1e-200, 30.0), (1.0, 1e200), (1e-170, 1e-200)])
def test_the_parameters_of_extreme_bumps_are_finite(radius, wide):
    network = bump_network(torch.zeros(3, 2).double(), torch.zeros(3), radius, wide)
    assert all(parameter.isfinite().all() for parameter in network.parameters())
