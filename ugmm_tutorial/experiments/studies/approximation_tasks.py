"""Functions to learn and points to classify, for the approximation study.

Three of the functions are examples from Liu et al. (2025), one has a kink along the diagonal, and one is
additive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CLASSES", "FUNCTIONS", "Function", "rings", "sampled", "spirals", "xor_blobs"]


class Function(NamedTuple):
    """A function on [-1, 1]^K: the number of inputs K, and a map from rows (N, K) to values (N,)."""

    inputs: int
    value: Callable[[Tensor], Tensor]


def _four(x: Tensor) -> Tensor:
    square = x.square()
    return torch.exp(
        0.5
        * (
            torch.sin(math.pi * (square[:, 0] + square[:, 1]))
            + torch.sin(math.pi * (square[:, 2] + square[:, 3]))
        )
    )


FUNCTIONS: dict[str, Function] = {
    "exp(sin(pi x) + y^2)": Function(2, lambda x: torch.exp(torch.sin(math.pi * x[:, 0]) + x[:, 1].square())),
    "x y": Function(2, lambda x: x[:, 0] * x[:, 1]),
    "four inputs": Function(4, _four),
    "|x - y|": Function(2, lambda x: (x[:, 0] - x[:, 1]).abs()),
    "sin(pi x) + |y|": Function(2, lambda x: torch.sin(math.pi * x[:, 0]) + x[:, 1].abs()),
}


def sampled(function: Function, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Uniform rows (N, K) in the box and the function's values (N,) there, without noise, in float32."""
    x = 2.0 * torch.rand(rows, function.inputs, generator=generator) - 1.0
    return x, function.value(x)


def xor_blobs(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Four clouds at the corners of a square: points (N, 2) and labels (N,). Each diagonal is one class."""
    corner = torch.randint(2, (rows, 2), generator=generator)
    noise = 0.35 * torch.randn(rows, 2, generator=generator)
    return 2.0 * corner - 1.0 + noise, corner[:, 0] ^ corner[:, 1]


def rings(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A ring within a ring: points (N, 2) and labels (N,). An additive function can tell the rings apart."""
    y = torch.randint(2, (rows,), generator=generator)
    angle = 2.0 * math.pi * torch.rand(rows, generator=generator)
    radius = 0.7 + 0.8 * y + 0.15 * torch.randn(rows, generator=generator)
    return radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1), y


def spirals(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two spirals of one and a quarter turns, half a turn apart: points (N, 2) and labels (N,)."""
    y = torch.randint(2, (rows,), generator=generator)
    turn = 0.25 + 1.25 * torch.rand(rows, generator=generator)
    angle = 2.0 * math.pi * turn + math.pi * y
    noise = 0.05 * torch.randn(rows, 2, generator=generator)
    return 1.2 * turn.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1) + noise, y


CLASSES: dict[str, Callable[[int, torch.Generator], tuple[Tensor, Tensor]]] = {
    "XOR blobs": xor_blobs,
    "rings": rings,
    "spirals": spirals,
}
