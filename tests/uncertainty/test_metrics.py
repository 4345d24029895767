"""Metrics of probabilities: by hand, against planted answers, and against scikit-learn's bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from ugmm_tutorial.uncertainty import (
    accuracy,
    auroc,
    brier_score,
    calibrated_ece,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)

METRICS = (accuracy, negative_log_likelihood, brier_score, expected_calibration_error, reliability)


def predictor(n: int, seed: int = 0, *, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 5) and labels drawn from their softmax: perfectly calibrated."""
    rng = np.random.default_rng(seed)
    z = spread * rng.standard_normal((n, 5))
    gumbel = rng.gumbel(size=z.shape)  # the largest of z + Gumbel noise is a draw from the softmax
    return z, (z + gumbel).argmax(axis=1)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# --- by hand ----------------------------------------------------------------------------------------

P = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]]
Y = [0, 1, 0, 2]


def test_metrics_of_four_examples_by_hand():
    assert accuracy(P, Y) == 0.5
    nll = -(math.log(0.7) + math.log(0.6) + math.log(0.3) + math.log(0.1)) / 4
    assert negative_log_likelihood(P, Y) == pytest.approx(nll)
    brier = (0.09 + 0.04 + 0.01) + (0.01 + 0.16 + 0.09) + (0.49 + 0.09 + 0.16) + (0.64 + 0.01 + 0.81)
    assert brier_score(P, Y) == pytest.approx(brier / 4)


def test_bins_of_equal_mass_by_hand():
    found = reliability(P, Y, bins=2)
    assert found.count.tolist() == [2, 2]
    np.testing.assert_allclose(found.confidence, [0.5, 0.75])
    np.testing.assert_allclose(found.accuracy, [0.5, 0.5])
    assert found.ece == pytest.approx(0.125)
    assert found.overconfidence == pytest.approx(0.125)
    assert expected_calibration_error(P, Y, bins=1) == pytest.approx(abs(0.625 - 0.5))
    assert expected_calibration_error(P, Y, bins=4) == pytest.approx((0.3 + 0.4 + 0.4 + 0.8) / 4)


def test_bins_differ_by_at_most_one_example_and_lose_none():
    z, y = predictor(103)
    count = reliability(softmax(z), y, bins=10).count
    assert sorted(set(count)) == [10, 11]
    assert count.sum() == 103


def test_the_order_of_equally_sure_examples_does_not_matter():
    p = np.tile([0.9, 0.1], (12, 1))
    y = np.array([0] * 6 + [1] * 6)
    for order in (np.arange(12), np.arange(12)[::-1], np.random.default_rng(0).permutation(12)):
        found = reliability(p[order], y[order], bins=4)
        np.testing.assert_allclose(found.accuracy, 0.5)
        assert found.ece == pytest.approx(0.4)


def test_bins_are_those_of_scikit_learn_where_no_confidence_is_met_twice():
    z, y = predictor(3000)
    p = softmax(z)
    found = reliability(p, y, bins=15)
    right = p.argmax(axis=1) == y
    theirs, mean = calibration_curve(right, p.max(axis=1), n_bins=15, strategy="quantile")
    np.testing.assert_allclose(found.accuracy, theirs)
    np.testing.assert_allclose(found.confidence, mean)


def test_a_probability_of_zero_at_the_label_costs_36_nats():
    assert negative_log_likelihood([[0.0, 1.0]], [0]) == pytest.approx(36.04, abs=0.01)


# --- planted ----------------------------------------------------------------------------------------


def test_a_perfectly_calibrated_predictor_has_an_ece_of_its_sampling_bias():
    eces, expected = [], []
    for seed in range(20):
        z, y = predictor(5000, seed)
        p = softmax(z)
        eces.append(expected_calibration_error(p, y))
        found = reliability(p, y)
        a = found.confidence  # its accuracy, as it is calibrated
        expected.append(np.mean(np.sqrt(2 * a * (1 - a) / (np.pi * found.count))))
    assert np.mean(eces) < 0.025
    assert np.mean(eces) == pytest.approx(np.mean(expected), rel=0.1)
    assert np.mean(eces) == pytest.approx(calibrated_ece(p).mean(), rel=0.1)


def test_the_bias_falls_with_the_root_of_the_number_of_examples():
    biases = [calibrated_ece(softmax(predictor(n)[0]), draws=100).mean() for n in (500, 8000)]
    assert biases[0] / biases[1] == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("gap", [0.15, -0.1])
def test_a_planted_miscalibration_is_found_with_its_size_and_sign(gap):
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.65, 0.85, 40000)
    p = np.stack([confidence, 1 - confidence], axis=1)
    y = (rng.random(40000) >= confidence - gap).astype(int)
    found = reliability(p, y)
    assert found.ece == pytest.approx(abs(gap), abs=0.01)
    assert found.overconfidence == pytest.approx(gap, abs=0.01)
    assert found.ece > np.quantile(calibrated_ece(p), 0.99)


def test_gaps_of_both_signs_do_not_cancel_in_the_ece():
    rng = np.random.default_rng(2)
    confidence = np.repeat([0.6, 0.9], 20000)
    right = rng.random(40000) < np.repeat([0.8, 0.7], 20000)
    p = np.stack([confidence, 1 - confidence], axis=1)
    found = reliability(p, (~right).astype(int), bins=10)
    assert found.ece == pytest.approx(0.2, abs=0.01)
    assert found.overconfidence == pytest.approx(0.0, abs=0.01)


# --- temperature ------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-300, 1e-30, 1e30, 1e300])
def test_a_temperature_grows_with_the_logits(unit):
    z = np.random.default_rng(0).normal(size=(60, 3))
    y = np.where(np.arange(60) % 3 == 0, z.argmin(axis=1), z.argmax(axis=1))
    assert fit_temperature(z * unit, y) == pytest.approx(unit * fit_temperature(z, y), rel=1e-6)


@pytest.mark.filterwarnings("error")
def test_differences_beyond_the_largest_float_do_not_overflow():
    """Nine right answers of ten are most likely where the logits differ by log 9."""
    z = np.array([[1e308, -1e308]] * 10)
    z[0] *= -1.0
    found = fit_temperature(z, np.zeros(10, dtype=int))
    assert found == pytest.approx(1e308 / (0.5 * math.log(9.0)), rel=1e-9)


def test_a_temperature_beyond_the_largest_float_is_refused():
    """The best one of these logits is their unit times a number above one."""
    z, y = np.array([[1.0, 0.9], [0.9, 1.0], [1.0, 0.9]]), np.array([0, 1, 1])
    times = fit_temperature(z, y)
    assert fit_temperature(1e307 / times * z, y) == pytest.approx(1e307, rel=1e-6)
    z = np.array([[1.0, 0.0]] * 100)
    y = np.arange(100) % 2 * (np.arange(100) < 98)
    times = fit_temperature(z, y)
    assert times > 20.0
    with pytest.raises(ValueError, match="whose best temperature is a number"):
        fit_temperature(1e308 * z, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_metrics_take_tensors_with_gradients_and_in_half_precision(dtype):
    z = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=dtype, requires_grad=True)
    y = torch.tensor([0, 1, 1])
    plain = z.detach().double()
    assert fit_temperature(z, y) == fit_temperature(plain, y)
    p = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=dtype, requires_grad=True)
    assert accuracy(p, y[:2]) == accuracy(p.detach().double(), y[:2])
    assert auroc(p[:, 0], p[:, 1]) == auroc(p[:, 0].detach().double(), p[:, 1].detach().double())
    assert p.untyped_storage().resizable()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found_and_repairs_the_calibration(temperature):
    z, y = predictor(40000)
    reported = z * temperature
    found = fit_temperature(reported, y)
    assert found == pytest.approx(temperature, rel=0.03)
    after = softmax(reported / found)
    assert accuracy(after, y) == accuracy(softmax(reported), y)
    assert expected_calibration_error(after, y) < np.quantile(calibrated_ece(after), 0.99)
    if temperature != 1.0:
        assert expected_calibration_error(softmax(reported), y) > 0.05


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_no_other_temperature_is_more_likely(scale):
    z, y = predictor(300, spread=1.5)
    z = scale * z
    best = fit_temperature(torch.from_numpy(z), torch.from_numpy(y))

    def nll(temperature):
        logits = torch.from_numpy(z) / temperature
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).item()

    assert nll(best) <= min(nll(best * factor) for factor in (0.5, 0.99, 1.01, 2.0))
    # A constant on all logits of an example changes no probability, and no temperature.
    assert fit_temperature(z + scale * np.arange(300)[:, None], y) == pytest.approx(best, rel=1e-6)


def test_data_without_a_best_temperature_is_refused():
    with pytest.raises(ValueError, match="some wrong answers"):
        fit_temperature([[2.0, 0.0], [0.0, 1.0]], [0, 1])
    with pytest.raises(ValueError, match="better than chance"):
        fit_temperature([[2.0, 0.0], [0.0, 1.0]], [1, 0])
    for logits, labels in (([1.0, 2.0], [0]), ([[1.0, math.nan]], [0]), ([[1.0, 2.0]], [0, 1])):
        with pytest.raises(ValueError, match="expected finite logits"):
            fit_temperature(logits, labels)
    for labels in ([2, 0], [-1, 0], [0.0, 1.0]):
        with pytest.raises(ValueError, match="integers from 0 to 1"):
            fit_temperature([[1.0, 2.0], [2.0, 1.0]], labels)


# --- AUROC ------------------------------------------------------------------------------------------


def test_auroc_is_the_share_of_pairs_with_the_stranger_outside():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 6, 40), rng.integers(2, 9, 30)
    pairs = (outside[:, None] > inside).mean() + 0.5 * (outside[:, None] == inside).mean()
    assert auroc(inside, outside) == pytest.approx(pairs)
    assert auroc(outside, inside) == pytest.approx(1 - pairs)
    assert auroc([0.0, 1.0], [2.0]) == 1.0
    assert auroc([1.0], [1.0]) == 0.5
    assert auroc([-math.inf, 0.0], [math.inf]) == 1.0


def test_auroc_of_two_gaussians_is_known():
    rng = np.random.default_rng(0)
    expected = 0.5 * (1 + math.erf(1.2 / 2))  # Phi(1.2 / sqrt(2))
    assert auroc(rng.normal(size=50000), rng.normal(1.2, size=50000)) == pytest.approx(expected, abs=0.005)


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "match"),
    [
        ([0.5, 0.5], [0, 1], ValueError, r"\(N, C\) with N >= 1 and C >= 2, got \(2,\)"),
        (np.zeros((0, 2)), [], ValueError, "N >= 1"),
        ([[1.0]], [0], ValueError, "C >= 2"),
        ([[2.0, -1.0]], [0], ValueError, "softmax of logits"),
        ([[0.9, 0.2]], [0], ValueError, "sum to one"),
        ([[math.nan, 1.0]], [0], ValueError, "sum to one"),
        ([[0.5, 0.5]], [0.0], TypeError, "labels to be integers"),
        ([[0.5, 0.5]], [[0]], ValueError, "one label for each of the 1 rows"),
        ([[0.5, 0.5]], [2], ValueError, "labels from 0 to 1, got 2 to 2"),
        ([[0.5, 0.5]], [-1], ValueError, "labels from 0 to 1"),
    ],
)
def test_what_is_no_probability_or_label_is_refused(metric, probabilities, labels, error, match):
    with pytest.raises(error, match=match):
        metric(probabilities, labels)


def test_bins_draws_and_scores_that_cannot_be_are_refused():
    for bins in (0, 5):
        with pytest.raises(ValueError, match=f"1 to 4 bins for as many examples, got {bins}"):
            reliability(P, Y, bins=bins)
    with pytest.raises(ValueError, match="draws >= 1, got 0"):
        calibrated_ece(P, bins=2, draws=0)
    for inside, outside in (([], [1.0]), ([1.0], [[1.0]]), ([math.nan], [1.0])):
        with pytest.raises(ValueError, match="to be scores"):
            auroc(inside, outside)


def test_float32_probabilities_are_taken_as_they_are_meant():
    z, y = predictor(500)
    single = torch.softmax(torch.from_numpy(z).float(), dim=1)
    assert negative_log_likelihood(single, torch.from_numpy(y)) == pytest.approx(
        negative_log_likelihood(softmax(z), y), rel=1e-5
    )
