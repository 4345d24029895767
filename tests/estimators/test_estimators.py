"""The estimators: what they promise beyond scikit-learn's checks."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ugmm_tutorial.estimators import UGMMClassifier, UGMMDensity, UGMMRegressor
from ugmm_tutorial.estimators.network import MixtureHead
from ugmm_tutorial.estimators.scaling import RobustScale

QUICK = {"hidden_layer_sizes": (32,), "max_iter": 30, "random_state": 0}


@pytest.fixture(scope="module")
def wine():
    x, y = load_wine(return_X_y=True)
    return train_test_split(x, y, test_size=0.4, random_state=0, stratify=y)


@pytest.fixture(scope="module")
def fitted(wine):
    x, _, y, _ = wine
    return UGMMClassifier(**QUICK).fit(x, y)


# --- classifier -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"mixtures": "all"}, {"norm": "batch"}, {"hidden_layer_sizes": (32, 16, 8)}], ids=str
)
def test_it_learns(options, wine):
    x, test_x, y, test_y = wine
    model = UGMMClassifier(**QUICK | options).fit(x, y)
    assert model.score(test_x, test_y) > 0.85


def test_global_random_states_are_left_alone(wine):
    x, _, y, _ = wine
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    UGMMClassifier(**QUICK).fit(x, y).predict(x)
    UGMMDensity(2, random_state=0).fit(x).sample(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_the_random_state_decides(wine, fitted):
    x, _, y, _ = wine
    torch.manual_seed(7)
    same = UGMMClassifier(**QUICK).fit(x, y)
    other = UGMMClassifier(**QUICK | {"random_state": 1}).fit(x, y)
    assert (same.predict_log_proba(x) == fitted.predict_log_proba(x)).all()
    assert (other.predict_log_proba(x) != fitted.predict_log_proba(x)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_of_either_precision_and_far_outside_are_taken(dtype, wine, fitted):
    _, test_x, _, _ = wine
    rows = test_x.astype(dtype)
    np.testing.assert_allclose(fitted.predict_proba(rows), fitted.predict_proba(test_x), rtol=1e-2, atol=1e-2)
    rows[:, 0] = 1e30
    proba = fitted.predict_log_proba(rows)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(np.exp(proba).sum(axis=1), 1.0, rtol=1e-6)


def test_labels_may_be_strings(wine):
    x, test_x, y, test_y = wine
    names = np.array(["red", "rosé", "white"])
    model = UGMMClassifier(**QUICK).fit(x, names[y])
    assert model.classes_.tolist() == ["red", "rosé", "white"]
    assert (model.predict(test_x) == names[test_y]).mean() > 0.85


def test_weight_two_is_two_copies(wine):
    x, test_x, y, _ = wine
    weight = np.arange(len(x)) % 3
    options = QUICK | {"batch_size": 1000}
    weighted = UGMMClassifier(**options).fit(x, y, sample_weight=weight)
    copies = UGMMClassifier(**options).fit(x.repeat(weight, axis=0), y.repeat(weight))
    np.testing.assert_allclose(
        weighted.predict_log_proba(test_x), copies.predict_log_proba(test_x), rtol=1e-6, atol=1e-6
    )


def test_class_weights_move_answers(wine):
    x, test_x, y, test_y = wine
    weights = {0: 1.0, 1: 1e4, 2: 1.0}
    options = QUICK | {"max_iter": 3}
    assert (UGMMClassifier(**options, class_weight=weights).fit(x, y).predict(test_x) == 1).mean() > np.mean(
        test_y == 1
    )
    balanced = UGMMClassifier(**QUICK, class_weight="balanced").fit(x, y)
    assert balanced.score(test_x, test_y) > 0.85


def test_early_stopping_holds_out_rows_and_keeps_the_best(wine):
    x, _, y, _ = wine
    options = QUICK | {"max_iter": 200}
    model = UGMMClassifier(**options, early_stopping=True, validation_fraction=0.25, n_iter_no_change=5).fit(
        x, y
    )
    assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_scores_) < 200
    assert max(model.validation_scores_) > 0.8
    assert UGMMClassifier(**QUICK).fit(x, y).validation_scores_ is None


def test_warm_start_goes_on_and_fit_starts_anew_otherwise(wine):
    x, _, y, _ = wine
    model = UGMMClassifier(**QUICK, warm_start=True).fit(x, y)
    network, first = model.network_, model.loss_curve_[-1]
    model.fit(x, y)
    assert model.network_ is network
    assert model.n_iter_ == 60
    assert model.loss_curve_[-1] < first
    model.set_params(warm_start=False).fit(x, y)
    assert model.network_ is not network
    assert model.n_iter_ == 30


def test_parts_are_learnt_one_after_the_other(wine):
    x, test_x, y, test_y = wine
    model = UGMMClassifier(**QUICK)
    for _ in range(30):
        for part in np.array_split(np.arange(len(x)), 3):
            model.partial_fit(x[part], y[part], classes=[0, 1, 2])
    assert model.score(test_x, test_y) > 0.85
    with pytest.raises(ValueError, match=r"labels among \[0, 1, 2\], got \[7\]"):
        model.partial_fit(x[:2], [0, 7])
    with pytest.raises(ValueError, match="expected classes, all labels"):
        UGMMClassifier(**QUICK).partial_fit(x, y)


def test_broken_features_cost_less_than_they_cost_an_mlp(wine):
    """The reason for all this, on an easy table: three features of thirteen broken by ten deviations."""
    from sklearn.neural_network import MLPClassifier

    x, test_x, y, test_y = wine
    draw = np.random.default_rng(0)
    broken = draw.random(test_x.shape) < 0.25
    spoilt = np.where(
        broken, x.mean(axis=0) + 10 * x.std(axis=0) * draw.standard_normal(test_x.shape), test_x
    )
    ours = UGMMClassifier(random_state=0).fit(x, y)
    mlp = make_pipeline(StandardScaler(), MLPClassifier((128, 64), random_state=0, max_iter=500)).fit(x, y)
    assert ours.score(spoilt, test_y) > mlp.score(spoilt, test_y) + 0.05


def test_missing_features_are_left_out_where_that_is_allowed(wine):
    x, test_x, y, test_y = wine
    model = UGMMClassifier(**QUICK | {"allow_nan": True, "input_dropout": 0.3}).fit(x, y)
    draw = np.random.default_rng(0)
    gaps = np.where(draw.random(test_x.shape) < 0.4, np.nan, test_x)
    assert model.score(gaps, test_y) > 0.75
    learnt = np.where(draw.random(x.shape) < 0.2, np.nan, x)
    assert UGMMClassifier(**QUICK | {"allow_nan": True}).fit(learnt, y).score(test_x, test_y) > 0.8
    with pytest.raises(ValueError, match="NaN"):
        UGMMClassifier(**QUICK).fit(x, y).predict(gaps)


def test_certificates_hold_in_the_features_own_units(wine):
    x, test_x, y, test_y = wine
    model = UGMMClassifier(**QUICK | {"norm": "batch", "input_dropout": 0.3, "min_std": 0.5}).fit(x, y)
    low, high = x.min(axis=0), x.max(axis=0)
    found = model.certify(test_x, test_y, changed=1, box=(low, high))
    assert found.certified.any()
    draw = np.random.default_rng(0)
    for _ in range(200):
        tried = test_x.copy()
        which = draw.integers(0, x.shape[1], len(tried))
        tried[np.arange(len(tried)), which] = draw.uniform(low[which], high[which])
        assert (model.predict(tried) == test_y)[found.certified.numpy()].all()
    line = model.certify(test_x, changed=1)
    assert line.right.all()


def test_pipelines_searches_and_clones_work(wine):
    x, _, y, _ = wine
    search = GridSearchCV(
        make_pipeline(StandardScaler(), UGMMClassifier(**QUICK)),
        {"ugmmclassifier__input_dropout": [0.1, 0.5]},
        cv=2,
    )
    assert search.fit(x, y).best_score_ > 0.7
    assert cross_val_score(UGMMClassifier(**QUICK), x, y, cv=2).min() > 0.7
    assert clone(UGMMClassifier(input_dropout=0.7)).input_dropout == 0.7


def test_pickles_predict_the_same_in_another_process(wine, fitted, tmp_path):
    _, test_x, _, _ = wine
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(fitted))
    np.save(tmp_path / "x.npy", test_x)
    script = (
        "import pickle, sys, numpy as np; folder = sys.argv[1];"
        "model = pickle.load(open(folder + '/model.pickle', 'rb'));"
        "print(model.predict(np.load(folder + '/x.npy')).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(fitted.predict(test_x).tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes to be positive integers, got"),
        ({"mixtures": "last"}, "unknown mixtures 'last': expected one of first, all"),
        ({"norm": "none"}, "unknown norm 'none': expected one of layer, batch"),
        ({"max_iter": 0}, "max_iter >= 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"early_stopping": True, "validation_fraction": 1.0}, "validation_fraction > 0 and < 1"),
        ({"input_dropout": 1.5}, "input_dropout between 0 and 1, got 1.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message, wine):
    x, _, y, _ = wine
    with pytest.raises(ValueError, match=message):
        UGMMClassifier(**QUICK | options).fit(x, y)


def test_a_count_that_is_no_integer_is_refused(wine):
    x, _, y, _ = wine
    with pytest.raises(TypeError, match=r"expected batch_size to be an integer, got 2\.5"):
        UGMMClassifier(**QUICK | {"batch_size": 2.5}).fit(x, y)


def test_weights_of_zero_everywhere_are_refused(wine):
    x, _, y, _ = wine
    with pytest.raises(ValueError, match=r"sample_weight above 0 for at least one row|at least one non-zero"):
        UGMMClassifier(**QUICK).fit(x, y, sample_weight=np.zeros(len(x)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_models_trained_on_a_gpu_are_loaded_without_one(wine):
    x, test_x, y, test_y = wine
    model = UGMMClassifier(**QUICK, device="cuda").fit(x, y)
    assert next(model.network_.parameters()).is_cuda
    loaded = pickle.loads(pickle.dumps(model))
    assert not next(loaded.network_.parameters()).is_cuda
    assert loaded.score(test_x, test_y) > 0.85


# --- regressor ------------------------------------------------------------------------------------------


def test_a_regression_beats_the_mean_and_its_density_integrates_to_one():
    x, y = load_diabetes(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x, y, test_size=0.3, random_state=0)
    model = UGMMRegressor(**QUICK).fit(x, y)
    assert model.score(test_x, test_y) > 0.25
    grid = np.linspace(-2000, 2500, 20001)
    density = np.exp(model.log_density(test_x[:1].repeat(len(grid), axis=0), grid))
    assert trapezoid(density, grid) == pytest.approx(1.0, abs=1e-3)
    mean = trapezoid(density * grid, grid)
    assert mean == pytest.approx(model.predict(test_x[:1])[0], rel=1e-3)


def test_wrong_targets_do_little_harm():
    draw = np.random.default_rng(0)
    x = draw.uniform(-2, 2, (600, 3))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.05 * draw.standard_normal(600)
    spoilt = np.where(draw.random(600) < 0.1, 100.0, y)
    truth = np.sin(x[:, 0]) + 0.5 * x[:, 1]
    model = UGMMRegressor(random_state=0).fit(x, spoilt)
    share = np.abs(model.target_scale_.center[0])
    assert share < 1.0
    best = UGMMRegressor(random_state=0).fit(x, y)
    assert np.median(np.abs(model.predict(x) - truth)) < 15.0
    assert np.median(np.abs(best.predict(x) - truth)) < 0.2


# --- density --------------------------------------------------------------------------------------------


def test_the_diagonal_density_is_scikit_learns_mixture_where_both_are_good():
    x = load_iris().data
    ours = UGMMDensity(3, kind="diagonal", min_std=1e-3, tol=1e-7, max_iter=500, random_state=0).fit(x)
    theirs = GaussianMixture(3, covariance_type="diag", n_init=5, tol=1e-7, max_iter=500, random_state=0).fit(
        x
    )
    assert ours.score(x) == pytest.approx(theirs.score(x), abs=0.15)
    assert ours.bic(x) == pytest.approx(
        -2 * ours.score_samples(x).sum() + (3 * 8 + 2) * np.log(len(x)), rel=1e-9
    )


@pytest.mark.parametrize("kind", ["smoothed", "diagonal"])
def test_a_density_of_one_feature_integrates_to_one_in_its_units(kind):
    x = load_breast_cancer().data[:, :1]
    density = UGMMDensity(3, kind=kind, random_state=0).fit(x)
    grid = np.linspace(-40, 80, 20001)
    assert trapezoid(np.exp(density.score_samples(grid[:, None])), grid) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kind", ["smoothed", "diagonal"])
def test_samples_have_the_moments_of_the_data_and_depend_on_the_seed(kind):
    x = load_iris().data
    density = UGMMDensity(4, kind=kind, random_state=0).fit(x)
    draws = density.sample(4000, random_state=1)
    np.testing.assert_allclose(draws.mean(axis=0), x.mean(axis=0), atol=0.25)
    assert (density.sample(5, random_state=1) == draws[:5]).all() or len(draws) == 4000
    assert (density.sample(5, random_state=2) == density.sample(5, random_state=2)).all()
    assert (density.sample(5, random_state=2) != density.sample(5, random_state=3)).any()


def test_missing_values_are_marginalised():
    x = load_iris().data
    density = UGMMDensity(3, allow_nan=True, random_state=0).fit(x)
    gaps = np.where(np.random.default_rng(0).random(x.shape) < 0.3, np.nan, x)
    grid = np.linspace(0, 12, 4001)
    rows = np.full((len(grid), 4), np.nan)
    rows[:, 0] = grid
    assert trapezoid(np.exp(density.score_samples(rows)), grid) == pytest.approx(1.0, abs=1e-3)
    assert UGMMDensity(3, allow_nan=True, random_state=0).fit(gaps).score(gaps) > -3.0
    assert (density.score_samples(np.full((2, 4), np.nan)) == 0.0).all()


def test_log_likelihoods_rise_and_end_at_the_score():
    x = load_iris().data
    density = UGMMDensity(3, random_state=0, tol=1e-6).fit(x)
    assert (np.diff(density.log_likelihoods_) > -1e-9).all()
    assert density.log_likelihoods_[-1] == pytest.approx(density.score(x), abs=1e-6)
    assert density.n_iter_ == len(density.log_likelihoods_) - 1


def test_more_components_than_rows_are_refused():
    with pytest.raises(ValueError, match="at least n_components=8 rows, got n_samples=5"):
        UGMMDensity().fit(load_iris().data[:5])
    with pytest.raises(ValueError, match="unknown kind 'circuit': expected one of smoothed, diagonal"):
        UGMMDensity(kind="circuit").fit(load_iris().data)


# --- scaling --------------------------------------------------------------------------------------------


def test_scaling_is_not_moved_by_outliers():
    draw = np.random.default_rng(0)
    x = draw.normal(5.0, 2.0, (2000, 1))
    spoilt = x.copy()
    spoilt[:200] = 1e6
    plain, with_outliers = RobustScale(x), RobustScale(spoilt)
    assert plain.center[0] == pytest.approx(5.0, abs=0.2)
    assert plain.scale[0] == pytest.approx(2.0, rel=0.1)
    assert with_outliers.center[0] == pytest.approx(5.0, abs=0.5)
    assert with_outliers.scale[0] == pytest.approx(2.0, rel=0.4)


@pytest.mark.parametrize(
    ("column", "center", "scale"),
    [
        ([3.0] * 9, 3.0, 1.0),
        ([0.0] * 8 + [4.0, 4.0], 0.0, 4.0),
        ([np.nan] * 5, 0.0, 1.0),
        ([np.nan, 7.0, 7.0], 7.0, 1.0),
    ],
    ids=["constant", "mostly zero", "missing", "some missing"],
)
def test_columns_without_quartiles_have_a_scale(column, center, scale):
    found = RobustScale(np.array(column)[:, None])
    assert (found.center[0], found.scale[0]) == (center, scale)


def test_scaled_and_back_is_the_same():
    x = load_wine().data
    scale = RobustScale(x)
    np.testing.assert_allclose(scale.back(scale(x)), x, rtol=1e-12)


def test_the_most_probable_target_lets_go_of_broken_ones():
    """A fifth of the targets is six too large: the expected y follows them, the most probable does not."""
    draw = np.random.default_rng(0)
    x = draw.uniform(-3.0, 3.0, (600, 1))
    y = np.sin(x[:, 0]) + 0.1 * draw.standard_normal(600)
    y[draw.random(600) < 0.2] += 6.0
    line = np.linspace(-3.0, 3.0, 100)[:, None]
    errors = {}
    for estimate in ("mean", "mode"):
        model = UGMMRegressor(estimate=estimate, max_iter=50, random_state=0).fit(x, y)
        errors[estimate] = np.abs(model.predict(line) - np.sin(line[:, 0])).mean()
    assert errors["mode"] < 0.15
    assert errors["mean"] > 0.8


def test_the_most_probable_target_is_that_of_the_density():
    head = MixtureHead(4).double()
    with torch.no_grad():
        head.mix_logits.copy_(torch.tensor([0.0, 3.0, 1.0, -2.0]))
    z = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3.0
    density = torch.stack([head(z, z[:, m]) for m in range(4)], dim=1)
    assert head.mode(z).equal(z[torch.arange(50), density.argmax(dim=1)])


def test_an_unknown_estimate_is_refused():
    with pytest.raises(ValueError, match="unknown estimate 'median': expected one of mean, mode"):
        UGMMRegressor(estimate="median").fit(np.zeros((9, 1)), np.arange(9.0))
