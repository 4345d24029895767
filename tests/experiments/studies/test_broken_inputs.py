"""The study of broken inputs: faults do what they say, learners learn, and units of work are resumed."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from ugmm_tutorial.experiments.studies import broken_inputs, broken_networks, faults, units
from ugmm_tutorial.experiments.studies.broken_learners import LEARNERS, settings_of


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    """Rows in units of their own, and three classes that every feature tells apart."""
    draw = np.random.default_rng(0)
    y = np.arange(600) % 3
    return (y[:, None] - 1) * 2.0 + draw.standard_normal((600, 8)), y


# --- faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*faults.FAULTS.values(), faults.TUNING_FAULT])
def test_only_marked_entries_change_and_a_seed_decides_how(fault, table):
    x, _ = table
    mark = faults.marked(x.shape, 0.3, seed=0)
    one, same, other = (faults.broken(x, x, fault, mark, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[~mark], x[~mark])
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(x, one, equal_nan=True)
    assert one.shape == other.shape == x.shape


def test_faults_are_what_their_names_say(table):
    x, _ = table
    everything = np.ones(x.shape, dtype=bool)
    made = {name: faults.broken(x, x, fault, everything, 0) for name, fault in faults.FAULTS.items()}
    for name, deviations in (("gross", 10.0), ("moderate", 3.0)):
        np.testing.assert_allclose(made[name].std(axis=0), deviations * x.std(axis=0), rtol=0.15)
    assert all(len(np.unique(column)) == 1 for column in made["stuck"].T)
    np.testing.assert_array_equal(made["unit x 1000"], 1000.0 * x)
    np.testing.assert_array_equal(made["unit x 0.001"], 0.001 * x)
    assert all(np.isin(after, before).all() for after, before in zip(made["another row"].T, x.T, strict=True))
    assert np.isnan(made["missing"]).all()


def test_a_larger_fraction_breaks_what_a_smaller_one_did():
    few, many = (faults.marked((500, 20), part, seed=3) for part in (0.1, 0.4))
    assert (few <= many).all()
    assert few.mean() == pytest.approx(0.1, abs=0.02)
    assert many.mean() == pytest.approx(0.4, abs=0.02)


def test_blocks_are_squares_of_about_the_wanted_size():
    mark = faults.marked_blocks(50, 28, 0.2, seed=0).reshape(50, 28, 28)
    assert mark.mean() == pytest.approx(0.2, abs=0.03)
    for image in mark:
        rows, columns = image.any(axis=1), image.any(axis=0)
        assert rows.sum() == columns.sum() == round(28 * np.sqrt(0.2))
        np.testing.assert_array_equal(image, np.outer(rows, columns))
    assert len(np.unique(mark.reshape(50, -1), axis=0)) > 10


# --- learners ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_learn_and_take_broken_and_missing_features(name, table):
    x, y = table
    learner = LEARNERS[name]
    (setting,) = settings_of(learner, 1, seed=5)
    predict = learner.fit(x[:400], y[:400], 3, setting, 8, 0)
    assert (predict(x[400:]) == y[400:]).mean() > 0.8
    again = learner.fit(x[:400], y[:400], 3, setting, 8, 0)
    np.testing.assert_array_equal(predict(x[400:]), again(x[400:]))
    mark = faults.marked(x[400:].shape, 0.3, seed=0)
    for fault in faults.FAULTS.values():
        answers = predict(faults.broken(x[400:], x[:400], fault, mark, seed=0))
        assert set(np.unique(answers)) <= {0, 1, 2}


def test_learners_are_given_the_same_number_of_settings_from_their_spaces():
    for learner in LEARNERS.values():
        settings = settings_of(learner, 12, seed=0)
        assert len(settings) == 12
        assert settings == settings_of(learner, 12, seed=0) != settings_of(learner, 12, seed=1)
        assert all(setting[name] in values for setting in settings for name, values in learner.space.items())
        for name, values in learner.space.items():
            often = [sum(setting[name] == value for setting in settings) for value in values]
            assert max(often) - min(often) <= 1
        assert learner.default is None or learner.default.keys() == learner.space.keys()


@pytest.mark.parametrize("name", ["clipped", "detected", "Gaussians", "piecewise linear"])
def test_bounded_encodings_are_bounded(name):
    train = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    encode = broken_networks.ENCODINGS[name](train)
    far = torch.tensor([[1e6, -1e6, 1e3, 0.0]])
    assert encode(far).abs().max() < 5.0
    assert encode(train).std(dim=0).min() > 0.0
    if name == "detected":
        assert encode(far)[0, :3].tolist() == [0.0, 0.0, 0.0]


# --- the study ----------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch, tmp_path, table) -> dict:
    """Two learners on a table of this file."""
    x, y = table
    monkeypatch.setenv("UGMM_SCRATCH_DIR", str(tmp_path))
    monkeypatch.setenv("UGMM_JOBS", "1")
    rows = broken_inputs.Rows(x[:300], y[:300], x[300:450], y[300:450], x[450:], y[450:], 3)
    monkeypatch.setattr(broken_inputs, "rows_of", lambda name, split, settings: rows)
    # Processes of a pool would not see the table.
    monkeypatch.setattr(units, "ProcessPoolExecutor", units.futures.ThreadPoolExecutor)
    settings = copy.deepcopy(broken_inputs.SETTINGS)
    settings["sets"] = {"vehicle": {"splits": 2, "searches": 2}}
    settings["epochs"] = [2, 2]
    settings["learners"] = ["uGMM", "naive Bayes"]
    return settings


def test_every_unit_has_its_accuracies(small):
    found = broken_inputs.measure(small, progress=False)
    json.dumps(found, allow_nan=False)
    assert found.keys() == {"vehicle"}
    for name, ways in (("uGMM", {"clean", "broken", "default"}), ("naive Bayes", {"clean", "broken"})):
        entries = found["vehicle"][name]
        assert len(entries) == 2
        for entry in entries:
            assert entry.keys() == ways | {"seconds"}
            for way in ways:
                assert all(len(entry[way][fault]) == 5 for fault in faults.FAULTS)
                assert 0.0 <= entry[way]["clean"] <= 1.0
    gross = found["vehicle"]["naive Bayes"][0]["clean"]["gross"]
    assert gross[0] > gross[-1]


def test_finished_units_are_not_measured_again(small, monkeypatch):
    found = broken_inputs.measure(small, progress=False)

    def again(*arguments):
        raise AssertionError("this unit was done")

    monkeypatch.setattr(broken_inputs, "_measured", again)
    assert broken_inputs.measure(small, progress=False) == found
    with pytest.raises(AssertionError, match="this unit was done"):
        broken_inputs.measure(small | {"search_seed": 1}, progress=False)


@pytest.mark.happens(
    "Long work",
    when="a study is killed while it writes",
    see="the same command goes on",
    kept="all finished units",
)
def test_a_line_that_was_cut_off_costs_one_unit(small, tmp_path, monkeypatch):
    found = broken_inputs.measure(small, progress=False)
    (path,) = tmp_path.rglob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    path.write_bytes(b"".join(lines[:3]) + lines[3][:-20])
    measured, calls = broken_inputs._measured, []
    monkeypatch.setattr(
        broken_inputs, "_measured", lambda unit, how: calls.append(unit) or measured(unit, how)
    )
    again = broken_inputs.measure(small, progress=False)
    assert len(calls) == 1
    for entries in (*found["vehicle"].values(), *again["vehicle"].values()):
        for entry in entries:
            del entry["seconds"]
    assert again == found


def test_the_declared_study_has_every_learner_fault_and_table():
    found = broken_inputs.units(broken_inputs.SETTINGS)
    assert len(found) == len(set(found)) == (12 * 5 + 2 * 2) * len(LEARNERS)


@pytest.mark.parametrize(("rows", "epochs"), [(100, 100), (2560, 50), (5000, 26), (50_000, 20)])
def test_networks_train_for_about_as_many_steps_on_every_table(rows, epochs):
    assert broken_inputs.epochs_of(rows, broken_inputs.SETTINGS) == epochs
