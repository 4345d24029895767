"""Drawings without data: a neuron, the shapes in a layer, and where its terms are stored."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from ugmm_tutorial.kernels.arguments import integer
from ugmm_tutorial.teaching.plotting.style import COLORS, INK, axes

__all__ = ["broadcast_schematic", "fused_schematic", "neuron_schematic"]


def neuron_schematic(num_inputs: int = 3, ax: Axes | None = None) -> Axes:
    """One uGMM neuron with its inputs, after the paper's Figure 1.

    Each input x_k has its own component (mean, standard deviation, weight). The neuron sums the weighted
    densities and outputs the logarithm.

    Args:
        num_inputs: the number of inputs to draw, at least 1.
        ax: where to draw.

    Raises:
        TypeError: ``num_inputs`` is not an integer.
        ValueError: it is below 1.
    """
    integer("num_inputs", num_inputs, 1)
    ax = axes(ax, figsize=(5.6, 0.2 + 0.85 * num_inputs))
    heights = np.arange(num_inputs)[::-1] * 1.0
    middle = heights.mean()
    for k, height in enumerate(heights, start=1):
        color = COLORS[(k - 1) % len(COLORS)]
        ax.add_patch(Circle((0, height), 0.24, facecolor="white", edgecolor=color, linewidth=2))
        ax.text(0, height, f"$x_{{{k}}}$", ha="center", va="center", color=INK)
        _bell(ax, center=1.5, base=height - 0.22, color=color, width=0.16 + 0.05 * k)
        ax.text(2.15, height - 0.1, rf"$w_{{j{k}}},\ \mu_{{j{k}}},\ \sigma_{{j{k}}}$", va="center", color=INK)
        _arrow(ax, (0.26, height), (0.85, height), color)
        _arrow(ax, (3.4, height - 0.1), (4.25, middle + 0.3 * np.sign(height - middle)), color)
    ax.add_patch(Circle((4.68, middle), 0.44, facecolor="white", edgecolor=INK, linewidth=2))
    ax.text(4.68, middle, r"$\log\sum$", ha="center", va="center", color=INK)
    _arrow(ax, (5.14, middle), (5.6, middle), INK)
    ax.text(5.65, middle, r"$\mathrm{out}_j(\mathbf{x})$", va="center", color=INK)
    ax.set(xlim=(-0.3, 6.4), ylim=(heights.min() - 0.55, heights.max() + 0.65), aspect="equal")
    ax.axis("off")
    return ax


def broadcast_schematic(ax: Axes | None = None) -> Axes:
    """The shapes in a layer: inputs (B, K) and parameters (J, K), terms (B, J, K), outputs (B, J)."""
    ax = axes(ax, figsize=(5.6, 1.8))
    _box(ax, (0.0, 0.6), (1.1, 1.2), 0.0, "inputs\n(B, 1, K)", COLORS[0])
    _box(ax, (1.85, 0.6), (1.1, 0.8), 0.0, "parameters\n(J, K)", COLORS[1])
    _box(ax, (4.3, 0.45), (1.1, 0.8), 0.6, "terms\n(B, J, K)", COLORS[2])
    _box(ax, (7.8, 0.6), (0.8, 1.2), 0.0, "outputs\n(B, J)", COLORS[3])
    ax.text(1.25, 1.5, "against", color=INK)
    _arrow(ax, (3.1, 1.2), (4.2, 1.2), INK)
    ax.text(3.6, 1.35, "broad-\ncast", ha="center", color=INK)
    _arrow(ax, (6.15, 1.2), (7.7, 1.2), INK)
    ax.text(6.9, 1.35, "logsumexp\nover K", ha="center", color=INK)
    ax.set(xlim=(-0.25, 8.75), ylim=(-0.35, 2.35), aspect="equal")
    ax.axis("off")
    return ax


def fused_schematic(ax: Axes | None = None) -> Axes:
    """Where the terms are stored: a block in memory when broadcast, a few in registers when fused."""
    ax = axes(ax, figsize=(5.6, 3.6))
    for height, title in ((2.5, "broadcast"), (0.0, "fused")):
        _box(ax, (0.0, height), (1.1, 1.0), 0.0, "inputs and\nparameters", COLORS[0])
        _box(ax, (5.4, height), (0.8, 1.0), 0.0, "outputs\n(B, J)", COLORS[3])
        ax.text(-0.35, height + 0.5, title, ha="center", va="center", rotation=90, color=INK)
    _box(ax, (2.6, 2.3), (1.0, 0.7), 0.5, "terms (B, J, K)\nin memory", COLORS[1])
    _box(ax, (3.1, 0.35), (0.3, 0.3), 0.0, "a few terms\nin registers", COLORS[2])
    arrows = (
        ("write", 1.2, 2.5, 3.0), ("read back", 4.2, 5.3, 3.0),
        ("read once", 1.2, 2.95, 0.5), ("add up", 3.55, 5.3, 0.5),
    )  # fmt: skip
    for words, start, end, height in arrows:
        _arrow(ax, (start, height), (end, height), INK)
        ax.text((start + end) / 2, height + 0.12, words, ha="center", color=INK)
    ax.set(xlim=(-0.6, 6.4), ylim=(-0.8, 3.7), aspect="equal")
    ax.axis("off")
    return ax


def _bell(ax: Axes, *, center: float, base: float, color: str, width: float) -> None:
    t = np.linspace(-0.6, 0.6, 80)
    height = base + 0.55 * np.exp(-0.5 * (t / width) ** 2)
    ax.plot(center + t, height, color=color)
    ax.fill_between(center + t, base, height, color=color, alpha=0.15)


def _box(
    ax: Axes, corner: tuple[float, float], size: tuple[float, float], depth: float, text: str, color: str
) -> None:
    """Draw a sheet, or a block of sheets if ``depth`` is not 0, with its name below."""
    for step in np.linspace(depth, 0.0, 4 if depth else 1):
        place = (corner[0] + step, corner[1] + step)
        ax.add_patch(Rectangle(place, *size, facecolor="white", edgecolor=color, linewidth=2))
    ax.text(corner[0] + size[0] / 2, corner[1] - 0.1, text, ha="center", va="top", color=INK)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=color, linewidth=1.4))
