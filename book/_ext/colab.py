"""Copies of the chapters for Colab: ``python book/_ext/colab.py REPOSITORY FOLDER``.

Colab opens a notebook without the rest of its repository. The copies therefore install the package from the
repository's address, while the originals use the checkout that they are in.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlsplit

import nbformat

from chapters import Chapter

LOCAL = 'os.environ.get("UGMM_SOURCE", "..")'


def stamped(chapter: Chapter, repository: str) -> nbformat.NotebookNode:
    """A copy of the chapter whose first cell takes the package from the repository.

    Raises:
        ValueError: the first cell does not look for the package in the usual way.
    """
    notebook = nbformat.from_dict(nbformat.reads(nbformat.writes(chapter.notebook), as_version=4))
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if LOCAL not in first.source:
        raise ValueError(f"{chapter.path.name}: expected {LOCAL} in its first code cell")
    first.source = first.source.replace(LOCAL, f'os.environ.get("UGMM_SOURCE", "git+{repository}")')
    return notebook


def write(repository: str, folder: Path) -> list[Path]:
    """Write all copies into ``folder/book``, under the names that the launch buttons use.

    Raises:
        ValueError: the repository is not an https address.
    """
    parts = urlsplit(repository)
    if parts.scheme != "https" or not parts.netloc or not parts.path.strip("/"):
        raise ValueError(f"expected the https address of a repository, got {repository!r}")
    repository = repository.removesuffix("/").removesuffix(".git")
    target = folder / "book"
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for chapter in Chapter.all():
        path = target / chapter.path.name
        path.write_text(nbformat.writes(stamped(chapter, repository)) + "\n", encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", help="https address of the repository")
    parser.add_argument("folder", type=Path, help="where to write the copies")
    options = parser.parse_args()
    try:
        print(*write(options.repository, options.folder), sep="\n")
    except ValueError as error:
        parser.error(str(error))
