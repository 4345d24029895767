"""Mixtures and functions of two inputs: densities, one neuron at one input, contours."""

from __future__ import annotations

import itertools
from numbers import Integral

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from numpy.typing import ArrayLike

from ugmm_tutorial.arrays import numbers
from ugmm_tutorial.kernels.arguments import integer, shown
from ugmm_tutorial.teaching.plotting.style import COLORS, DASHES, INK, axes

__all__ = ["mixture_density", "neuron_explorer", "response_surface"]


def mixture_density(
    mean: ArrayLike, std: ArrayLike, weight: ArrayLike, ax: Axes | None = None, *, label: str = "component"
) -> Axes:
    """A univariate mixture: its weighted components are filled, and their sum is dashed (paper, Figure 2).

    Args:
        mean: component means, (K,).
        std: component standard deviations, (K,), > 0.
        weight: mixing weights, (K,), >= 0 and not all zero.
        ax: where to draw.
        label: the name of the components in the legend.

    Raises:
        ValueError: there are no components, lengths differ, a number is not finite, or a deviation is not
            positive.
    """
    named = {"mean": mean, "std": std, "weight": weight}
    mean, std, weight = (numbers(name, value).reshape(-1) for name, value in named.items())
    if not 1 <= len(mean) == len(std) == len(weight):
        lengths = f"{len(mean)}, {len(std)} and {len(weight)}"
        raise ValueError(f"expected mean, std and weight of one length, at least 1, got {lengths}")
    if not (np.isfinite([mean, std, weight]).all() and (std > 1e-300).all()):  # or a density may be infinite
        raise ValueError(
            f"expected finite numbers with std > 0, at least 1e-300, got {mean=}, {std=}, {weight=}"
        )
    if not (weight >= 0).all() or not (weight > 0).any():
        raise ValueError(f"expected weight, weights >= 0, not all zero, got {weight}")
    ax = axes(ax)
    y = _places(mean, std)
    z = (y[:, None] - mean) / std
    parts = weight * np.exp(-0.5 * z * z) / (std * np.sqrt(2 * np.pi))
    for k, part in enumerate(parts.T):
        color = COLORS[k % len(COLORS)]
        name = rf"{label} {k + 1}: $w$={weight[k]:.2g}, $\mu$={mean[k]:.2g}, $\sigma$={std[k]:.2g}"
        ax.plot(y, part, color=color, label=name)
        ax.fill_between(y, part, color=color, alpha=0.15)
    ax.plot(y, parts.sum(axis=1), color=INK, linestyle="--", label="mixture")
    ax.set(xlabel="value $y$", ylabel="density", ylim=(0, 1.6 * parts.sum(axis=1).max()))
    ax.legend(loc="upper left")
    return ax


def _places(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The points at which to draw the densities: evenly over all, and densely around each mean."""
    evenly = np.linspace((mean - 4 * std).min(), (mean + 4 * std).max(), 800)
    around = mean[:, None] + std[:, None] * np.linspace(-4, 4, 201)  # odd, so that the mean is one of them
    return np.unique(np.concatenate([evenly, around.ravel()]))


def neuron_explorer(
    x: ArrayLike, mean: ArrayLike, std: ArrayLike, weight: ArrayLike, ax: Axes | None = None
) -> Axes:
    """One neuron at one input: every curve is read at its own input, and the heights are stacked.

    The marker of component k is at input x_k, where the neuron evaluates this component. At the right the
    heights of the markers stand on each other. The title gives the logarithm of their sum, which is the
    output. The legend gives each part's share r_k.

    Args:
        x: the inputs, (K,).
        mean: component means, (K,).
        std: component standard deviations, (K,), > 0.
        weight: mixing weights, (K,), >= 0 and not all zero.
        ax: where to draw.

    Raises:
        ValueError: as for :func:`mixture_density`, or a weight is negative, or all weights are zero.
    """
    x, mean, weight = (numbers(n, v).reshape(-1) for n, v in (("x", x), ("mean", mean), ("weight", weight)))
    if len(x) != len(mean) or not np.isfinite(x).all():
        raise ValueError(f"expected x, finite inputs for each of mean, got {len(x)} for {len(mean)}: {x}")
    drawn_before = 0 if ax is None else len(ax.lines)
    ax = mixture_density(mean, std, weight, ax)
    curves = ax.lines[drawn_before : drawn_before + len(mean)]
    std = numbers("std", std).reshape(-1)
    with np.errstate(divide="ignore"):  # a weight of zero has the logarithm -inf, as it should
        terms = np.log(weight) - np.log(std) - 0.5 * np.log(2 * np.pi) - 0.5 * ((x - mean) / std) ** 2
    out = np.logaddexp.reduce(terms)
    stack, reached = ax.inset_axes((1.03, 0.0, 0.09, 1.0), sharey=ax), 0.0
    for k, (curve, marker) in enumerate(zip(curves, itertools.cycle("osD^vP"), strict=False)):
        height, color = np.exp(terms[k]), curve.get_color()
        stack.bar(0, height, bottom=reached, color=color, alpha=0.8, width=1.0)
        reached += height
        curve.set(
            linestyle=DASHES[k % len(DASHES)],
            label=rf"component {k + 1}: $r_{{{k + 1}}}$={np.exp(terms[k] - out):.3f}",
        )
        ax.vlines(x[k], 0, height, color=color, linewidth=1)
        ax.plot(x[k], height, marker, color=color, markersize=8, markeredgecolor="white", zorder=3)
        ax.annotate(f"$x_{{{k + 1}}}$", (x[k], 0), (4, 4), textcoords="offset points", color=INK)
    stack.axis("off")
    stack.annotate(
        f"sum\n{reached:.3f}", (0, reached), (0, 3), textcoords="offset points", color=INK, ha="center"
    )
    ax.set_ylim(top=max(ax.get_ylim()[1], 1.2 * reached))
    ax.set_title(f"output {out:.3f} nats")
    ax.legend(loc="upper left")  # in one column, far from the stack at the right
    return ax


def response_surface(
    x1: ArrayLike,
    x2: ArrayLike,
    values: ArrayLike,
    ax: Axes | None = None,
    *,
    label: str = "output (nats)",
    levels: int | ArrayLike = 12,
) -> Axes:
    """Filled contours of a function of two inputs.

    Args:
        x1: grid of the first input, (N,).
        x2: grid of the second input, (M,).
        values: the function on the grid, (M, N).
        ax: where to draw.
        label: the meaning of the colours, with its unit.
        levels: how many contours, or their values, rising. Two surfaces with the same values can be compared.

    Raises:
        TypeError, ValueError: an argument is no such array, or a number is not finite.
    """
    x1, x2, values = (numbers(n, v) for n, v in (("x1", x1), ("x2", x2), ("values", values)))
    for name, found, size in (("x1", x1, values.shape[-1:]), ("x2", x2, values.shape[:1])):
        if values.ndim != 2 or min(values.shape) < 2 or found.shape != size or not np.isfinite(found).all():
            raise ValueError(
                f"expected values (M, N), M and N >= 2, and finite {name} of a fitting length, got "
                f"{values.shape} and {found}"
            )
    if not np.isfinite(values).all():
        raise ValueError("expected finite values, got NaN or infinity")
    ax = axes(ax, figsize=(5.2, 4.2))
    if isinstance(levels, Integral):
        filled = ax.contourf(x1, x2, values, levels=integer("levels", levels, 1), cmap="Blues")
    else:
        # Colours follow the contours, which may lie closer where more happens. Below the first is one colour.
        steps = numbers("levels", levels)
        if steps.ndim != 1 or len(steps) < 2 or not (np.isfinite(steps).all() and (np.diff(steps) > 0).all()):
            raise ValueError(f"expected levels, how many or at least two rising values, got {shown(levels)}")
        scale = BoundaryNorm(steps, mpl.colormaps["Blues"].N, extend="min")
        filled = ax.contourf(x1, x2, values, levels=steps, cmap="Blues", norm=scale, extend="min")
    ax.contour(x1, x2, values, levels=filled.levels, colors="#777777", linewidths=0.4, linestyles="solid")
    ax.figure.colorbar(filled, ax=ax, label=label)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    ax.grid(False)
    return ax
