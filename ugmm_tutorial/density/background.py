"""Background densities: a simple normalised density for every feature, independent of the others.

They complete the terms of a smoothed neuron (smoothed.py) and are the base of a tilted model (tilted.py).
Taught in chapter 10.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from ugmm_tutorial.density.model import known_somewhere
from ugmm_tutorial.kernels.arguments import indices, integer, number, numbers_in, of_one_kind
from ugmm_tutorial.kernels.kinds import generator as checked_generator
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI

__all__ = ["Background", "GaussianBackground", "UniformBackground"]


class Background(nn.Module):
    """K independent univariate densities b_k. Their numbers are buffers, so no gradient changes them.

    >>> GaussianBackground(torch.zeros(784), torch.ones(784)).select(torch.tensor([3, 1])).sample(5).shape
    torch.Size([5, 2])
    """

    @property
    def in_features(self) -> int:
        """K, the number of features."""
        return len(self.mean)

    if TYPE_CHECKING:
        # A buffer or a property, depending on the subclass: a property here would block the buffer.
        @property
        def mean(self) -> Tensor:
            """Means of the densities, (K,)."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log b_k(x_k) for every feature, ``(*, K)`` to ``(*, K)``, ``-inf`` outside the support."""
        raise NotImplementedError

    def quantile(self, u: Tensor) -> Tensor:
        """Quantiles of the densities at the levels ``u``, (N, K) to (N, K), in the dtype of ``u``."""
        raise NotImplementedError

    def select(self, scope: Tensor) -> Self:
        """The background of some features, in the order of the indices ``scope``.

        Raises:
            ValueError: these are no indices, or none at all.
            IndexError: there is no such feature.
        """
        chosen = indices("scope", scope, self.in_features)
        if not chosen:
            raise ValueError("expected scope with at least one index of a feature, got none")
        return type(self)(*(buffer[chosen] for buffer in self.buffers()))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws of all features, (n, K)."""
        # In float64 even for float32 features: fewer digits would cut off a Gaussian's tails. rand may
        # return 0, where a Gaussian's quantile is not finite.
        shape = (integer("n", n, 0), self.in_features)
        u = torch.rand(
            shape, generator=checked_generator(generator), dtype=torch.float64, device=self.mean.device
        )
        return self.quantile(u.clamp(min=2.0**-54)).to(self.mean.dtype)

    def _columns(self, name: str, value: Tensor) -> Tensor:
        if numbers_in(name, value, finite=False).shape[-1:] != self.mean.shape:
            raise ValueError(f"expected {name} of shape (*, {self.in_features}), got {tuple(value.shape)}")
        return value

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}"


class GaussianBackground(Background):
    """b_k = N(mean_k, std_k^2).

    Args:
        mean: means, (K,), in the units of the features.
        std: standard deviations, (K,), positive.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes differ, or a standard deviation is not positive.

    >>> GaussianBackground.fit(torch.tensor([[1.0], [3.0], [torch.nan]])).mean
    tensor([2.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        _check_pair("mean", mean, "std", std)
        if not (std > 0).all():
            raise ValueError(f"expected std, positive standard deviations, got {std.min().item()}")
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", std.detach().clone())

    @classmethod
    def fit(cls, x: Tensor, *, min_std: float = 1e-3) -> Self:
        """The maximum-likelihood background of rows ``x`` (N, K), without NaN, with a floor on std.

        Raises:
            TypeError, ValueError: as for the class; or there are no rows, or only NaN in a feature.
        """
        min_std, x = number("min_std", min_std, above=0.0), _data(x)
        rows = x.double()  # where no square of a float32 overflows
        mean = rows.nanmean(dim=0)
        std = (rows - mean).square().nanmean(dim=0).sqrt().clamp(min=min_std)
        return cls(mean.to(x.dtype), std.to(x.dtype))

    def log_prob(self, x: Tensor) -> Tensor:
        z = (self._columns("x", x) - self.mean) / self.std
        return -0.5 * z * z - self.std.log() - HALF_LOG_2PI

    def quantile(self, u: Tensor) -> Tensor:
        return self.mean + self.std * torch.special.ndtri(self._columns("u", u))


class UniformBackground(Background):
    """b_k = 1 / (high_k - low_k) on [low_k, high_k], zero outside.

    Args:
        low: lower ends, (K,).
        high: upper ends, (K,), above the lower ones.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes differ, or an upper end is not above its lower one.

    >>> UniformBackground(torch.zeros(2), torch.full((2,), 4.0)).log_prob(torch.tensor([1.0, 5.0])).exp()
    tensor([0.2500, 0.0000])
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        _check_pair("low", low, "high", high)
        if not (high > low).all():
            raise ValueError("expected every end in high above its one in low, got an empty interval")
        self.register_buffer("low", low.detach().clone())
        self.register_buffer("high", high.detach().clone())

    @classmethod
    def fit(cls, x: Tensor, *, margin: float = 0.1) -> Self:
        """The box of rows ``x`` (N, K), without NaN, widened by ``margin`` of its size at each end."""
        margin, x = number("margin", margin, 0.0), _data(x)
        low = x.nan_to_num(nan=math.inf).amin(dim=0)
        high = x.nan_to_num(nan=-math.inf).amax(dim=0)
        return cls(low - margin * (high - low), high + margin * (high - low))

    @property
    def mean(self) -> Tensor:
        """Centres of the intervals, (K,)."""
        return 0.5 * (self.low + self.high)

    def log_prob(self, x: Tensor) -> Tensor:
        inside = (self._columns("x", x) >= self.low) & (x <= self.high)
        return torch.where(inside, -(self.high - self.low).log(), -math.inf)

    def quantile(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * self._columns("u", u)


def _data(x: Tensor) -> Tensor:
    """Rows (N, K) to fit to, with NaN where a value is missing."""
    if numbers_in("x", x, dim=2, finite=False).isinf().any():
        raise ValueError("expected x with finite values, or NaN for a missing one, got an infinite one")
    return known_somewhere(x)


def _check_pair(first: str, a: Tensor, second: str, b: Tensor) -> None:
    for name, value in of_one_kind({first: a, second: b}).items():
        numbers_in(name, value)
    if a.dim() != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(
            f"expected {first} and {second} of one shape (K,), got {tuple(a.shape)} and {tuple(b.shape)}"
        )
