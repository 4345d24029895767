"""The diagonal Gaussian mixture: the neuron's Gaussians multiplied instead of mixed.

It has the same arrays ``mean`` and ``log_std`` (J, K) and is the baseline that a smoothed neuron must beat.
Taught in chapter 10.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from ugmm_tutorial.density.components import Arrays, Components
from ugmm_tutorial.density.mixture import Mixture
from ugmm_tutorial.functional import component_log_densities

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

__all__ = ["DiagonalGaussianMixture", "GaussianProducts"]


class GaussianProducts(Components):
    """J products of univariate Gaussians: log p_j(x) = sum_k log N(x_k; mean_jk, std_jk^2)."""

    def arrays(self, rows: Tensor) -> Arrays:
        # A factor of one changes nothing, but its gradient counts the rows that each Gaussian explains.
        return {
            "mean": self.mean,
            "log_std": self.floored_log_std,
            "log_weight": torch.zeros_like(self.mean),
        }

    def forward(self, rows: Tensor, arrays: Arrays | None = None) -> Tensor:
        a = self.arrays(rows) if arrays is None else arrays
        missing = rows.isnan()
        terms = component_log_densities(rows.nan_to_num(), a["mean"], a["log_std"], a["log_weight"])
        return terms.masked_fill(missing.unsqueeze(-2), 0.0).sum(dim=-1)

    def complete(self, rows: Tensor, which: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
        return torch.where(rows.isnan(), self.mean[which] + self.std[which] * noise, rows)

    def expected(self, rows: Tensor, share: Tensor) -> Tensor:
        return share @ self.mean


class DiagonalGaussianMixture(Mixture):
    """Diagonal Gaussian mixture: log p(x) = lse_j( log pi_j + sum_k log N(x_k; mean_jk, std_jk^2) ).

    Args:
        in_features: K, the length of a row.
        num_components: J, at least 1.
        options: ``min_std``, the floor of the standard deviations, > 0, in the features' units, 0.001 by
            default; ``device`` and ``dtype``, float32 or float64.

    Raises:
        TypeError, ValueError: as :class:`~ugmm_tutorial.density.components.Components`.

    >>> DiagonalGaussianMixture(4, num_components=3).component_posterior(torch.rand(8, 4)).shape
    torch.Size([8, 3])
    """

    def __init__(self, in_features: int, num_components: int, **options: Any) -> None:
        super().__init__(GaussianProducts(in_features, num_components, **options))

    @classmethod
    def from_sklearn(
        cls, mixture: GaussianMixture, *, min_std: float = 1e-6, dtype: torch.dtype = torch.float64
    ) -> Self:
        """The same density as a fitted ``GaussianMixture(covariance_type="diag")``.

        Raises:
            ValueError: the covariance is of another type, or a standard deviation is below ``min_std``.
            sklearn.exceptions.NotFittedError: the mixture has not been fitted.
        """
        from sklearn.utils.validation import check_is_fitted

        if mixture.covariance_type != "diag":
            raise ValueError(f"expected covariance_type='diag', got {mixture.covariance_type!r}")
        check_is_fitted(mixture)
        std = torch.as_tensor(mixture.covariances_, dtype=dtype).sqrt()
        if std.min() < min_std:
            raise ValueError(f"expected standard deviations >= min_std = {min_std}, got {std.min().item()}")
        model = cls(std.shape[1], std.shape[0], min_std=min_std, dtype=dtype)
        with torch.no_grad():
            model.mean.copy_(torch.as_tensor(mixture.means_))
            model.log_std.copy_(std.log())
            model.component_logits.copy_(torch.as_tensor(mixture.weights_).clamp(min=math.ulp(0.0)).log())
        return model
