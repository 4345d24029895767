"""Records: what is written is read back, nothing half-written appears, intervals are Student's."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from ugmm_tutorial.training import records
from ugmm_tutorial.training.records import Record


def _record(*accuracies: float, seed: int = 0) -> Record:
    """A record with one epoch per test accuracy."""
    return Record(
        config={"seed": seed, "milestones": [20, 45]},
        data={"name": "digits", "sizes": {"train": 3}},
        model={"network": "MLP"},
        metrics=tuple({"epoch": n, "test_accuracy": a} for n, a in enumerate(accuracies, start=1)),
        seconds=1.5,
        environment={"device": "a machine", "commit": None, "finished": "2026-01-01T00:00:00+00:00"},
        experiment="digits-mlp",
        notes=("a note, with an é",),
    )


# --- writing and reading ----------------------------------------------------------------------------


def test_written_record_is_read_back_equal(tmp_path):
    record = _record(0.1, 1 / 3)
    path = records.write(record, tmp_path / "new" / "folder" / "seed0.json")
    assert path == tmp_path / "new" / "folder" / "seed0.json"
    assert records.read(path) == record
    assert records.read(str(path)) == record
    assert [p.name for p in path.parent.iterdir()] == ["seed0.json"]


def test_record_is_plain_json_that_others_can_read(tmp_path):
    text = records.write(_record(0.5), tmp_path / "seed0.json").read_text(encoding="ascii")
    assert json.loads(text)["metrics"] == [{"epoch": 1, "test_accuracy": 0.5}]
    assert text.endswith("}\n")


def test_number_that_json_does_not_know_is_refused_and_the_older_record_stays(tmp_path):
    path = records.write(_record(0.5), tmp_path / "seed0.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(_record(math.nan), path)
    assert records.read(path) == _record(0.5)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("older", [True, False])
def test_half_written_record_never_appears(older, tmp_path, monkeypatch):
    """Before the new text is on the disk its file has another name; a failure there removes it."""
    path = tmp_path / "seed0.json"
    if older:
        records.write(_record(0.1), path)

    def disk_full(file):
        assert older == path.exists()
        assert len(list(tmp_path.iterdir())) == older + 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        records.write(_record(0.2), path)
    assert list(tmp_path.iterdir()) == [path] * older
    if older:
        assert records.read(path) == _record(0.1)


GOOD = json.loads(json.dumps(asdict(_record(0.5))))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        json.dumps(GOOD).encode()[:-20],
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b'"text"',
        json.dumps({key: value for key, value in GOOD.items() if key != "metrics"}).encode(),
        json.dumps({key: value for key, value in GOOD.items() if key != "environment"}).encode(),
        json.dumps(GOOD | {"colour": "red"}).encode(),
        json.dumps(GOOD | {"metrics": 3}).encode(),
        b'{"a":' * 5000,
    ],
    ids=[
        "empty",
        "half",
        "bytes",
        "list",
        "null",
        "text",
        "no metrics",
        "no environment",
        "more",
        "number",
        "deep",
    ],
)
def test_file_that_is_no_record_is_refused_by_name_and_left_as_it_is(content, tmp_path):
    path = tmp_path / "seed0.json"
    path.write_bytes(content)
    with pytest.raises(records.RecordError, match=r"is not a record of this package.*Nothing was") as caught:
        records.read(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


EPOCH = {"epoch": 1, "test_accuracy": 0.5}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metrics": [1, 2]}, "expected the metrics of an epoch to be dict, got 1"),
        ({"metrics": "ab"}, "expected metrics to be list, got 'ab'"),
        ({"metrics": []}, "expected metrics of at least one epoch, got none"),
        ({"metrics": [EPOCH, EPOCH]}, "expected the metrics of epoch 2, .* got {'epoch': 1"),
        ({"metrics": [EPOCH, {"epoch": 2}]}, "expected the metrics of epoch 2, the same as of the first"),
        ({"metrics": [{"test_accuracy": 0.5}]}, "KeyError: 'epoch'"),
        ({"metrics": [EPOCH | {"test_accuracy": 99}]}, "test_accuracy of epoch 1 to be from 0 to 1, got 99"),
        ({"metrics": [EPOCH | {"test_accuracy": -0.1}]}, "to be from 0 to 1, got -0.1"),
        (
            {"metrics": [EPOCH | {"test_loss": math.nan}]},
            "expected test_loss of epoch 1 to be finite, got nan",
        ),
        ({"metrics": [EPOCH | {"test_loss": math.inf}]}, "to be finite, got inf"),
        (
            {"metrics": [EPOCH | {"test_accuracy": "0.5"}]},
            "expected test_accuracy to be int or float, got '0",
        ),
        ({"config": []}, r"expected config to be dict, got \[\]"),
        ({"config": {}}, "KeyError: 'seed'"),
        ({"config": {"seed": "0"}}, "expected the seed to be int, got '0'"),
        ({"config": {"seed": True}}, "expected the seed to be int, got True"),
        ({"model": None}, "expected model to be dict, got None"),
        ({"data": "digits"}, "expected data to be dict, got 'digits'"),
        ({"seconds": "x"}, "expected seconds to be int or float, got 'x'"),
        ({"experiment": 3}, "expected experiment to be str or NoneType, got 3"),
        ({"notes": "a note"}, "expected notes to be list, got 'a note'"),
        ({"notes": [1]}, "expected a note to be str, got 1"),
        ({"environment": {"device": "a machine"}}, "KeyError: 'finished'"),
        ({"environment": {"finished": "now"}}, "KeyError: 'device'"),
        ({"environment": None}, "expected environment to be dict, got None"),
    ],
    ids=str,
)
@pytest.mark.happens(
    "Long work",
    when="a record was edited to what cannot be",
    see="an error with the reason",
    kept="the record as it is",
)
def test_record_that_was_edited_to_something_else_is_refused_with_the_reason(change, why, tmp_path):
    path = tmp_path / "seed0.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(records.RecordError, match=why):
        records.read(path)


def test_refusal_says_what_is_missing_in_the_record(tmp_path):
    path = tmp_path / "seed0.json"
    path.write_text(json.dumps({key: value for key, value in GOOD.items() if key != "metrics"}))
    with pytest.raises(ValueError, match="KeyError: 'metrics'"):
        records.read(path)


def test_missing_record_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        records.read(tmp_path / "absent.json")


def test_read_all_gives_an_experiments_records_by_seed(tmp_path):
    for seed in (10, 2, 1):
        records.write(_record(0.5, seed=seed), tmp_path / "digits-mlp" / f"seed{seed}.json")
    records.write(_record(0.5), tmp_path / "digits-ugmm" / "seed0.json")
    (tmp_path / "digits-mlp" / "seed1.checkpoint.pt").write_bytes(b"no record")
    (tmp_path / "digits-mlp" / "seed1.json.123.tmp").write_bytes(b"left by a kill")
    assert [r.config["seed"] for r in records.read_all(tmp_path, "digits-mlp")] == [1, 2, 10]
    assert records.read_all(tmp_path, "mnist-mlp") == []


@pytest.mark.parametrize("name", ["seed1.old.json", "seed1 (copy).json", "seed10.json", "seed01.json"])
def test_copies_of_a_record_are_not_counted(name, tmp_path):
    path = records.write(_record(0.5, seed=1), tmp_path / "digits-mlp" / "seed1.json")
    shutil.copy(path, path.with_name(name))
    assert records.read_all(tmp_path, "digits-mlp") == [_record(0.5, seed=1)]


def test_a_copy_that_is_no_record_is_not_even_read(tmp_path):
    path = records.write(_record(0.5), tmp_path / "digits-mlp" / "seed0.json")
    path.with_name("seed0.old.json").write_text("{")
    assert records.read_all(tmp_path, "digits-mlp") == [_record(0.5)]


# --- what is written beside records -----------------------------------------------------------------


def test_a_list_of_numbers_is_one_line_and_no_string_is_touched(tmp_path):
    fields = {"a": [1, -2.5, 1e-07], "b": [[0.5], [], ["[1,  2]", 3]], "c": "[1,  2]\n[\n 3\n]"}
    text = records.write_json(fields, tmp_path / "a.json").read_text(encoding="utf-8")
    assert ' "a": [1, -2.5, 1e-07],\n' in text
    assert json.loads(text) == fields


def test_any_json_is_written_as_a_whole(tmp_path):
    path = records.write_json({"a": (1, "é")}, tmp_path / "new" / "a.json")
    assert path.read_text() == '{\n "a": [\n  1,\n  "\\u00e9"\n ]\n}\n'
    assert list(path.parent.iterdir()) == [path]


# --- what a record answers --------------------------------------------------------------------------


def test_final_metrics_are_the_last_ones_not_the_best():
    assert _record(0.1, 0.9, 0.5).final == {"epoch": 3, "test_accuracy": 0.5}


def test_curve_follows_one_metric_over_the_epochs():
    assert _record(0.1, 0.9, 0.5).curve("test_accuracy") == [0.1, 0.9, 0.5]


def test_unknown_curve_lists_what_was_measured():
    with pytest.raises(KeyError, match="no metric 'loss' in this record: it has epoch, test_accuracy"):
        _record(0.1).curve("loss")


def test_as_json_is_what_json_would_give_back():
    assert records.as_json({"a": (1, (2,)), "b": {"c": None}}) == {"a": [1, [2]], "b": {"c": None}}


# --- intervals --------------------------------------------------------------------------------------


def test_interval_equals_the_one_computed_by_hand():
    # Mean 2, standard deviation 1, three values: t(0.975; 2) = 4.302653, divided by the root of 3.
    assert records.mean_and_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.484138), abs=1e-6)
    # Mean 5; squared deviations 9 + 1 + 1 + 9 = 20, so variance 20/3; t(0.975; 3) = 3.182446.
    expected = (5.0, 3.182446 * math.sqrt(20 / 3) / 2)
    assert records.mean_and_interval([2.0, 4.0, 6.0, 8.0]) == pytest.approx(expected, abs=1e-5)


def test_single_value_has_no_interval():
    mean, half = records.mean_and_interval([0.25])
    assert mean == 0.25
    assert math.isnan(half)


# --- the environment --------------------------------------------------------------------------------


def test_environment_names_versions_device_and_time():
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    found = records.environment("cpu")
    after = datetime.datetime.now(datetime.UTC)
    assert set(found) == {"device", "threads", "python", "system", "versions", "commit", "finished"}
    assert found["device"].endswith(f", {os.cpu_count()} cores")
    assert found["threads"] == torch.get_num_threads()
    assert found["python"] == platform.python_version()
    assert found["system"] == platform.system()
    for package in ("torch", "torchvision", "numpy", "scikit-learn"):
        assert found["versions"][package] == importlib.metadata.version(package)
    finished = datetime.datetime.fromisoformat(found["finished"])
    assert finished.utcoffset() == datetime.timedelta(0)
    assert before <= finished <= after
    assert records.as_json(found) == found


def test_package_that_is_not_installed_has_no_version():
    assert records._version("no-package-of-this-name") is None


def test_record_survives_json_with_its_true_environment(tmp_path):
    record = replace(_record(0.5), environment=records.environment("cpu"))
    assert records.read(records.write(record, tmp_path / "seed0.json")) == record


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A copy of records.py, loaded from a folder of its own, and a way to run git there."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    folder = tmp_path / "ugmm_tutorial"
    folder.mkdir()
    shutil.copy(records.__file__, folder)
    (folder / ".gitignore").write_text("__pycache__\n.gitignore\n")  # a checkout has one, further up
    spec = importlib.util.spec_from_file_location("records_elsewhere", folder / "records.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "records_elsewhere", module)  # dataclasses look it up
    spec.loader.exec_module(module)

    def git(*words: str) -> str:
        who = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
        done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return module, git


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def test_package_outside_git_has_no_commit(elsewhere):
    assert elsewhere[0]._commit() is None


def test_package_without_git_on_the_machine_has_no_commit(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert elsewhere[0]._commit() is None


@needs_git
def test_package_installed_inside_another_checkout_has_no_commit_of_its_own(elsewhere):
    module, git = elsewhere
    git("init", "--quiet", "..")
    git("commit", "--quiet", "--allow-empty", "-m", "something else")
    assert module._commit() is None


@needs_git
def test_commit_of_the_checkout_is_found_and_marked_if_the_package_differs(elsewhere):
    module, git = elsewhere
    git("init", "--quiet", "..")
    git("add", "records.py")
    git("commit", "--quiet", "-m", "the package")
    commit = git("rev-parse", "HEAD")
    assert len(commit) == 40
    assert module._commit() == commit
    Path(module.__file__).parent.with_name("notes.txt").write_text("beside the package")
    assert module._commit() == commit
    with Path(module.__file__).open("a") as file:
        file.write("# changed\n")
    assert module._commit() == f"{commit}-dirty"
