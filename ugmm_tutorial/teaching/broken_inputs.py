"""Two networks side by side on rows whose inputs a reader breaks: the data for the page's live example.

In the built book, ``book/_static/broken.js`` reads the data from the page, computes both networks, and
takes the place of the figure. Taught in the chapter *When inputs break*.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ugmm_tutorial.layers import UGMMLayer

__all__ = ["BrokenInputs"]


class BrokenInputs:
    """A few rows, two networks or more, and what a reader needs to break inputs.

    As the last value of a cell, it writes its data into the page. Jupyter and Colab do not show them.

    Args:
        networks: by the name that readers see: stacks of UGMMLayer, LayerNorm, Linear, ReLU and Dropout, from
            scaled inputs to class scores. They are taken in evaluation mode.
        rows: inputs in their own units, (N, K), finite.
        labels: the rows' classes, (N,).
        center, scale: (K,); the networks read ``(rows - center) / scale``.
        deviation: what "one standard deviation" of an input is, (K,), in its own units.
        inputs, classes: names.
        proven: for each row, how many inputs may change in any way without a change of the first network's
            answer, (N,), as :func:`~ugmm_tutorial.robustness.certify` proves it.
        seed: of the order in which the slider breaks inputs, and of the signs of gross errors.

    Raises:
        TypeError: a network has another module.
        ValueError: shapes do not fit together.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Sequential],
        rows: ArrayLike,
        labels: ArrayLike,
        *,
        center: ArrayLike,
        scale: ArrayLike,
        deviation: ArrayLike,
        inputs: Sequence[str],
        classes: Sequence[str],
        proven: ArrayLike,
        seed: int = 0,
    ) -> None:
        self.rows = np.asarray(rows, dtype=np.float64)
        self.labels, self.proven = np.asarray(labels), np.asarray(proven)
        count, width = self.rows.shape
        if not len(self.labels) == len(self.proven) == count:
            raise ValueError(
                f"expected a label and a number for each of {count} rows, got {len(self.labels)} and "
                f"{len(self.proven)}"
            )
        columns = {"center": center, "scale": scale, "deviation": deviation, "inputs": inputs}
        for name, values in columns.items():
            if np.shape(values) != (width,):
                raise ValueError(f"expected {name} of shape ({width},), got {np.shape(values)}")
        self.center, self.scale, self.deviation = (
            np.asarray(values, dtype=np.float64) for values in (center, scale, deviation)
        )
        self.inputs, self.classes, self.seed = list(inputs), list(classes), seed
        self.networks = {name: _modules(network) for name, network in networks.items()}

    def __repr__(self) -> str:
        count, width = self.rows.shape
        return f"BrokenInputs({', '.join(self.networks)}; {count} rows of {width} inputs)"

    def data(self) -> dict:
        """The data for the page. Parameters are float32 in base64, row by row."""
        draw = np.random.default_rng(self.seed)
        count, width = self.rows.shape
        return {
            "inputs": self.inputs,
            "classes": self.classes,
            "rows": [[float(f"{value:.6g}") for value in row] for row in self.rows],
            "labels": self.labels.tolist(),
            "proven": self.proven.tolist(),
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
            "deviation": self.deviation.tolist(),
            "order": [draw.permutation(width).tolist() for _ in range(count)],
            "signs": [draw.choice([-1, 1], width).tolist() for _ in range(count)],
            "networks": self.networks,
        }

    def _repr_html_(self) -> str:
        # Names are text of the caller: no "<" of theirs may end the element early.
        text = json.dumps(self.data()).replace("<", "\\u003c")
        return f'<script type="application/json" class="broken-inputs">{text}</script>'


def _modules(network: nn.Sequential) -> list[dict]:
    """The modules as the page computes them."""
    found = []
    for module in network:
        if isinstance(module, nn.Sequential):
            found += _modules(module)
        elif type(module) is UGMMLayer:
            parts = {"mean": module.mean, "std": module.std, "weight": module.mix_weight}
            found.append({"kind": "mixture", **_stored(parts)})
        elif type(module) is nn.LayerNorm:
            parts = {"weight": module.weight, "bias": module.bias}
            found.append({"kind": "norm", "eps": module.eps, **_stored(parts)})
        elif type(module) is nn.Linear:
            found.append({"kind": "linear", **_stored({"weight": module.weight, "bias": module.bias})})
        elif type(module) is nn.ReLU:
            found.append({"kind": "relu"})
        elif type(module) is not nn.Dropout:
            raise TypeError(
                "expected UGMMLayer, LayerNorm, Linear, ReLU and Dropout, which the page can compute, got "
                f"{type(module).__name__}"
            )
    return found


def _stored(parts: dict[str, Tensor]) -> dict[str, str]:
    with torch.no_grad():
        return {
            name: base64.b64encode(np.ascontiguousarray(part.cpu().float().numpy(), dtype="<f4")).decode()
            for name, part in parts.items()
        }
