"""The distribution of a row's missing values given those that are there.

The same for every model, because a conditional is a joint divided by a marginal. Taught in chapter 9.
"""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ugmm_tutorial.density.model import Density

__all__ = ["Conditional"]


class Conditional:
    """What :meth:`Density.conditional` returns.

    Attributes:
        evidence: the rows it is conditioned on, ``(*, D)``, NaN where a value is missing.
    """

    def __init__(self, model: Density, evidence: Tensor) -> None:
        self.model = model
        self.evidence = evidence
        self._rows = evidence.reshape(-1, model.in_features)

    def log_prob(self, values: Tensor) -> Tensor:
        """Log-density of the missing values, ``(*, D)`` to ``(*,)``: log joint minus log marginal.

        Args:
            values: whole rows, broadcast against the evidence; only their entries at the missing places
                count. NaN there is marginalised in its turn.

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
            ValueError: ``n`` is negative or no integer.
        """
        rows = self._rows.expand(count(n), *self._rows.shape).reshape(-1, self.model.in_features)
        return self.model._complete(rows, generator).reshape(n, *self.evidence.shape)

    @torch.no_grad()
    def mean(self) -> Tensor:
        """Expected values, ``(*, D)``, for imputation; known values stay as they are."""
        filled = torch.where(self._rows.isnan(), self.model._expected(self._rows), self._rows)
        return filled.reshape(self.evidence.shape)


def count(n: int) -> int:
    """``n``, if it is a number of draws."""
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 0:
        raise ValueError(f"expected a number of draws >= 0, got {n!r}")
    return int(n)
