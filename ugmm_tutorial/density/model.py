"""What every density of this package offers: log_prob, sample, conditional, and the checks of its inputs.

A missing value is NaN. It is marginalised: the answer is the log-density of the known values.
Taught in chapter 9.
"""

from __future__ import annotations

from numbers import Integral
from typing import Self

import torch
from torch import Tensor, nn

from ugmm_tutorial.layers.missing import can_look

__all__ = ["Conditional", "Density"]


class Density(nn.Module):
    """A normalised density over rows of ``in_features`` values.

    Subclasses provide three things on checked rows (B, D): ``_log_prob``, the log-density with missing
    values marginalised; ``_complete``, a draw of the missing values given the others; ``_expected``,
    the missing values' expectation given the others.

    Attributes:
        in_features: D, the length of a row.

    >>> from ugmm_tutorial.density import SmoothedUGMM
    >>> SmoothedUGMM(3, 2).log_prob(torch.full((8, 3), torch.nan)).allclose(torch.zeros(8), atol=1e-5)
    True
    """

    in_features: int

    def forward(self, x: Tensor) -> Tensor:
        """The same as :meth:`log_prob`."""
        return self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats: ``(*, D)`` to ``(*,)``. NaN is a missing value; a row of them gives 0.

        Raises:
            TypeError: ``x`` is not a tensor, or has another dtype than the parameters.
            ValueError: the last axis is not D long, or a value is infinite. Code that is compiled, exported
                or inside vmap does not look at values.
        """
        rows = self._rows(x)
        return self._log_prob(rows).reshape(x.shape[:-1])

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, (n, D).

        Raises:
            ValueError: ``n`` is negative or not an integer.
        """
        return self._complete(self._nothing_known(_number_of_draws(n)), generator)

    def conditional(self, x: Tensor) -> Conditional:
        """The distribution of the missing values (NaN) of ``x``, ``(*, D)``, given the known ones.

        Raises:
            TypeError, ValueError: as :meth:`log_prob`; or the known values have density zero.
        """
        rows = self._rows(x)
        with torch.no_grad():
            impossible = self._log_prob(rows) == -torch.inf
        if impossible.any():
            which = impossible.nonzero()[0].item()
            raise ValueError(f"expected evidence of positive density, but row {which} has density zero")
        return Conditional(self, x)

    def _log_prob(self, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def _complete(self, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError

    def _expected(self, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def _like(self) -> Tensor:
        """A tensor of the dtype and on the device that the rows must have."""
        return next(self.parameters())

    def _nothing_known(self, n: int) -> Tensor:
        return self._like().new_full((n, self.in_features), torch.nan)

    def _rows(self, x: Tensor) -> Tensor:
        """``x`` as rows (B, D), checked."""
        if not isinstance(x, Tensor):
            raise TypeError(f"expected x to be a torch.Tensor, got {type(x).__name__}")
        dtype = self._like().dtype
        if x.dtype != dtype:
            raise TypeError(f"expected x of the model's dtype {dtype}, got {x.dtype}: convert one of them")
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"expected x of shape (*, {self.in_features}), got {tuple(x.shape)}")
        if can_look(x) and x.isinf().any():
            raise ValueError("expected finite values, or NaN for a missing one, got an infinite value")
        return x.reshape(-1, self.in_features)

    def _data(self, x: Tensor) -> Tensor:
        """Rows to learn from, checked as in ``_rows``: at least one, with every feature known in some row."""
        rows = self._rows(x)
        if len(rows) == 0:
            raise ValueError("expected at least one row to learn from, got none")
        never = rows.isnan().all(dim=0)
        if never.any():
            raise ValueError(
                f"expected every feature in some row, but feature {never.nonzero()[0].item()} is never there"
            )
        return rows

    def initialise(self, x: Tensor, seed: int = 0) -> Self:
        """Set the parameters from data; only the models that need it implement this."""
        raise NotImplementedError(f"{type(self).__name__} has no initialisation from data")


class Conditional:
    """What :meth:`Density.conditional` returns.

    Attributes:
        evidence: the rows it is conditioned on, ``(*, D)``, NaN where a value is missing.

    >>> from ugmm_tutorial.density import DiagonalGaussianMixture
    >>> DiagonalGaussianMixture(2, 1).conditional(torch.tensor([1.0, torch.nan])).sample(5)[:, 0]
    tensor([1., 1., 1., 1., 1.])
    """

    def __init__(self, model: Density, evidence: Tensor) -> None:
        self.model = model
        self.evidence = evidence
        self._rows = evidence.reshape(-1, model.in_features)

    def log_prob(self, values: Tensor) -> Tensor:
        """Log-density of the missing values, ``(*, D)`` to ``(*,)``: log joint minus log marginal.

        Args:
            values: whole rows, broadcast against the evidence; only their entries at the missing places
                count. NaN there is marginalised too.

        Raises:
            TypeError, ValueError: as :meth:`Density.log_prob`.
        """
        self.model._rows(values)
        joint = torch.where(self.evidence.isnan(), values, self.evidence)
        return self.model.log_prob(joint) - self.model.log_prob(self.evidence)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` completions of each row, ``(n, *, D)``, exact draws; known values stay as they are.

        Raises:
            ValueError: ``n`` is negative or not an integer.
        """
        rows = self._rows.expand(_number_of_draws(n), *self._rows.shape).reshape(-1, self.model.in_features)
        return self.model._complete(rows, generator).reshape(n, *self.evidence.shape)

    @torch.no_grad()
    def mean(self) -> Tensor:
        """Expected values, ``(*, D)``, for imputation; known values stay as they are."""
        filled = torch.where(self._rows.isnan(), self.model._expected(self._rows), self._rows)
        return filled.reshape(self.evidence.shape)


def _number_of_draws(n: int) -> int:
    """``n``, checked to be a number of draws."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 0:
        raise ValueError(f"expected a number of draws >= 0, got {n!r}")
    return int(n)
