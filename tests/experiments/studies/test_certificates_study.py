"""The study of certificates: bounds of clipped MLPs hold, settings are chosen by the rule, units are kept."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from ugmm_tutorial import UGMMLayer
from ugmm_tutorial.data import Examples
from ugmm_tutorial.experiments.studies import certificates, units
from ugmm_tutorial.experiments.studies import certified_networks as networks
from ugmm_tutorial.robustness import certify
from ugmm_tutorial.robustness.attacks import lead


def images(count, pixels=12, seed=0):
    """Images of two classes: all pixels say a little."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 2
    x = 0.5 + 0.25 * (2 * y.unsqueeze(1) - 1) + 0.2 * torch.randn(count, pixels, generator=draw)
    return Examples(x.clamp(0.0, 1.0), y)


def changes(x, changed, values):
    """All changes of some pixels of an image to some values: (N, K)."""
    every = []
    for place in itertools.combinations(range(len(x)), changed):
        for value in itertools.product(values, repeat=changed):
            every.append(x.index_put((torch.tensor(place),), torch.tensor(value, dtype=x.dtype)))
    return torch.stack(every)


@pytest.fixture(scope="module")
def trained():
    """A clipped MLP that knows the images."""
    network = networks.build("clipped", [12, 8, 6, 2], seed=0)
    setting = {"learning_rate": 1e-2, "weight": 0.5, "changed": 2}
    networks.train(network, *images(256), setting, {"batch": 32, "bounded": 16, "epochs": [1, 4]}, 0)
    return network


# --- the MLP's bounds -------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [1, 2])
def test_no_change_costs_more_than_the_interval_loss(changed):
    network, test = networks.build("clipped", [6, 5, 4, 3], seed=1), images(10, pixels=6)
    y = torch.arange(10) % 3
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 3.0
        for row, label in zip(test.x, y, strict=True):
            attempts = changes(row, changed, [0.0, 0.3, 1.0, 50.0, -50.0])
            worst = F.cross_entropy(network(attempts), label.expand(len(attempts)), reduction="none").max()
            bound = networks.interval_loss(network, row[None], label[None], changed=changed)
            assert bound >= worst - 1e-5
            assert networks.interval_loss(network, row[None], label[None], changed=0) == pytest.approx(
                F.cross_entropy(network(row[None]), label[None]).item(), abs=1e-5
            )


def test_one_layers_worst_case_is_exact():
    """Behind ReLUs that are always on, one hidden unit leaves nothing to be loose about."""
    network = networks.build("clipped", [5, 1, 2], seed=0)
    x, y = torch.rand(1, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0])
    with torch.no_grad():
        network[1].bias.fill_(10.0)
        attempts = changes(x[0], 2, [0.0, 1.0])
        worst = F.cross_entropy(network(attempts), y.expand(len(attempts)), reduction="none").max()
        assert networks.interval_loss(network, x, y, changed=2).item() == pytest.approx(
            worst.item(), abs=1e-5
        )


def test_a_certified_image_survives_every_change(trained):
    test = images(40, seed=1)
    proven = networks.certified(trained, test.x, test.y, changed=2, box=networks.BOX)
    assert proven.double().mean() > 0.3
    for row, label in zip(test.x[proven][:12], test.y[proven], strict=False):
        attempts = changes(row, 2, [0.0, 0.5, 1.0, 100.0])
        assert (lead(trained, attempts, label.expand(len(attempts))) > 0.0).all()
    how = {"greedy": 10, "tries": 20, "steps": 10}
    made, turned = networks.attacked(trained, test.x[proven], test.y[proven], 2, networks.BOX, how, 0)
    assert (made, turned) == (2 * int(proven.sum()) + 10, 0)


def test_attacks_turn_answers_that_are_not_certified(trained):
    test = images(40, seed=1)
    changed = 9
    left = ~networks.certified(trained, test.x, test.y, changed=changed, box=networks.BOX)
    how = {"greedy": 5, "tries": 20, "steps": 10}
    made, turned = networks.attacked(trained, test.x[left], test.y[left], changed, networks.BOX, how, 0)
    assert made > turned > 0


def test_fewer_changes_are_proven_where_more_are_and_the_line_is_a_box(trained):
    test = images(40, seed=1)
    proven = [networks.certified(trained, test.x, test.y, changed=m, box=networks.BOX) for m in range(6)]
    assert all((more <= less).all() for less, more in itertools.pairwise(proven))
    assert torch.equal(proven[0], trained(test.x).argmax(dim=1) == test.y)
    assert torch.equal(proven[2], networks.certified(trained, test.x, test.y, changed=2, box=None))


def test_mixtures_are_certified_by_the_library():
    network, test = networks.build("mixtures", [12, 8, 6, 2], seed=0), images(10)
    assert isinstance(network[0], UGMMLayer)
    for box in (networks.BOX, None):
        found = networks.certified(network.eval(), test.x, test.y, changed=1, box=box)
        assert torch.equal(found, certify(network, test.x, test.y, changed=1, box=box).certified)


# --- the study --------------------------------------------------------------------------------------


def test_levels_are_what_trying_every_count_finds():
    radius, counts, tried = torch.arange(20), [1, 2, 4, 8, 16], []

    def proven(index, changed):
        tried.extend(index.tolist())
        return radius[index] >= changed

    found = networks.levels(proven, len(radius), counts)
    assert found.tolist() == [sum(int(r) >= m for m in counts) for r in radius]
    assert max(tried.count(place) for place in range(20)) <= 3


def test_the_rule_prefers_certificates_among_the_accurate():
    entries = [{"validation": v, "certified": c} for v, c in ((0.96, 0.5), (0.97, 0.4), (0.975, 0.3))]
    assert [certificates.best(entries, accuracy) for accuracy in (0.95, 0.965, 0.975, 0.99)] == [0, 1, 2, 2]


@pytest.mark.parametrize("right", [0, 3, 500, 1000])
def test_intervals_of_shares_are_scipys(right):
    expected = stats.binomtest(right, 1000).proportion_ci(method="wilson")
    assert certificates.wilson(right / 1000, 1000) == pytest.approx(tuple(expected), abs=1e-6)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two contestants on images of twelve pixels."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("UGMM_SCRATCH_DIR", str(tmp_path_factory.mktemp("scratch")))
        monkeypatch.setenv("UGMM_JOBS", "1")
        parts = {"train": images(256), "validation": images(60, seed=1), "test": images(60, seed=2)}
        monkeypatch.setattr(certificates, "_images", lambda: parts)
        # Processes of a pool would not see these images.
        monkeypatch.setattr(units, "ProcessPoolExecutor", units.futures.ThreadPoolExecutor)
        grid = [{"learning_rate": 0.02, "weight": weight, "changed": 2} for weight in (0.0, 0.5)]
        yield copy.deepcopy(certificates.SETTINGS) | {
            "contestants": {
                "mixtures": {"kind": "mixtures", "widths": [12, 8, 2], "grid": grid},
                "MLP": {"kind": "clipped", "widths": [12, 8, 2], "grid": grid[1:]},
            },
            "training": {"batch": 32, "bounded": 16, "epochs": [1, 3]},
            "choice": {"changed": 2, "images": 30, "accuracy": 0.8, "seed": 100},
            "seeds": [0, 1],
            "images": 12,
            "box": [1, 2, 4],
            "line": [1, 2],
            "attacks": {"greedy": 1, "tries": 10, "steps": 5, "far": [-3.0, 4.0]},
        }


@pytest.fixture(scope="module")
def found(small):
    return certificates.measure(small, progress=False)


def test_every_contestant_is_chosen_tested_and_attacked(small, found):
    json.dumps(found, allow_nan=False)
    assert found.keys() == small["contestants"].keys()
    for name, of in found.items():
        grid = small["contestants"][name]["grid"]
        assert of["setting"] == grid[certificates.best(of["choice"], 0.8)]
        assert len(of["tests"]) == 2
        assert len(of["choice"]) == len(grid)
        for entry in of["tests"]:
            assert entry["clean"] > 0.8
            for where, counts in (("box", 3), ("line", 2)):
                assert len(entry[where]) == counts
                assert entry[where] == sorted(entry[where], reverse=True)
                assert entry["right"] >= entry[where][0]
                assert entry[f"attacks, {where}"]["turned"] == 0
                assert entry[f"seconds per certificate, {where}"] > 0.0
            assert entry["attacks, box"]["made"] > 0
    assert found["MLP"]["tests"][0]["box"][:2] == found["MLP"]["tests"][0]["line"]


def test_finished_networks_are_not_trained_again(small, found):
    def again(*arguments):
        raise AssertionError("this unit was done")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "train", again)
        assert certificates.measure(small, progress=False) == found
        with pytest.raises(AssertionError, match="this unit was done"):
            certificates.measure(small | {"images": 6}, progress=False)


def test_images_are_taken_evenly():
    examples = Examples(torch.arange(1000.0).unsqueeze(1), torch.arange(1000))
    assert certificates._evenly(examples, 10)[1].tolist() == list(range(0, 1000, 100))
