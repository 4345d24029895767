"""The rules for every figure of the book: labelled axes, colours safe for colour blindness, legible letters.

If ``UGMM_CHECK_FIGURES`` is set, ``plotting.use_style()`` checks all figures of a notebook. The build of the
book sets it. A figure that breaks a rule then causes a warning, and a warning fails the build. Imports
nothing else of the package.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ["FigureWarning", "before_showing", "broken_rules", "watch"]

#: Colour maps with steadily changing lightness, which are readable in grey too, and one map for differences.
#: The latter is white at zero, and its two ends differ under all common colour blindnesses. ``Blues`` and
#: ``gray_r`` begin with the colour of paper: the most ink means the most on dark pages, too, which turn
#: figures round.
COLOR_MAPS = ("Blues", "cividis", "viridis", "gray", "gray_r", "RdBu_r")
SMALLEST_LETTERS = 7.0  # points
LEAST_CONTRAST = 4.5  # WCAG 2.1, AA, for text of normal size
_LARGEST_GREY_SPREAD = 0.02


class FigureWarning(UserWarning):
    """A figure breaks the book's contract. The message says where."""


def broken_rules(figure: Figure, palette: Iterable[str]) -> list[str]:
    """The rules that a figure breaks, one sentence each. The list is empty if it keeps the contract.

    The function looks for axes and colour bars without labels (axes that are off or have no ticks need none),
    colours that are neither in ``palette`` nor grey, colour maps outside ``COLOR_MAPS``, several labelled
    series without a legend, letters below 7 points or with a contrast below 4.5, and a background that is not
    opaque.
    """
    allowed = [to_rgb(color) for color in palette]
    broken = [] if to_rgba(figure.get_facecolor())[3] == 1 else ["the background is not opaque"]
    for number, ax in enumerate(figure.axes, start=1):
        where = f"axes {number}"
        broken += [f"{where}: {sentence}" for sentence in _labels(ax)]
        broken += [f"{where}: {sentence}" for sentence in _colors(ax, allowed)]
    ground = figure.get_facecolor()
    for text in _letters(figure):
        if text.get_fontsize() < SMALLEST_LETTERS:
            broken.append(f"{text.get_text()!r} has letters of {text.get_fontsize():g} points")
        if _contrast(text.get_color(), ground) < LEAST_CONTRAST:
            broken.append(f"{text.get_text()!r} hardly stands out from the background")
    return broken


def watch(palette: Iterable[str]) -> None:
    """Warn about every figure of this notebook that breaks the contract, if ``UGMM_CHECK_FIGURES`` is set."""
    palette = tuple(palette)

    def look(figure: Figure) -> None:
        for sentence in broken_rules(figure, palette):
            warnings.warn(sentence, FigureWarning, stacklevel=2)

    if os.environ.get("UGMM_CHECK_FIGURES"):
        before_showing(look)


def before_showing(look: Callable[[Figure], None]) -> None:
    """Call ``look`` with each figure of this notebook before it is shown. Elsewhere nothing happens."""
    notebook = sys.modules.get("IPython")  # loaded in every notebook, and needed nowhere else
    shell = notebook.get_ipython() if notebook else None
    if shell is None:
        return

    def look_at_all(*_: object) -> None:
        for number in plt.get_fignums():
            look(plt.figure(number))

    # Callbacks of the same event show and close the notebook's figures, so this callback must come first.
    plt.switch_backend(mpl.get_backend())
    waiting = list(shell.events.callbacks["post_execute"])
    for callback in waiting:
        shell.events.unregister("post_execute", callback)
    for callback in (look_at_all, *waiting):
        shell.events.register("post_execute", callback)


def _labels(ax: Axes) -> Iterator[str]:
    if not ax.axison or not ax.get_visible():
        return
    is_color_bar = ax.get_label() == "<colorbar>"
    labels = {"x": ax.get_xlabel(), "y": ax.get_ylabel()}
    if is_color_bar:
        if not any(labels.values()):
            yield "the colour bar has no label"
        return
    ticks = {"x": ax.get_xticks(), "y": ax.get_yticks()}
    figure = ax.figure
    shared = {
        "x": figure.get_supxlabel() or any(a.get_xlabel() for a in ax.get_shared_x_axes().get_siblings(ax)),
        "y": figure.get_supylabel() or any(a.get_ylabel() for a in ax.get_shared_y_axes().get_siblings(ax)),
    }
    for name, label in labels.items():
        if not label and not shared[name] and len(ticks[name]):
            yield f"the {name} axis has no label"
    _, series = ax.get_legend_handles_labels()
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    explained = {text.get_text() for legend in legends for text in legend.get_texts()}
    if len(series) > 1 and not set(series) <= explained:
        yield "several series are labelled, and no legend shows them"


def _colors(ax: Axes, allowed: list[tuple[float, float, float]]) -> Iterator[str]:
    used = [
        line.get_color() for line in ax.lines if line.get_linestyle() != "None" or line.get_marker() != "None"
    ]
    if ax.get_label() != "<colorbar>":  # the ends of a colour bar have the colours of its map
        used += [patch.get_facecolor() for patch in ax.patches if patch.get_fill() and patch.get_alpha() != 0]
    for mappable in (*ax.images, *ax.collections):
        if isinstance(mappable, ScalarMappable) and mappable.get_array() is not None:
            colors = mappable.get_cmap()
            # Contour lines with their own colours. Matplotlib before 3.11 calls them by their second name.
            if colors.name in ("unnamed", "from_list"):
                used += list(colors(range(colors.N)))
            elif colors.name not in COLOR_MAPS and mappable.get_array().ndim < 3:
                yield f"colour map {colors.name!r} is none of {', '.join(COLOR_MAPS)}"
        elif isinstance(mappable, Collection):
            used += list(mappable.get_facecolor())
    for color in dict.fromkeys(to_rgb(c) for c in used if to_rgba(c)[3] > 0):
        if max(color) - min(color) > _LARGEST_GREY_SPREAD and not any(_same(color, c) for c in allowed):
            yield f"colour {mpl.colors.to_hex(color)} is not of the palette"


def _same(one: Iterable[float], other: Iterable[float]) -> bool:
    return all(abs(a - b) < 0.01 for a, b in zip(one, other, strict=True))


def _letters(figure: Figure) -> Iterator[Text]:
    """Every visible text that is not empty and has the figure's background behind it."""
    figure.canvas.draw()
    hidden = {
        t for ax in figure.axes if not ax.axison for t in (*ax.get_xticklabels(), *ax.get_yticklabels())
    }
    for text in figure.findobj(Text):
        if (
            text.get_visible()
            and text.get_text().strip()
            and text not in hidden
            and text.get_bbox_patch() is None
        ):
            yield text


def _contrast(one: object, other: object) -> float:
    """The contrast ratio of two colours, as WCAG 2.1 defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: object) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
