"""The book's look: colours, ink, dashes, and the axes that a figure draws on."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ugmm_tutorial.kernels.kinds import instance
from ugmm_tutorial.teaching import figure_contract, traces

__all__ = ["COLORS", "DASHES", "INK", "axes", "number_panels", "use_style"]

#: Okabe and Ito (2002) without yellow and black. They can be told apart under all common colour blindnesses.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#222222"
# Curves in one figure differ in dashes as well as in colour. The dashes of mixture sums are not among these.
DASHES = ("-", (0, (8, 2)), (0, (8, 2, 1, 2)), (0, (1, 1)))


def use_style() -> None:
    """Set the book's look for all figures that follow: size, colours, readable lettering.

    In a notebook, panels with a shared vertical axis all have its numbers (:func:`number_panels`), and folded
    cells say what they have checked (:func:`traces.watch`).
    """
    mpl.rcParams.update(
        {
            "figure.figsize": (5.6, 3.4),  # letters stay legible on a phone
            "figure.dpi": 130,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.wspace": 0.1,  # more than before a colour bar: pages cut here
            "axes.prop_cycle": mpl.cycler(color=COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "axes.axisbelow": True,
            "font.size": 10.5,
            "axes.titlesize": 11,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
        }
    )
    figure_contract.watch(COLORS)
    figure_contract.before_showing(number_panels)
    traces.watch()


def number_panels(figure: Figure) -> None:
    """Write the numbers of a shared vertical axis at every panel: on a phone each panel stands alone."""
    for ax in figure.axes:
        if len(ax.get_shared_y_axes().get_siblings(ax)) > 1:
            ax.tick_params(axis="y", labelleft=True)


def axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """``ax``, or the axes of a new figure."""
    return plt.subplots(figsize=figsize)[1] if ax is None else instance("ax", ax, Axes, "Matplotlib's axes")
