"""The study of chapter 12's second half, on scikit-learn's digits, against the networks it trains."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from ugmm_tutorial import data, experiments, train
from ugmm_tutorial.experiments.studies import uncertainty as study
from ugmm_tutorial.experiments.studies import uncertainty_networks as networks
from ugmm_tutorial.experiments.studies.uncertainty_summary import over_seeds, rounded
from ugmm_tutorial.training import records
from ugmm_tutorial.uncertainty import (
    accuracy,
    auroc,
    corrupt,
    ensemble,
    fit_temperature,
    logits,
    mc_dropout,
    negative_log_likelihood,
    ood_scores,
    outliers,
    probabilities,
)

SEEDS, EPOCHS = 2, 3
QUICK = {"options": {}, "epochs": EPOCHS, "seeds": SEEDS, "dropout": True}
SMALL = study.SETTINGS | {
    "families": {
        "ugmm": QUICK | {"experiment": "digits-ugmm", "options": {"norm": "after"}},
        "mlp": QUICK | {"experiment": "digits-mlp", "dropout": False},
    },
    "data": "digits",
    "severities": {"noise": [0.1, 0.2, 0.3], "occlusion": [1 / 7]},
    "outliers": 50,
    "passes": 3,
    "density": {"components": 3, "min_std": 0.1, "rows": 400},
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(autouse=True)
def _in_scratch(scratch, monkeypatch, one_thread):
    monkeypatch.setenv("UGMM_SCRATCH_DIR", str(scratch))


@pytest.fixture
def found(scratch):
    path = scratch / "found.json"
    if not path.exists():
        path.write_text(json.dumps(study.measure(SMALL, progress=False), allow_nan=False))
    return json.loads(path.read_text())


@pytest.fixture
def nets():
    splits = networks.load("digits")
    return {
        name: [networks.trained(family, splits, seed, False) for seed in range(SEEDS)]
        for name, family in SMALL["families"].items()
    }


def test_networks_are_those_of_the_catalogue_trained_as_it_says(nets):
    splits = data.digits().flatten()
    experiment = experiments.find("digits-mlp")
    torch.manual_seed(1)
    alone = experiment.build()
    train(alone, splits, replace(experiment.config, seed=1, epochs=EPOCHS), progress=False)
    torch.testing.assert_close(logits(alone, splits.test.x), logits(nets["mlp"][1], splits.test.x))
    assert type(nets["ugmm"][0][-1]).__name__ == "LayerNorm"


def test_checkpoints_are_kept_and_used_again(nets, scratch):
    kept = sorted(path.name for path in (scratch / "uncertainty").iterdir())
    assert len(kept) == 2 * SEEDS
    before = {path: path.stat().st_mtime_ns for path in (scratch / "uncertainty").iterdir()}
    splits = networks.load("digits")
    again = networks.trained(SMALL["families"]["ugmm"], splits, 0, False)
    assert torch.equal(logits(again, splits.test.x), logits(nets["ugmm"][0], splits.test.x))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_single_networks_are_judged_on_test_images_corrupted_and_not(found, nets):
    splits = data.digits()
    x, y = splits.test
    single = found["families"]["ugmm"]["single"]
    for seed, net in enumerate(nets["ugmm"]):
        said = probabilities(net, x.flatten(1))
        assert single["test"]["accuracy"]["seeds"][seed] == pytest.approx(accuracy(said, y), rel=1e-4)
        nll = negative_log_likelihood(said, y)
        assert single["test"]["nll"]["seeds"][seed] == pytest.approx(nll, rel=1e-4)
        temperature = fit_temperature(logits(net, splits.validation.x.flatten(1)), splits.validation.y)
        assert single["temperature"]["seeds"][seed] == pytest.approx(temperature, rel=1e-4)
        scaled = torch.softmax(logits(net, x.flatten(1)) / temperature, dim=1)
        nll = negative_log_likelihood(scaled, y)
        assert single["test_scaled"]["nll"]["seeds"][seed] == pytest.approx(nll, rel=1e-4)
    assert single["test_scaled"]["accuracy"] == single["test"]["accuracy"]
    mean, half = records.mean_and_interval(single["test"]["ece"]["seeds"])
    assert single["test"]["ece"]["mean"] == pytest.approx(mean, rel=1e-3)
    assert single["test"]["ece"]["half_width"] == pytest.approx(half, rel=1e-3)

    noise = single["corrupted"]["noise"]["nll"]
    assert len(noise) == 4
    assert noise[0]["mean"] == single["test"]["nll"]["mean"]
    shifted = corrupt(x, "noise", 2).flatten(1)
    expected = np.mean([negative_log_likelihood(probabilities(n, shifted), y) for n in nets["ugmm"]])
    assert noise[2]["mean"] == pytest.approx(expected, rel=1e-3)
    assert len(single["corrupted"]["occlusion"]["ece_scaled"]) == 2


def test_scores_are_judged_against_every_set_of_outliers_and_errors(found, nets):
    x, y = data.digits().flatten().test
    strange = outliers(data.digits().test.x[:50])
    single = found["families"]["ugmm"]["single"]
    # Digits are no outliers of themselves.
    assert set(single["auroc"]) == set(strange)
    for seed, net in enumerate(nets["ugmm"]):
        inside = ood_scores(net, x)
        outside = ood_scores(net, strange["shrunk"].flatten(1))
        for key in ("max softmax", "root maximum", "layer 1"):
            expected = auroc(inside[key], outside[key])
            assert single["auroc"]["shrunk"][key]["seeds"][seed] == pytest.approx(expected, rel=1e-3)
        usual = ood_scores(net, data.digits().flatten().validation.x)["layer 1"].mean()
        expected = auroc((inside["layer 1"] - usual).abs(), (outside["layer 1"] - usual).abs())
        either = single["auroc"]["shrunk"]["layer 1, to either side"]["seeds"][seed]
        assert either == pytest.approx(expected, rel=1e-3)
        wrong = logits(net, x).argmax(dim=1) != y
        expected = auroc(inside["entropy"][~wrong], inside["entropy"][wrong])
        assert single["errors"]["entropy"]["seeds"][seed] == pytest.approx(expected, rel=1e-3)
    assert {"class Gaussians", "root logsumexp"} <= set(single["errors"])
    assert not {"root maximum", "layer 1"} & set(found["families"]["mlp"]["single"]["errors"])


def test_the_ensemble_is_judged_by_the_mean_of_its_probabilities(found, nets):
    x, y = data.digits().flatten().test
    together = found["families"]["mlp"]["ensemble"]
    mean = ensemble(nets["mlp"], x).mean(dim=0)
    assert together["test"]["nll"] == pytest.approx(negative_log_likelihood(mean, y), rel=1e-4)
    assert together["test"]["accuracy"] == pytest.approx(accuracy(mean, y), rel=1e-4)
    strange = outliers(data.digits().test.x[:50])["permuted"].flatten(1)
    energy = [
        np.mean([ood_scores(n, z)["energy"].numpy() for n in nets["mlp"]], axis=0) for z in (x, strange)
    ]
    assert together["auroc"]["permuted"]["energy"] == pytest.approx(auroc(*energy), rel=1e-3)
    doubt = [1 - ensemble(nets["mlp"], z).mean(dim=0).amax(dim=1) for z in (x, strange)]
    assert together["auroc"]["permuted"]["max softmax"] == pytest.approx(auroc(*doubt), rel=1e-3)
    assert "mutual information" in together["errors"]


def test_mc_dropout_is_judged_where_it_is_asked_for(found, nets):
    x, y = data.digits().flatten().test
    thinned = found["families"]["ugmm"]["mc_dropout"]
    assert "mc_dropout" not in found["families"]["mlp"]
    for seed, net in enumerate(nets["ugmm"]):
        mean = mc_dropout(net, x, passes=3).mean(dim=0)
        nll = negative_log_likelihood(mean, y)
        assert thinned["test"]["nll"]["seeds"][seed] == pytest.approx(nll, rel=1e-4)
    # The images as they are, and the middle severity where there is one.
    assert len(thinned["corrupted"]["noise"]["nll"]) == 2
    assert set(thinned["auroc"]["inverted"]) == {"max softmax", "entropy", "mutual information"}


def test_diagrams_and_histograms_hold_every_example(found):
    family = found["families"]["ugmm"]
    assert set(family["reliability"]) == {"test", "noise 3"}
    for when in ("before", "after"):
        binned = family["reliability"]["test"][when]
        assert sum(binned["count"]) == SEEDS * 360
        right = np.dot(binned["count"], binned["accuracy"]) / sum(binned["count"])
        assert right == pytest.approx(family["single"]["test"]["accuracy"]["mean"], rel=1e-3)
    for spread in family["histograms"].values():
        assert len(spread["edges"]) == len(spread["share"]["test"]) + 1
        for share in spread["share"].values():
            assert sum(share) == pytest.approx(1.0, abs=1e-3)


def test_the_pixels_density_is_scikit_learns_mixture(found):
    splits = data.digits().flatten()
    mixture = GaussianMixture(3, covariance_type="diag", reg_covar=0.01, random_state=0)
    mixture.fit(splits.train.x[:400].double().numpy())
    strange = outliers(data.digits().test.x[:50])["shrunk"].flatten(1)
    inside, outside = (-mixture.score_samples(x.double().numpy()) for x in (splits.test.x, strange))
    shrunk = found["density"]["shrunk"]
    assert shrunk["pixel density"] == pytest.approx(auroc(inside, outside), rel=1e-3)
    usual = -mixture.score_samples(splits.validation.x.double().numpy()).mean()
    either = auroc(abs(inside - usual), abs(outside - usual))
    assert shrunk["pixel density, to either side"] == pytest.approx(either, rel=1e-3)


# --- over seeds -------------------------------------------------------------------------------------


def test_numbers_of_several_seeds_become_means_with_intervals():
    joined = over_seeds([{"a": 1.0, "b": [1.0, 2.0]}, {"a": 3.0, "b": [5.0, 2.0]}])
    assert joined["a"]["mean"] == 2.0
    assert joined["a"]["half_width"] == pytest.approx(12.706, rel=1e-4)  # t with one degree of freedom
    assert joined["a"]["seeds"] == [1.0, 3.0]
    assert [b["mean"] for b in joined["b"]] == [3.0, 2.0]
    assert over_seeds([{"a": 1.0}])["a"] == {"mean": 1.0, "half_width": None, "seeds": [1.0]}


def test_rounding_keeps_whole_numbers_and_so_many_digits():
    found = rounded({"a": np.array([1 / 3, 200.0 / 3]), "n": (12345, 1e-7 / 3)}, 3)
    assert found == {"a": [0.333, 66.7], "n": [12345, 3.33e-8]}
    assert math.isclose(rounded(2 / 3, 4), 0.6667)
