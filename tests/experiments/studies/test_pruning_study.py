"""The study of pruning, in small: what it measures, and that its MLP loses the weights it should."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from ugmm_tutorial import MLP, UGMMLayer, evaluate
from ugmm_tutorial.data import Examples
from ugmm_tutorial.experiments import artifacts, studies
from ugmm_tutorial.experiments.studies import pruning, pruning_measures

SMALL = pruning.SETTINGS | {
    "experiment": "digits-ugmm-layernorm",
    "baseline": "digits-mlp",
    "data": "digits",
    "epochs": 3,
    "seeds": [1],
    "fractions": [0.0, 0.5, 0.9],
    "random_orders": 2,
    "importance_images": 200,
    "health_images": 100,
    "by_example_images": 60,
    "map_images": 40,
    "by_example_fractions": [0.0, 0.9],
    "keeps": [[1.0, 1.0], [0.25, 0.5]],
    "scopes": {"all layers": None, "first layer": [0]},
    "fine_tuning": {"epochs": 1, "learning_rate": 1e-3},
    "images_at_once": 50,
    "seconds": 0.1,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UGMM_SCRATCH_DIR", str(folder))
        first = pruning.measure(SMALL, progress=False)
        again = pruning.measure(SMALL, progress=False)
    assert len(list((folder / "pruning").iterdir())) == 2
    return first, again


def without_times(results):
    for seed in results["pruned"]:
        for row in seed:
            row.pop("milliseconds", None)
            row.pop("dense_milliseconds", None)
    return results


def test_curves_of_all_orders_begin_at_the_accuracy_of_the_network(found):
    (curves,) = found[0]["deletion"]
    assert set(curves) == {"all layers", "first layer"}
    whole = curves["all layers"]["responsibility"][0]
    assert whole > 0.8
    for orders in curves.values():
        names = ("responsibility", "largest responsibility", "weight", "most responsible first")
        lists = [orders[name] for name in names] + orders["random"]
        assert [len(values) for values in lists] == [3] * 6
        assert all(values[0] == whole for values in lists)
    assert curves["all layers"]["random"][0] != curves["all layers"]["random"][1]
    # Half of the components gone: those that never answer cost less than those that answer most.
    orders = curves["first layer"]
    assert orders["responsibility"][1] > orders["most responsible first"][1] + 0.2


def test_by_example_and_layers_and_the_mlp_are_there(found):
    (by_example,), (layers,), (mlp,) = (found[0][name] for name in ("by_example", "layers", "mlp"))
    assert by_example["all layers"][0] == by_example["first layer"][0] > 0.8
    assert [(row["neurons"], row["components"]) for row in layers] == [(64, 64), (10, 64)]
    for row in layers:
        assert 1.0 <= row["effective_smallest"] <= row["effective"] <= row["effective_largest"]
        assert row["effective_largest"] <= row["components"]
        assert max(row["constant"], row["unread"]) <= row["dead"] <= row["neurons"]
    assert mlp["all layers"]["magnitude"][0] == mlp["first layer"]["random"][0][0] > 0.5
    assert mlp["all layers"]["magnitude"][1] > mlp["all layers"]["random"][0][2]


def test_maps_of_a_network_by_hand():
    """Two neurons that each read one pixel of their own: all distances are 1."""
    layer = UGMMLayer(3, 2)
    with torch.no_grad():
        layer.mean.zero_()
        layer.mix_logits.copy_(torch.tensor([[0.0, -40.0, -40.0], [-40.0, 0.0, -40.0]]))
    x = torch.tensor([[0.5, 0.0, 0.2], [0.0, 0.5, 0.3], [0.1, 0.0, 0.0], [0.0, 0.2, 0.4]])
    found = pruning_measures.map_distances(nn.Sequential(layer), Examples(x, torch.tensor([0, 1, 0, 1])))
    assert found == pytest.approx(
        {"ink": 7 / 12, "share_on_ink": 1.0, "pixels": 1.0, "between_classes": 1.0, "between_images": 0.0}
    )
    # One neuron that reads whichever pixel is at its mean: the same map for both classes, another an image.
    with torch.no_grad():
        layer.mix_logits.zero_()
        layer.mean.zero_()
    x = 9.0 * (1.0 - torch.eye(3))[[0, 0, 1]]
    found = pruning_measures.map_distances(nn.Sequential(layer), Examples(x, torch.tensor([0, 0, 1])))
    assert found == pytest.approx(
        {"ink": 2 / 3, "share_on_ink": 0.0, "pixels": 1.0, "between_classes": 0.0, "between_images": 1.0}
    )


def test_pruned_networks_have_fewer_parameters_and_times_of_their_own(found):
    (rows,) = found[0]["pruned"]
    whole, small = rows
    dense = 3 * (64 * 64 + 64 * 10) + 2 * 64
    assert whole["parameters"] == dense
    assert small["parameters"] < 3 * (64 * 16 + 10 * 32) + 2 * 64 + 1
    accuracy = found[0]["deletion"][0]["all layers"]["responsibility"][0]
    assert whole["accuracy"] == {"responsibility": accuracy, "weight": accuracy}
    assert all(0.0 <= row["tuned_accuracy"] <= 1.0 for row in rows)


def test_a_second_run_goes_on_from_the_checkpoints_and_finds_the_same(found):
    first, again = (json.loads(json.dumps(results)) for results in found)
    assert all(row["milliseconds"] > 0.0 < row["dense_milliseconds"] for row in first["pruned"][0])
    assert without_times(first) == without_times(again)


def test_the_mlp_loses_its_smallest_weights_in_the_layers_that_are_named():
    torch.manual_seed(0)
    model = MLP((6, 5, 4), norm="layer")
    cut = pruning_measures._without(model, 0.4, [1], torch_prune.l1_unstructured)
    first, last = (m for m in cut if isinstance(m, nn.Linear))
    assert first.weight.equal(model[0].weight)
    before = next(m for m in reversed(model) if isinstance(m, nn.Linear)).weight
    smallest = before.abs().flatten().argsort()[:8]
    assert set((last.weight == 0.0).flatten().nonzero().flatten().tolist()) == set(smallest.tolist())
    assert (before != 0.0).all()
    x = torch.rand(7, 6)
    assert not torch.equal(cut(x), model(x))


@pytest.mark.skipif(
    not (artifacts.folder("results") / "studies" / "pruning.json").exists(), reason="not measured yet"
)
def test_the_stored_outcome_is_consistent_with_itself():
    outcome = studies.read("pruning", artifacts.folder("results"))
    settings, results = outcome.settings, outcome.results
    assert {len(values) for values in results.values()} == {len(settings["seeds"])}
    for curves, rows in zip(results["deletion"], results["pruned"], strict=True):
        whole = {orders[name][0] for orders in curves.values() for name in ("responsibility", "weight")}
        assert len(whole) == 1
        assert rows[0]["accuracy"]["weight"] == pytest.approx(whole.pop(), abs=2e-4)
        place = settings["fractions"].index(0.9)
        first = curves["first layer"]
        assert first["responsibility"][place] > max(values[place] for values in first["random"])


def test_it_trains_what_the_catalogue_says(found, tmp_path, monkeypatch):
    from ugmm_tutorial import train
    from ugmm_tutorial.experiments import catalogue

    monkeypatch.setenv("UGMM_SCRATCH_DIR", str(tmp_path))
    experiment = catalogue.find("digits-mlp")
    data = experiment.load_data()
    model, seconds = pruning._trained("digits-mlp", 1, data, SMALL, False)
    epochs = torch.load(next(tmp_path.glob("pruning/digits-mlp-seed1-*")), weights_only=False)["metrics"]
    taken = sum(epoch["seconds"] for epoch in epochs)
    assert taken > 0.0
    assert seconds == round(taken, 1)
    torch.manual_seed(1)
    mine = experiment.build()
    train(mine, data, pruning.replace(experiment.config, seed=1, epochs=3, measure=()), progress=False)
    assert evaluate(model, data.test) == evaluate(mine, data.test)
