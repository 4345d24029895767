"""The problem to solve: a network, its evidence, its query and the box. All checks are here.

Taught in chapter 11.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from ugmm_tutorial.inference.network import Layer, condition, layers_of, only_output
from ugmm_tutorial.kernels.arguments import shown

__all__ = ["Problem", "pose"]

# Squares of larger numbers, divided by a small variance, would leave the range of float64.
_FARTHEST = 1e100


@dataclass(frozen=True)
class Problem:
    """Maximise a network with one output over the box ``[low, high]``, (n,) each, float64.

    ``layers`` is the network as a function of the n query inputs (see
    :func:`~ugmm_tutorial.inference.network.condition`). ``allowed`` maps the positions of discrete ones to
    their values in rising order; ``low`` and ``high`` are the first and the last of these.
    """

    layers: list[Layer]
    low: Tensor
    high: Tensor
    allowed: Mapping[int, Tensor]

    @property
    def size(self) -> int:
        """n, the number of query inputs."""
        return len(self.low)

    def inputs(self, x: Tensor) -> Tensor:
        """Inputs (K, B) of the first layer from values (n, B): the evidence's component reads a 0."""
        missing = self.layers[0].mean.shape[1] - len(x)
        return torch.cat([x, x.new_zeros(missing, x.shape[1])]) if missing else x

    def snapped(self, x: Tensor) -> Tensor:
        """Points (n, B) with each discrete coordinate moved to the nearest allowed value."""
        if not self.allowed:
            return x
        x = x.clone()
        for i, values in self.allowed.items():
            above = torch.searchsorted(values, x[i].contiguous()).clamp(max=len(values) - 1)
            below = (above - 1).clamp(min=0)
            nearer = (x[i] - values[below]).abs() < (values[above] - x[i]).abs()
            x[i] = values[torch.where(nearer, below, above)]
        return x

    def sample(self, count: int, seed: int) -> Tensor:
        """Points (n, count), uniform in the box or among the allowed values."""
        generator = torch.Generator().manual_seed(int(seed))
        share = torch.rand(self.size, count, generator=generator, dtype=torch.float64)
        x = self.clipped(self.low.unsqueeze(1) + (self.high - self.low).unsqueeze(1) * share)
        for i, values in self.allowed.items():
            x[i] = values[(share[i] * len(values)).long().clamp(max=len(values) - 1)]
        return x

    def clipped(self, x: Tensor) -> Tensor:
        """Points (n, B) moved into the box."""
        return torch.minimum(torch.maximum(x, self.low.unsqueeze(1)), self.high.unsqueeze(1))

    def along(self, position: int, x: Tensor) -> Problem:
        """The problem in one coordinate, with the others fixed at the point x (n,)."""
        rest = {k: float(value) for k, value in enumerate(self.inputs(x.unsqueeze(1))[:, 0]) if k != position}
        allowed = {0: self.allowed[position]} if position in self.allowed else {}
        one = slice(position, position + 1)
        return Problem(condition(self.layers, rest, [position]), self.low[one], self.high[one], allowed)


def pose(
    model: nn.Module,
    evidence: Mapping[int, float],
    query: Sequence[int],
    box: Sequence[tuple[float, float] | None],
    output: int = 0,
    discrete: Mapping[int, Sequence[float]] | None = None,
) -> Problem:
    """Check a query and turn it into a ``Problem``; arguments and errors are those of ``mpe``."""
    layers = layers_of(model)
    inputs, outputs = layers[0].mean.shape[1], layers[-1].mean.shape[0]
    if not _is_index(output) or not 0 <= output < outputs:
        raise ValueError(f"expected output between 0 and {outputs - 1}, got {output!r}")
    for name, given in (("evidence", evidence), ("discrete", {} if discrete is None else discrete)):
        if not isinstance(given, Mapping):
            raise TypeError(f"expected {name} to map inputs to values, got {shown(given)}")
    for name, several in (("query", query), ("box", box)):
        collection = isinstance(several, Collection) and getattr(several, "ndim", 1) > 0
        if isinstance(several, str | Set) or not collection:
            raise TypeError(f"expected {name} to be a sequence, got {shown(several)}")
    evidence, query, discrete = dict(evidence), list(query), dict(discrete or {})
    _check_indices(evidence, query, discrete, inputs)
    for k, value in evidence.items():
        if not _is_coordinate(value):
            raise ValueError(f"expected the evidence for input {k} to be a finite number, got {value!r}")
    if len(box) != len(query):
        raise ValueError(
            f"expected a box, one (low, high) for each of {len(query)} query inputs, got {len(box)}"
        )
    allowed = {query.index(k): _allowed(k, values) for k, values in discrete.items()}
    sides = []
    for i, (k, side) in enumerate(zip(query, box, strict=True)):
        sides.append(_side(k, side, allowed.get(i)))
    low, high = torch.tensor(sides, dtype=torch.float64).T.contiguous()
    return Problem(condition(only_output(layers, output), evidence, query), low, high, allowed)


def _check_indices(evidence: dict, query: list, discrete: dict, inputs: int) -> None:
    """Check that every input is in exactly one of evidence and query."""
    for name, given in (("evidence", evidence), ("query", query)):
        for k in given:
            if not _is_index(k) or not 0 <= k < inputs:
                raise ValueError(f"expected {name} to name inputs from 0 to {inputs - 1}, got {k!r}")
    if not query:
        raise ValueError("expected at least one query input, got none: call the model for its value there")
    if len(set(query)) != len(query):
        raise ValueError(f"expected each query input once, got {query}")
    both = sorted(set(query) & set(evidence))
    if both:
        raise ValueError(f"inputs {both} are in the evidence and in the query: expected each in one of them")
    missing = sorted(set(range(inputs)) - set(query) - set(evidence))
    if missing:
        raise ValueError(
            f"inputs {missing} are neither observed nor sought: a network of uGMM neurons has no marginals, "
            "so give evidence for them or add them to the query"
        )
    unknown = sorted(set(discrete) - set(query))
    if unknown:
        raise ValueError(f"expected discrete to name query inputs, got {unknown}")


def _side(k: int, side: tuple[float, float] | None, allowed: Tensor | None) -> tuple[float, float]:
    """Low and high of one query input; for a discrete one, its smallest and largest value."""
    if side is None and allowed is not None:
        return float(allowed[0]), float(allowed[-1])
    if not isinstance(side, Sequence) or len(side) != 2 or not all(_is_coordinate(v) for v in side):
        raise ValueError(
            f"expected the box of input {k} to be two finite numbers (low, high) within +-{_FARTHEST:g}, got "
            f"{side!r}: the maximum may lie at infinity, so a query states where to look"
        )
    low, high = float(side[0]), float(side[1])
    if low > high:
        raise ValueError(f"the box of input {k} is empty: expected low <= high, got ({low}, {high})")
    if allowed is None:
        return low, high
    if allowed[0] < low or allowed[-1] > high:
        raise ValueError(
            f"allowed values of input {k} lie outside its box ({low}, {high}): {allowed.tolist()}"
        )
    return float(allowed[0]), float(allowed[-1])


def _allowed(k: int, values: Sequence[float]) -> Tensor:
    values = list(values)
    if not values or not all(_is_coordinate(v) for v in values):
        raise ValueError(f"expected the allowed values of input {k} to be finite numbers, got {values!r}")
    return torch.tensor(sorted({float(v) for v in values}), dtype=torch.float64)


def _is_index(k: object) -> bool:
    return isinstance(k, Integral) and not isinstance(k, bool)


def _is_coordinate(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value) and abs(float(value)) <= _FARTHEST
