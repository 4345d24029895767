"""The study of densities: its contenders answer as their formulas say, and its protocol lets nothing leak."""

import json
import math

import pytest
import torch
from densities import F64, axis

from ugmm_tutorial.experiments.studies import densities
from ugmm_tutorial.experiments.studies.density_contenders import CONTENDERS, spflow_version

NAN = math.nan
SMALL = densities.SETTINGS | {
    "data": ["iris"],
    "folds": 2,
    "sizes": [1, 2, 64],
    "class_sizes": [1],
    "bandwidths": [0.3, 0.6],
    "class_bandwidths": [0.4],
    "iterations": 5,
}


def cloud(n=80):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(n, 2, generator=draw, **F64)
    x[:, 1] = 0.7 * x[:, 0].square() - 0.5 + 0.3 * x[:, 1]
    return x


@pytest.mark.parametrize("name", [n for n in CONTENDERS if not n.startswith("SPFlow")])
def test_a_contender_fills_in_the_mean_of_its_own_density(name):
    """Whatever it is: integral of x times p(known, x), over that of p(known, x)."""
    options = SMALL | {"depth": 1, "iterations": 20}
    model = CONTENDERS[name](cloud(), 0.4 if name == "kernels" else 3, 0, options)
    points, weights = axis()
    rows = torch.stack([torch.full_like(points, 0.8), points], dim=1)
    density = model.log_prob(rows).exp() * weights
    expected = (density @ points / density.sum()).item()
    filled = model.impute(torch.tensor([[0.8, NAN], [0.1, 0.2]], **F64))
    assert filled[0].tolist() == [0.8, pytest.approx(expected, abs=1e-4)]
    assert filled[1].tolist() == [0.1, 0.2]


def test_kernels_are_summed_exactly_in_many_dimensions():
    rows = torch.randn(200, 40, generator=torch.Generator().manual_seed(2), **F64)
    x = 1.5 * rows[:50] + 0.1
    found = CONTENDERS["kernels"](rows, 0.4, 0, SMALL).log_prob(x)
    squares = (x[:, None] - rows).square().sum(dim=-1)
    constant = math.log(200) + 40 * math.log(0.4 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(found, torch.logsumexp(-squares / (2 * 0.4**2), dim=1) - constant)


def test_spflow_is_a_density_with_the_same_floor():
    pytest.importorskip("spflow")
    rows = torch.cat([cloud(), torch.zeros(20, 2, **F64)])  # what repeats would draw a width to zero
    model = CONTENDERS["SPFlow, RAT-SPN"](rows, 4, 0, SMALL | {"depth": 1, "iterations": 30})
    again = CONTENDERS["SPFlow, RAT-SPN"](rows, 4, 0, SMALL | {"depth": 1, "iterations": 30})
    assert torch.equal(model.log_prob(rows), again.log_prob(rows))
    points, weights = axis()
    mesh = torch.cartesian_prod(points, points)
    assert (
        model.log_prob(mesh).exp() @ torch.cartesian_prod(weights, weights).prod(1)
    ).item() == pytest.approx(1.0, abs=1e-2)
    assert model.log_prob(rows).max() <= -2 * math.log(0.1 * math.sqrt(2 * math.pi)) + 1e-4


def test_the_study_reports_every_contender_and_says_who_was_not_there(monkeypatch):
    monkeypatch.setattr(densities, "spflow_version", lambda: None)
    names = ["smoothed uGMM", "product twin", "kernels", "SPFlow, RAT-SPN"]
    threads = torch.get_num_threads()
    try:
        found = densities.measure(SMALL | {"contenders": names}, progress=False)
    finally:
        torch.set_num_threads(threads)
    json.dumps(found, allow_nan=False)
    assert found["spflow"] is None
    iris = found["data"]["iris"]
    assert (iris["rows"], iris["features"], iris["classes"]) == (150, 4, 3)
    each = iris["contenders"]
    assert list(each) == names
    assert each["SPFlow, RAT-SPN"] is None
    for name in names[:3]:
        assert len(each[name]["log_likelihood"]["folds"]) == 2
        assert each[name]["accuracy"]["mean"] > 0.85
        # The mean of the training rows leaves about 1, and smoothed neurons not much less.
        assert 0.1 < each[name]["imputation_rmse"]["mean"] < (1.0 if name == "smoothed uGMM" else 0.8)
        assert 64 not in each[name]["sizes"]  # too few rows for so many
    ours, twin = each["smoothed uGMM"], each["product twin"]
    differences = [
        a - b for a, b in zip(ours["log_likelihood"]["folds"], twin["log_likelihood"]["folds"], strict=True)
    ]
    assert ours["against_twin"]["folds"] == pytest.approx(differences)
    assert twin["against_twin"]["mean"] == 0.0


def test_scales_come_from_the_training_rows_alone():
    x, y = densities._data("wine", 0)
    for train, _, test, _, _ in densities._folds(x, y, SMALL):
        assert train.mean(dim=0).abs().max() < 1e-12
        torch.testing.assert_close(train.std(dim=0, correction=0), torch.ones(13, **F64))
        assert test.mean(dim=0).abs().max() > 1e-3
        assert len(train) + len(test) == len(x)


def test_the_digits_are_dequantised_and_lose_their_constant_pixels():
    from sklearn.datasets import load_digits

    x, _ = densities._data("digits", 0)
    raw = torch.as_tensor(load_digits().data)
    changing = raw.amin(0) < raw.amax(0)
    assert x.shape == (1797, int(changing.sum())) == (1797, 61)
    assert torch.equal(x.floor(), raw[:, changing])
    assert len(x.unique()) == x.numel()


def test_a_likelihood_that_is_not_finite_is_never_the_best():
    scores = {1: -3.0, 2: NAN, 4: math.inf, 8: -2.0}
    assert densities._best(list(scores), scores.__getitem__) == 8


def test_class_scores_are_log_joints():
    rows, labels = cloud(), torch.tensor([0] * 20 + [1] * 60)

    def fit(own, size):
        return CONTENDERS["product twin"](own, size, 0, SMALL)

    scores = densities._class_scores(rows, labels, rows[:5], 1, fit)
    for c, prior in ((0, 0.25), (1, 0.75)):
        own = rows[labels == c]
        normal = torch.distributions.Normal(own.mean(0), own.std(0, correction=0))
        torch.testing.assert_close(scores[:, c], normal.log_prob(rows[:5]).sum(1) + math.log(prior))


def test_what_is_installed_is_named():
    assert spflow_version() is None or spflow_version()[0].isdigit()
