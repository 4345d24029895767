"""The studies of chapter 9, at a size that takes seconds, and against what is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ugmm_tutorial import UGMMNet, data
from ugmm_tutorial.data import with_labels
from ugmm_tutorial.experiments.studies import degenerate, iris
from ugmm_tutorial.experiments.studies.iris_networks import VARIANTS, Variant, build
from ugmm_tutorial.training import EnsembleTrainer


def test_variants_differ_from_the_papers_network_in_what_they_say():
    assert repr(build(VARIANTS["paper"], 0)) == repr(UGMMNet((5, 10, 5, 1), init="paper"))
    assert {layer.min_std for layer in build(VARIANTS["floor"], 0)} == {0.1}
    assert {layer.max_std for layer in build(VARIANTS["floor-ceiling"], 0)} == {1.0}
    assert build(VARIANTS["categorical"], 0)[0].num_labels == 3
    assert {v.coding for v in VARIANTS.values()} == {(0, 1, 2), (1, 0, 2), (0, 2, 1)}
    assert [layer.out_features for layer in build(VARIANTS["notebook"], 0)] == [20, 8, 1]
    assert len({v.title for v in VARIANTS.values()}) == len(VARIANTS)


def test_networks_are_drawn_from_their_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (build(VARIANTS["paper"], seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0].mean, again[0].mean)
    assert not torch.equal(first[0].mean, other[0].mean)


# --- cross-validation -------------------------------------------------------------------------------


def test_every_flower_is_held_out_once_in_each_repeat_and_never_trained_on_then():
    _, y = iris._flowers()
    splits = iris.folds(y, 2, 5)
    assert len(splits) == 10
    for repeat in (splits[:5], splits[5:]):
        assert sorted(np.concatenate([test for _, test in repeat])) == list(range(150))
    for train, test in splits:
        assert len(train) == 120
        assert not set(train) & set(test)
        assert np.bincount(y[test]).tolist() == [10, 10, 10]


def test_all_150_flowers_are_there_as_scikit_learn_has_them():
    from sklearn.datasets import load_iris

    x, y = iris._flowers()
    raw = load_iris()
    mine = np.unique(np.column_stack([x, y]), axis=0)
    theirs = np.unique(np.column_stack([raw.data.astype(np.float32), raw.target]), axis=0)
    assert len(x) == 150
    np.testing.assert_allclose(mine, theirs)


@pytest.mark.parametrize("coding", [(0, 1, 2), (1, 0, 2)])
def test_a_network_in_the_study_gets_the_score_it_has_alone(coding):
    x, y = iris._flowers()
    splits = iris.folds(y, 1, 5)[:2]
    options = {"coding": coding, "objective": "conditional", "standardised": True, "epochs": 2}
    variant = Variant("test", {"init": "unit"}, **options)
    got = iris._of_networks(variant, x, y, splits, 1e-2)
    for m, (train, test) in enumerate(splits):
        middle, width = x[train].mean(axis=0), x[train].std(axis=0, ddof=1)
        scaled = torch.from_numpy((x - middle) / width)
        numbers = torch.tensor(coding)[torch.from_numpy(y)]
        network = build(variant, m)
        options = {"objective": "conditional", "batch_size": 16, "learning_rate": 1e-2, "seed": m}
        EnsembleTrainer([network], scaled[None, train], numbers[None, train], **options).run(2)
        with torch.no_grad():
            scores = torch.cat(
                [network(with_labels(scaled[test], torch.full((30,), float(c)))) for c in coding], dim=-1
            )
        loss = nn.functional.cross_entropy(scores, torch.from_numpy(y[test])).item()
        assert got["log_loss"][m] == pytest.approx(loss, rel=1e-4)
        assert got["accuracy"][m] == (scores.argmax(1).numpy() == y[test]).mean()
        with torch.no_grad():
            columns = [network(with_labels(scaled[train], torch.full((120,), float(c)))) for c in coding]
        right = torch.cat(columns, dim=-1).argmax(1).numpy() == y[train]
        assert got["train_accuracy"][m] == right.mean()


def test_the_baselines_are_scored_on_what_they_have_not_seen():
    found = iris.measure(iris.SETTINGS | {"variants": {}, "repeats": 2}, progress=False)
    assert set(found) == set(iris.baselines())
    assert 0.97 < np.mean(found["lda"]["accuracy"]) < 0.99
    assert all(len(model["accuracy"]) == len(model["log_loss"]) == 10 for model in found.values())


def test_class_mixtures_are_bayes_rule_over_two_gaussians_each():
    x, y = iris._flowers()
    model = iris._ClassMixtures().fit(x, y)
    posterior = model.predict_proba(x[::10])
    density = np.stack([np.exp(m.score_samples(x[::10])) for m in model.mixtures], axis=1) / 3
    np.testing.assert_allclose(posterior, density / density.sum(axis=1, keepdims=True), rtol=1e-6, atol=1e-12)


def test_the_interval_is_the_plain_one_with_the_correction_in_place_of_one_over_n():
    values = [0.9, 0.95, 1.0, 0.85]
    mean, half = iris.corrected_interval(values, 0.25)
    _, plain = records_interval(values)
    assert mean == pytest.approx(0.925)
    assert half == pytest.approx(plain * math.sqrt((1 / 4 + 0.25) / (1 / 4)))


def records_interval(values):
    from ugmm_tutorial.training.records import mean_and_interval

    return mean_and_interval(values)


# --- the degenerate optimum -------------------------------------------------------------------------


def constant_network(floor=1e-3):
    """First layer so flat that hidden values do not depend on the flower; the root sits on them."""
    network = UGMMNet((5, 10, 5, 1), min_std=floor).double()
    with torch.no_grad():
        network[0].log_std.fill_(20.0)
        together = torch.zeros(1, 5, dtype=torch.float64)
        network[2].mean.copy_(network[:2](together))
        network[2].log_std.fill_(-50.0)
    return network


def test_a_constant_network_has_the_highest_score_there_is_and_knows_nothing():
    flowers = data.iris()
    flowers = data.Splits(
        flowers.name,
        flowers.provenance,
        flowers.classes,
        *(data.Examples(p.x.double(), p.y) for p in (flowers.train, flowers.validation, flowers.test)),
    )
    found = degenerate.symptoms(constant_network(), flowers, noise=50)
    assert found["log_likelihood"] == pytest.approx(found["bound"], abs=1e-6)
    assert found["bound"] == pytest.approx(-math.log(1e-3 * math.sqrt(2 * math.pi)))
    assert found["spread"] < 1e-6
    assert found["gap"] < 1e-6
    assert found["noise"] == pytest.approx(found["bound"], abs=1e-6)
    assert found["root_std"] == pytest.approx(1e-3)
    assert found["train_accuracy"] <= 0.5


def test_symptoms_are_the_numbers_they_are_said_to_be():
    flowers, network = data.iris(), build(VARIANTS["paper"], 0)
    found = degenerate.symptoms(network, flowers, noise=20)
    rows = with_labels(*flowers.train)
    scores = [network(row).item() for row in rows]
    assert found["log_likelihood"] == pytest.approx(np.mean(scores), rel=1e-5)
    by_label = np.array(
        [[network(with_labels(x, torch.tensor(c))).item() for c in range(3)] for x in flowers.test.x]
    )
    assert found["test_accuracy"] == (by_label.argmax(1) == flowers.test.y.numpy()).mean()
    noise = [network(row).item() for row in degenerate.noise_like(flowers, 20)]
    assert found["noise"] == pytest.approx(np.mean(noise), rel=1e-5)
    above = np.mean([[a > b for b in noise] for a in scores])
    assert found["noise_auc"] == pytest.approx(above)
    hidden = network[:-1](rows)
    share = network[-1].responsibilities(hidden)[:, 0].mean(0)
    assert found["spread"] == pytest.approx((hidden.std(0) * share).sum().item(), rel=1e-5)
    assert found["root_std"] == pytest.approx((network[-1].std[0] * share).sum().item(), rel=1e-5)


def test_the_study_watches_every_epoch_it_names():
    settings = degenerate.SETTINGS | {"variants": ["paper", "conditional"], "seeds": 2, "epochs": [1, 3]}
    found = degenerate.measure(settings | {"noise": 10}, progress=False)
    assert set(found) == {"paper", "conditional"}
    for watched in found.values():
        assert all(np.shape(values) == (2, 2) for values in watched.values())
    first = watched["train_accuracy"]
    assert all(0.0 <= share <= 1.0 for row in first for share in row)
