"""Copies of the chapters that install the package from its repository."""

import nbformat
import pytest
from chapters import Chapter
from colab import stamped, write
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbformat.v4 import new_output


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


def test_copies_carry_the_outputs_of_the_last_build(tmp_path):
    chapter = Chapter.all()[0]
    executed = nbformat.reads(nbformat.writes(chapter.notebook), as_version=4)
    for n, cell in enumerate(c for c in executed.cells if c.cell_type == "code"):
        cell.execution_count = n
        cell.outputs = [new_output("stream", text=f"output {n}")]
    cache = get_cache(tmp_path / "cache")
    bundle = CacheBundleIn(executed, str(chapter.path))
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    cache.db.dispose()
    copy = stamped(chapter, "https://example.org/a/b", tmp_path / "cache")
    nbformat.validate(copy)
    code = [cell for cell in copy.cells if cell.cell_type == "code"]
    assert [cell.outputs[0].text for cell in code] == [f"output {n}" for n in range(len(code))]
    assert [cell.metadata for cell in code] == [cell.metadata for cell in chapter.code]
    assert [cell.id for cell in copy.cells] == [cell.id for cell in chapter.notebook.cells]
    assert '"git+https://example.org/a/b")' in code[0].source
    assert not any(cell.outputs for cell in chapter.code)


def test_a_chapter_that_has_not_run_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"01_one_neuron.ipynb: .*no executed chapters; `make book`"):
        write("https://example.org/a/b", tmp_path, tmp_path / "nowhere")
    cache = get_cache(tmp_path / "cache")
    cache.list_cache_records()
    cache.db.dispose()
    with pytest.raises(ValueError, match=r"01_one_neuron.ipynb: .*no execution of these cells"):
        write("https://example.org/a/b", tmp_path, tmp_path / "cache")
    assert not (tmp_path / "book").exists()
