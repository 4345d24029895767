"""Files take their name as a whole, and keep it when the power fails."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ugmm_tutorial.training import files, records


@pytest.fixture
def path(tmp_path) -> Path:
    """A file of an earlier day."""
    path = tmp_path / "file"
    path.write_text("older")
    return path


def _is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_new_content_takes_the_name_when_the_block_ends(path):
    with files.replacing(path) as file:
        file.write("newer")
        assert path.read_text() == "older"
    assert path.read_text() == "newer"
    assert list(path.parent.iterdir()) == [path]


def test_bytes_and_missing_folders(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    with files.replacing(path, "wb") as file:
        file.write(b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_if_the_block_fails_the_old_content_stays_and_nothing_else(error, path):
    def fail():
        with files.replacing(path) as file:
            file.write("half of")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "older"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="other systems do not open folders")
def test_content_is_on_the_disk_before_it_takes_the_name_and_the_name_before_the_block_is_over(
    path, monkeypatch
):
    """Or a power cut could leave an empty file under the name, or bring the old one back."""
    happened, sync, replace = [], os.fsync, Path.replace

    def watched_sync(descriptor):
        sync(descriptor)
        if _is_folder(descriptor):
            assert os.path.samestat(os.fstat(descriptor), path.parent.stat())
            happened.append(f"folder synced, {path.read_text()}")
        else:
            happened.append(f"file synced, {path.read_text()}")

    def watched_replace(self, target):
        happened.append(f"renamed, {self.read_text()}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    with files.replacing(path) as file:
        file.write("newer")
    assert happened == ["file synced, older", "renamed, newer", "folder synced, newer"]


def test_a_folder_that_cannot_be_flushed_is_no_reason_to_fail(path, monkeypatch):
    """As on some network drives: the file has its name by then."""
    sync = os.fsync

    def refuses_folders(descriptor):
        if _is_folder(descriptor):
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuses_folders)
    with files.replacing(path) as file:
        file.write("newer")
    assert path.read_text() == "newer"


def test_a_place_is_made_writable_and_nothing_else_is_left_there(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    files.make_writable(path)
    assert list(path.parent.iterdir()) == []
    path.write_text("older")
    files.make_writable(path)
    assert [p.read_text() for p in path.parent.iterdir()] == ["older"]


def test_a_place_where_nothing_can_be_written_is_found_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        files.make_writable(tmp_path / "file" / "a.json")

    def refuse(self, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(PermissionError):
        files.make_writable(tmp_path / "a.json")


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.happens(
    "Long work",
    when="the disk gets full",
    see="an error with the file and what to do",
    kept="the file as it was before",
)
def test_a_full_disk_is_told_with_the_file_and_what_to_do(path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    path.write_text("old")
    told = r"No space left on device: the file as it was .*Make room"
    with pytest.raises(OSError, match=told) as caught, files.replacing(path) as file:
        file.write("new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    path.unlink()
    with pytest.raises(OSError, match="there is no such file yet"), files.replacing(path) as file:
        file.write("new")


def test_an_error_about_another_file_keeps_its_name(path, tmp_path):
    with pytest.raises(FileNotFoundError) as caught, files.replacing(path):
        (tmp_path / "another").read_text()
    assert caught.value.filename == str(tmp_path / "another")


@pytest.mark.parametrize("below", ["record.json", "folder/record.json"])
def test_a_folder_that_is_a_file_is_told_with_the_wanted_file(tmp_path, below):
    (tmp_path / "results").touch()
    wanted = tmp_path / "results" / below
    for write in (files.make_writable, lambda path: records.write_json({}, path)):
        with pytest.raises(OSError, match="write to another folder") as caught:
            write(wanted)
        assert caught.value.filename == str(wanted)


def test_text_is_the_same_on_every_system(path):
    with files.replacing(path) as file:
        file.write("µ ≥ 1\n")
    assert path.read_bytes() == "µ ≥ 1\n".encode()


def test_a_place_is_checked_without_a_trace(tmp_path):
    files.check_writable(tmp_path / "new" / "folder" / "a.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    wanted = tmp_path / "file" / "folder" / "a.json"
    with pytest.raises(OSError, match="write to another folder") as caught:
        files.check_writable(wanted)
    assert caught.value.filename == str(wanted)
