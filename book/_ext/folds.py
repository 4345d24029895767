"""Folded cells: ``python book/_ext/folds.py`` folds every code cell that has a title, in all chapters.

A title is the first line of a cell, such as ``# @title Picture: both curves``. Colab shows it in place of the
code. The metadata that this module writes does the same in Jupyter and on the page.
"""

from __future__ import annotations

import re

import nbformat

from chapters import Chapter

_TITLE = re.compile(r"# @title (\S.*)")


def title_of(cell: nbformat.NotebookNode) -> str | None:
    """What the fold of a code cell says, or None if the cell stays open."""
    match = _TITLE.match(cell.source)
    return match and match[1]


def folded(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The metadata that a code cell needs to be folded, or to be open, everywhere."""
    metadata = nbformat.from_dict(cell.metadata)
    for place, key in ((metadata.get("jupyter", {}), "source_hidden"), (metadata, "cellView")):
        place.pop(key, None)
    page = metadata.setdefault("mystnb", {})
    page.pop("code_prompt_show", None)
    page.pop("code_prompt_hide", None)
    tags = [tag for tag in metadata.get("tags", []) if tag not in ("hide-input", "hide-cell")]
    title = title_of(cell)
    if title:
        # A solution hides what it prints as well.
        solution = title.startswith("Solution ")
        tags.append("hide-cell" if solution else "hide-input")
        page["code_prompt_show"] = title
        page["code_prompt_hide"] = f"Hide s{title[1:]}" if solution else "Hide the code"
        metadata.setdefault("jupyter", {})["source_hidden"] = True
        metadata["cellView"] = "form"
    for key, value in (("tags", tags), ("mystnb", page), ("jupyter", metadata.get("jupyter"))):
        if value:
            metadata[key] = value
        else:
            metadata.pop(key, None)
    return metadata


def main() -> None:
    """Fold the cells of every chapter that are not yet, and name the chapters that changed."""
    for chapter in Chapter.all():
        before = nbformat.writes(chapter.notebook)
        for cell in chapter.code:
            cell.metadata = folded(cell)
        if (after := nbformat.writes(chapter.notebook)) != before:
            chapter.path.write_text(after + "\n", encoding="utf-8")
            print(f"folded in {chapter.path.name}")


if __name__ == "__main__":
    main()
