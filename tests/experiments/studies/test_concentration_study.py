"""The study of concentration, in small: fresh and trained networks, heads over their features."""

from __future__ import annotations

import json

import pytest
import torch

from ugmm_tutorial import ConvNet, interpretation
from ugmm_tutorial.experiments import artifacts, studies
from ugmm_tutorial.experiments.catalogue import EXPERIMENTS
from ugmm_tutorial.experiments.studies import concentration
from ugmm_tutorial.training import records

STORED = artifacts.folder("results") / "studies" / "concentration.json"
SMALL = concentration.SETTINGS | {
    "networks": {"digits-ugmm": [1]},
    "baselines": {"digits-mlp": [1]},
    "epochs": 12,
    "fractions": [0.0, 0.5, 0.9],
    "random_orders": 2,
    "importance_images": 300,
    "health_images": 200,
    "map_images": 40,
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UGMM_SCRATCH_DIR", str(folder))
        first = concentration.measure(SMALL, progress=False)
        made = {path.parent.name: records.read(path) for path in folder.rglob("*.json")}
        again = concentration.measure(SMALL, progress=False)
    assert json.dumps(first) == json.dumps(again), "goes on from what it trained"
    return first, made


def test_a_network_is_looked_at_before_and_after_its_training(found):
    results, made = found
    (network,) = results["networks"]["digits-ugmm"]
    assert network["seed"] == 1
    assert network["accuracy"] == made["digits-ugmm"].final["test_accuracy"] > 0.9
    torch.manual_seed(1)
    fresh = EXPERIMENTS["digits-ugmm"].build()
    x = EXPERIMENTS["digits-ugmm"].load_data().train.x[:200]
    effective = [layer.effective.mean().item() for layer in interpretation.statistics(fresh, x)]
    assert [layer["effective"] for layer in network["before"]] == pytest.approx(effective)
    for before, after in zip(network["before"], network["after"], strict=True):
        assert after["effective"] < before["effective"] <= before["components"] == after["components"]


def test_curves_begin_at_the_accuracy_of_the_network(found):
    results, made = found
    (network,), (baseline,) = results["networks"]["digits-ugmm"], results["baselines"]["digits-mlp"]
    orders = network["deletion"]["all layers"]
    assert orders["responsibility"][0] == orders["random"][1][0] == network["accuracy"]
    assert orders["largest responsibility"][1] > orders["random"][0][1]
    assert baseline["deletion"]["all layers"]["magnitude"][0] == made["digits-mlp"].final["test_accuracy"]
    assert 0.0 < network["maps"]["between_classes"] < 1.0


def test_the_head_of_a_convnet_is_looked_at_over_its_features():
    torch.manual_seed(0)
    network = ConvNet(head="ugmm", init="unit", channels=(2, 3)).eval()
    images = torch.rand(7, 1, 28, 28)
    head, features = concentration._head(network, images)
    assert features.shape == (7, 48)
    expected = interpretation.responsibilities(network, images)
    for mine, theirs in zip(interpretation.responsibilities(head, features), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert concentration._head(head, features) == (head, features)


@pytest.mark.skipif(not STORED.exists(), reason="not measured yet")
def test_the_stored_outcome_agrees_with_the_records_of_its_runs():
    outcome = studies.read("concentration", artifacts.folder("results"))
    runs = {**outcome.results["networks"], **outcome.results["baselines"]}
    assert set(runs) == {*outcome.settings["networks"], *outcome.settings["baselines"]}
    for name, made in runs.items():
        record = {r.config["seed"]: r for r in records.read_all(artifacts.folder("results"), name)}
        for run in made:
            curves = run["deletion"]["all layers"]
            whole = curves.get("magnitude", curves.get("weight"))[0]
            assert whole == pytest.approx(record[run["seed"]].final["test_accuracy"], abs=2e-4)
