"""What neurons look at, as pictures: a grid for notebooks and paper, and data for the live viewer.

In the built book, ``book/_static/viewer.js`` reads the data from the page and replaces a figure by a viewer
with controls. Elsewhere, and without scripts, readers see the figure. Taught in chapter 12.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ugmm_tutorial.arrays import numbers
from ugmm_tutorial.kernels.arguments import indices, integer
from ugmm_tutorial.teaching.plotting.style import axes

__all__ = ["SubmodeViewer"]

_SHARES, _DIFFERENCES = "cividis", "RdBu_r"


class SubmodeViewer:
    """Mean responsibilities of pixels, by neuron and class.

    As the last value of a cell, the viewer writes its data into the page. Jupyter and Colab do not show them.

    Args:
        submodes: mean responsibility of each pixel, (J, C, H * W) or (J, C, H, W), not negative
            (:func:`~ugmm_tutorial.interpretation.submodes`).
        outputs: mean output of each neuron over the images of each class, (J, C), in nats.
        images: mean image of each class, (C, H * W) or (C, H, W).
        height: the height of the images in pixels. By default it follows from the shape, or the images are
            square.

    Raises:
        ValueError: the shapes do not fit together, or a responsibility is negative or not finite.
    """

    def __init__(
        self, submodes: ArrayLike, outputs: ArrayLike, images: ArrayLike, *, height: int | None = None
    ) -> None:
        shares, self.outputs = numbers("submodes", submodes), numbers("outputs", outputs)
        pictures = numbers("images", images)
        if shares.ndim not in (3, 4) or self.outputs.shape != shares.shape[:2]:
            raise ValueError(
                "expected submodes (J, C, pixels) or (J, C, H, W) and outputs (J, C), got "
                f"{shares.shape} and {self.outputs.shape}"
            )
        if pictures.shape != shares.shape[1:]:
            raise ValueError(
                f"expected images, a mean image for each class, {shares.shape[1:]}, got {pictures.shape}"
            )
        if not np.isfinite(shares).all() or (shares < 0).any():
            raise ValueError("expected submodes, responsibilities that are finite and not negative")
        for name, array in (("outputs", self.outputs), ("images", pictures)):
            if not np.isfinite(array).all():
                raise ValueError(f"expected finite {name}, got NaN or infinity")
        size = self._size(shares, height)
        self.shares = shares.reshape(*shares.shape[:2], *size)
        self.images = pictures.reshape(-1, *size)

    @staticmethod
    def _size(shares: np.ndarray, height: int | None) -> tuple[int, int]:
        if shares.ndim == 4:
            return shares.shape[2:]
        height = round(shares.shape[2] ** 0.5) if height is None else integer("height", height, 1)
        if shares.shape[2] % height:
            raise ValueError(f"expected a height that divides {shares.shape[2]} pixels, got {height}")
        return height, shares.shape[2] // height

    def __repr__(self) -> str:
        neurons, classes, height, width = self.shares.shape
        return f"SubmodeViewer({neurons} neurons, {classes} classes, {height} x {width} pixels)"

    def differences(self, neuron: int) -> np.ndarray:
        """The difference of each class from the neuron's mean over the classes, (C, H, W)."""
        (neuron,) = indices("neuron", [neuron], len(self.shares))
        return self.shares[neuron] - self.shares[neuron].mean(axis=0)

    def grid(self, neurons: Sequence[int], ax: Axes | None = None) -> Axes:
        """A row for each neuron: its mean responsibilities, and the difference that each class makes to them.

        Args:
            neurons: the indices of the neurons, at least one.
            ax: the axes to draw on; by default those of a new figure.

        Raises:
            IndexError: there is no such neuron.
            ValueError: no neuron is named.
        """
        neurons = indices("neurons", neurons, len(self.shares))
        if len(neurons) == 0:
            raise ValueError("expected at least one neuron in neurons, got none")
        _, classes, height, width = self.shares.shape
        ax = axes(ax, (0.72 * (classes + 2), 0.78 * len(neurons) + 0.6))
        across, down = 1.12 * width, 1.12 * height
        for row, neuron in enumerate(neurons):
            mean, added = self.shares[neuron].mean(axis=0), self.differences(neuron)
            most = abs(added).max() or 1.0
            tiles = [(mean, _SHARES, 0.0, np.quantile(mean, 0.995) or 1.0)]
            tiles += [(one, _DIFFERENCES, -most, most) for one in added]
            for column, (tile, colors, low, high) in enumerate(tiles):
                left, top = column * across + 0.3 * width * (column > 0), row * down
                place = (left, left + width, top + height, top)
                ax.imshow(tile, cmap=colors, vmin=low, vmax=high, extent=place)
            ax.text(-0.1 * width, (row + 0.45) * down, f"neuron {neuron}", ha="right", va="center")
        for column in range(classes):
            middle = (column + 1) * across + 0.8 * width
            ax.text(middle, -0.12 * height, str(column), ha="center")
        ax.text(width / 2, -0.12 * height, "mean", ha="center")
        ax.set(xlim=(-2.6 * width, (classes + 1.4) * across), ylim=(len(neurons) * down, -0.7 * height))
        ax.set_aspect("equal")
        ax.axis("off")
        return ax

    def data(self) -> dict:
        """The data for the page. Bytes are in base64, and a neuron's shares in 255ths of its ``scale``."""
        neurons, classes, height, width = self.shares.shape
        scale = self.shares.reshape(neurons, -1).max(axis=1)
        steps = self.shares / np.where(scale > 0, scale, 1.0)[:, None, None, None]
        flat = self.shares.reshape(neurons, classes, -1)
        flat = flat / np.maximum(flat.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
        entropy = -(flat * np.log(np.where(flat > 0, flat, 1.0))).sum(axis=-1)
        lightest = max(self.images.max(), np.finfo(float).tiny)
        return {
            "neurons": neurons,
            "classes": classes,
            "size": [height, width],
            "scale": [float(f"{s:.6g}") for s in scale],
            "shares": _bytes(steps),
            "images": _bytes(np.clip(self.images / lightest, 0, 1)),
            "outputs": np.round(self.outputs, 4).tolist(),
            "effective": np.round(np.exp(entropy), 1).tolist(),
            "colors": {"shares": _table(_SHARES), "differences": _table(_DIFFERENCES)},
        }

    def _repr_html_(self) -> str:
        # The data have only digits, letters and base64, so nothing can end the element early.
        return f'<script type="application/json" class="submodes">{json.dumps(self.data())}</script>'


def _bytes(fractions: np.ndarray) -> str:
    return base64.b64encode(np.round(255 * fractions).astype(np.uint8).tobytes()).decode()


def _table(name: str) -> str:
    """A colour map as 256 triples of red, green and blue, in base64."""
    return _bytes(mpl.colormaps[name](np.arange(256))[:, :3])
