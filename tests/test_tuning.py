"""Searches: the same choices for every model, test images untouched, cut off and gone on with."""

import json
from dataclasses import replace

import pytest
import torch

from ugmm_tutorial import data, experiments, tuning
from ugmm_tutorial.__main__ import main
from ugmm_tutorial.networks import PRESETS, preset
from ugmm_tutorial.training import TrainingError
from ugmm_tutorial.tuning import SEARCHES, Search, find, run, suggested

optuna = pytest.importorskip("optuna", reason="optuna is missing: install the extra [tune]")
optuna.logging.set_verbosity(optuna.logging.ERROR)
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]

FIXED = {"learning_rate": 1e-2, "dropout": 0.3, "norm": "layer", "init": "unit", "scheduler": "cosine"}
QUICK = Search("quick", "MLP", {"widths": (64, 8, 4, 10)}, trials=3, epochs=2)


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """The digits in the place of MNIST, few of them; they remember whether the test images were looked at."""
    digits = data.digits().flatten().take(train=200, validation=50)
    monkeypatch.setattr(experiments, "load_data", lambda experiment, folder=None: digits)
    return digits


def accuracies(path):
    return [trial["accuracy"] for trial in json.loads(path.read_text())["trials"]]


@pytest.mark.parametrize("name", SEARCHES)
def test_every_model_gets_the_same_choices(name):
    search = find(name)
    fixed = FIXED if search.inits else {k: v for k, v in FIXED.items() if k != "init"}
    experiment = suggested(search, optuna.trial.FixedTrial(fixed))
    assert search.preset in PRESETS
    assert (experiment.config.learning_rate, experiment.config.scheduler) == (1e-2, "cosine")
    assert experiment.options["dropout"] == (0.3, 0.0, 0.0)
    assert experiment.config.measure == ("validation",)
    assert experiment.data == "mnist-split"
    widths = search.options.get("widths")
    assert widths is None or experiment.options["widths"] == widths
    assert experiment.build()(torch.rand(2, *((1, 28, 28) if "cnn" in name else (784,)))).shape == (2, 10)


def test_searches_that_are_compared_have_the_same_budget():
    for names in (("mlp", "mlp-wide", "ugmm"), ("cnn-mlp", "cnn-mlp-wide", "cnn-ugmm")):
        assert len({(SEARCHES[n].trials, SEARCHES[n].epochs) for n in names}) == 1


@pytest.mark.parametrize("kind", ["", "cnn-"])
def test_the_wide_mlp_has_as_many_parameters_as_the_mixtures(kind):
    def size(name):
        search = SEARCHES[kind + name]
        return sum(p.numel() for p in preset(search.preset, **search.options).parameters())

    assert size("mlp-wide") == pytest.approx(size("ugmm"), rel=0.015)
    assert size("mlp") < 0.5 * size("ugmm")


def test_search_writes_all_trials_and_the_best(tmp_path):
    path = run(QUICK, results=tmp_path)
    assert path == tmp_path / "tuning" / "quick.json"
    outcome = json.loads(path.read_text())
    assert [t["number"] for t in outcome["trials"]] == [0, 1, 2]
    complete = [t for t in outcome["trials"] if t["state"] == "complete"]
    assert outcome["best"]["accuracy"] == max(t["accuracy"] for t in complete)
    assert outcome["search"]["name"] == "quick"
    assert not list(path.parent.glob("*.tmp"))


def test_search_that_was_cut_off_goes_on(tmp_path):
    run(replace(QUICK, trials=1), results=tmp_path)
    first = accuracies(tmp_path / "tuning" / "quick.json")
    path = run(QUICK, results=tmp_path)
    assert accuracies(path)[:1] == first
    assert len(accuracies(path)) == 3
    before = path.read_bytes()
    assert run(QUICK, results=tmp_path).read_bytes() == before, "nothing left to do"


def test_test_images_are_not_looked_at(tmp_path, monkeypatch):
    looked = []
    evaluate = tuning.train.__globals__["evaluate"]

    def watched(model, examples, **options):
        looked.append(len(examples.y))
        return evaluate(model, examples, **options)

    monkeypatch.setitem(tuning.train.__globals__, "evaluate", watched)
    run(replace(QUICK, trials=1), results=tmp_path)
    assert looked == [50] * QUICK.epochs


def test_diverged_trial_counts_as_the_worst_and_the_search_goes_on(tmp_path, monkeypatch):
    def diverge(*arguments, **options):
        raise TrainingError("epoch 1: the loss is nan")

    monkeypatch.setattr(tuning, "train", diverge)
    assert accuracies(run(QUICK, results=tmp_path)) == [0.0, 0.0, 0.0]


def test_unknown_search_is_refused():
    with pytest.raises(ValueError, match=r"no search is called 'resnet': expected one of mlp, "):
        find("resnet")


def test_command_prints_the_best_and_where_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SEARCHES, "quick", QUICK)
    assert main(["tune", "quick", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "best of 3, " in printed
    assert "learning_rate " in printed
    assert str(tmp_path / "tuning" / "quick.json") in printed


def test_without_optuna_the_error_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert main(["tune", "mlp", "--results", str(tmp_path)]) == 1
    assert 'pip install "ugmm_tutorial[tune]"' in capsys.readouterr().err
