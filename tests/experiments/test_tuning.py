"""Searches: the same choices for every model, test images untouched, cut off and gone on with."""

import datetime
import json
import math
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from ugmm_tutorial import data
from ugmm_tutorial.__main__ import main
from ugmm_tutorial.experiments import Experiment, tuning
from ugmm_tutorial.experiments.tuning import SEARCHES, Search, find, run, suggested
from ugmm_tutorial.networks import PRESETS, preset
from ugmm_tutorial.training import TrainingError, records

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
    monkeypatch.setattr(Experiment, "load_data", lambda experiment, folder=None: digits)
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


@pytest.mark.happens(
    "Long work",
    when="a search is cut off",
    see="the same command goes on",
    kept="all finished trials",
)
def test_a_search_that_is_cut_off_tries_what_an_uninterrupted_one_tries(pretended, tmp_path):
    pretended.accuracy = lambda number, config: 0.5
    whole = json.loads(run(replace(QUICK, trials=5), results=tmp_path / "whole").read_text())["trials"]
    for trials in (1, 3, 5):
        path = run(replace(QUICK, trials=trials), results=tmp_path / "parts")
    parts = json.loads(path.read_text())["trials"]
    assert [trial["params"] for trial in parts] == [trial["params"] for trial in whole]


ANOTHER = """
import sys
from ugmm_tutorial import data
from ugmm_tutorial.experiments import Experiment, tuning

digits = data.digits().flatten().take(train=200, validation=50)
Experiment.load_data = lambda experiment, folder=None: digits
search = tuning.Search("quick", "MLP", {"widths": (64, 8, 4, 10)}, trials=7, epochs=20)
tuning.run(search, results=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.happens(
    "Long work",
    when="two processes run one search",
    see="both work on it",
    kept="one budget, and no setting twice",
)
def test_two_searches_at_once_share_the_budget_and_repeat_nothing(tmp_path):
    command = [sys.executable, "-c", ANOTHER, str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=300)[1].count("Traceback") == 0
        assert process.returncode == 0
    trials = json.loads((tmp_path / "tuning" / "quick.json").read_text())["trials"]
    assert len(trials) == 7
    assert len({trial["params"]["learning_rate"] for trial in trials}) == 7


def test_a_trial_whose_process_is_gone_does_not_count(pretended, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_NAMED_WITHIN", datetime.timedelta(0))
    pretended.accuracy = lambda number, config: 0.5
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = tmp_path / "tuning" / "quick.json"
    path.parent.mkdir()
    study = tuning._study(path, QUICK)
    for process in ({"host": platform.node(), "pid": gone.pid}, None):
        trial = study.ask()
        if process:
            trial.set_user_attr("process", process)
    run(QUICK, results=tmp_path)
    assert [t["number"] for t in json.loads(path.read_text())["trials"]] == [2, 3, 4]


def test_a_trial_that_another_process_has_just_begun_counts_though_it_has_no_name_yet(
    pretended, tmp_path, monkeypatch
):
    """Its name comes while a trial of this process waits for it."""
    pretended.accuracy = lambda number, config: 0.5
    path = tmp_path / "tuning" / "quick.json"
    path.parent.mkdir()
    begun = tuning._study(path, QUICK).ask()

    def named(seconds):
        begun.set_user_attr("process", {"host": "another machine", "pid": 1})

    monkeypatch.setattr(tuning.time, "sleep", named)
    run(QUICK, results=tmp_path)
    assert [t["number"] for t in json.loads(path.read_text())["trials"]] == [1, 2]


def test_trials_that_run_elsewhere_count_for_a_day(pretended, tmp_path):
    pretended.accuracy = lambda number, config: 0.5
    path = tmp_path / "tuning" / "quick.json"
    path.parent.mkdir()
    study = tuning._study(path, QUICK)
    study.ask().set_user_attr("process", {"host": "another machine", "pid": 1})
    run(QUICK, results=tmp_path)
    assert len(accuracies(path)) == QUICK.trials - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "_GIVEN_UP_AFTER", datetime.timedelta(0))
        run(QUICK, results=tmp_path)
    assert len(accuracies(path)) == QUICK.trials


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


# --- what is tried, and what is given up ---------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch):
    """Training that costs nothing: each epoch's accuracy is a function of the trial's number and settings."""
    calls = SimpleNamespace(accuracy=None, configs=[])

    def train(model, splits, config, *, progress, after_epoch):
        number = len(calls.configs)
        calls.configs.append(config)
        for epoch in range(1, config.epochs + 1):
            measured = {"epoch": epoch, "validation_accuracy": calls.accuracy(number, config)}
            after_epoch(measured)
        return SimpleNamespace(final=measured)

    monkeypatch.setattr(tuning, "train", train)
    return calls


def test_trial_below_the_median_is_given_up_after_a_quarter_once_six_are_complete(pretended, tmp_path):
    """The sixth is bad too, but before it only five are complete; each tries at least a quarter."""
    pretended.accuracy = lambda number, config: 0.1 if number in (5, 6, 8) else 0.9
    path = run(replace(QUICK, trials=9, epochs=8), results=tmp_path)
    trials = json.loads(path.read_text())["trials"]
    assert [t["number"] for t in trials if t["state"] == "pruned"] == [6, 8]
    assert [t["epochs"] for t in trials] == [8, 8, 8, 8, 8, 8, 2, 8, 2]


def test_search_learns_from_its_trials(pretended, tmp_path):
    """The last ten learning rates lie nearer to the best one than the first ten, which are drawn blindly."""

    def distance(config):
        return abs(math.log10(config.learning_rate / 1e-3))

    pretended.accuracy = lambda number, config: 1 - distance(config) / 10
    run(replace(QUICK, trials=40, epochs=1), results=tmp_path)
    away = [distance(config) for config in pretended.configs]
    assert statistics.fmean(away[30:]) < 0.6 * statistics.fmean(away[:10])


# --- files ---------------------------------------------------------------------------------------------


def _fail(*arguments, **options):
    raise AssertionError("there was nothing to do")


def _interrupt(*arguments, **options):
    raise KeyboardInterrupt


def _journal(path):
    return path.with_suffix(".journal")


def test_complete_outcome_without_its_journal_is_returned_untouched(tmp_path, monkeypatch):
    """In a fresh clone: outcomes are committed, journals are not."""
    path = run(QUICK, results=tmp_path)
    _journal(path).unlink()
    before = path.read_bytes()
    monkeypatch.setattr(tuning, "train", _fail)
    monkeypatch.setattr(Experiment, "load_data", _fail)
    assert run(QUICK, results=tmp_path) == path
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "change", [{"trials": 4}, {"epochs": 3}, {"options": {"widths": (64, 9, 4, 10)}}], ids=str
)
def test_outcome_that_cannot_be_gone_on_from_is_refused_and_stays(change, tmp_path):
    path = run(QUICK, results=tmp_path)
    _journal(path).unlink()
    before = path.read_bytes()
    why = (
        "3 of 4 trials, but quick.journal is not there" if "trials" in change else "made with other settings"
    )
    with pytest.raises(ValueError, match=why) as caught:
        run(replace(QUICK, **change), results=tmp_path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("which", ["file", "journal"])
def test_search_with_other_settings_is_refused_and_both_its_files_stay(which, tmp_path):
    path = run(QUICK, results=tmp_path)
    if which == "journal":
        path.unlink()
    before = {p.name: p.read_bytes() for p in path.parent.iterdir() if p != _journal(path)}
    with pytest.raises(
        ValueError, match=rf"quick\.{'json' if which == 'file' else 'journal'} was made with oth"
    ):
        run(replace(QUICK, trials=5, epochs=3), results=tmp_path)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir() if p != _journal(path)} == before
    assert len(accuracies(run(QUICK, results=tmp_path))) == 3


def test_journal_of_an_older_version_is_gone_on_from(tmp_path):
    """It does not say which settings it was made with."""
    path = run(replace(QUICK, trials=1), results=tmp_path)
    lines = _journal(path).read_text().splitlines(keepends=True)
    older = [line for line in lines if '"user_attr":{"search"' not in line]
    assert len(older) == len(lines) - 1
    _journal(path).write_text("".join(older))
    first = accuracies(path)
    assert accuracies(run(QUICK, results=tmp_path))[:1] == first


@pytest.mark.parametrize(
    "text", ["", "[]", '{"search": {}}', '{"search": [], "trials": []}', '{"trials": [1]}']
)
def test_file_that_is_no_outcome_is_named_and_kept(text, tmp_path):
    path = tmp_path / "tuning" / "quick.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(records.RecordError, match=r"quick\.json is not the outcome of a search"):
        run(QUICK, results=tmp_path)
    assert path.read_text() == text


def test_interrupted_trial_does_not_use_up_the_budget_and_is_made_up_for(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train", _interrupt)
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                run(QUICK, results=tmp_path / "cut")
    found = json.loads(run(QUICK, results=tmp_path / "cut").read_text())
    assert [t["state"] for t in found["trials"]] == ["complete"] * 3
    assert accuracies(run(QUICK, results=tmp_path / "whole")) == [t["accuracy"] for t in found["trials"]]


def test_missing_data_are_found_before_any_trial(tmp_path, monkeypatch):
    def missing(experiment, folder):
        assert experiment.data == "mnist-split"
        assert experiment.preset == QUICK.preset
        assert folder == "nowhere"
        raise data.DataUnavailableError("not there")

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "load_data", missing)
        for _ in range(4):
            with pytest.raises(data.DataUnavailableError):
                run(QUICK, results=tmp_path, data_dir="nowhere")
    trials = json.loads(run(QUICK, results=tmp_path).read_text())["trials"]
    assert [t["number"] for t in trials] == [0, 1, 2]


@pytest.mark.parametrize("behind", [1, 3])
def test_file_that_is_missing_or_behind_is_written_again_from_the_journal(behind, tmp_path, monkeypatch):
    path = run(QUICK, results=tmp_path)
    before = json.loads(path.read_text())
    if behind == 3:
        path.unlink()
    else:
        path.write_text(json.dumps(before | {"trials": before["trials"][:-behind]}))
    monkeypatch.setattr(tuning, "train", _fail)
    after = json.loads(run(QUICK, results=tmp_path).read_text())
    assert (after["trials"], after["best"]) == (before["trials"], before["best"])
    assert after["search"] == records.as_json(asdict(QUICK))


def test_command_says_if_no_trial_was_trained_to_its_end(tmp_path, monkeypatch, capsys):
    nothing = replace(QUICK, trials=0)
    monkeypatch.setitem(SEARCHES, "quick", nothing)
    assert main(["tune", "quick", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("none of 0 trials was trained to its end\n")


def test_unknown_search_is_refused():
    with pytest.raises(ValueError, match=r"no search is called 'resnet': it is one of mlp, "):
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


# --- what of a search fits into fewer epochs --------------------------------------------------------


@pytest.mark.parametrize(("epochs", "fits"), [(0, 0), (19, 0), (20, 1), (24, 1), (25, 2), (45, 3), (99, 3)])
def test_trials_within_some_epochs_are_the_first_ones_that_were_over(epochs, fits):
    trials = [
        {"epochs": 20, "accuracy": 0.1},
        {"epochs": 5, "accuracy": 0.3},
        {"epochs": 20, "accuracy": 0.2},
    ]
    assert tuning.trials_within(trials, epochs) == trials[:fits]
