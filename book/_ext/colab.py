"""Copies of the chapters for Colab: ``python book/_ext/colab.py REPOSITORY FOLDER``.

Colab opens a notebook without the rest of its repository. The copies therefore install the package from the
repository's address, while the originals use the checkout that they are in. They carry the outputs of the
last build of the book, so that a reader sees every figure before anything has run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlsplit

import nbformat

from chapters import ROOT, Chapter
from execute import with_outputs

LOCAL = 'os.environ.get("UGMM_SOURCE", "..")'
CACHE = ROOT / "_build" / ".jupyter_cache"


def stamped(chapter: Chapter, repository: str, cache: Path | None = None) -> nbformat.NotebookNode:
    """A copy of the chapter whose first cell takes the package from the repository.

    With the cache of a build of the book, the copy has that build's outputs.

    Raises:
        ValueError: the first cell does not look for the package in the usual way, or the cache has no outputs
            of these cells.
    """
    notebook = nbformat.from_dict(nbformat.reads(nbformat.writes(chapter.notebook), as_version=4))
    if cache is not None:
        try:
            notebook = with_outputs(notebook, cache)
        except LookupError as error:
            raise ValueError(f"{chapter.path.name}: {error}; `make book` runs what has changed") from None
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if LOCAL not in first.source:
        raise ValueError(f"{chapter.path.name}: expected {LOCAL} in its first code cell")
    first.source = first.source.replace(LOCAL, f'os.environ.get("UGMM_SOURCE", "git+{repository}")')
    return notebook


def write(repository: str, folder: Path, cache: Path | None = None) -> list[Path]:
    """Write all copies into ``folder/book``, under the names that the launch buttons use.

    Raises:
        ValueError: the repository is not an https address, or the cache lacks a chapter. Nothing is written.
    """
    parts = urlsplit(repository)
    if parts.scheme != "https" or not parts.netloc or not parts.path.strip("/"):
        raise ValueError(f"expected the https address of a repository, got {repository!r}")
    repository = repository.removesuffix("/").removesuffix(".git")
    copies = {c.path.name: stamped(c, repository, cache) for c in Chapter.all()}
    target = folder / "book"
    target.mkdir(parents=True, exist_ok=True)
    for name, notebook in copies.items():
        (target / name).write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return [target / name for name in copies]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", help="https address of the repository")
    parser.add_argument("folder", type=Path, help="where to write the copies")
    parser.add_argument("--bare", action="store_true", help="without outputs, so that no build is needed")
    options = parser.parse_args()
    try:
        print(*write(options.repository, options.folder, None if options.bare else CACHE), sep="\n")
    except ValueError as error:
        parser.error(str(error))
