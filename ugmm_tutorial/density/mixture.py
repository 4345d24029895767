"""A mixture over the J densities of one group of components. Taught in chapter 10."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.density.clusters import clusters
from ugmm_tutorial.density.components import Components
from ugmm_tutorial.density.tractable import TractableDensity, draw

__all__ = ["Mixture"]


class Mixture(TractableDensity):
    """log p(x) = lse_j( log pi_j + log p_j(x) ), where the p_j are the densities of ``components``.

    Attributes:
        components: the J densities.
        component_logits: unnormalised log-weights (J,); a softmax turns them into pi.
    """

    def __init__(self, components: Components) -> None:
        super().__init__()
        self.in_features = components.in_features
        self.num_components = components.num_components
        self.leaves = nn.ModuleList([components])
        self.sum_logits = nn.ParameterList([nn.Parameter(torch.zeros_like(components.mean[:, 0]))])

    @property
    def components(self) -> Components:
        """The J densities."""
        return self._components[0]

    @property
    def component_logits(self) -> nn.Parameter:
        """Unnormalised log-weights, (J,)."""
        return self.sum_logits[0]

    @property
    def mean(self) -> nn.Parameter:
        """Means of the Gaussians, (J, K)."""
        return self.components.mean

    @property
    def log_std(self) -> nn.Parameter:
        """Logarithms of their standard deviations before the floor, (J, K)."""
        return self.components.log_std

    @property
    def std(self) -> Tensor:
        """Standard deviations after the floor, (J, K)."""
        return self.components.std

    @property
    def log_component_weight(self) -> Tensor:
        """log pi, (J,)."""
        return torch.log_softmax(self.component_logits, dim=-1)

    @property
    def scopes(self) -> Sequence[Tensor]:
        return [torch.arange(self.in_features, device=self.mean.device)]

    def component_log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of the J components, ``(*, K)`` to ``(*, J)``. Raises as :meth:`log_prob`."""
        return self.components(self._rows(x)).reshape(*x.shape[:-1], self.num_components)

    def component_posterior(self, x: Tensor) -> Tensor:
        """p(j | x), ``(*, K)`` to ``(*, J)``. Raises as :meth:`log_prob`."""
        return torch.softmax(self.component_log_prob(x) + self.log_component_weight, dim=-1)

    def combine(self, leaf_log_probs: Sequence[Tensor], log_weights: Sequence[Tensor]) -> Tensor:
        return torch.logsumexp(leaf_log_probs[0] + log_weights[0], dim=-1)

    def choose(self, leaf_log_probs: Sequence[Tensor], generator: torch.Generator | None) -> Sequence[Tensor]:
        return [draw(leaf_log_probs[0] + self.log_component_weight, generator)]

    @torch.no_grad()
    def _start(self, rows: Tensor, seed: int) -> None:
        share, mean, std = clusters(rows, self.num_components, seed)
        self.components.start(mean, std, rows)
        self.component_logits.copy_(share.log())
