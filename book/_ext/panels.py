"""Figures whose panels stand side by side, and below each other on a phone.

A figure is one picture. Where its cell says ``plt.subplots(1, 3)``, the page gets this picture three times. A
stylesheet shows the whole first copy, or on a narrow screen one panel of each.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

_COLUMNS = re.compile(r"plt\.subplots\(\s*(?:nrows=)?[12],\s*(?:ncols=)?([23])\b")
#: How far from its place the gap between two panels may lie, as a share of a panel's width.
_SEARCHED = 0.3


def columns_of(source: str) -> int:
    """How many panels the code of a cell puts side by side."""
    match = _COLUMNS.search(source)
    return int(match[1]) if match else 1


def gaps(picture: np.ndarray, columns: int) -> list[float] | None:
    """Where panels end, as shares of the width, or None if there is no gap between some of them.

    Args:
        picture: (height, width) of brightness, 255 for paper.
        columns: how many panels stand side by side.
    """
    empty = (picture >= 250).all(axis=0)
    width = len(empty)
    found = []
    for number in range(1, columns):
        middle, reach = width * number / columns, _SEARCHED * width / columns
        runs = _runs(empty, int(middle - reach), int(middle + reach))
        if not runs:
            return None
        # The widest gap: between the labels of one axis there are narrow ones.
        start, end = max(runs, key=lambda run: run[1] - run[0])
        found.append((start + end) / 2 / width)
    return found


def stack(app: Sphinx, document: nodes.document) -> None:
    """Put the copies of every figure with several panels into the page."""
    if app.builder.format != "html":
        return
    for cell in list(document.findall(_is_code_cell)):
        source = next((block.astext() for block in cell.findall(nodes.literal_block)), "")
        if (columns := columns_of(source)) == 1:
            continue
        for image in list(cell.findall(nodes.image)):
            path = Path(app.srcdir, image["uri"])
            ends = gaps(np.asarray(Image.open(path).convert("L")), columns) if path.exists() else None
            if ends:
                _replace(image, [0.0, *ends, 1.0])


def connect(app: Sphinx) -> None:
    """Register the handler. Sphinx has collected the pictures by then."""
    app.connect("doctree-read", stack, priority=900)


def _is_code_cell(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def _replace(image: nodes.image, ends: list[float]) -> None:
    parts: list[nodes.Node] = []
    for number, (start, end) in enumerate(pairwise(ends)):
        style = f"--from:{start:.4f};--share:{end - start:.4f}"
        parts.append(nodes.raw("", f'<span class="panel" style="{style}">', format="html"))
        copy = image.deepcopy()
        if number:
            copy["alt"] = f"Panel {number + 1} of this figure."  # the first copy says what is to be seen
            copy["ids"] = []
        parts += [copy, nodes.raw("", "</span>", format="html")]
    place = image.parent.index(image)
    image.parent[place : place + 1] = parts


def _runs(empty: np.ndarray, first: int, last: int) -> list[tuple[int, int]]:
    """Beginnings and ends of the runs of empty columns that touch the part from ``first`` to ``last``."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], empty.astype(int), [0]))))
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > first and a < last]
