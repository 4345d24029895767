"""Copies of the chapters that install the package from its repository."""

import nbformat
import pytest
from chapters import Chapter
from colab import stamped, write


def test_copies_differ_in_the_source_of_the_package_only(tmp_path):
    paths = write("https://example.org/someone/book.git/", tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        f"book/{c.path.name}" for c in Chapter.all()
    ]
    for path, chapter in zip(paths, Chapter.all(), strict=True):
        copy, original = nbformat.read(path, as_version=4), chapter.notebook
        nbformat.validate(copy)
        differing = [a.id for a, b in zip(copy.cells, original.cells, strict=True) if a != b]
        assert differing == ["setup-install"]
        first = next(c for c in copy.cells if c.id == "setup-install").source
        assert '"git+https://example.org/someone/book")' in first
        assert '".."' not in first


def test_original_is_left_alone():
    chapter = Chapter.all()[0]
    stamped(chapter, "https://example.org/a/b")
    assert '".."' in chapter.cell("setup-install").source


@pytest.mark.parametrize("address", ["", "someone/book", "http://example.org/a/b", "https://example.org/"])
def test_what_is_no_repository_is_refused(address, tmp_path):
    with pytest.raises(ValueError, match="expected the https address of a repository"):
        write(address, tmp_path)
    assert not list(tmp_path.iterdir())
