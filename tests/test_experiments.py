"""The experiments: the paper's settings, and runs that are written, stored, continued and never mixed up."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ugmm_tutorial import checkpoints, data, experiments, records
from ugmm_tutorial.experiments import EXPERIMENTS
from ugmm_tutorial.layers import UGMMLayer

DIGITS = ("digits-mlp", "digits-ugmm", "digits-ugmm-layernorm")
MLP = EXPERIMENTS["digits-mlp"]


pytestmark = pytest.mark.usefixtures("one_thread")


def _run(experiment=MLP, **options) -> records.Record:
    return experiments.run(experiment, progress=False, **options)


def _without_seconds(record: records.Record) -> list[dict]:
    return [{name: v for name, v in epoch.items() if name != "seconds"} for epoch in record.metrics]


def _weights(results: Path, name: str = "digits-mlp", seed: int = 0) -> dict[str, torch.Tensor]:
    return checkpoints.load(results / name / f"seed{seed}.checkpoint.pt")["model"]


def _equal(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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
    rows = [e for e in EXPERIMENTS.values() if e.table == 2]
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
    assert (config.scheduler, config.gamma) == ("multistep", 0.1)
    assert "test" in config.measure


@pytest.mark.parametrize("name", PAPER)
def test_row_of_table_2_drops_half_of_its_128_units_and_nothing_else(name):
    network = EXPERIMENTS[name].build()
    head = network.head if "cnn" in name else network
    if name.endswith("mlp"):
        kinds = [type(module) for module in head]
        assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Linear]
        assert head[0].out_features == 128
        assert head[2].p == 0.5
    else:
        layers = [module for module in head if isinstance(module, UGMMLayer)]
        assert [(layer.out_features, layer.dropout) for layer in layers] == [(128, 0.5), (64, 0.0), (10, 0.0)]
        norms = [module.normalized_shape for module in head if isinstance(module, nn.LayerNorm)]
        assert norms == ([(128,), (64,)] if "layernorm" in name else [])


@pytest.fixture
def pretended_mnist(monkeypatch) -> list:
    """A few noisy images in the place of MNIST; the list tells how mnist() was asked for them."""
    asked = []

    def mnist(folder, *, validation):
        asked.append((folder, validation))
        examples = data.Examples(torch.rand(2, 1, 28, 28), torch.tensor([3, 7]))
        return data.Splits("mnist", "pretended", tuple("0123456789"), examples, examples, examples)

    monkeypatch.setattr(data, "mnist", mnist)
    return asked


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_network_of_an_experiment_takes_its_data(name, pretended_mnist):
    experiment = EXPERIMENTS[name]
    x = experiments.load_data(experiment).train.x[:2]
    assert x.dim() == (4 if "cnn" in name else 2)
    assert experiment.build().eval()(x).shape == (2, 10)


@pytest.mark.parametrize("name", PAPER)
def test_rows_of_the_paper_train_on_all_60000_images(name, pretended_mnist):
    experiments.load_data(EXPERIMENTS[name], "a folder")
    assert pretended_mnist == [("a folder", 0)]


def test_experiments_are_kebab_case_and_filed_under_their_names():
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)


def test_experiments_cannot_be_changed_by_mistake():
    with pytest.raises(AttributeError, match="cannot assign"):
        MLP.preset = "uGMM-NN"
    with pytest.raises(AttributeError, match="cannot assign"):
        MLP.config.epochs = 1


# --- find and table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_found_by_its_name(name):
    assert experiments.find(name) is EXPERIMENTS[name]


def test_misspelt_experiment_is_suggested():
    with pytest.raises(ValueError, match=r"no experiment is called 'mnist-umm': did you mean mnist-ugmm"):
        experiments.find("mnist-umm")


def test_quite_unknown_experiment_gets_the_whole_list():
    with pytest.raises(ValueError, match="it is one of") as caught:
        experiments.find("imagenet")
    assert all(name in str(caught.value) for name in EXPERIMENTS)


def test_table_shows_the_papers_rows_beside_our_records(tmp_path):
    record = _run(replace(MLP, name="mnist-mlp"), epochs=1, results=tmp_path)
    lines = experiments.table(2, tmp_path).splitlines()
    assert len(lines) == 7
    assert f"{100 * record.final['test_accuracy']:.2f}" in lines[1]
    assert lines[1].endswith("1 of 100")
    assert all("no record yet" in line for line in lines[2:])


def test_unknown_table_is_refused_and_the_known_ones_named():
    with pytest.raises(ValueError, match=r"no experiment answers table 7: expected one of \[2\]"):
        experiments.table(7)


# --- run: end to end on the digits ------------------------------------------------------------------


@pytest.mark.parametrize("name", DIGITS)
def test_digits_experiment_runs_and_writes_its_record_where_promised(name, tmp_path):
    record = _run(EXPERIMENTS[name], seed=3, epochs=2, results=tmp_path)
    folder = tmp_path / name
    assert sorted(path.name for path in folder.iterdir()) == ["seed3.checkpoint.pt", "seed3.json"]
    assert records.read(folder / "seed3.json") == record
    assert record.experiment == name
    assert (record.config["seed"], record.config["epochs"], len(record.metrics)) == (3, 2, 2)
    assert record.model["preset"] == EXPERIMENTS[name].preset
    assert record.model["options"]["widths"] == [64, 64, 10]
    assert record.data["sizes"] == {"train": 1257, "validation": 180, "test": 360}
    assert record.final["train_loss"] < record.metrics[0]["train_loss"]
    assert record.final["test_accuracy"] > 0.2, "no better than guessing"


def test_running_again_returns_the_stored_record_without_training(tmp_path, monkeypatch):
    first = _run(epochs=1, results=tmp_path)
    before = _files(tmp_path)
    monkeypatch.setattr(experiments, "train", _must_not_be_called)
    monkeypatch.setattr(experiments, "load_data", _must_not_be_called)
    assert _run(epochs=1, results=tmp_path) == first
    assert _files(tmp_path) == before


def _must_not_be_called(*arguments, **options):
    raise AssertionError("there was nothing to do")


def test_extending_an_experiment_equals_a_longer_run(tmp_path):
    _run(epochs=1, results=tmp_path / "extended")
    extended = _run(epochs=3, results=tmp_path / "extended")
    longer = _run(epochs=3, results=tmp_path / "longer")
    assert _without_seconds(extended) == _without_seconds(longer)
    assert extended.config == longer.config
    assert _equal(_weights(tmp_path / "extended"), _weights(tmp_path / "longer"))
    assert records.read(tmp_path / "extended" / "digits-mlp" / "seed0.json") == extended


def test_record_that_cannot_be_continued_is_refused_and_kept(tmp_path):
    """Records are committed, checkpoints are not: training anew would overwrite what was recorded."""
    _run(epochs=1, results=tmp_path)
    path = tmp_path / "digits-mlp" / "seed0.json"
    path.with_suffix(".checkpoint.pt").unlink()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"has 1 of 2 epochs, but seed0.checkpoint.pt is not there"):
        _run(epochs=2, results=tmp_path)
    assert path.read_bytes() == before


def test_first_epoch_experiment_is_the_first_epoch_of_its_row():
    row, first = EXPERIMENTS["mnist-ugmm"], EXPERIMENTS["mnist-ugmm-1-epoch"]
    assert (first.preset, first.options, first.data) == (row.preset, row.options, row.data)
    assert first.config == replace(row.config, epochs=1)
    assert first.table is None


def _committed():
    """Records in the repository; what a reader has trained beside them is the reader's."""
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "ls-files", "results/*/seed*.json"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []
    return [root / name for name in listed if (root / name).exists()]


COMMITTED = _committed()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_committed_record_is_complete_and_of_its_experiment_as_it_is_now(path):
    record = records.read(path)
    experiment = EXPERIMENTS[path.parent.name]
    seed = int(path.stem.removeprefix("seed"))
    assert experiments.stored(experiment, seed=seed, results=path.parents[1]) == record
    assert len(record.environment["commit"]) == 40, "made from a commit, without changes"


def test_run_that_ended_before_its_record_was_written_only_writes_it(tmp_path, monkeypatch):
    def cut_off(record, path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(records, "write", cut_off)
        with pytest.raises(KeyboardInterrupt):
            _run(epochs=2, results=tmp_path)
    weights = _weights(tmp_path)
    record = _run(epochs=2, results=tmp_path)
    assert len(record.metrics) == 2
    assert _equal(_weights(tmp_path), weights)
    assert records.read(tmp_path / "digits-mlp" / "seed0.json") == record


def test_seed_fixes_a_run_and_another_seed_gives_another(tmp_path):
    with torch.random.fork_rng([]):
        first = _run(EXPERIMENTS["digits-ugmm"], epochs=1, results=tmp_path / "a")
        torch.manual_seed(12345)
        again = _run(EXPERIMENTS["digits-ugmm"], epochs=1, results=tmp_path / "b")
    other = _run(EXPERIMENTS["digits-ugmm"], epochs=1, seed=1, results=tmp_path / "a")
    weights = _weights(tmp_path / "a", "digits-ugmm")
    assert _without_seconds(first) == _without_seconds(again) != _without_seconds(other)
    assert _equal(weights, _weights(tmp_path / "b", "digits-ugmm"))
    assert not _equal(weights, _weights(tmp_path / "a", "digits-ugmm", seed=1))


def test_seed_also_draws_the_initial_parameters(tmp_path, monkeypatch):
    first_weights = []

    def stop(model, *arguments, **options):
        first_weights.append(next(model.parameters()).clone())
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "train", stop)
    for seed in (0, 0, 1):
        with pytest.raises(KeyboardInterrupt):
            _run(seed=seed, results=tmp_path)
    same, again, other = first_weights
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_global_random_state_of_the_caller_stays(tmp_path):
    before = torch.get_rng_state()
    _run(epochs=1, results=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_of_the_experiment_are_the_default(tmp_path):
    short = replace(MLP, config=replace(MLP.config, epochs=1))
    assert len(_run(short, results=tmp_path).metrics) == 1


# --- run: refusals ----------------------------------------------------------------------------------


def test_fewer_epochs_than_the_record_has_are_refused(tmp_path):
    _run(epochs=2, results=tmp_path)
    before = _files(tmp_path)
    with pytest.raises(ValueError, match=r"seed0\.json has 2 epochs already, more than the 1 asked for"):
        _run(epochs=1, results=tmp_path)
    assert _files(tmp_path) == before


@pytest.mark.parametrize(
    "other",
    [
        replace(MLP, config=replace(MLP.config, learning_rate=1e-3)),
        replace(MLP, options=MLP.options | {"dropout": 0.5}),
        replace(MLP, preset="uGMM-NN"),
    ],
    ids=["config", "options", "preset"],
)
def test_record_of_other_settings_is_refused_by_name(other, tmp_path):
    _run(epochs=1, results=tmp_path)
    before = _files(tmp_path)
    with pytest.raises(
        ValueError, match=r"other settings than digits-mlp .* Move it away to train anew"
    ) as e:
        _run(other, epochs=1, results=tmp_path)
    assert str(tmp_path / "digits-mlp" / "seed0.json") in str(e.value)
    assert _files(tmp_path) == before


def test_checkpoint_of_other_settings_is_refused_where_the_record_is_missing(tmp_path):
    _run(epochs=1, results=tmp_path)
    (tmp_path / "digits-mlp" / "seed0.json").unlink()
    before = _files(tmp_path)
    with pytest.raises(checkpoints.CheckpointError, match="belongs to another run"):
        _run(replace(MLP, config=replace(MLP.config, learning_rate=1e-3)), epochs=1, results=tmp_path)
    assert _files(tmp_path) == before


@pytest.mark.parametrize("name", ["seed0.json", "seed0.checkpoint.pt"])
def test_damaged_file_of_a_run_is_refused_by_name_and_left_as_it_is(name, tmp_path):
    _run(epochs=1, results=tmp_path)
    damaged = tmp_path / "digits-mlp" / name
    damaged.write_bytes(damaged.read_bytes()[:-30])
    before = _files(tmp_path)
    with pytest.raises((records.RecordError, checkpoints.CheckpointError), match=re.escape(str(damaged))):
        _run(epochs=2, results=tmp_path)
    assert _files(tmp_path) == before


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": -1}, {"seed": -1}, {"seed": 2**64}], ids=str)
def test_wrong_numbers_are_refused_before_anything_is_written(wrong, tmp_path):
    with pytest.raises(ValueError, match=f"expected {next(iter(wrong))} to be an integer"):
        _run(results=tmp_path / "results", **wrong)
    assert not (tmp_path / "results").exists()


def test_missing_data_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_answers", lambda url: False)
    with pytest.raises(data.DataUnavailableError, match="MNIST is not complete"):
        _run(EXPERIMENTS["mnist-mlp"], data_dir=tmp_path / "data", results=tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


# --- the true MNIST, where it is --------------------------------------------------------------------


def test_first_epoch_of_the_papers_mlp_learns_from_the_true_mnist(tmp_path):
    folder = os.environ.get("UGMM_DATA_DIR")
    if not folder or not all(Path(folder, "MNIST", "raw", name).exists() for name in data._MNIST_MD5):
        pytest.skip("UGMM_DATA_DIR names no folder with MNIST")
    record = _run(EXPERIMENTS["mnist-mlp"], epochs=1, results=tmp_path)
    assert record.data["sizes"] == {"train": 60000, "validation": 0, "test": 10000}
    assert record.final["test_accuracy"] > 0.92
    assert "1 of 100" in experiments.table(2, tmp_path)
