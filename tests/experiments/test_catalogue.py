"""The catalogue: the paper's settings, comparisons that are fair, ablations that change one thing."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from committed import committed
from torch import nn

from ugmm_tutorial.experiments import catalogue
from ugmm_tutorial.experiments.catalogue import EXPERIMENTS, GROUPS
from ugmm_tutorial.experiments.experiment import Experiment
from ugmm_tutorial.experiments.tuning import SEARCHES
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.training import TrainConfig, records

ROOT = Path(__file__).resolve().parents[2]

MLP = EXPERIMENTS["mnist-mlp"]
NOTHING_CHANGED = EXPERIMENTS["ablation-none"]
ABLATIONS = [e.name for e in EXPERIMENTS.values() if e.group == "ablations"]
HEADS = [e.name for e in EXPERIMENTS.values() if e.group == "head-ablations"]
# Ablations of ablations.
BASES = {f"ablation-{mode}-no-norm": "ablation-no-norm" for mode in ("literal", "inverted")}
BASES |= {name: "ablation-paper-init" for name in ABLATIONS if "paper-init-" in name}
BASES |= {"ablation-hard-no-dropout": "ablation-no-dropout"}
FAIR = [e.name for e in EXPERIMENTS.values() if e.group == "fair"]

pytestmark = pytest.mark.usefixtures("one_thread")


def size(name: str) -> int:
    return sum(p.numel() for p in EXPERIMENTS[name].build().parameters())


def changed(experiment: Experiment, base: Experiment) -> set[str]:
    """The options in which an experiment differs from another, there or not."""
    ours, theirs, absent = experiment.options, base.options, object()
    return {k for k in ours.keys() | theirs.keys() if ours.get(k, absent) != theirs.get(k, absent)}


# --- what the paper says ----------------------------------------------------------------------------

# Table 2 (accuracy in %) with the learning rates and milestones of Table 1.
PAPER = {
    "mnist-mlp": ("MLP", 98.15, 1e-3, (20, 45)),
    "mnist-ugmm": ("uGMM-NN", 97.8, 1e-2, (40,)),
    "mnist-ugmm-layernorm": ("uGMM-NN + LayerNorm", 98.34, 1e-2, (40,)),
    "mnist-cnn-ugmm": ("CNN-uGMM", 98.77, 1e-3, (45, 80)),
    "mnist-cnn-ugmm-layernorm": ("CNN-uGMM + LayerNorm", 99.12, 1e-3, (45, 80)),
    "mnist-cnn-mlp": ("CNN-MLP", 99.35, 1e-3, (20, 45)),
}


def test_table_2_has_the_six_rows_of_the_paper_in_its_order():
    rows = catalogue.group("2")
    assert [e.name for e in rows] == list(PAPER)
    assert [e.title for e in rows] == [title for title, *_ in PAPER.values()]


@pytest.mark.parametrize("name", PAPER)
def test_row_of_table_2_has_the_settings_of_table_1(name):
    title, accuracy, rate, milestones = PAPER[name]
    experiment = EXPERIMENTS[name]
    assert experiment.preset == title
    assert experiment.paper_accuracy == pytest.approx(accuracy / 100)
    assert experiment.data == "mnist"
    config = experiment.config
    assert (config.epochs, config.learning_rate, config.milestones) == (100, rate, milestones)
    assert config.batch_size == 128
    assert (config.scheduler, config.gamma) == ("multistep", 0.1)
    assert "test" in config.measure


@pytest.mark.parametrize("name", PAPER)
def test_row_of_table_2_drops_half_of_its_128_units_and_nothing_else(name):
    network = EXPERIMENTS[name].build()
    head = network.head if "cnn" in name else network
    if name.endswith("mlp"):
        kinds = [type(module) for module in head]
        assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Linear]
        assert [layer.out_features for layer in head[::3]] == [128, 64]
        assert head[-1].out_features == 10
        assert head[2].p == 0.5
    else:
        layers = [module for module in head if isinstance(module, UGMMLayer)]
        assert [(layer.out_features, layer.dropout) for layer in layers] == [(128, 0.5), (64, 0.0), (10, 0.0)]
        norms = [module.normalized_shape for module in head if isinstance(module, nn.LayerNorm)]
        assert norms == ([(128,), (64,)] if "layernorm" in name else [])


@pytest.mark.parametrize("name", PAPER)
def test_rows_of_the_paper_train_on_all_60000_images(name, pretended_mnist):
    EXPERIMENTS[name].load_data("a folder")
    assert pretended_mnist == [("a folder", 0)]


def test_the_paper_speaks_about_its_own_rows_only():
    assert [e.name for e in EXPERIMENTS.values() if e.paper_accuracy is not None] == list(PAPER)


def test_first_epoch_experiment_is_the_first_epoch_of_its_row():
    row, first = EXPERIMENTS["mnist-ugmm"], EXPERIMENTS["mnist-ugmm-1-epoch"]
    assert (first.preset, first.options, first.data) == (row.preset, row.options, row.data)
    assert first.config == replace(row.config, epochs=1)
    assert first.group is None


# --- variants ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", catalogue.group("variants"), ids=lambda e: e.name)
def test_a_variant_changes_one_thing_of_its_row_or_what_the_script_says_otherwise(experiment):
    (row,) = (e for e in catalogue.group("2") if e.preset == experiment.preset)
    assert experiment.name.startswith(row.name)
    assert experiment.data == row.data
    assert repr(experiment.build()) != repr(row.build())
    if experiment.name.endswith("-script"):
        assert experiment.config == replace(row.config, milestones=(20, 45, 60))
        assert changed(experiment, row) == {"dropout"}
    else:
        assert experiment.config == row.config
        assert len(changed(experiment, row)) == 1


# --- fair comparisons -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAIR)
def test_a_fair_comparison_is_trained_like_the_papers_mlp(name):
    experiment = EXPERIMENTS[name]
    row = EXPERIMENTS["mnist-cnn-mlp" if "cnn" in name else "mnist-mlp"]
    assert (experiment.preset, experiment.config, experiment.data) == (row.preset, row.config, row.data)
    assert changed(experiment, row) <= {"norm", "widths"}
    assert repr(experiment.build()) != repr(row.build())


@pytest.mark.parametrize(
    ("wide", "ugmm"),
    [
        ("mnist-mlp-wide", "mnist-ugmm"),
        ("mnist-mlp-wide-layernorm", "mnist-ugmm-layernorm"),
        ("mnist-cnn-mlp-wide", "mnist-cnn-ugmm"),
    ],
)
def test_the_wide_mlp_has_as_many_parameters_as_the_ugmm_network_within_one_and_a_half_percent(wide, ugmm):
    assert size(wide) == pytest.approx(size(ugmm), rel=0.015)
    assert size(wide.partition("-wide")[0]) < size(ugmm) / 2


@pytest.mark.parametrize("name", FAIR)
def test_a_fair_comparison_has_a_layernorm_if_its_name_says_so(name):
    norms = [m for m in EXPERIMENTS[name].build().modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == (2 if name.endswith("layernorm") else 0)


# --- ablations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_option_and_nothing_else(name):
    """One of the unchanged network or, if two have to change together, one of another ablation."""
    experiment = EXPERIMENTS[name]
    same = (NOTHING_CHANGED.preset, NOTHING_CHANGED.config, NOTHING_CHANGED.data)
    assert (experiment.preset, experiment.config, experiment.data) == same
    base = EXPERIMENTS.get(BASES.get(name), NOTHING_CHANGED)
    assert len(changed(experiment, base)) == (name != "ablation-none")


@pytest.mark.parametrize("name", HEADS)
def test_an_ablation_of_a_head_changes_one_option_of_the_tuned_network(name):
    experiment, tuned = EXPERIMENTS[name], EXPERIMENTS["tuned-cnn-ugmm"]
    assert experiment.preset == tuned.preset
    assert experiment.config == replace(tuned.config, measure=("validation",))
    assert experiment.data == "mnist-split"
    assert len(changed(experiment, tuned)) == (name != "head-ablation-none")


@pytest.mark.parametrize("names", [ABLATIONS, HEADS])
def test_every_ablation_makes_another_network(names):
    """An option that repeats a default would change nothing."""
    assert len({repr(EXPERIMENTS[name].build()) for name in names}) == len(names)


@pytest.mark.parametrize("name", ABLATIONS + HEADS)
def test_ablations_never_measure_the_test_images(name):
    experiment = EXPERIMENTS[name]
    assert experiment.config.measure == ("validation",)
    assert experiment.metric == "validation_accuracy"


@pytest.mark.parametrize("name", ABLATIONS + HEADS)
def test_ablations_set_5000_images_aside(name, pretended_mnist):
    EXPERIMENTS[name].load_data("a folder")
    assert pretended_mnist == [("a folder", 5000)]


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("no-floor", 0.0),
        ("floor-one-hundredth", 0.01),
        ("floor-one-tenth", 0.1),
        ("paper-init-no-floor", 0.0),
        ("paper-init-floor-one-tenth", 0.1),
        ("paper-init-floor-three-tenths", 0.3),
    ],
)
def test_floors_are_as_high_as_they_are_called(name, floor):
    experiment = EXPERIMENTS[f"ablation-{name}"]
    layers = [m for m in experiment.build() if isinstance(m, UGMMLayer)]
    assert [layer.min_std for layer in layers] == [floor] * 3
    assert NOTHING_CHANGED.build()[0].min_std not in (0.0, 0.01, 0.1, 0.3)
    assert experiment.title == name.replace("paper-init-", "paper's start, ").replace("-", " ")


def test_frozen_deviations_stay_at_one_as_the_label_says():
    experiment = EXPERIMENTS["ablation-frozen-std"]
    assert experiment.title == "deviations stay at one"
    network = experiment.build()
    assert all((m.std == 1).all() for m in network if isinstance(m, UGMMLayer))
    assert not any("log_std" in name for name, _ in network.named_parameters())


# --- all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_network_of_an_experiment_takes_its_data(name, pretended_mnist):
    experiment = EXPERIMENTS[name]
    x = experiment.load_data().train.x[:2]
    assert x.dim() == (4 if experiment.preset.startswith("CNN") else 2)
    network = experiment.build()
    for out in (network.train()(x), network.eval()(x)):
        assert out.shape == (2, 10)
        assert out.isfinite().all()


def test_experiments_are_kebab_case_and_filed_under_their_names():
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)


def test_experiments_cannot_be_changed_by_mistake():
    with pytest.raises(AttributeError, match="cannot assign"):
        MLP.preset = "uGMM-NN"
    with pytest.raises(AttributeError, match="cannot assign"):
        MLP.config.epochs = 1


def test_a_row_is_called_by_its_label_or_else_its_preset():
    assert Experiment("name", "MLP", TrainConfig()).title == "MLP"
    assert Experiment("name", "MLP", TrainConfig(), label="wider").title == "wider"


@pytest.mark.parametrize(
    ("measure", "metric"),
    [
        (("validation", "test"), "test_accuracy"),
        (("test",), "test_accuracy"),
        (("validation",), "validation_accuracy"),
    ],
)
def test_an_experiment_is_judged_on_the_test_images_if_it_measures_them(measure, metric):
    assert Experiment("name", "MLP", TrainConfig(measure=measure)).metric == metric


# --- groups and names -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_has_its_experiments_in_order_and_no_title_twice(name):
    members = catalogue.group(name)
    assert [e.name for e in members] == [n for n, e in EXPERIMENTS.items() if e.group == name]
    assert len({e.title for e in members}) == len(members) >= 3


def test_every_experiment_but_the_first_epoch_belongs_to_a_group():
    assert {e.name for e in EXPERIMENTS.values() if e.group not in GROUPS} == {"mnist-ugmm-1-epoch"}
    assert EXPERIMENTS["mnist-ugmm-1-epoch"].group is None


@pytest.mark.parametrize("name", ["7", "", "two", 2])
def test_unknown_group_is_refused_and_the_known_ones_named(name):
    known = "2, variants, fair, tuned, ablations, head-ablations, digits, digits-tuned"
    expected = rf"no experiment belongs to table {name!r}: expected one of {known}$"
    with pytest.raises(ValueError, match=expected):
        catalogue.group(name)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_found_by_its_name(name):
    assert catalogue.find(name) is EXPERIMENTS[name]


def test_misspelt_experiment_is_suggested():
    with pytest.raises(ValueError, match=r"no experiment is called 'mnist-umm': did you mean mnist-ugmm"):
        catalogue.find("mnist-umm")


def test_quite_unknown_experiment_gets_the_whole_list():
    with pytest.raises(ValueError, match="it is one of") as caught:
        catalogue.find("imagenet")
    assert all(name in str(caught.value) for name in EXPERIMENTS)


# --- tuned ------------------------------------------------------------------------------------------

TUNED = [name for name in SEARCHES if f"tuned-{name}" in EXPERIMENTS]


def two_digits(value):
    return float(f"{value:.2g}") if isinstance(value, float) else value


SEARCHED = committed("results/tuning/*.json")


@pytest.mark.skipif(not SEARCHED, reason="no checkout of the repository")
def test_every_search_that_was_made_has_its_tuned_experiments():
    assert {path.stem for path in SEARCHED} == set(TUNED)
    assert {e.name for e in catalogue.group("tuned")} == {
        f"tuned-{name}{suffix}" for name in TUNED for suffix in ("", "-long")
    }


@pytest.mark.parametrize("name", TUNED)
@pytest.mark.parametrize("suffix", ["", "-long"])
def test_a_tuned_experiment_is_the_best_trial_of_its_search_with_numbers_of_two_digits(name, suffix):
    outcome = json.loads((ROOT / "results" / "tuning" / f"{name}.json").read_text())
    search, best = SEARCHES[name], outcome["best"]
    assert outcome["search"] == records.as_json(asdict(search))
    assert len(outcome["trials"]) == search.trials
    assert best["accuracy"] == max(t["accuracy"] for t in outcome["trials"] if t["state"] == "complete")
    params = {key: two_digits(value) for key, value in best["params"].items()}
    longer = 5 if suffix else 1
    found = EXPERIMENTS[f"tuned-{name}{suffix}"]
    assert found.preset == search.preset
    assert found.options == search.options | {
        "dropout": (params["dropout"], 0.0, 0.0), "norm": params["norm"],
        **({"init": params["init"]} if search.inits else {}),
    }  # fmt: skip
    falls = (round(2 * search.epochs * longer / 3),) if params["scheduler"] == "multistep" else ()
    assert found.config == TrainConfig(
        epochs=longer * search.epochs,
        learning_rate=params["learning_rate"],
        scheduler=params["scheduler"],
        milestones=falls,
    )
    assert found.data == "mnist"


@pytest.mark.parametrize("name", ["mlp", "mlp-wide", "ugmm"])
def test_on_the_second_set_of_images_a_tuned_network_differs_in_its_widths_alone(name):
    first, second = EXPERIMENTS[f"tuned-{name}-long"], EXPERIMENTS[f"digits-tuned-{name}"]
    assert second.config == first.config
    assert second.preset == first.preset
    assert second.data == "digits"
    assert {**second.options, "widths": None} == {**first.options, "widths": None}
    assert second.options["widths"][::3] == (64, 10)


def test_on_the_second_set_too_the_wide_mlp_has_as_many_parameters_as_the_mixtures():
    wide, mixtures = (size(f"digits-tuned-{name}") for name in ("mlp-wide", "ugmm"))
    assert wide == pytest.approx(mixtures, rel=0.003)


def test_the_ordinary_head_with_wider_layers_has_as_many_parameters_as_the_mixtures():
    wide, mixtures = (size(f"tuned-cnn-{name}") for name in ("mlp-wide", "ugmm"))
    assert wide == pytest.approx(mixtures, rel=0.002)
    assert size("tuned-cnn-mlp") < mixtures / 2


def test_a_network_of_a_seed_is_that_of_the_seeded_state_and_leaves_the_state_alone():
    experiment = EXPERIMENTS["digits-ugmm"]
    torch.manual_seed(4)
    expected = experiment.build().state_dict()
    before = torch.get_rng_state()
    mine, other = experiment.build(4).state_dict(), experiment.build(5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(mine[name], expected[name]) for name in expected)
    assert not torch.equal(mine["0.mean"], other["0.mean"])
