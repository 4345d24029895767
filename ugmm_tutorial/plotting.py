"""Figures of the book: every function draws into ``ax`` (or a new one) and returns it.

Colours are Okabe and Ito's, safe for colour blindness; backgrounds stay opaque, so that every figure reads
in light and dark pages alike. What they keep to is written down in ``figure_contract``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from numpy.typing import ArrayLike

from ugmm_tutorial import figure_contract

__all__ = [
    "COLORS",
    "broadcast_schematic",
    "fused_schematic",
    "heat_map",
    "image_grid",
    "learning_curves",
    "mixture_density",
    "neuron_explorer",
    "neuron_schematic",
    "reliability_diagram",
    "response_surface",
    "severity_curves",
    "use_style",
]

#: Okabe and Ito (2002), darkest of the light ones left out: told apart under all common colour blindnesses.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK = "#222222"
# Beside their colours, curves of one picture differ in these; the mixture's own dashes are not among them.
_DASHES = ("-", (0, (8, 2)), (0, (8, 2, 1, 2)), (0, (1, 1)))


class _Binned(Protocol):
    """What a reliability diagram needs of its bins (chapter 11)."""

    confidence: ArrayLike
    accuracy: ArrayLike
    ece: float

    def accuracy_interval(self) -> tuple[ArrayLike, ArrayLike]:
        """Lower and upper ends, (bins,)."""


def use_style() -> None:
    """Set the book's look for all figures that follow: size, colours, readable lettering."""
    mpl.rcParams.update(
        {
            "figure.figsize": (6.8, 3.6),
            "figure.dpi": 130,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": mpl.cycler(color=COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "axes.axisbelow": True,
            "font.size": 10,
            "axes.titlesize": 11,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
        }
    )
    figure_contract.watch(COLORS)


def neuron_schematic(num_inputs: int = 3, ax: Axes | None = None) -> Axes:
    """One uGMM neuron with its inputs, after the paper's Figure 1.

    Each input x_k enters through its own component (mean, standard deviation, weight); the neuron sums
    the weighted densities and hands on the logarithm.

    Args:
        num_inputs: how many inputs to draw, at least 1.
        ax: where to draw.
    """
    if num_inputs < 1:
        raise ValueError(f"expected num_inputs >= 1, got {num_inputs}")
    ax = _axes(ax, figsize=(6.8, 0.9 + 0.9 * num_inputs))
    heights = np.arange(num_inputs)[::-1] * 1.0
    middle = heights.mean()
    for k, height in enumerate(heights, start=1):
        color = COLORS[(k - 1) % len(COLORS)]
        ax.add_patch(Circle((0, height), 0.24, facecolor="white", edgecolor=color, linewidth=2))
        ax.text(0, height, f"$x_{k}$", ha="center", va="center", color=_INK)
        _bell(ax, center=2.1, base=height - 0.22, color=color, width=0.16 + 0.05 * k)
        ax.text(
            2.75, height - 0.1, rf"$w_{{j{k}}},\ \mu_{{j{k}}},\ \sigma_{{j{k}}}$", va="center", color=_INK
        )
        _arrow(ax, (0.26, height), (1.35, height), color)
        _arrow(ax, (4.0, height - 0.1), (5.37, middle + 0.3 * np.sign(height - middle)), color)
    ax.add_patch(Circle((5.8, middle), 0.44, facecolor="white", edgecolor=_INK, linewidth=2))
    ax.text(5.8, middle, r"$\log\sum$", ha="center", va="center", color=_INK)
    _arrow(ax, (6.26, middle), (6.95, middle), _INK)
    ax.text(7.0, middle, r"$\mathrm{out}_j(\mathbf{x})$", va="center", color=_INK)
    ax.set(xlim=(-0.4, 8.2), ylim=(heights.min() - 0.55, heights.max() + 0.65), aspect="equal")
    ax.axis("off")
    return ax


def broadcast_schematic(ax: Axes | None = None) -> Axes:
    """The shapes of a layer: inputs (B, K) against parameters (J, K), terms (B, J, K), outputs (B, J)."""
    ax = _axes(ax, figsize=(7.4, 2.7))
    _box(ax, (0.0, 0.6), (1.1, 1.2), 0.0, "inputs\n(B, 1, K)", COLORS[0])
    _box(ax, (2.1, 0.6), (1.1, 0.8), 0.0, "parameters\n(J, K)", COLORS[1])
    _box(ax, (4.4, 0.45), (1.1, 0.8), 0.6, "terms\n(B, J, K)", COLORS[2])
    _box(ax, (7.7, 0.6), (0.8, 1.2), 0.0, "outputs\n(B, J)", COLORS[3])
    ax.text(1.6, 1.2, "against", ha="center", color=_INK)
    _arrow(ax, (3.35, 1.2), (4.3, 1.2), _INK)
    ax.text(3.8, 1.35, "broadcast", ha="center", color=_INK, fontsize=9)
    _arrow(ax, (6.25, 1.2), (7.6, 1.2), _INK)
    ax.text(6.9, 1.35, "logsumexp over K", ha="center", color=_INK, fontsize=9)
    ax.set(xlim=(-0.1, 8.7), ylim=(-0.35, 2.3), aspect="equal")
    ax.axis("off")
    return ax


def fused_schematic(ax: Axes | None = None) -> Axes:
    """Where the terms live: a block in memory when broadcast, a handful in registers when fused."""
    ax = _axes(ax, figsize=(7.4, 4.2))
    for height, title in ((2.6, "broadcast"), (0.0, "fused")):
        _box(ax, (0.0, height), (1.1, 1.2), 0.0, "inputs and\nparameters", COLORS[0])
        _box(ax, (7.2, height), (0.8, 1.2), 0.0, "outputs\n(B, J)", COLORS[3])
        ax.text(-0.5, height + 0.6, title, ha="center", va="center", rotation=90, color=_INK)
    _box(ax, (3.3, 2.45), (1.1, 0.8), 0.6, "terms (B, J, K)\nin memory", COLORS[1])
    _box(ax, (4.0, 0.45), (0.35, 0.3), 0.0, "a few terms\nin registers", COLORS[2])
    for height, end in ((3.2, 3.15), (0.6, 3.85)):
        _arrow(ax, (1.3, height), (end, height), _INK)
    for height, start in ((3.2, 5.2), (0.6, 4.5)):
        _arrow(ax, (start, height), (7.05, height), _INK)
    ax.text(2.2, 3.35, "write, pass by pass", ha="center", color=_INK, fontsize=9)
    ax.text(6.1, 3.35, "read, pass by pass", ha="center", color=_INK, fontsize=9)
    ax.text(2.5, 0.75, "read once", ha="center", color=_INK, fontsize=9)
    ax.text(5.8, 0.75, "add to the sum", ha="center", color=_INK, fontsize=9)
    ax.set(xlim=(-0.7, 8.4), ylim=(-0.7, 4.3), aspect="equal")
    ax.axis("off")
    return ax


def mixture_density(
    mean: ArrayLike, std: ArrayLike, weight: ArrayLike, ax: Axes | None = None, *, label: str = "component"
) -> Axes:
    """A univariate mixture: its weighted components filled, their sum dashed (the paper's Figure 2).

    Args:
        mean: component means, (K,).
        std: component standard deviations, (K,), > 0.
        weight: mixing weights, (K,).
        ax: where to draw.
        label: what the components are called in the legend.
    """
    mean, std, weight = (np.asarray(v, dtype=float).reshape(-1) for v in (mean, std, weight))
    if not (len(mean) == len(std) == len(weight)) or not (std > 0).all():
        raise ValueError("expected mean, std and weight of one length with std > 0")
    ax = _axes(ax)
    y = np.linspace((mean - 4 * std).min(), (mean + 4 * std).max(), 800)
    z = (y[:, None] - mean) / std
    parts = weight * np.exp(-0.5 * z * z) / (std * np.sqrt(2 * np.pi))
    for k, part in enumerate(parts.T):
        color = COLORS[k % len(COLORS)]
        name = rf"{label} {k + 1}: $w$={weight[k]:.2g}, $\mu$={mean[k]:.2g}, $\sigma$={std[k]:.2g}"
        ax.plot(y, part, color=color, label=name)
        ax.fill_between(y, part, color=color, alpha=0.15)
    ax.plot(y, parts.sum(axis=1), color=_INK, linestyle="--", label="mixture")
    ax.set(xlabel="value $y$", ylabel="density", ylim=(0, 1.35 * parts.sum(axis=1).max()))
    ax.legend(ncols=2, loc="upper left")
    return ax


def neuron_explorer(
    x: ArrayLike, mean: ArrayLike, std: ArrayLike, weight: ArrayLike, ax: Axes | None = None
) -> Axes:
    """One neuron at one input: its mixture, and on each component a marker where it is read.

    The marker of component k stands at input x_k; the legend gives its responsibility r_k, the title the
    neuron's output.

    Args:
        x: the inputs, (K,).
        mean: component means, (K,).
        std: component standard deviations, (K,), > 0.
        weight: mixing weights, (K,), >= 0 and not all zero.
        ax: where to draw.

    Raises:
        ValueError: lengths differ, a deviation is not positive, a weight is negative or all are zero.
    """
    x, mean, std, weight = (np.asarray(v, dtype=float).reshape(-1) for v in (x, mean, std, weight))
    if not (weight >= 0).all() or not (weight > 0).any():
        raise ValueError("expected weights >= 0, not all zero")
    if len(x) != len(mean):
        raise ValueError(f"expected one input for each component, got {len(x)} for {len(mean)}")
    drawn_before = 0 if ax is None else len(ax.lines)
    ax = mixture_density(mean, std, weight, ax)
    curves = ax.lines[drawn_before : drawn_before + len(mean)]
    with np.errstate(divide="ignore"):  # the logarithm of a weight of zero is as it should be
        terms = np.log(weight) - np.log(std) - 0.5 * np.log(2 * np.pi) - 0.5 * ((x - mean) / std) ** 2
    out = np.logaddexp.reduce(terms)
    for k, (curve, marker) in enumerate(zip(curves, itertools.cycle("osD^vP"), strict=False)):
        height, color = np.exp(terms[k]), curve.get_color()
        curve.set(
            linestyle=_DASHES[k % len(_DASHES)],
            label=rf"component {k + 1}: $r_{{{k + 1}}}$={np.exp(terms[k] - out):.3f}",
        )
        ax.vlines(x[k], 0, height, color=color, linewidth=1)
        ax.plot(x[k], height, marker, color=color, markersize=8, markeredgecolor="white", zorder=3)
        ax.annotate(f"$x_{{{k + 1}}}$", (x[k], 0), (4, 4), textcoords="offset points", color=_INK)
    ax.set_title(f"output {out:.3f} nats")
    ax.legend(ncols=2, loc="upper left")
    return ax


def response_surface(
    x1: ArrayLike, x2: ArrayLike, values: ArrayLike, ax: Axes | None = None, *, label: str = "output (nats)"
) -> Axes:
    """Filled contours of a function of two inputs.

    Args:
        x1: grid of the first input, (N,).
        x2: grid of the second input, (M,).
        values: the function on the grid, (M, N).
        ax: where to draw.
        label: what the colours mean, with its unit.
    """
    ax = _axes(ax, figsize=(5.2, 4.2))
    filled = ax.contourf(x1, x2, values, levels=12, cmap="cividis")
    ax.contour(x1, x2, values, levels=filled.levels, colors="white", linewidths=0.4, linestyles="solid")
    ax.figure.colorbar(filled, ax=ax, label=label)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    ax.grid(False)
    return ax


def heat_map(
    values: ArrayLike, ax: Axes | None = None, *, label: str, xlabel: str, ylabel: str, annotate: bool = False
) -> Axes:
    """A matrix as colours, rows from top to bottom, optionally with its numbers.

    Args:
        values: (rows, columns).
        ax: where to draw.
        label: what the colours mean, with its unit.
        xlabel: what the columns are.
        ylabel: what the rows are.
        annotate: write each value into its cell.
    """
    ax = _axes(ax, figsize=(6.0, 3.6))
    sns.heatmap(
        np.asarray(values, dtype=float),
        ax=ax,
        cmap="cividis",
        annot=annotate,
        fmt=".2f",
        # Numbers stand on a light patch: no colour of letters is readable on every colour of the map.
        annot_kws={"color": _INK, "bbox": {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5}},
        cbar_kws={"label": label},
    )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def learning_curves(runs: Mapping[str, Sequence], metric: str = "test_loss", ax: Axes | None = None) -> Axes:
    """One metric against the epoch: the mean over seeds as a line, their range as a band.

    Args:
        runs: for each name in the legend the records of its runs (one a seed, of equal length).
        metric: a metric of the records, for example ``test_loss`` (nats) or ``test_accuracy`` (a fraction).
        ax: where to draw.

    Raises:
        ValueError: a name has no records, or records of different lengths.
    """
    ax = _axes(ax)
    for number, (name, records) in enumerate(runs.items()):
        curves = [record.curve(metric) for record in records]
        if len({len(curve) for curve in curves}) != 1:
            lengths = [len(curve) for curve in curves]
            raise ValueError(f"expected records of one length for {name!r}, got {lengths}")
        values = np.array(curves)
        epochs = np.arange(1, values.shape[1] + 1)
        color = COLORS[number % len(COLORS)]
        suffix = f" ({len(curves)} seeds)" if len(curves) > 1 else ""
        marker = "o" if len(epochs) < 12 else None
        ax.plot(epochs, values.mean(axis=0), color=color, label=name + suffix, marker=marker, markersize=4)
        if len(curves) > 1:
            ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.2)
    unit = " (nats)" if metric.endswith("loss") else " (fraction)" if metric.endswith("accuracy") else ""
    ax.set(xlabel="epoch", ylabel=metric.replace("_", " ") + unit)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    ax.legend()
    return ax


def reliability_diagram(bins: Mapping[str, _Binned], ax: Axes | None = None) -> Axes:
    """How often answers are right against how sure they are: on the dashed line they claim what they keep.

    Below it a network is too sure. The bars are each bin's 95 % interval; the legend gives the calibration
    errors.

    Args:
        bins: for each name in the legend what :func:`~ugmm_tutorial.uncertainty.reliability` returns.
        ax: where to draw.

    Raises:
        ValueError: nothing to draw.
    """
    if not bins:
        raise ValueError("expected the bins of at least one network, got none")
    ax = _axes(ax, figsize=(4.6, 4.4))
    lowest = 1.0
    for number, (name, binned) in enumerate(bins.items()):
        confidence, accuracy = np.asarray(binned.confidence), np.asarray(binned.accuracy)
        low, high = binned.accuracy_interval()
        ax.errorbar(
            confidence,
            accuracy,
            # An accuracy of 0 or 1 may lie beyond the end of its interval by rounding.
            yerr=np.clip([accuracy - low, high - accuracy], 0.0, None),
            color=COLORS[number % len(COLORS)],
            marker="osD^vP"[number % 6],
            markersize=4,
            linewidth=1.2,
            label=f"{name} (ECE {binned.ece:.3f})",
        )
        lowest = min(lowest, confidence.min(), accuracy.min())
    ends = (max(0.0, lowest - 0.03), 1.01)
    ax.plot(ends, ends, color="gray", linestyle="--", linewidth=1, zorder=0)
    ax.set(xlim=ends, ylim=ends, xlabel="confidence", ylabel="accuracy (fraction)")
    ax.legend(loc="upper left")
    return ax


def severity_curves(
    curves: Mapping[str, Sequence[float] | Sequence[Mapping]], ax: Axes | None = None, *, ylabel: str
) -> Axes:
    """A metric against the severity of a corruption, from 0, the images as they are.

    Args:
        curves: for each name in the legend one number a severity, or one ``{"mean", "half_width"}``, whose
            interval is drawn as a band.
        ax: where to draw.
        ylabel: the metric, with its unit.

    Raises:
        ValueError: nothing to draw, or curves of different lengths.
    """
    lengths = {name: len(curve) for name, curve in curves.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"expected curves of one length, at least 1, got {lengths}")
    ax = _axes(ax, figsize=(4.6, 3.4))
    for number, (name, curve) in enumerate(curves.items()):
        summaries = [c if isinstance(c, Mapping) else {"mean": c} for c in curve]
        mean = np.array([s["mean"] for s in summaries], dtype=float)
        half = np.array([s.get("half_width") or 0.0 for s in summaries])
        severity, color = np.arange(len(mean)), COLORS[number % len(COLORS)]
        dashes, marker = _DASHES[number % len(_DASHES)], "osD^vP"[number % 6]
        ax.plot(severity, mean, color=color, linestyle=dashes, marker=marker, markersize=4, label=name)
        if half.any():
            ax.fill_between(severity, mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
    ax.set(xlabel="severity", ylabel=ylabel)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    ax.legend()
    return ax


def image_grid(images: ArrayLike, titles: Sequence[str], ax: Axes | None = None, *, columns: int = 6) -> Axes:
    """Grey images in a grid, each with a short title above it.

    Args:
        images: (N, H, W) or (N, 1, H, W), N >= 1.
        titles: N short strings.
        ax: where to draw.
        columns: images a row.
    """
    images = np.asarray(images, dtype=float)
    if images.ndim == 4:
        images = images[:, 0]
    if images.ndim != 3 or len(images) == 0 or len(titles) != len(images):
        raise ValueError(
            f"expected images (N, H, W) or (N, 1, H, W), N >= 1, and N titles; got {images.shape} "
            f"and {len(titles)} titles"
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = images.shape[1:]
    cell_height, cell_width = height * 1.35, width * 1.15
    ax = _axes(ax, figsize=(1.15 * columns, 1.35 * rows))
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        left = (number % columns) * cell_width
        top = (number // columns) * cell_height
        ax.imshow(image, cmap="gray_r", extent=(left, left + width, top + height, top))
        ax.text(
            left + width / 2, top - 0.04 * height, title, ha="center", va="bottom", fontsize=9, color=_INK
        )
    ax.set(xlim=(-1, columns * cell_width), ylim=(rows * cell_height, -0.3 * height), aspect="equal")
    ax.axis("off")
    return ax


def _axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    return plt.subplots(figsize=figsize)[1] if ax is None else ax


def _bell(ax: Axes, *, center: float, base: float, color: str, width: float) -> None:
    t = np.linspace(-0.6, 0.6, 80)
    height = base + 0.55 * np.exp(-0.5 * (t / width) ** 2)
    ax.plot(center + t, height, color=color)
    ax.fill_between(center + t, base, height, color=color, alpha=0.15)


def _box(
    ax: Axes, corner: tuple[float, float], size: tuple[float, float], depth: float, text: str, color: str
) -> None:
    """A sheet, or a block of sheets if ``depth`` is not 0, with its name below."""
    for step in np.linspace(depth, 0.0, 4 if depth else 1):
        place = (corner[0] + step, corner[1] + step)
        ax.add_patch(Rectangle(place, *size, facecolor="white", edgecolor=color, linewidth=2))
    ax.text(corner[0] + size[0] / 2, corner[1] - 0.1, text, ha="center", va="top", color=_INK)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=color, linewidth=1.4))
