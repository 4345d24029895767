"""Smoothed neurons, twin and circuits are densities: by quadrature, enumeration and the code of others."""

import math

import pytest
import torch
from densities import F64, HIGH, LOW, MODELS, gaussian, grid, p_value, scattered, uniform
from scipy import stats
from sklearn.mixture import GaussianMixture
from torch.distributions import Normal

from ugmm_tutorial import functional
from ugmm_tutorial.density import (
    Circuit,
    DiagonalGaussianMixture,
    GaussianBackground,
    SmoothedUGMM,
    UniformBackground,
    gradient,
)

NAN = math.nan
EVERY = pytest.mark.parametrize("name", MODELS)


# --- One


@EVERY
@pytest.mark.parametrize(("dimensions", "nodes"), [(1, 24), (2, 24), (3, 12)])
def test_integrates_to_one(name, dimensions, nodes):
    points, weights = grid(dimensions, nodes)
    total = (MODELS[name](dimensions).log_prob(points).exp() * weights).sum()
    assert total.item() == pytest.approx(1.0, abs=2e-6)


@EVERY
def test_marginals_equal_quadrature_of_the_joint(name):
    model = MODELS[name](4)
    points, weights = grid(2)
    for missing, known in (([0, 2], [1, 3]), ([1, 3], [0, 2]), ([2, 3], [0, 1])):
        row = torch.full((4,), NAN, **F64)
        row[known] = torch.tensor([0.3, -0.7], **F64)
        joint = row.repeat(len(points), 1)
        joint[:, missing] = points
        expected = (model.log_prob(joint).exp() * weights).sum().log()
        torch.testing.assert_close(model.log_prob(row), expected, atol=1e-7, rtol=0)


@EVERY
def test_nothing_known_has_log_probability_zero(name):
    model = MODELS[name](4)
    assert model.log_prob(torch.full((4,), NAN, **F64)).abs().item() < 1e-12


@EVERY
def test_a_gradient_in_a_batch_with_missing_values_is_finite_and_right(name):
    model = MODELS[name](4)
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), **F64)
    x[0, 1] = x[1] = x[2, :3] = NAN  # the second row has nothing at all
    parameters = dict(model.named_parameters())

    def log_prob(*values):
        return torch.func.functional_call(model, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(log_prob, tuple(parameters.values()))


@EVERY
def test_leading_dimensions_stay(name):
    model = MODELS[name](3)
    x = torch.rand(2, 5, 3, **F64)
    x[0, 0, 0] = NAN
    assert model.log_prob(x).shape == (2, 5)
    torch.testing.assert_close(model.log_prob(x)[1, 4], model.log_prob(x[1, 4]))
    assert model.log_prob(x[:0]).shape == (0, 5)
    assert model.conditional(x).mean().shape == (2, 5, 3)
    assert model.conditional(x).sample(7).shape == (7, 2, 5, 3)
    assert model.sample(0).shape == (0, 3)


# --- The formula


def test_a_smoothed_neuron_is_its_terms_completed_by_the_background():
    model = MODELS["smoothed"](3)
    x = torch.randn(6, 3, **F64)
    background = Normal(model.background.mean, model.background.std).log_prob(x).exp()
    density = torch.zeros(6, 3, **F64)
    for j in range(3):
        for k in range(3):
            others = background[:, [i for i in range(3) if i != k]].prod(dim=1)
            own = Normal(model.mean[j, k], model.std[j, k]).log_prob(x[:, k]).exp()
            density[:, j] += torch.softmax(model.mix_logits, -1)[j, k] * own * others
    torch.testing.assert_close(model.neuron_log_prob(x), density.log())
    pi = torch.softmax(model.component_logits, dim=0)
    torch.testing.assert_close(model.log_prob(x), (density @ pi).log())


def test_covariances_of_smoothed_neurons_are_minus_a_vector_times_itself():
    """So of three inputs, no three covariances have a positive product: they cannot all rise together."""
    model = MODELS["smoothed"](3)
    weight = (model.log_component_weight[:, None] + model.log_weight).exp()
    a = (weight * (model.mean - model.background.mean)).sum(dim=0)
    points, weights = grid(2)
    for k, other in ((0, 1), (0, 2), (1, 2)):
        rows = torch.full((len(points), 3), NAN, **F64)
        rows[:, [k, other]] = points
        density = model.log_prob(rows).exp() * weights
        mean = density @ points
        covariance = (density * (points - mean).prod(dim=1)).sum()
        torch.testing.assert_close(covariance, -a[k] * a[other], atol=1e-7, rtol=0)


def test_a_mixture_of_smoothed_neurons_is_one_with_more_components():
    model = MODELS["smoothed"](3)
    weight = (model.log_component_weight[:, None] + model.log_weight).exp()
    repeated = SmoothedUGMM(9, 1, background=gaussian(3).select(torch.arange(9) % 3), **F64)
    with torch.no_grad():
        repeated.mix_logits.copy_(weight.log().reshape(1, 9))
        repeated.mean.copy_(model.mean.reshape(1, 9))
        repeated.log_std.copy_(model.log_std.reshape(1, 9))
    x = torch.randn(5, 3, **F64)
    # Every input stands there three times, and so do the factors b of all inputs but the term's own.
    base = model.background.log_prob(x).sum(dim=1)
    torch.testing.assert_close(repeated.log_prob(x.repeat(1, 3)) - 3 * base, model.log_prob(x) - base)


def test_smoothed_neurons_run_through_the_operator(monkeypatch):
    model, seen = MODELS["smoothed"](3), []
    usual = functional.ugmm_log_density

    def spy(*arguments, **options):
        seen.append(options["log_background"])
        return usual(*arguments, **options)

    monkeypatch.setattr(functional, "ugmm_log_density", spy)
    x = torch.tensor([[0.1, NAN, 0.3]], **F64)
    model.log_prob(x)
    assert seen[0].isinf().tolist() == [[False, True, False]]


def test_outside_a_uniform_background_one_term_is_left_or_none():
    model = MODELS["smoothed, uniform"](3)
    inside, outside = 0.2, HIGH + 0.5
    log_b = -math.log(HIGH - LOW)
    alone = model.log_weight[:, 1] + Normal(model.mean[:, 1], model.std[:, 1]).log_prob(
        torch.tensor(outside, **F64)
    )
    found = model.neuron_log_prob(torch.tensor([inside, outside, -inside], **F64))
    torch.testing.assert_close(found, alone + 2 * log_b)
    # A missing input's term would have the factor zero as well.
    found = model.neuron_log_prob(torch.tensor([inside, outside, NAN], **F64))
    torch.testing.assert_close(found, alone + log_b)
    assert model.log_prob(torch.tensor([outside, outside, inside], **F64)) == -math.inf
    with pytest.raises(ValueError, match="density zero"):
        model.conditional(torch.tensor([outside, outside, NAN], **F64))
    mean = model.conditional(torch.tensor([inside, outside, NAN], **F64)).mean()
    assert mean[2].item() == pytest.approx((LOW + HIGH) / 2)
    drawn = model.conditional(torch.tensor([inside, outside, NAN], **F64)).sample(500)[:, 2]
    assert torch.equal(drawn.clamp(LOW, HIGH), drawn)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_float32_through_the_fused_kernel_equals_float64(missing):
    draw = torch.Generator().manual_seed(5)
    wide = scattered(SmoothedUGMM(40, 24, background=gaussian(40), **F64))
    narrow = SmoothedUGMM(40, 24, background=GaussianBackground(torch.zeros(40), torch.ones(40)))
    narrow.load_state_dict(wide.state_dict())
    x = torch.randn(50, 40, generator=draw, **F64)
    x[torch.rand(50, 40, generator=draw) < missing] = NAN
    x[0] = NAN if missing else x[0]
    reference, fused = wide.log_prob(x), narrow.log_prob(x.float())
    torch.testing.assert_close(fused.double(), reference, atol=1e-4, rtol=1e-5)
    reference.sum().backward()
    fused.sum().backward()
    for a, b in zip(narrow.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, atol=2e-3, rtol=1e-3)


# --- Product twin


def test_product_twin_equals_scikit_learn():
    data = torch.randn(120, 3, generator=torch.Generator().manual_seed(2), **F64).numpy()
    mixture = GaussianMixture(4, covariance_type="diag", random_state=0).fit(data)
    model = DiagonalGaussianMixture.from_sklearn(mixture)
    x = 2 * torch.randn(50, 3, **F64)
    torch.testing.assert_close(model.log_prob(x), torch.as_tensor(mixture.score_samples(x.numpy())))
    posterior = torch.as_tensor(mixture.predict_proba(x.numpy()))
    torch.testing.assert_close(model.component_posterior(x), posterior)


def test_from_sklearn_refuses_what_it_cannot_be():
    data = torch.randn(40, 2, **F64).numpy()
    with pytest.raises(ValueError, match="covariance_type='diag'"):
        DiagonalGaussianMixture.from_sklearn(GaussianMixture(2).fit(data))
    with pytest.raises(ValueError, match="not fitted"):
        DiagonalGaussianMixture.from_sklearn(GaussianMixture(2, covariance_type="diag"))
    fitted = GaussianMixture(2, covariance_type="diag").fit(data)
    with pytest.raises(ValueError, match="min_std"):
        DiagonalGaussianMixture.from_sklearn(fitted, min_std=9.0)


# --- Circuit


def _leaf_density(circuit, leaf, channel, x):
    scope = circuit.scopes[leaf]
    return circuit.leaves[leaf](x[:, scope])[:, channel].exp()


def test_a_circuit_equals_the_enumeration_of_its_trees():
    """Depth 2: every choice of a tree, a product of the root and a product of each sum is a component."""
    circuit = scattered(Circuit(5, 2, depth=2, trees=2, leaf="smoothed", background=gaussian(5), **F64))
    x = torch.randn(7, 5, **F64)
    x[3, 2] = NAN
    inner, root = (w.detach().exp() for w in circuit.log_weights())
    assert torch.allclose(inner.sum(-1), torch.ones_like(inner.sum(-1)))
    total = torch.zeros(7, **F64)
    for tree in range(2):
        for s in range(2):
            for left in range(2):
                for right in range(2):
                    weight = root[tree * 2 + s] * inner[tree, 0, s, left] * inner[tree, 1, s, right]
                    channels = (left, left, right, right)
                    parts = [_leaf_density(circuit, tree * 4 + i, c, x) for i, c in enumerate(channels)]
                    total += weight * torch.stack(parts).prod(dim=0)
    torch.testing.assert_close(circuit.log_prob(x), total.log())


def test_the_leaves_of_a_tree_share_the_features_among_them():
    circuit = Circuit(7, 2, depth=2, trees=3, seed=1)
    for tree in range(3):
        scopes = circuit.scopes[4 * tree : 4 * tree + 4]
        assert sorted(torch.cat(list(scopes)).tolist()) == list(range(7))
    assert [s.tolist() for s in circuit.scopes[:4]] != [s.tolist() for s in circuit.scopes[4:8]]
    again = Circuit(7, 2, depth=2, trees=3, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(circuit.scopes, again.scopes, strict=True))


@pytest.mark.parametrize(
    ("leaf", "depth", "twin"), [("gaussian", 0, 0), ("gaussian", 1, 0), ("smoothed", 0, 1)]
)
def test_a_shallow_circuit_is_a_mixture(leaf, depth, twin):
    background = {"background": gaussian(4)} if leaf == "smoothed" else {}
    circuit = scattered(Circuit(4, 3, leaf=leaf, depth=depth, **background, **F64))
    plain = SmoothedUGMM(4, 3, **background, **F64) if twin else DiagonalGaussianMixture(4, 3, **F64)
    with torch.no_grad():
        for part, scope in zip(circuit.leaves, circuit.scopes, strict=True):
            for name, values in part.named_parameters():
                getattr(plain.components, name)[:, scope] = values
            if twin:
                plain.background.mean[scope] = part.background.mean
                plain.background.std[scope] = part.background.std
        plain.component_logits.copy_(circuit.sum_logits[-1])
    x = torch.randn(9, 4, **F64)
    torch.testing.assert_close(plain.log_prob(x), circuit.log_prob(x))


# --- Conditionals and draws


@EVERY
def test_a_conditional_is_joint_over_marginal_and_its_mean_is_the_integral(name):
    model = MODELS[name](4)
    points, weights = grid(2)
    x = torch.tensor([NAN, 0.4, NAN, -0.6], **F64)
    joint = x.repeat(len(points), 1)
    joint[:, [0, 2]] = points
    conditional = model.conditional(x)
    density = conditional.log_prob(joint).exp() * weights
    assert density.sum().item() == pytest.approx(1.0, abs=1e-7)
    torch.testing.assert_close(conditional.mean()[[0, 2]], density @ points, atol=1e-6, rtol=0)
    assert conditional.mean()[[1, 3]].tolist() == [0.4, -0.6]
    # Entries that the values leave open are marginalised; what they say of known ones does not count.
    half = torch.tensor([0.5, 9.0, NAN, 9.0], **F64)
    expected = model.log_prob(torch.tensor([0.5, 0.4, NAN, -0.6], **F64)) - model.log_prob(x)
    torch.testing.assert_close(conditional.log_prob(half), expected)


@EVERY
def test_samples_fit_the_density_and_not_another(name):
    model = MODELS[name](2)
    samples = model.sample(20000, torch.Generator().manual_seed(7))
    assert p_value(samples, lambda x: model.log_prob(x).exp()) > 1e-3
    with torch.no_grad():
        model.sum_logits[-1].copy_(model.sum_logits[-1].flip(0))
    assert p_value(samples, lambda x: model.log_prob(x).exp()) < 1e-6


@pytest.mark.parametrize("name", ["circuit", "smoothed circuit"])
@pytest.mark.parametrize("pair", [[0, 1], [0, 2], [0, 3]])
def test_pairs_of_a_deeper_circuits_samples_fit_their_marginals(name, pair):
    model = MODELS[name](4)
    samples = model.sample(20000, torch.Generator().manual_seed(9))

    def marginal(points):
        rows = torch.full((len(points), 4), NAN, **F64)
        rows[:, pair] = points
        return model.log_prob(rows).exp()

    assert p_value(samples[:, pair], marginal) > 1e-3


@EVERY
def test_conditional_samples_fit_the_conditional_and_not_the_marginal(name):
    model = MODELS[name](4)
    # Far out where the support allows it: near their backgrounds, smoothed neurons hardly depend on it.
    evidence = (1.5, -1.0) if "uniform" in name else (3.0, -2.5)
    x = torch.tensor([NAN, evidence[0], NAN, evidence[1]], **F64)
    conditional = model.conditional(x)
    samples = conditional.sample(20000, torch.Generator().manual_seed(8))
    assert samples[:, [1, 3]].unique(dim=0).tolist() == [list(evidence)]

    def density(of):
        def evaluate(points):
            rows = torch.full((len(points), 4), NAN, **F64)
            rows[:, [0, 2]] = points
            return of(rows).exp()

        return evaluate

    assert p_value(samples[:, [0, 2]], density(conditional.log_prob)) > 1e-3
    assert p_value(samples[:, [0, 2]], density(model.log_prob)) < 1e-6


def test_a_generator_repeats_the_draws():
    model = MODELS["circuit"](4)
    first, second = (model.sample(5, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)


# --- Learning by gradients, state


@EVERY
def test_gradient_steps_raise_the_likelihood(name):
    model = MODELS[name](3)
    x = 0.3 * torch.randn(100, 3, generator=torch.Generator().manual_seed(3), **F64)
    x[::7, 1] = NAN
    before = model.log_prob(x).mean().item()
    history = gradient.fit(model, x, epochs=20, batch_size=32, learning_rate=0.05)
    assert len(history) == 20
    assert model.log_prob(x).mean().item() > before + 0.1


def test_state_survives_saving(tmp_path):
    for maker in MODELS.values():
        model, other = maker(4), maker(4)
        scattered(other, seed=9)
        torch.save(model.state_dict(), tmp_path / "model.pt")
        other.load_state_dict(torch.load(tmp_path / "model.pt"))
        x = torch.randn(3, 4, **F64)
        assert torch.equal(model.log_prob(x), other.log_prob(x))


# --- Backgrounds


def test_a_fitted_background_is_the_maximum_likelihood_one():
    x = torch.tensor([[0.0, 1.0], [2.0, NAN], [4.0, 3.0]], **F64)
    fitted = GaussianBackground.fit(x)
    torch.testing.assert_close(fitted.mean, torch.tensor([2.0, 2.0], **F64))
    torch.testing.assert_close(fitted.std, torch.tensor([math.sqrt(8 / 3), 1.0], **F64))
    box = UniformBackground.fit(x, margin=0.5)
    torch.testing.assert_close(box.low, torch.tensor([-2.0, 0.0], **F64))
    torch.testing.assert_close(box.high, torch.tensor([6.0, 4.0], **F64))


def test_background_samples_reach_into_the_tails():
    background = gaussian(2)
    samples = background.sample(100000, torch.Generator().manual_seed(6))
    for k in range(2):
        z = (samples[:, k] - background.mean[k]) / background.std[k]
        assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
        assert z.min() < -4
        assert z.max() > 4


@pytest.mark.parametrize("background", [gaussian(2), uniform(2)])
def test_quantiles_invert_the_distribution_function(background):
    u = torch.tensor([[0.01, 0.99], [0.5, 0.3]], **F64)
    ends = background.quantile(u)
    for i in range(2):
        for k in range(2):
            points = torch.linspace(-12.0, ends[i, k].item(), 200001, **F64)
            rows = torch.zeros(len(points), 2, **F64)
            rows[:, k] = points
            share = torch.trapezoid(background.log_prob(rows)[:, k].exp(), points)
            assert share.item() == pytest.approx(u[i, k].item(), abs=1e-4)


# --- Bad input


@EVERY
@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        ([0.0, 0.0, 0.0], TypeError, "expected x to be a torch.Tensor"),
        (torch.zeros(3), TypeError, "dtype torch.float64, got torch.float32"),
        (torch.zeros(5, 4, **F64), ValueError, r"shape \(\*, 3\), got \(5, 4\)"),
        (torch.tensor(0.0, **F64), ValueError, r"got \(\)"),
        (torch.tensor([0.0, math.inf, 0.0], **F64), ValueError, "infinite"),
    ],
)
def test_rows_that_do_not_fit_are_refused(name, x, error, match):
    model = MODELS[name](3)
    for method in (model.log_prob, model.conditional, model.initialise):
        with pytest.raises(error, match=match):
            method(x)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: SmoothedUGMM(0, 2), ValueError, "in_features >= 1"),
        (lambda: SmoothedUGMM(2, 2.5), TypeError, "integer"),
        (lambda: DiagonalGaussianMixture(2, 2, min_std=0.0), ValueError, "min_std > 0"),
        (lambda: DiagonalGaussianMixture(2, 2, dtype=torch.float16), TypeError, "float32 or float64"),
        (lambda: SmoothedUGMM(3, 2, background=gaussian(2), **F64), ValueError, "3 features, got one of 2"),
        (lambda: SmoothedUGMM(2, 2, background=gaussian(2)), TypeError, "dtype torch.float32"),
        (lambda: SmoothedUGMM(2, 2, background="uniform"), TypeError, "Background or None, got str"),
        (lambda: Circuit(3, 2, depth=2), ValueError, r"2\*\*depth <= in_features"),
        (lambda: Circuit(3, 2, depth=-1), ValueError, "depth >= 0"),
        (lambda: Circuit(3, 2, leaf="poisson", depth=1), ValueError, "unknown leaf 'poisson'"),
        (lambda: Circuit(3, 2, depth=1, background=gaussian(3)), ValueError, "only smoothed leaves"),
        (lambda: GaussianBackground(torch.zeros(2), torch.zeros(2)), ValueError, "positive standard"),
        (lambda: GaussianBackground(torch.zeros(2), torch.ones(3)), ValueError, "one shape"),
        (lambda: UniformBackground(torch.ones(2), torch.ones(2)), ValueError, "empty interval"),
        (lambda: MODELS["product"](2).sample(-1), ValueError, "n >= 0, got -1"),
        (
            lambda: MODELS["product"](2).conditional(torch.zeros(2, **F64)).sample(1.5),
            TypeError,
            "n to be an integer, got 1.5",
        ),
        (lambda: MODELS["product"](2).initialise(torch.zeros(2, 2, **F64)), ValueError, "at least 3 rows"),
        (lambda: MODELS["product"](2).initialise(torch.zeros(0, 2, **F64)), ValueError, "at least one row"),
        (
            lambda: MODELS["product"](2).initialise(torch.tensor([[0.0, NAN]] * 5, **F64)),
            ValueError,
            "feature 1 is never there",
        ),
        (
            lambda: gradient.fit(MODELS["product"](2), torch.zeros(5, 2, **F64), epochs=0),
            ValueError,
            "epochs",
        ),
        (
            lambda: gradient.fit(MODELS["product"](2), torch.zeros(5, 2, **F64), learning_rate=-1.0),
            ValueError,
            "learning_rate > 0",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()
