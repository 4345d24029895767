"""Univariate mixtures fitted by quadrature: against closed forms, scikit-learn on samples, brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from ugmm_tutorial.approximation import univariate
from ugmm_tutorial.approximation.univariate import Mixture

F64 = {"dtype": torch.float64}


def line(low=-12.0, high=12.0, panels=48):
    return univariate.quadrature(np.linspace(low, high, panels + 1).tolist(), 12)


def mixture(weight, mean, std):
    return Mixture(*(torch.tensor(v, **F64) for v in (weight, mean, std)))


TWO = mixture([0.3, 0.7], [-1.0, 1.5], [0.4, 0.8])


def test_the_quadrature_integrates_polynomials_of_each_panel_exactly():
    x, weight = univariate.quadrature([-1.0, 0.0, 2.0, 2.5], 3)
    assert x.shape == weight.shape == (9,)
    assert (x.diff() > 0).all()
    for power in range(6):
        exact = (2.5 ** (power + 1) - (-1.0) ** (power + 1)) / (power + 1)
        assert (weight @ x**power).item() == pytest.approx(exact)
    assert (weight @ x.abs()).item() == pytest.approx(0.5 + 2.5**2 / 2)  # an edge at the kink
    assert (weight @ x**6).item() != pytest.approx((2.5**7 + 1) / 7, rel=1e-9)


def test_a_mixtures_log_density_is_that_of_scipy():
    x = torch.linspace(-4, 4, 9, **F64)
    expected = 0.3 * stats.norm.pdf(x, -1.0, 0.4) + 0.7 * stats.norm.pdf(x, 1.5, 0.8)
    torch.testing.assert_close(TWO.log_prob(x).exp(), torch.as_tensor(expected))
    torch.testing.assert_close(torch.logsumexp(TWO.terms(x), dim=-1), TWO.log_prob(x))


def test_divergence_and_distance_of_two_gaussians_are_their_closed_forms():
    x, weight = line()
    f = torch.distributions.Normal(torch.tensor(0.5, **F64), 1.2)
    other = mixture([1.0], [-0.2], [0.9])
    expected = torch.distributions.kl_divergence(
        f, torch.distributions.Normal(torch.tensor(-0.2, **F64), 0.9)
    )
    assert univariate.kl_divergence(f.log_prob(x), other, x, weight) == pytest.approx(expected.item())
    # Of two Gaussians of one width: 2 (2 Phi(distance / 2) - 1).
    g = torch.distributions.Normal(torch.tensor(0.7, **F64), 0.9)
    l1 = univariate.l1_distance(g.log_prob(x), other, x, weight)
    assert l1 == pytest.approx(2 * (2 * stats.norm.cdf(0.5 * 0.9 / 0.9) - 1), abs=1e-3)


def test_what_a_mixture_has_outside_the_nodes_counts_as_distance():
    x, weight = univariate.quadrature([0.0, 0.5, 1.0], 16)
    half_outside = mixture([0.5, 0.5], [0.5, 40.0], [0.1, 0.1])
    found = univariate.l1_distance(torch.zeros_like(x), half_outside, x, weight)

    def gap(t):
        return abs(1.0 - 0.5 * stats.norm.pdf(t, 0.5, 0.1))

    inside = integrate.quad(gap, 0, 1, points=[0.35, 0.65], limit=200)[0]
    assert found == pytest.approx(inside + 0.5, abs=2e-2)
    assert found > inside + 0.4


@pytest.mark.parametrize("tied", [False, True])
def test_the_divergence_never_rises_and_the_last_one_is_that_of_the_result(tied):
    x, weight = line()
    log_density = torch.distributions.Laplace(torch.tensor(0.0, **F64), 1.0).log_prob(x)
    start = univariate.quantile_start(log_density, x, weight, 3)
    end, history = univariate.fit(log_density, x, weight, start, iterations=300, tied=tied)
    assert (np.diff(history) < 1e-10).all()
    assert history[0] > history[-1] + 1e-2
    assert history[-1] == pytest.approx(univariate.kl_divergence(log_density, end, x, weight))
    assert end.weight.sum().item() == pytest.approx(1.0)
    assert (len(set(end.std.tolist())) == 1) == tied


def test_expectation_maximisation_takes_the_steps_of_scikit_learn():
    """On its own samples: equal masses at sorted draws are what scikit-learn counts."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    draws = torch.as_tensor(stats.gumbel_r.rvs(size=400, random_state=0)).sort().values
    equal, nothing = torch.full_like(draws, 1.0 / 400), torch.zeros_like(draws)
    start = mixture([0.5, 0.3, 0.2], [-0.5, 1.0, 3.0], [0.5, 0.7, 0.9])
    ours, _ = univariate.fit(nothing, draws, equal, start, iterations=7)
    theirs = GaussianMixture(
        3,
        covariance_type="diag",
        weights_init=start.weight.numpy(),
        means_init=start.mean.numpy()[:, None],
        precisions_init=start.std.numpy()[:, None] ** -2.0,
        max_iter=7,
        tol=0.0,
        reg_covar=0.0,
    )
    with pytest.warns(ConvergenceWarning):
        theirs.fit(draws.numpy()[:, None])
    torch.testing.assert_close(ours.weight, torch.as_tensor(theirs.weights_))
    torch.testing.assert_close(ours.mean, torch.as_tensor(theirs.means_[:, 0]))
    torch.testing.assert_close(ours.std, torch.as_tensor(theirs.covariances_[:, 0]).sqrt())


def test_one_component_takes_the_densitys_mean_and_deviation():
    x, weight = line(-6.0, 30.0, 72)
    log_density = -x - torch.exp(-x)
    start = univariate.quantile_start(log_density, x, weight, 1)
    end, _ = univariate.fit(log_density, x, weight, start, iterations=1)
    assert end.mean.item() == pytest.approx(np.euler_gamma, rel=1e-6)
    assert end.std.item() == pytest.approx(math.pi / math.sqrt(6), rel=1e-6)


def test_a_mixture_is_found_again_by_quasi_newton_steps():
    x, weight = line()
    target = TWO.log_prob(x)
    start = univariate.quantile_start(target, x, weight, 2)
    before = univariate.fit(target, x, weight, start, iterations=3)[0]
    end = univariate.polish(target, x, weight, before)
    assert univariate.kl_divergence(target, before, x, weight) > 1e-3
    assert abs(univariate.kl_divergence(target, end, x, weight)) < 1e-9
    order = end.mean.argsort()
    torch.testing.assert_close(end.mean[order], TWO.mean, rtol=0.0, atol=1e-3)
    torch.testing.assert_close(end.std[order], TWO.std, rtol=0.0, atol=1e-3)
    torch.testing.assert_close(end.weight[order], TWO.weight, rtol=0.0, atol=1e-3)


def test_tied_deviations_stay_tied_and_cost_something():
    x, weight = line()
    target = TWO.log_prob(x)
    start = univariate.quantile_start(target, x, weight, 2)
    tied = univariate.polish(target, x, weight, start, tied=True)
    assert tied.std[0] == tied.std[1]
    kl = univariate.kl_divergence(target, tied, x, weight)
    assert kl > 1e-3
    grid = [
        univariate.kl_divergence(target, mixture([w, 1 - w], [a, b], [s, s]), x, weight)
        for w in (0.2, 0.3, 0.4)
        for a in (-1.2, -0.9)
        for b in (1.3, 1.6)
        for s in (0.5, 0.7, 0.9)
    ]
    assert kl < min(grid)


def test_a_tied_deviation_is_that_of_all_distances_together():
    x, weight = line()
    target = TWO.log_prob(x)
    start = mixture([0.5, 0.5], [-1.0, 1.0], [0.5, 1.0])
    end, _ = univariate.fit(target, x, weight, start, iterations=1, tied=True)
    share = (weight * target.exp())[:, None] * start.terms(x).softmax(dim=-1)
    assert end.std[0].item() ** 2 == pytest.approx((share * (x[:, None] - end.mean) ** 2).sum().item())


def test_no_component_collapses_onto_a_node():
    """Without a floor a component on a node between wide gaps would seem infinitely good."""
    x, weight = univariate.quadrature(np.linspace(0.0, 1.0, 5).tolist(), 4)
    flat = torch.zeros_like(x)
    gap = x.diff().max().item()
    spiked = mixture([0.5, 0.5], [0.5, x[7].item()], [0.3, 1e-8])
    for improved in (univariate.fit(flat, x, weight, spiked)[0], univariate.polish(flat, x, weight, spiked)):
        near = torch.searchsorted(x, improved.mean).clamp(1, len(x) - 1)
        assert (improved.std >= univariate.NODES_WIDE * x.diff()[near - 1] * (1 - 1e-9)).all()
        assert improved.std.min() < 10 * univariate.NODES_WIDE * gap
        assert univariate.kl_divergence(flat, improved, x, weight) > 0.0


def test_starts_stand_at_quantiles_or_are_drawn():
    x, weight = line()
    log_density = torch.distributions.Normal(torch.tensor(0.0, **F64), 1.0).log_prob(x)
    even = univariate.quantile_start(log_density, x, weight, 4)
    expected = torch.as_tensor(stats.norm.ppf([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(even.mean, expected, rtol=0.0, atol=0.1)
    torch.testing.assert_close(even.weight, torch.full((4,), 0.25, **F64))
    torch.testing.assert_close(even.std, torch.full((4,), 0.25, **F64), rtol=1e-3, atol=0.0)
    drawn = [
        univariate.quantile_start(log_density, x, weight, 4, torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    ]
    assert torch.equal(drawn[0].mean, drawn[1].mean)
    assert torch.equal(drawn[0].std, drawn[1].std)
    assert not torch.equal(drawn[0].mean, drawn[2].mean)


def test_spread_starts_stand_at_equal_distances_with_the_mass_around_them():
    x, weight = line()
    log_density = torch.distributions.Normal(torch.tensor(0.0, **F64), 1.0).log_prob(x)
    even = univariate.spread_start(log_density, x, weight, 5, 1e-3)
    low = stats.norm.ppf(1e-3)
    gap = -2 * low / 5
    expected = low + gap * (torch.arange(5, **F64) + 0.5)
    torch.testing.assert_close(even.mean, expected, rtol=0.0, atol=0.1)
    borders = stats.norm.cdf(low + gap * np.arange(1, 5))
    torch.testing.assert_close(
        even.weight, torch.as_tensor(np.diff([0.0, *borders, 1.0])), rtol=0.0, atol=0.03
    )
    assert even.weight.sum().item() == pytest.approx(1.0)
    torch.testing.assert_close(even.std, torch.full((5,), 0.7 * gap, **F64), rtol=0.05, atol=0.0)
    farther = univariate.spread_start(log_density, x, weight, 5, 1e-9)
    assert farther.mean[0] < even.mean[0] - 1.0
    moved = [
        univariate.spread_start(log_density, x, weight, 5, 1e-3, torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    ]
    assert torch.equal(moved[0].mean, moved[1].mean)
    assert not torch.equal(moved[0].mean, moved[2].mean)
    assert 0.01 < (moved[0].mean - even.mean).abs().max() < 1.5 * gap


def test_a_spread_start_needs_a_component_and_two_tails():
    x, weight = line()
    log_density = torch.distributions.Normal(torch.tensor(0.0, **F64), 1.0).log_prob(x)
    refused = ((0, 0.1, "components >= 1, got 0"), (3, 0.0, "beyond > 0"), (3, 0.5, "beyond > 0 and < 0.5"))
    for components, beyond, message in refused:
        with pytest.raises(ValueError, match=message):
            univariate.spread_start(log_density, x, weight, components, beyond)


def test_a_component_without_mass_stays_where_it_is():
    x, weight = line()
    log_density = torch.distributions.Normal(torch.tensor(0.0, **F64), 1.0).log_prob(x)
    start = mixture([0.5, 0.5], [0.0, 1e6], [1.0, 1.0])
    end, history = univariate.fit(log_density, x, weight, start, iterations=2)
    assert end.mean[1] == 1e6
    assert all(torch.isfinite(part).all() for part in end)
    assert history[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, w: univariate.quadrature([0.0]), "at least two increasing edges"),
        (lambda x, w: univariate.quadrature([0.0, 1.0, 1.0]), "at least two increasing edges"),
        (lambda x, w: univariate.quadrature([0.0, 1.0], 0), "points >= 1"),
        (lambda x, w: univariate.quadrature([0.0, math.inf]), "expected finite edges"),
        (lambda x, w: univariate.quadrature([-1e308, 1e308]), "expected finite edges"),
        (lambda x, w: univariate.quantile_start(x * 0, x, w, 2), "integral is 1, got 24"),
        (lambda x, w: univariate.quantile_start(x * 0 - math.log(24), x, w, 0), "components >= 1"),
        (lambda x, w: univariate.fit(x[1:] * 0, x, w, TWO), r"one shape \(N,\)"),
        (lambda x, w: univariate.polish(x * 0, x, w, TWO), "is 1, got 24"),
        (lambda x, w: univariate.kl_divergence(x * 0, TWO, x, w[1:]), r"one shape \(N,\)"),
        (lambda x, w: univariate.l1_distance(x * 0 + math.nan, TWO, x, w), "is 1, got nan"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*line())


def test_tensors_that_require_gradients_are_taken_and_the_result_does_not():
    x, weight = (t.requires_grad_() for t in univariate.quadrature([0.0, 1.0]))
    log_density = torch.zeros_like(x, requires_grad=True)
    start = Mixture(*(torch.full((1,), value).requires_grad_() for value in (1.0, 0.4, 0.3)))
    for found in (
        univariate.polish(log_density, x, weight, start, iterations=2),
        univariate.fit(log_density, x, weight, start, iterations=2)[0],
    ):
        assert not any(part.requires_grad for part in found)
