"""What every density of this package offers: log_prob, sample, conditional, and the checks of its inputs.

A missing value is NaN. It is marginalised: the answer is the log-density of the known values.
Taught in chapter 10.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels.arguments import integer, numbers_in
from ugmm_tutorial.kernels.kinds import generator as checked_generator
from ugmm_tutorial.layers.missing import can_look

__all__ = ["Conditional", "Density", "known_somewhere"]


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
            ValueError: the last axis is not D long, a value is infinite, or x is on another device. Code that
                is compiled, exported or inside vmap does not look at values.
        """
        rows = self._rows(x)
        return self._log_prob(rows).reshape(x.shape[:-1])

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent draws, (n, D).

        Raises:
            TypeError, ValueError: ``n`` is not an integer, or negative.
        """
        return self._complete(self._nothing_known(integer("n", n, 0)), checked_generator(generator))

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

    def _rows(self, x: Tensor, name: str = "x") -> Tensor:
        """``x`` as rows (B, D), checked."""
        dtype = numbers_in(name, x, finite=False).dtype
        if dtype != self._like().dtype:
            wanted = self._like().dtype
            raise TypeError(
                f"expected {name} of the model's dtype {wanted}, got {dtype}: convert one of them"
            )
        if x.device != self._like().device:
            raise ValueError(f"expected {name} on the model's device {self._like().device}, got {x.device}")
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"expected {name} of shape (*, {self.in_features}), got {tuple(x.shape)}")
        if can_look(x) and x.isinf().any():
            raise ValueError(
                f"expected {name} with finite values, or NaN for a missing one, got an infinite one"
            )
        return x.reshape(-1, self.in_features)

    def _data(self, x: Tensor) -> Tensor:
        """Rows to learn from, checked as in ``_rows``: at least one, with every feature known in some row."""
        return known_somewhere(self._rows(x))

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
        self.model._rows(values, "values")
        joint = torch.where(self.evidence.isnan(), values, self.evidence)
        return self.model.log_prob(joint) - self.model.log_prob(self.evidence)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` completions of each row, ``(n, *, D)``, exact draws; known values stay as they are.

        Raises:
            TypeError, ValueError: ``n`` is not an integer, or negative.
        """
        rows = self._rows.expand(integer("n", n, 0), *self._rows.shape).reshape(-1, self.model.in_features)
        return self.model._complete(rows, checked_generator(generator)).reshape(n, *self.evidence.shape)

    @torch.no_grad()
    def mean(self) -> Tensor:
        """Expected values, ``(*, D)``, for imputation; known values stay as they are."""
        filled = torch.where(self._rows.isnan(), self.model._expected(self._rows), self._rows)
        return filled.reshape(self.evidence.shape)


def known_somewhere(x: Tensor) -> Tensor:
    """Rows (N, D) to learn from: at least one, with every feature known in some row.

    Raises:
        ValueError: there are none, or a feature is always NaN.
    """
    if len(x) == 0:
        raise ValueError("expected x with at least one row to learn from, got none")
    never = x.isnan().all(dim=0)
    if never.any():
        which = never.nonzero()[0].item()
        raise ValueError(
            f"expected every feature of x in some row, got only NaN: feature {which} is never there"
        )
    return x
