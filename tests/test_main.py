"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ugmm_tutorial
from ugmm_tutorial import experiments
from ugmm_tutorial.__main__ import main
from ugmm_tutorial.data import idx_files
from ugmm_tutorial.experiments import Run, cost_table, runs
from ugmm_tutorial.training import TrainingError, loop, records
from ugmm_tutorial.training.checkpoints import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")


def _train(results: Path, *more: str, name: str = "digits-mlp") -> int:
    return main(["train", name, "--results", str(results), *more])


# --- what works -------------------------------------------------------------------------------------


def test_list_shows_every_experiment_with_its_settings(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(experiments.EXPERIMENTS)
    assert lines[1].split() == ["mnist-ugmm", "uGMM-NN", "mnist", "100", "epochs,", "lr", "0.01"]
    by_name = dict(zip(experiments.EXPERIMENTS, lines, strict=True))
    assert "dropout as in the paper's equation" in by_name["ablation-literal"]
    assert by_name["ablation-literal"].split()[-5:] == ["mnist-split", "15", "epochs,", "lr", "0.01"]


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"ugmm_tutorial {ugmm_tutorial.__version__}\n"


def test_train_writes_the_record_that_it_names(tmp_path, capsys):
    assert _train(tmp_path, "--epochs", "2", "--seed", "4") == 0
    summary, path = capsys.readouterr().out.splitlines()
    record = records.read(path)
    assert Path(path) == tmp_path / "digits-mlp" / "seed4.json"
    assert record.config["seed"] == 4
    assert len(record.metrics) == 2
    assert summary.startswith("digits-mlp, seed 4, epoch 2: test accuracy ")
    assert f"{100 * record.final['test_accuracy']:.2f} %" in summary
    assert f"test loss {record.final['test_loss']:.4f}" in summary


def test_train_uses_what_it_is_told(tmp_path, monkeypatch):
    seen = {}

    def train(run, **options):
        seen.update(options, name=run.experiment.name, seed=run.seed, epochs=run.epochs, results=run.results)
        raise TrainingError("seen enough")

    monkeypatch.setattr(Run, "train", train)
    told = ("--data-dir", "d", "--device", "cpu", "--cuda-graph")
    assert _train(tmp_path, *told, name="mnist-cnn-mlp") == 1
    expected = {"seed": 0, "epochs": None, "device": "cpu", "data_dir": "d", "results": str(tmp_path)}
    assert seen == expected | {"name": "mnist-cnn-mlp", "cuda_graph": True}


def test_table_prints_the_papers_rows(tmp_path, capsys):
    assert main(["table", "2", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "98.34" in out
    assert out.count("no record yet") == 6
    assert out.splitlines()[0].endswith("verdict")


@pytest.mark.parametrize("name", experiments.GROUPS)
def test_table_prints_the_rows_of_every_group(name, tmp_path, capsys):
    assert main(["table", name, "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == experiments.table(name, tmp_path) + "\n"


@pytest.mark.parametrize("option", ["--costs", "--prices"])
def test_table_of_costs_says_what_networks_need(option, tmp_path, capsys):
    assert main(["table", "fair", option, "--results", str(tmp_path)]) == 0
    out, error = capsys.readouterr()
    assert out == cost_table.cost_table("fair", tmp_path) + "\n"
    assert error == ("--prices is called --costs since version 0.2\n" if option == "--prices" else "")


def test_table_of_ablations_shows_what_train_has_written(tmp_path, capsys, pretended_mnist):
    assert _train(tmp_path, name="ablation-norm-after") == 0
    summary, _ = capsys.readouterr().out.splitlines()
    record = records.read(tmp_path / "ablation-norm-after" / "seed0.json")
    accuracy = f"{100 * record.final['validation_accuracy']:.2f}"
    assert f"epoch 15: validation accuracy {accuracy} %, validation loss " in summary
    assert "test" not in summary
    assert main(["table", "ablations", "--results", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if "no record yet" not in line and not line.startswith("model")]
    assert row.split() == ["LayerNorm", "on", "the", "outputs", "too", accuracy, "1", "15", "of", "15"]


# --- wrong arguments: status 2 ----------------------------------------------------------------------


WRONG_ARGUMENTS = [
    ([], "required: COMMAND"),
    (["fly"], "invalid choice: 'fly'"),
    (["train"], "required: NAME"),
    (["train", "digits-mpl"], "no experiment is called 'digits-mpl': did you mean digits-mlp"),
    (["train", "imagenet"], "no experiment is called 'imagenet': it is one of mnist-mlp"),
    (["train", "digits-mlp", "--epochs", "0"], "expected epochs >= 1, got 0"),
    (["train", "digits-mlp", "--epochs", "-2"], "expected epochs >= 1, got -2"),
    (["train", "digits-mlp", "--epochs", "many"], "invalid int value: 'many'"),
    (["train", "digits-mlp", "--seed", "-1"], "expected seed from 0 to 4294967295"),
    (["train", "digits-mlp", "--seed", str(2**32)], "expected seed from 0 to 4294967295"),
    (["train", "digits-mlp", "--device", "tpu"], "unknown device 'tpu': expected cpu, cuda or cuda:N"),
    (["train", "digits-mlp", "--device", "meta"], "unknown device 'meta': expected cpu, cuda or cuda:N"),
    (["train", "digits-mlp", "--device", "cuda:-1"], "unknown device 'cuda:-1'"),
    (["train", "digits-mlp", "--device", "cuda:999"], "device 'cuda:999' is not here"),
    (["train", "digits-mlp", "--device", "cuda:256"], "device 'cuda:256' is not here"),
    (["train", "digits-mlp", "--seed", "99", "--cuda-graph"], "expected a CUDA device for cuda_graph=True"),
    (["train", "digits-mlp", "--colour"], "unrecognized arguments: --colour"),
    (["table"], "required: TABLE"),
    (
        ["table", "two"],
        "no experiment belongs to table 'two': expected one of 2, variants, fair, tuned, ablations, "
        "head-ablations, digits, digits-tuned",
    ),
    (
        ["table", "7"],
        "no experiment belongs to table '7': expected one of 2, variants, fair, tuned, ablations, "
        "head-ablations, digits, digits-tuned",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG_ARGUMENTS, ids=[" ".join(arguments) for arguments, _ in WRONG_ARGUMENTS]
)
def test_wrong_arguments_end_with_status_2_and_a_message(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("usage: python -m ugmm_tutorial")
    assert list(tmp_path.iterdir()) == []


def test_fewer_epochs_than_the_record_has_are_wrong_arguments(tmp_path, capsys):
    assert _train(tmp_path, "--epochs", "2") == 0
    with pytest.raises(SystemExit) as stop:
        _train(tmp_path, "--epochs", "1")
    assert stop.value.code == 2
    assert "has 2 epochs already" in capsys.readouterr().err


def test_run_that_has_its_record_is_not_trained_again_and_says_so(tmp_path, capsys):
    assert _train(tmp_path, "--epochs", "1") == 0
    first = capsys.readouterr().out
    assert _train(tmp_path, "--epochs", "1") == 0
    again = capsys.readouterr().out
    assert again.startswith("trained already, ")
    assert again.endswith(first)


# --- what goes wrong later: status 1 ----------------------------------------------------------------


def _assert_failed(status: int, message: str, capsys) -> None:
    """Status 1, one line of explanation, no traceback."""
    assert status == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_missing_data_is_explained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(idx_files, "_answers", lambda url: False)
    status = _train(tmp_path / "results", "--data-dir", str(tmp_path / "data"), name="mnist-mlp")
    _assert_failed(status, f"MNIST is not complete in {tmp_path / 'data' / 'MNIST' / 'raw'}", capsys)
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_are_explained(tmp_path, capsys):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"half of it")
    status = _train(tmp_path / "results", "--data-dir", str(tmp_path), name="mnist-mlp")
    _assert_failed(status, "train-images-idx3-ubyte is truncated or altered", capsys)


@pytest.mark.parametrize("error", [TrainingError, CheckpointError, PermissionError])
def test_failing_run_is_explained(error, tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise error("the reason")

    monkeypatch.setattr(runs, "train", fail)
    _assert_failed(_train(tmp_path), "error: the reason\n", capsys)


@pytest.mark.parametrize("name", ["seed0.json", "seed0.checkpoint.pt"])
def test_damaged_file_of_a_run_is_explained(name, tmp_path, capsys):
    assert _train(tmp_path, "--epochs", "1") == 0
    damaged = tmp_path / "digits-mlp" / name
    damaged.write_bytes(damaged.read_bytes()[:-30])
    capsys.readouterr()
    _assert_failed(_train(tmp_path, "--epochs", "2"), str(damaged), capsys)


def test_damaged_record_is_explained_where_a_table_needs_it(tmp_path, capsys):
    (tmp_path / "mnist-mlp").mkdir()
    (tmp_path / "mnist-mlp" / "seed0.json").write_text("{")
    status = main(["table", "2", "--results", str(tmp_path)])
    _assert_failed(status, "seed0.json is not a record of this package", capsys)


def test_results_that_cannot_be_written_are_explained(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    status = _train(tmp_path / "file", "--epochs", "1")
    assert status == 1
    assert "error: " in capsys.readouterr().err


# --- interrupted: status 130 ------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["train", "mnist-mlp"], ["tune", "mlp"], ["study", "iris"]])
def test_results_that_cannot_be_written_are_found_out_before_anything_is_loaded(
    command, tmp_path, capsys, monkeypatch
):
    def too_late(*arguments, **options):
        raise AssertionError("loaded first")

    monkeypatch.setattr(experiments.Experiment, "load_data", too_late)
    (tmp_path / "results").touch()
    assert main([*command, "--results", str(tmp_path / "results")]) == 1
    assert "write to another folder" in capsys.readouterr().err


def test_a_bench_whose_file_cannot_be_written_measures_nothing(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["bench", "--quick", "--output", str(tmp_path / "file" / "rows.csv")]) == 1
    error = capsys.readouterr().err
    assert "write to another folder" in error
    assert "measuring" not in error


@pytest.mark.slow
@pytest.mark.happens(
    "Long work",
    when="the terminal cannot show a sign",
    see="another sign in its place",
    kept="all measurements",
)
def test_a_code_page_without_our_signs_loses_no_measurement(tmp_path):
    """Python gives redirected output on Windows such a page."""
    rows = tmp_path / "rows.csv"
    command = [sys.executable, "-m", "ugmm_tutorial", "bench", "--quick", "--only", "limit", "--output", rows]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode("cp1252")
    assert rows.stat().st_size > 0
    assert str(rows) in done.stdout.decode("cp1252")


def test_interrupted_training_goes_on_to_the_same_end(tmp_path, monkeypatch, capsys):
    """Ctrl-C in the third epoch, then the same command again."""
    measured, evaluate = [], loop.evaluate

    def interrupted(*arguments):
        measured.append(1)
        if len(measured) == 5:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", interrupted)
        assert _train(tmp_path / "a", "--epochs", "4") == 130
    err = capsys.readouterr().err
    assert "interrupted: the same command goes on after the last finished epoch" in err
    assert not (tmp_path / "a" / "digits-mlp" / "seed0.json").exists()

    assert _train(tmp_path / "a", "--epochs", "4") == 0
    assert len(measured) == 5
    assert _train(tmp_path / "b", "--epochs", "4") == 0
    ours, expected = (records.read(tmp_path / folder / "digits-mlp" / "seed0.json") for folder in "ab")
    for metric in ("train_loss", "validation_loss", "test_loss", "test_accuracy", "learning_rate"):
        assert ours.curve(metric) == expected.curve(metric)


@pytest.mark.parametrize(
    ("arguments", "function", "message"),
    [
        (
            ["study", "iris"],
            "ugmm_tutorial.experiments.studies.run",
            "interrupted: no results were written; the same command measures",
        ),
        (
            ["bench"],
            "ugmm_tutorial.experiments.bench.run",
            "interrupted: no results were written; the same command starts",
        ),
        (
            ["tune", "mlp"],
            "ugmm_tutorial.experiments.tuning.run",
            "interrupted: the trial that was running is lost; the",
        ),
        (
            ["train", "digits-mlp"],
            "ugmm_tutorial.__main__.Run.train",
            "interrupted: the same command goes on aft",
        ),
        (["table", "2"], "ugmm_tutorial.__main__.table", "interrupted\n"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_interrupted_command_says_what_becomes_of_it(
    arguments, function, message, tmp_path, monkeypatch, capsys
):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(function, interrupt)
    assert main(arguments) == 130
    assert capsys.readouterr().err.startswith(f"\n{message}")


def test_record_that_does_not_tell_when_it_was_made_is_explained(tmp_path, capsys):
    assert _train(tmp_path, "--epochs", "1") == 0
    path = tmp_path / "digits-mlp" / "seed0.json"
    record = json.loads(path.read_text())
    del record["environment"]["finished"]
    path.write_text(json.dumps(record))
    capsys.readouterr()
    _assert_failed(_train(tmp_path, "--epochs", "1"), "KeyError: 'finished'", capsys)


# --- as a program -----------------------------------------------------------------------------------


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ugmm_tutorial", *arguments]


def _quiet() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


@pytest.mark.slow
def test_program_trains_into_the_folder_results(tmp_path):
    command = _command("train", "digits-mlp", "--epochs", "1")
    done = subprocess.run(
        command, cwd=tmp_path, env=_quiet(), capture_output=True, encoding="utf-8", timeout=600
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / "results" / "digits-mlp" / "seed0.json"
    assert done.stdout.splitlines()[-1] == "results/digits-mlp/seed0.json"
    assert len(json.loads(path.read_text())["metrics"]) == 1


def _press_ctrl_c(process):
    """Until the program ends, as a user would; returns what it wrote on stderr.

    Once in many runs an interrupt was lost; compiled code that asks Python for an attribute, and takes any
    exception for a no, is the suspect.
    """
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=60)[1]
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("three interrupts, and it goes on")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to another process")
def test_program_that_gets_ctrl_c_ends_with_status_130_and_its_checkpoint(tmp_path):
    command = _command("train", "digits-mlp", "--epochs", "1000000")
    checkpoint = tmp_path / "results" / "digits-mlp" / "seed0.checkpoint.pt"
    process = subprocess.Popen(
        command, cwd=tmp_path, env=_quiet(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        deadline = time.monotonic() + 600
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        err = _press_ctrl_c(process)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "interrupted: the same command goes on" in err
    assert "Traceback" not in err
    assert checkpoint.exists()
