"""Execute all pages with cells before Sphinx reads them, and report which pages it must read again.

At the end of the build, list the statements that do not hold on this machine.
"""

from __future__ import annotations

import os
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

import nbformat
from docutils import nodes
from myst_nb.core.read import create_nb_reader
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util import logging

import runs_page
from execute import Document, ExecutionError, Note, bring_up_to_date, note_of
from ugmm_tutorial.teaching.claims import NOTE
from ugmm_tutorial.teaching.traces import MARK

logger = logging.getLogger(__name__)

#: Printed lines that are no output of the code: how they begin, and the class of their paragraph.
REMARKS = {NOTE: "claim-note", f"{MARK} ": "claim-trace"}

#: The environment variable that limits a build to some chapters. ``make chapter`` sets it.
ONLY = "UGMM_CHAPTERS"


def connect(app: Sphinx) -> None:
    """Register the handlers below."""
    app.connect("env-get-outdated", execute_pages)
    app.connect("doctree-read", mark_notes)
    app.connect("build-finished", list_notes)


def execute_pages(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Bring all outputs up to date. Return the pages whose outputs have changed since they were last read."""
    if env.mystnb_config.execution_mode != "cache":
        return []
    documents = [
        d for name in sorted(env.found_docs) if (d := _document(env, name)) and is_wanted(d.path.stem)
    ]
    here = runs_page.environment()
    commit = here.pop("commit")
    try:
        bring_up_to_date(documents, cache_of(app), here, commit, logger.info)
    except ExecutionError as error:
        raise SphinxError(f"a chapter stopped with an error.\n{error}") from error
    runs = {name: note.run for name, note in notes_of(app, env).items()}
    before = getattr(env, "ugmm_runs", {})
    env.ugmm_runs = runs
    others = [name for name, run in runs.items() if before.get(name) != run]
    return [*others, *(name for name in ("book/claims",) if others and name in env.found_docs)]


def is_wanted(stem: str) -> bool:
    """Whether the build executes the page of this file. All are executed, except in ``make chapter``."""
    return any(fnmatch(stem, pattern) for pattern in os.environ.get(ONLY, "*").split(","))


def cache_of(app: Sphinx) -> Path:
    """The folder of the cache from which Sphinx reads outputs."""
    return Path(app.config.nb_execution_cache_path)


def notes_of(app: Sphinx, env: BuildEnvironment) -> dict[str, Note]:
    """The notes on the last execution of every page with cells."""
    found = {name: note_of(cache_of(app), name) for name in sorted(env.found_docs)}
    return {name: note for name, note in found.items() if note}


def mark_notes(app: Sphinx, document: nodes.document) -> None:
    """Turn printed lines about checks into paragraphs: what does not hold here, and how much does."""
    for block in list(document.findall(nodes.literal_block)):
        if not any(map(_remark, block.astext().splitlines())):
            continue
        parts: list[nodes.Node] = []
        for remark, lines in groupby(block.astext().splitlines(), _remark):
            if remark:
                parts += [nodes.paragraph(line, line, classes=[remark]) for line in lines]
            else:
                parts.append(_like(block, "\n".join(lines)))
        place = block.parent.index(block)
        block.parent[place : place + 1] = parts  # replace_self would copy the block's classes to a note


def list_notes(app: Sphinx, exception: Exception | None) -> None:
    """List, at the end of a build, the statements that do not hold on this machine."""
    if exception or app.env is None or app.env.mystnb_config.execution_mode != "cache":
        return
    lines = [
        f"  {name}, cell {entry['cell']}: the page says {entry['said']!r}, here it is {entry['found']}"
        for name, note in notes_of(app, app.env).items()
        for entry in note.notes
    ]
    if lines:
        # This is not a warning, which would fail the build. The page says it too.
        logger.info(f"\n{len(lines)} statements do not hold on this machine; their pages say so:")
        logger.info("\n".join(lines))


def _remark(line: str) -> str | None:
    """The class of a printed line that is about checks, or None."""
    return next((kind for beginning, kind in REMARKS.items() if line.startswith(beginning)), None)


def _like(block: nodes.literal_block, text: str) -> nodes.literal_block:
    """A copy of the block with another text."""
    other = nodes.literal_block(text, text)
    other.attributes |= {key: value for key, value in block.attributes.items() if key != "ids"}
    return other


def _document(env: BuildEnvironment, name: str) -> Document | None:
    """The page as a notebook, or None if it has no cells."""
    path = Path(env.doc2path(name))
    text = path.read_text(encoding="utf-8")
    reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
    if reader is None:
        return None
    notebook = reader.read(text)
    # Sphinx and the cache must count the same cells, so the notebook from the reader is not changed.
    return Document(name, path, nbformat.from_dict(notebook))
