"""Sums and products over leaves: the densities whose marginals, conditionals and draws are exact.

A model of this kind has leaves (each a ``Components`` over some of the features) and sums above them. A
feature is marginalised within the leaves. The gradient of log p with respect to a leaf's log-density is the
posterior probability that this leaf made the row, so one backward pass gives conditional means, and it is the
E-step of EM (em.py). Taught in chapter 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ugmm_tutorial.density.components import Components
from ugmm_tutorial.density.model import Density
from ugmm_tutorial.kernels.arguments import seed as checked_seed

__all__ = ["TractableDensity", "draw"]


class TractableDensity(Density):
    """A circuit of sums and products over leaves.

    Attributes:
        leaves: groups of J densities, each group over its own features.
        scopes: the indices of these features, one tensor for each group.
        sum_logits: unnormalised log-weights of the sums; a softmax over the last axis normalises them.
    """

    leaves: nn.ModuleList
    sum_logits: nn.ParameterList

    @property
    def _components(self) -> list[Components]:
        """The leaves, typed as ``Components``; PyTorch types them as modules only."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Components)]

    @property
    def scopes(self) -> Sequence[Tensor]:
        """Indices of the features of every group of leaves."""
        raise NotImplementedError

    def log_weights(self) -> list[Tensor]:
        """Logarithms of the weights of all sums, each normalised over its last axis."""
        return [torch.log_softmax(logits, dim=-1) for logits in self.sum_logits]

    def combine(self, leaf_log_probs: Sequence[Tensor], log_weights: Sequence[Tensor]) -> Tensor:
        """Log-density (B,) from those of the leaves, each (B, J), and the log-weights of the sums."""
        raise NotImplementedError

    def choose(self, leaf_log_probs: Sequence[Tensor], generator: torch.Generator | None) -> Sequence[Tensor]:
        """For every row, draw which density of each group made it, (B,) each; -1 where none did."""
        raise NotImplementedError

    def leaf_log_probs(self, rows: Tensor) -> list[Tensor]:
        """Log-densities of all leaves at rows (B, D), each (B, J)."""
        parts = (
            rows.index_select(1, scope) for scope in self.scopes
        )  # PyTorch 2.7 exports no rows[:, scope]
        return [leaf(part) for leaf, part in zip(self._components, parts, strict=True)]

    def leaf_posteriors(self, rows: Tensor) -> list[Tensor]:
        """Probabilities that each leaf made the row, each (B, J): gradients of log p."""
        with torch.enable_grad():
            values = [value.detach().requires_grad_() for value in self.leaf_log_probs(rows)]
            log_prob = self.combine(values, [w.detach() for w in self.log_weights()])
            return list(torch.autograd.grad(log_prob.sum(), values))

    def initialise(self, x: Tensor, seed: int = 0) -> Self:
        """Start the leaves at clusters that scikit-learn's k-means finds in ``x``, (N, D).

        For this, missing values are replaced by the mean of their feature.

        Raises:
            TypeError, ValueError: as :meth:`log_prob`; or there are fewer rows than clusters.
        """
        self._start(self._data(x), checked_seed(seed))
        return self

    def _start(self, rows: Tensor, seed: int) -> None:
        raise NotImplementedError

    def _log_prob(self, rows: Tensor) -> Tensor:
        return self.combine(self.leaf_log_probs(rows), self.log_weights())

    def _complete(self, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        rows = rows.clone()
        chosen = self.choose(self.leaf_log_probs(rows), generator)
        for leaf, scope, which in zip(self._components, self.scopes, chosen, strict=True):
            used = (which >= 0).nonzero().squeeze(-1)
            place = (used.unsqueeze(-1), scope)
            rows[place] = leaf.complete(rows[place], which[used], generator)
        return rows

    def _expected(self, rows: Tensor) -> Tensor:
        expected = torch.zeros_like(rows)
        for leaf, scope, share in zip(self._components, self.scopes, self.leaf_posteriors(rows), strict=True):
            expected[:, scope] += leaf.expected(rows[:, scope], share)
        return expected


def draw(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """An index for every row, with probabilities proportional to exp(logits): (B, N) to (B,)."""
    if len(logits) == 0:
        return logits.new_zeros(0, dtype=torch.long)
    return torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=generator).squeeze(-1)
