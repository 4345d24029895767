"""The study of reliance: what its networks become, what it compares, and the whole study in small."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ugmm_tutorial import MLP, UGMMNet, evaluate, interpretation
from ugmm_tutorial.data import Examples
from ugmm_tutorial.experiments.studies import (
    reliance,
    reliance_deletion,
    reliance_summary,
    units,
)

SMALL = reliance.SETTINGS | {
    "networks": {"mixtures": "digits-ugmm-layernorm", "mlp": "digits-mlp"},
    "data": "digits",
    "epochs": 3,
    "seeds": [0, 1],
    "dependence_images": 200,
    "fractions": [0.0, 0.5, 0.9],
    "random_orders": 2,
    "attribution_images": 40,
    "steps": 4,
    "pixels": [5, 20, 64],
    "keeps": [0.5, 0.1],
    "fine_tuning": {"epochs": 1, "learning_rate": 1e-3},
    "images_at_once": 50,
    "timing_seconds": 0.1,
}


def test_an_mlp_with_few_connections_keeps_only_these_when_it_is_trained():
    torch.manual_seed(0)
    network, inputs, order = MLP((5, 3, 4)), torch.rand(7, 5), torch.rand(3, 5)
    small = reliance._with_few(network, order, 0.4, inputs.mean(dim=0))
    kept = reliance_deletion.kept_connections(order, 0.4)
    optimizer = torch.optim.Adam(small.parameters(), lr=0.1)
    before = network[0].weight.clone()
    for _ in range(3):
        optimizer.zero_grad()
        small(inputs).square().sum().backward()
        optimizer.step()
    small(inputs)
    assert torch.equal(small[0].weight != 0.0, kept)
    assert not torch.allclose(small[0].weight[kept], before[kept])
    assert torch.equal(network[0].weight, before)


def test_pruned_mixtures_are_those_of_the_package():
    torch.manual_seed(0)
    network, inputs, order = UGMMNet((5, 3, 4), norm="after"), torch.rand(7, 5), torch.rand(3, 5)
    small = reliance._with_few(network, order, 0.4, inputs.mean(dim=0))
    assert torch.equal(small[0].index, interpretation.prune(network[0], 0.4, [order])[0].index)
    assert small[2].components == 3
    examples = Examples(inputs, torch.arange(7) % 4)
    assert evaluate(reliance._with_few(network, order, 1.0, inputs[0]), examples) == pytest.approx(
        evaluate(network, examples), rel=1e-5
    )


def entry(shift):
    """An entry of a seed in which all numbers of a kind are equal."""
    scores = ("gradient", "integrated gradients", "distance", "back-projection")
    names = (*scores, "back-projection times distance")
    of_kind = {
        kind: {
            "accuracy": 0.98,
            "dependence": {"effective": value, "responsibility": 400.0, "ninety": value},
            "deletion": {name: 3 * [0.9] for name in ("variance", "weight", "responsibility")},
            "attribution": {name: {"fall": 3 * [n + shift]} for n, name in enumerate(names)},
            "pruned": {"after": [0.9, 0.8 + 0.1 * shift]},
        }
        for kind, value in (("mixtures", 100.0 * (1 + shift)), ("mlp", 200.0))
    }
    return of_kind | {"milliseconds": {"mixtures": 20.0, "mlp": 2.0, "pruned": [8.0, 6.0 + shift]}}


def test_differences_are_paired_over_seeds_and_held_against_what_was_expected():
    found = reliance_summary.compared([entry(0.0), entry(0.1)], SMALL)
    assert set(found) == set(reliance_summary.COMPARISONS)
    ratio = found["effective inputs: mixtures, MLP"]
    assert ratio["mean"] == pytest.approx([math.log(0.5) + math.log(1.1) / 2])
    assert ratio["half_width"] == pytest.approx([12.706 * math.log(1.1) / 2], rel=1e-3)
    assert ratio["holds"]
    times = found["milliseconds: pruned mixtures, dense MLP"]
    assert times["mean"] == pytest.approx([math.log(4), (math.log(3) + math.log(3.05)) / 2])
    assert times["holds"]
    assert found["fine-tuned: mixtures, MLP"]["holds"], "level is not above"
    assert not found["deletion in mlp: by variance, by weight"]["holds"]
    assert found["fall in mixtures: gradient, back-projection"]["mean"] == pytest.approx([-3.0] * 3)
    assert not found["fall in mixtures: gradient, back-projection"]["holds"]
    assert "holds" not in found["mixtures: fine-tuned, dense"]


@pytest.mark.parametrize(
    ("expected", "mean", "holds"),
    [("above", 0.3, True), ("above", 0.1, False), ("below", -0.3, True), ("below", 0.3, False),
     ("not above", 0.1, True), ("not above", 0.3, False)],
)  # fmt: skip
def test_an_interval_holds_or_not(expected, mean, holds):
    assert reliance_summary._holds(expected, mean, 0.2) is holds


@pytest.mark.parametrize("comparison", reliance_summary.COMPARISONS.values())
def test_expectations_are_tested_where_the_study_measures(comparison):
    if comparison.at:
        setting, value = comparison.at
        assert value in reliance.SETTINGS[setting]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The whole study in small, and what a second run of it finds."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UGMM_SCRATCH_DIR", str(tmp_path_factory.mktemp("scratch")))
        patch.setenv("UGMM_JOBS", "1")
        patch.setattr(units, "ProcessPoolExecutor", ThreadPoolExecutor)
        results = reliance.measure(SMALL, progress=False)
        patch.setattr(reliance, "_measured", lambda unit, settings: pytest.fail("measured twice"))
        assert reliance.measure(SMALL, progress=False) == results
    torch.set_num_threads(threads)
    return json.loads(json.dumps(results, allow_nan=False))


def test_both_networks_are_measured_for_every_seed(found):
    assert len(found["seeds"]) == 2
    for seed in found["seeds"]:
        for kind, orders in (("mixtures", 4), ("mlp", 2)):
            of_kind = seed[kind]
            curves = of_kind["deletion"]
            lists = [curve for name, curve in curves.items() if name != "random"] + curves["random"]
            assert [len(curve) for curve in lists] == [3] * (orders + 2)
            assert {curve[0] for curve in lists} == {of_kind["accuracy"]}
            assert of_kind["accuracy"] > 0.5
            numbers = of_kind["dependence"]
            assert 1.0 <= numbers["effective_smallest"] <= numbers["effective"] <= 64.0
            assert numbers["pixels"] < 62.0, "some pixels hardly ever change"
            assert len(of_kind["attribution"]) == (6 if kind == "mixtures" else 4)
            everything = {scores["fall"][2] for scores in of_kind["attribution"].values()}
            assert max(everything) == pytest.approx(min(everything)), "all pixels are replaced"
            pruned = of_kind["pruned"]
            assert [len(pruned[name]) for name in ("order", "before", "after")] == [2, 2, 2]
            assert set(pruned["order"]) <= set(curves) - {"random"}
        times = seed["milliseconds"]
        assert min(times["mixtures"], times["mlp"], *times["pruned"]) > 0.0


def test_variance_tells_more_than_chance_which_connections_count(found):
    for seed in found["seeds"]:
        for kind in ("mixtures", "mlp"):
            curves = seed[kind]["deletion"]
            assert curves["variance"][1] > max(curve[1] for curve in curves["random"])


def test_comparisons_are_those_of_the_entries(found):
    again = reliance_summary.compared(found["seeds"], SMALL)
    assert json.loads(json.dumps(again)) == found["comparisons"]
