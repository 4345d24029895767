"""Figures of measurements: curves over epochs and severities, reliability, matrices, images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ugmm_tutorial.arrays import numbers as real_numbers
from ugmm_tutorial.kernels.arguments import integer, shown
from ugmm_tutorial.teaching.plotting.style import COLORS, DASHES, INK, axes

__all__ = ["heat_map", "image_grid", "learning_curves", "reliability_diagram", "severity_curves"]


class _Binned(Protocol):
    """The bins of a reliability diagram (chapter 12)."""

    confidence: ArrayLike
    accuracy: ArrayLike
    ece: float

    def accuracy_interval(self) -> tuple[ArrayLike, ArrayLike]:
        """Lower and upper ends of each bin's 95 % interval, (bins,) each."""


def learning_curves(runs: Mapping[str, Sequence], metric: str = "test_loss", ax: Axes | None = None) -> Axes:
    """One metric against the epoch: the mean over seeds as a line, their range as a band.

    Args:
        runs: for each name in the legend, the records of its runs (one per seed, of equal length).
        metric: a metric of the records, for example ``test_loss`` (nats) or ``test_accuracy`` (a fraction).
        ax: where to draw.

    Raises:
        ValueError: there is nothing to draw, a name has no records, or its records differ in length.
        KeyError: the records have no such metric.
    """
    if not _by_name("runs", runs):
        raise ValueError("expected runs, the records of at least one run, got none")
    if not all(isinstance(r, Sequence) and all(hasattr(x, "curve") for x in r) for r in runs.values()):
        raise ValueError(f"expected runs to have records for every name, got {shown(runs)}")
    if not isinstance(metric, str):
        raise TypeError(f"expected metric to be the name of a metric, got {shown(metric)}")
    ax = axes(ax)
    for number, (name, records) in enumerate(runs.items()):
        curves = [record.curve(metric) for record in records]
        if len({len(curve) for curve in curves}) != 1:
            lengths = [len(curve) for curve in curves]
            raise ValueError(f"expected runs with records of one length, got {lengths} for {name!r}")
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
    """Accuracy against confidence. On the dashed line they are equal.

    Below this line a network is overconfident. The bars are the 95 % intervals of the bins, and the legend
    gives the calibration errors.

    Args:
        bins: for each name in the legend, the result of :func:`~ugmm_tutorial.uncertainty.reliability`.
        ax: where to draw.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not _by_name("bins", bins):
        raise ValueError("expected the bins of at least one network, got none")
    if not all(hasattr(binned, "accuracy_interval") for binned in bins.values()):
        raise TypeError(f"expected bins to be results of uncertainty.reliability, got {shown(bins)}")
    ax = axes(ax, figsize=(4.6, 4.4))
    lowest = 1.0
    for number, (name, binned) in enumerate(bins.items()):
        confidence, accuracy = np.asarray(binned.confidence), np.asarray(binned.accuracy)
        low, high = binned.accuracy_interval()
        ax.errorbar(
            confidence,
            accuracy,
            # By rounding, an accuracy of 0 or 1 may lie just outside its interval.
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
    """A metric against the severity of a corruption. Severity 0 is the unchanged images.

    Args:
        curves: for each name in the legend, one number for each severity, or one ``{"mean", "half_width"}``,
            whose interval is drawn as a band.
        ax: where to draw.
        ylabel: the metric, with its unit.

    Raises:
        ValueError: there is nothing to draw, or the curves differ in length.
    """
    given = _by_name("curves", curves).values()
    if not all(isinstance(curve, Sequence) or np.ndim(curve) == 1 for curve in given):
        raise TypeError(f"expected curves to have a sequence for every name, got {shown(curves)}")
    lengths = {name: len(curve) for name, curve in curves.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"expected curves of one length, at least 1, got {lengths}")
    ax = axes(ax, figsize=(4.6, 3.4))
    for number, (name, curve) in enumerate(curves.items()):
        summaries = [c if isinstance(c, Mapping) else {"mean": c} for c in curve]
        mean = real_numbers(f"curves of {name!r}", [s.get("mean") for s in summaries])
        half = np.array([s.get("half_width") or 0.0 for s in summaries])
        severity, color = np.arange(len(mean)), COLORS[number % len(COLORS)]
        dashes, marker = DASHES[number % len(DASHES)], "osD^vP"[number % 6]
        ax.plot(severity, mean, color=color, linestyle=dashes, marker=marker, markersize=4, label=name)
        if half.any():
            ax.fill_between(severity, mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
    ax.set(xlabel="severity", ylabel=ylabel)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    ax.legend()
    return ax


def heat_map(
    values: ArrayLike,
    ax: Axes | None = None,
    *,
    label: str,
    xlabel: str,
    ylabel: str,
    annotate: bool = False,
    numbers: str = ".2f",
) -> Axes:
    """A matrix as colours, with its rows from top to bottom and optionally with its numbers.

    Args:
        values: the matrix, (rows, columns). Cells that are NaN stay blank.
        ax: where to draw.
        label: the meaning of the colours, with its unit.
        xlabel: the meaning of the columns.
        ylabel: the meaning of the rows.
        annotate: write each value into its cell.
        numbers: how values are written, as in an f-string.

    Raises:
        ValueError: the values are not a matrix, or it is empty.
    """
    values = real_numbers("values", values)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"expected values of shape (rows, columns), none of them 0, got {values.shape}")
    ax = axes(ax, figsize=(6.0, 3.6))
    sns.heatmap(
        values,
        ax=ax,
        cmap="cividis",
        annot=annotate,
        fmt=numbers,
        # Numbers get a light patch, because no text colour is readable on every colour of the map.
        annot_kws={"color": INK, "bbox": {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5}},
        cbar_kws={"label": label},
    )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def image_grid(images: ArrayLike, titles: Sequence[str], ax: Axes | None = None, *, columns: int = 6) -> Axes:
    """Grey images in a grid, each with a short title above it, all on one scale from white to black.

    White is 0, or the lowest value if it is negative. Black is the highest value.

    Args:
        images: (N, H, W) or (N, 1, H, W), N >= 1.
        titles: N short strings.
        ax: where to draw.
        columns: the number of images in a row, at least 1.

    Raises:
        ValueError: the images have another shape, the number of titles differs, or there are no columns.
    """
    images, columns = real_numbers("images", images), integer("columns", columns, 1)
    if isinstance(titles, str) or not isinstance(titles, Sequence):
        raise TypeError(f"expected titles to be a sequence of strings, got {shown(titles)}")
    grey = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
    if grey.ndim != 3 or grey.size == 0 or len(titles) != len(grey):
        raise ValueError(
            f"expected images (N, H, W) or (N, 1, H, W), N >= 1, and N titles; got {images.shape} "
            f"and {len(titles)} titles"
        )
    images, scale = grey, {"vmin": min(0.0, np.nanmin(grey)), "vmax": np.nanmax(grey)}
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = images.shape[1:]
    cell_height, cell_width = height * 1.35, width * 1.15
    ax = axes(ax, figsize=(1.15 * columns, 1.35 * rows))
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        left = (number % columns) * cell_width
        top = (number // columns) * cell_height
        ax.imshow(image, cmap="gray_r", extent=(left, left + width, top + height, top), **scale)
        ax.text(left + width / 2, top - 0.04 * height, title, ha="center", va="bottom", fontsize=9, color=INK)
    ax.set(xlim=(-1, columns * cell_width), ylim=(rows * cell_height, -0.3 * height), aspect="equal")
    ax.axis("off")
    return ax


def _by_name(name: str, value: Mapping) -> Mapping:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(
            f"expected {name} to be a dict, with a name in the legend for each, got {shown(value)}"
        )
    return value
