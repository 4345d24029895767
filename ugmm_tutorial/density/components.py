"""J densities over the same K features, each with K Gaussians: the parts of mixtures and circuits.

Two kinds share the parameter arrays ``mean`` and ``log_std`` (J, K): products of their K Gaussians
(diagonal.py) and smoothed neurons, which mix them (smoothed.py).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.kernels.kinds import device as checked_device
from ugmm_tutorial.kernels.kinds import dtype as checked_dtype
from ugmm_tutorial.layers.limits import lower_bound

__all__ = ["Arrays", "Components"]

#: What a log-density depends on, by name. The gradients of these tensors are the statistics of EM (em.py).
Arrays = dict[str, Tensor]


class Components(nn.Module):
    """J densities over K features: the base class of both kinds.

    Attributes:
        mean: means of the Gaussians, a parameter (J, K).
        log_std: logarithms of their standard deviations, a parameter (J, K), before the floor ``min_std``.

    Args:
        in_features: K, at least 1.
        num_components: J, at least 1.
        min_std: smallest standard deviation, > 0, in the units of the features. Without such a floor,
            the likelihood of a mixture is unbounded.
        device: where the parameters live.
        dtype: float32 or float64.

    Raises:
        TypeError: a size is not an integer, or the dtype is neither float32 nor float64.
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        in_features: int,
        num_components: int,
        *,
        min_std: float = 1e-3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check.integer("in_features", in_features, 1)
        self.num_components = check.integer("num_components", num_components, 1)
        self.min_std = check.number("min_std", min_std, above=0.0)
        device = None if device is None else checked_device(device, meta=True)
        dtype = checked_dtype(dtype)
        shape = (self.num_components, self.in_features)
        self.mean = nn.Parameter(torch.randn(shape, device=device, dtype=dtype))
        self.log_std = nn.Parameter(torch.zeros(shape, device=device, dtype=dtype))

    @property
    def floored_log_std(self) -> Tensor:
        """Logarithms of the standard deviations after the floor, (J, K)."""
        return lower_bound(self.log_std, math.log(self.min_std))

    @property
    def std(self) -> Tensor:
        """Standard deviations, (J, K), never below ``min_std`` (up to rounding)."""
        return self.floored_log_std.exp()

    def arrays(self, rows: Tensor) -> Arrays:
        """The tensors that the log-densities of ``rows`` (B, K) depend on."""
        raise NotImplementedError

    def forward(self, rows: Tensor, arrays: Arrays | None = None) -> Tensor:
        """Log-densities (B, J) of rows (B, K), NaN marginalised; ``arrays`` may replace the parameters."""
        raise NotImplementedError

    def complete(self, rows: Tensor, which: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw the missing values of every row from density ``which`` (B,) given the known values, (B, K)."""
        raise NotImplementedError

    def expected(self, rows: Tensor, share: Tensor) -> Tensor:
        """Sum over j of ``share`` (B, J) times the missing values' expectation under density j, (B, K).

        The entries at known values have no meaning.
        """
        raise NotImplementedError

    @torch.no_grad()
    def start(self, mean: Tensor, std: Tensor, rows: Tensor) -> None:
        """Move the Gaussians to clusters of the data ``rows`` (N, K) with means and deviations (J, K)."""
        self.mean.copy_(mean)
        self.log_std.copy_(std.clamp(min=self.min_std).log())

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, num_components={self.num_components}, min_std={self.min_std}"
