"""HybridNet: mixtures at the entrance, which bound what broken inputs do, and an ordinary network behind.

Taught in the chapter *When inputs break*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ugmm_tutorial.kernels.arguments import integers, number, one_of
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.networks import MLP, Stack

__all__ = ["NORMS", "HybridNet"]

#: What follows every layer but the last. ``"batch"`` is affine once it is trained.
NORMS = ("layer", "batch")


class HybridNet(Stack):
    """A layer of mixtures, then an ordinary ReLU network: ``(*, widths[0])`` to ``(*, widths[-1])``.

    The first layer bounds what a broken input can do to all that follows. The rest learns like an MLP.

    Args:
        widths: sizes from input to output, at least three; ``widths[1]`` counts the mixtures.
        norm: ``"layer"`` or ``"batch"``, a normalisation of the mixtures' outputs and of every hidden linear
            layer, before its ReLU. ``"batch"`` takes rows (B, K) and can be certified more tightly.
        dropout: probability of dropping a component of the mixtures.
        init_std: standard deviation of every component at the start, > 0; from 1.4 on, means spread with it.
            Wide components read an input nearly linearly: clean accuracy rises, protection falls.
        layer_options: ``min_std``, ``missing`` and whatever else :class:`~ugmm_tutorial.UGMMLayer` takes.

    Raises:
        ValueError: too few widths, an unknown norm, or an option out of its range.
        TypeError: an option that the layer does not take.

    >>> HybridNet([30, 128, 64, 2])(torch.rand(5, 30)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        norm: str = "layer",
        dropout: float = 0.0,
        init_std: float = 1.0,
        **layer_options: Any,
    ) -> None:
        one_of("norm", norm, NORMS)
        widths = integers("widths", widths, 1, kind="positive integers")
        if len(widths) < 3:
            raise ValueError(
                f"expected at least three widths, inputs, mixtures and outputs, got {tuple(widths)}"
            )
        init_std = number("init_std", init_std, above=0.0)
        first = UGMMLayer(widths[0], widths[1], dropout=dropout, **layer_options)
        with torch.no_grad():
            first.log_std += math.log(init_std)
            first.mean *= max(1.0, 0.7 * init_std)
        normed = nn.LayerNorm if norm == "layer" else nn.BatchNorm1d
        behind = [
            normed(module.normalized_shape[0]) if isinstance(module, nn.LayerNorm) else module
            for module in MLP(widths[1:], norm="layer")
        ]
        super().__init__(first, normed(widths[1]), *behind)
        self.to(first.mean.device, first.mean.dtype)
