"""EM by gradients equals EM written out, never lowers the likelihood, and ends where nothing rises."""

import copy
import itertools
import math

import pytest
import torch
from densities import F64, MODELS, gaussian, scattered
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch.distributions import Normal

from ugmm_tutorial.density import Circuit, DiagonalGaussianMixture, SmoothedUGMM, em

NAN = math.nan


def rows(n=60, features=4, missing=0.2, seed=0):
    """Two overlapping clouds, correlated within, with values missing at random."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=draw, **F64)
    x[:, 1] += 0.8 * x[:, 0]
    x[: n // 3] = 0.4 * x[: n // 3] + 2.0
    x[torch.rand(n, features, generator=draw) < missing] = NAN
    return x


MAKERS = {
    "smoothed": lambda floor: SmoothedUGMM(4, 3, min_std=floor, **F64),
    "smoothed, given background": lambda floor: SmoothedUGMM(
        4, 3, background=gaussian(4), min_std=floor, **F64
    ),
    "product": lambda floor: DiagonalGaussianMixture(4, 3, min_std=floor, **F64),
    "circuit": lambda floor: Circuit(4, 3, depth=2, trees=2, min_std=floor, **F64),
    "smoothed circuit": lambda floor: Circuit(4, 3, depth=1, leaf="smoothed", min_std=floor, **F64),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


@EVERY
@pytest.mark.parametrize("floor", [0.01, 0.5])
def test_the_likelihood_never_falls(name, floor):
    model, x = MAKERS[name](floor).initialise(rows()), rows()
    history = em.fit(model, x, iterations=40, tolerance=-math.inf)
    assert len(history) == 41
    assert all(after > before - 1e-10 for before, after in itertools.pairwise(history))
    assert history[-1] > history[0] + 0.05
    assert model.log_prob(x).mean().item() == pytest.approx(history[-1], abs=1e-12)
    # The parameters themselves, not only what the model makes of them: gradients shall find them there.
    assert all(leaf.log_std.exp().min() >= floor * (1 - 1e-9) for leaf in model.leaves)


def _smoothed_step(model, x, floor):
    """One iteration with explicit responsibilities (B, J, K), in plain arithmetic."""
    known, filled = ~x.isnan(), x.nan_to_num()
    w, pi = torch.softmax(model.mix_logits, -1), torch.softmax(model.component_logits, 0)
    b = torch.where(known, Normal(model.background.mean, model.background.std).log_prob(filled).exp(), 1.0)
    own = Normal(model.mean, model.std).log_prob(filled.unsqueeze(1)).exp()  # (B, J, K)
    terms = torch.empty(len(x), 3, 4, **F64)
    for k in range(4):
        others = b[:, [i for i in range(4) if i != k]].prod(dim=1)
        factor = torch.where(known[:, None, k], own[:, :, k], 1.0)
        terms[:, :, k] = pi * w[:, k] * factor * others[:, None]
    r = terms / terms.sum(dim=(1, 2), keepdim=True)
    seen = r * known[:, None]
    count = seen.sum(0)
    mean = (seen * filled[:, None]).sum(0) / count
    std = ((seen * (filled[:, None] - mean) ** 2).sum(0) / count).sqrt().clamp(min=floor)
    share = torch.where(known, 1.0 - r.sum(1), 0.0)
    b_mean = (share * filled).sum(0) / share.sum(0)
    b_std = ((share * (filled - b_mean) ** 2).sum(0) / share.sum(0)).sqrt().clamp(min=floor)
    weights = r.sum(0) / r.sum(dim=(0, 2))[:, None]
    return r.sum(dim=(0, 2)) / len(x), weights, mean, std, b_mean, b_std


@pytest.mark.parametrize("floor", [0.01, 0.6])
@pytest.mark.parametrize("fits_background", [True, False])
def test_a_step_equals_em_with_explicit_responsibilities(floor, fits_background):
    x = rows()
    model = MAKERS["smoothed" if fits_background else "smoothed, given background"](floor).initialise(x)
    em.fit(model, x, iterations=2)  # away from equal weights
    with torch.no_grad():
        pi, weights, mean, std, b_mean, b_std = _smoothed_step(model, x, floor)
    assert (std == floor).any() == (floor == 0.6)
    old = model.background.mean.clone()
    em.fit(model, x, iterations=1)
    torch.testing.assert_close(model.log_component_weight.exp(), pi)
    torch.testing.assert_close(model.log_weight.exp(), weights)
    torch.testing.assert_close(model.mean.detach(), mean)
    torch.testing.assert_close(model.std, std)
    torch.testing.assert_close(model.background.mean, b_mean if fits_background else old)
    if fits_background:
        torch.testing.assert_close(model.background.std, b_std)


def test_the_twins_step_equals_scikit_learns():
    x = rows(missing=0.0)
    model = MAKERS["product"](1e-6).initialise(x)
    start = {
        "weights_init": model.log_component_weight.exp().detach().numpy(),
        "means_init": model.mean.detach().numpy().copy(),
        "precisions_init": model.std.detach().numpy() ** -2,
    }
    theirs = GaussianMixture(3, covariance_type="diag", reg_covar=0.0, max_iter=1, **start)
    with pytest.warns(ConvergenceWarning):
        theirs.fit(x.numpy())
    em.fit(model, x, iterations=1)
    # They add a few roundings to every count.
    tolerance = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(model.mean.detach(), torch.as_tensor(theirs.means_), **tolerance)
    torch.testing.assert_close(model.std.square(), torch.as_tensor(theirs.covariances_), **tolerance)
    torch.testing.assert_close(
        model.log_component_weight.exp(), torch.as_tensor(theirs.weights_), **tolerance
    )


@pytest.mark.slow
@EVERY
def test_em_ends_where_the_gradient_vanishes(name):
    """Under no active floor, and only for what EM moves: a wrong M-step stops elsewhere, or never."""
    x = rows(200)
    model = MAKERS[name](0.05).initialise(x)
    em.fit(model, x, iterations=3000, tolerance=1e-12)
    model.log_prob(x).mean().backward()
    for leaf in model.leaves:
        free = leaf.std > 0.05 * (1 + 1e-6)
        assert leaf.log_std.grad[free].abs().max() < 1e-4
        assert (leaf.mean.grad * leaf.std).abs().max() < 1e-4
        if hasattr(leaf, "mix_logits"):
            assert leaf.mix_logits.grad.abs().max() < 1e-4
    assert all(logits.grad.abs().max() < 1e-4 for logits in model.sum_logits)


def test_a_model_starts_at_clusters_whose_variances_lean_on_the_whole():
    near = torch.tensor([[0.0, 1.0], [2.0, 1.0], [1.0, NAN]], **F64)
    x = torch.cat([near, torch.tensor([[50.0, 4.0]], **F64)])
    model = DiagonalGaussianMixture(2, 2, **F64).initialise(x)
    filled = torch.where(x.isnan(), torch.tensor(2.0, **F64), x)  # the mean of the second feature
    order = model.mean[:, 0].argsort()
    expected = torch.stack([filled[:3].mean(0), filled[3]])
    torch.testing.assert_close(model.mean[order].detach(), expected)
    whole = filled.var(0, correction=0)
    variances = torch.stack([(3 * filled[:3].var(0, correction=0) + whole) / 4, whole / 2])
    torch.testing.assert_close(model.std[order].square(), variances)
    shares = model.log_component_weight.exp()[order]
    torch.testing.assert_close(shares, torch.tensor([4.0, 2.0], **F64) / 6)


def test_float32_takes_the_same_step_through_the_fused_kernel():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(80, 20, generator=draw, **F64)
    x[torch.rand(80, 20, generator=draw) < 0.1] = NAN
    wide = SmoothedUGMM(20, 8, **F64).initialise(x)
    narrow = SmoothedUGMM(20, 8)
    narrow.load_state_dict(wide.state_dict())
    em.fit(wide, x, iterations=1)
    em.fit(narrow, x.float(), iterations=1)
    for name, value in narrow.state_dict().items():
        torch.testing.assert_close(value.double(), wide.state_dict()[name], atol=1e-3, rtol=1e-3)


@EVERY
def test_a_gaussian_that_sees_nothing_stays(name):
    """Far from all data a count is zero, which must not become NaN."""
    x = rows()
    model = scattered(MAKERS[name](0.01))
    with torch.no_grad():
        for leaf in model.leaves:
            leaf.mean[0] = 1e3
    lost = copy.deepcopy(model)
    em.fit(model, x, iterations=5)
    assert all(p.isfinite().all() for p in model.parameters())
    for leaf, before in zip(model.leaves, lost.leaves, strict=True):
        if not hasattr(leaf, "mix_logits"):  # a smoothed neuron's lost Gaussian still has its background
            assert torch.equal(leaf.mean[0], before.mean[0])


def test_em_stops_when_it_gains_too_little():
    x = rows()
    model = MAKERS["product"](0.01).initialise(x)
    history = em.fit(model, x, iterations=500, tolerance=1e-3)
    assert len(history) < 100
    assert history[-1] - history[-2] < 1e-3 <= history[-2] - history[-3]


def test_what_em_cannot_do_is_refused():
    with pytest.raises(TypeError, match=r"use gradient\.fit"):
        em.fit(torch.nn.Linear(2, 1), torch.zeros(3, 2))
    uniform = MODELS["smoothed, uniform"](2)
    with pytest.raises(ValueError, match="row 1 has density zero"):
        em.fit(uniform, torch.tensor([[0.0, 0.0], [5.0, 5.0]], **F64))
    with pytest.raises(ValueError, match="iterations >= 1"):
        em.fit(uniform, torch.zeros(3, 2, **F64), iterations=0)
