"""Checkpoints: whole or absent at every moment, read without executing anything, refused when damaged."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
import torch

from ugmm_tutorial.training import checkpoints

STATE = {
    "epoch": 3,
    "metrics": [{"loss": 0.25, "name": "a"}, {"loss": float("nan"), "name": None}],
    "milestones": (20, 45),
    "weights": {"mean": torch.arange(12.0).reshape(3, 4), "count": torch.tensor(7)},
    "double": torch.linspace(0, 1, 5, dtype=torch.float64),
    "random": torch.arange(250, dtype=torch.uint8),
}


def _same(left, right) -> bool:
    """Equal in type, dtype and every bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right or (left != left and right != right)


@pytest.fixture
def path(tmp_path) -> Path:
    """A good checkpoint."""
    checkpoints.save(STATE, tmp_path / "run.pt")
    return tmp_path / "run.pt"


def test_what_is_saved_is_loaded_bit_for_bit(path):
    assert _same(checkpoints.load(path), STATE)


def test_saving_makes_the_folder_and_leaves_no_temporary_file(tmp_path):
    checkpoints.save(STATE, tmp_path / "new" / "folder" / "run.pt")
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["run.pt"]


def test_saving_replaces_the_older_state(path):
    checkpoints.save(STATE | {"epoch": 4}, str(path))
    assert checkpoints.load(str(path))["epoch"] == 4


def test_failed_write_keeps_the_older_state_and_leaves_no_temporary_file(path, monkeypatch):
    before = path.read_bytes()

    def disk_full(state, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(STATE | {"epoch": 4}, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_new_state_is_whole_before_it_takes_the_name_of_the_old(path, monkeypatch):
    happened, replace = [], Path.replace

    def watched_replace(self, target):
        happened.append((checkpoints.load(self)["epoch"], checkpoints.load(path)["epoch"]))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched_replace)
    checkpoints.save(STATE | {"epoch": 4}, path)
    assert happened == [(4, STATE["epoch"])]


def _refused(path: Path, why: str) -> str:
    """Assert that the file is refused by its name and left as it is; return the message."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(checkpoints.CheckpointError, match=why) as caught:
        checkpoints.load(path)
    assert str(path) in str(caught.value)
    assert "Nothing was changed; move it away to start over" in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    return str(caught.value)


@pytest.mark.parametrize("left", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_checkpoint_is_refused_and_left_as_it_is(left, path):
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    _refused(path, "cannot be read as a checkpoint")


def test_flipped_byte_is_never_read_as_if_it_were_true(path):
    """A byte may lie in padding; anywhere else the checkpoint is refused, never read differently."""
    content = path.read_bytes()
    refused = 0
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            assert _same(checkpoints.load(path), STATE), position
        except checkpoints.CheckpointError:
            refused += 1
    assert refused > 100


def test_flipped_bit_in_a_weight_is_refused(path):
    content = bytearray(path.read_bytes())
    content[content.index(STATE["weights"]["mean"].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    _refused(path, "checksum")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint\n", bytes(1000)])
def test_other_files_are_refused_and_left_as_they_are(content, tmp_path):
    (tmp_path / "run.pt").write_bytes(content)
    _refused(tmp_path / "run.pt", "cannot be read as a checkpoint")


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match=r"No such file.* Give the path") as caught:
        checkpoints.load(tmp_path / "absent.pt")
    assert str(tmp_path / "absent.pt") in str(caught.value)


def test_missing_checkpoint_of_a_relative_path_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(checkpoints.CheckpointError) as caught:
        checkpoints.load("absent.pt")
    assert str(Path.cwd() / "absent.pt") in str(caught.value)


def test_folder_is_no_checkpoint(tmp_path):
    _refused(tmp_path, "cannot be read as a checkpoint")


def test_checkpoint_that_holds_no_dict_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "run.pt")
    _refused(tmp_path / "run.pt", "holds a list, expected a dict")


class _Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.happens(
    "Training",
    when="somebody has put code into a checkpoint",
    see="an error; the code does not run",
    kept="your machine",
)
def test_code_in_a_checkpoint_is_not_executed(tmp_path):
    path, sign = tmp_path / "run.pt", tmp_path / "executed"
    torch.save({"epoch": 3, "weights": _Bomb(sign)}, path)
    message = _refused(path, "holds other things than tensors")
    assert not sign.exists()
    assert "weights_only" not in message, "the message must not advise to execute the code"
    torch.load(path, weights_only=False)
    assert sign.exists(), "the bomb was meant to be a real one"


def test_code_in_a_plain_pickle_is_not_executed(tmp_path):
    path, sign = tmp_path / "run.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"epoch": 3, "weights": _Bomb(sign)}))
    _refused(path, "cannot be read as a checkpoint")
    assert not sign.exists()
    pickle.loads(path.read_bytes())
    assert sign.exists(), "the bomb was meant to be a real one"


def test_full_disk_in_the_middle_of_writing_is_called_so(tmp_path, monkeypatch):
    """PyTorch's writer would turn it into a RuntimeError about the position in its file."""
    path = tmp_path / "run.pt"
    checkpoints.save({"epoch": 1}, path)

    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() > 0:
                raise OSError(28, "No space left on device")
            return super().write(data)

    real = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: real(state, Full()))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save({"epoch": 2, "weights": torch.rand(1000)}, path)
    assert checkpoints.load(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_other_errors_of_the_writer_stay_what_they_are(tmp_path, monkeypatch):
    def broken(state, file):
        raise RuntimeError("cannot be saved")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="cannot be saved"):
        checkpoints.save(STATE, tmp_path / "run.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"epoch": 1}, "'model' is missing in it"),
        ({"epoch": "1", "model": {}}, "expected its 'epoch' to be int, got str"),
        ({"epoch": True, "model": {}}, "expected its 'epoch' to be int, got bool"),
        ({"epoch": 1, "model": [1]}, "expected its 'model' to be dict, got list"),
    ],
    ids=str,
)
def test_a_state_without_what_is_expected_of_it_is_refused(state, why):
    kinds = {"epoch": int, "model": dict}
    checkpoints.expect({"epoch": 1, "model": {}, "more": None}, kinds, "run.pt")
    with pytest.raises(checkpoints.CheckpointError, match=rf"run\.pt cannot be read .*{why}.* start over"):
        checkpoints.expect(state, kinds, "run.pt")


@pytest.mark.happens(
    "Training",
    when="Ctrl-C comes while a checkpoint is written",
    see="the interruption",
    kept="the checkpoint before it, whole",
)
def test_ctrl_c_in_the_middle_of_writing_stays_one_and_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    """PyTorch's writer would turn it into a RuntimeError about its file."""
    path = tmp_path / "run.pt"
    checkpoints.save({"epoch": 1}, path)

    class Interrupted(io.BytesIO):
        def write(self, data):
            if self.tell() > 0:
                raise KeyboardInterrupt
            return super().write(data)

    real = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: real(state, Interrupted()))
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save({"epoch": 2, "weights": torch.rand(1000)}, path)
    assert checkpoints.load(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
