"""The smoothed neuron: every term of the uGMM neuron completed to a density of all inputs.

Term k of the neuron depends on input k only. Multiplied by background densities b_l of the other inputs it is
a density of the whole vector, and so is the neuron:

    p_j(x) = sum_k w_jk N(x_k; mean_jk, std_jk^2) prod_{l != k} b_l(x_l)
    log p_j(x) = sum_l log b_l(x_l) + lse_k[ log w_jk + log N(x_k; mean_jk, std_jk^2) - log b_k(x_k) ]

The second line is the fused operator with ``log_background``.

The neuron can express little: p_j divided by the product of all backgrounds is a *sum* of functions of one
input each. A mixture of J such neurons is one neuron with J components for each input. Its covariances
between different inputs are -a_k a_l for some vector a, so it cannot model three inputs that rise together.
Depth (circuit.py) is the remedy. Taught in chapter 10.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ugmm_tutorial import functional
from ugmm_tutorial.density.background import Background, GaussianBackground
from ugmm_tutorial.density.components import Arrays, Components
from ugmm_tutorial.density.mixture import Mixture
from ugmm_tutorial.density.tractable import draw
from ugmm_tutorial.kernels.arguments import integer
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI
from ugmm_tutorial.layers.missing import can_look

__all__ = ["SmoothedNeurons", "SmoothedUGMM"]


class SmoothedNeurons(Components):
    """J smoothed neurons over K features.

    Attributes:
        mix_logits: unnormalised log-weights (J, K); a softmax over the inputs normalises them.
        background: the densities b_k.

    Args:
        in_features: K, at least 1.
        num_components: J, at least 1.
        background: densities of the K features. None is a standard normal for each, until ``initialise`` or
            ``em.fit`` fits it to data.
        options: ``min_std``, ``device`` and ``dtype`` of :class:`Components`.

    Raises:
        TypeError, ValueError: as :class:`Components`; or the background has another size or dtype.
    """

    def __init__(
        self, in_features: int, num_components: int, *, background: Background | None = None, **options: Any
    ) -> None:
        super().__init__(in_features, num_components, **options)
        self.mix_logits = nn.Parameter(torch.zeros_like(self.mean))
        self.fits_background = background is None
        if background is None:
            zeros = torch.zeros_like(self.mean[0])
            background = GaussianBackground(zeros, torch.ones_like(zeros))
        self.background = _fitting(background, self.mean)

    @property
    def log_weight(self) -> Tensor:
        """Logarithms of the mixing weights, (J, K)."""
        return torch.log_softmax(self.mix_logits, dim=-1)

    def arrays(self, rows: Tensor) -> Arrays:
        known = torch.where(rows.isnan(), self.background.mean, rows)
        return {
            "mean": self.mean,
            "log_std": self.floored_log_std,
            "log_weight": self.log_weight,
            # The same weights for missing inputs, kept apart so that EM counts them separately.
            "log_missing_weight": self.log_weight,
            "log_background": self.background.log_prob(known),
        }

    def forward(self, rows: Tensor, arrays: Arrays | None = None) -> Tensor:
        a = self.arrays(rows) if arrays is None else arrays
        known, missing = self._terms(rows, a["log_background"])
        mixed = self._mixed(rows, a, known)
        if not can_look(missing) or missing.any():
            mixed = torch.logaddexp(mixed, _log_sum(missing, a["log_missing_weight"]))
        return self._base(rows, a["log_background"]) + mixed

    def complete(self, rows: Tensor, which: Tensor, generator: torch.Generator | None) -> Tensor:
        log_background = self.arrays(rows)["log_background"]
        known, missing = self._terms(rows, log_background)
        mean, std, weight = self.mean[which], self.std[which], self.log_weight[which]
        z = (rows - mean) / std
        # The terms of known inputs, divided by the factor that all terms share.
        ratio = -0.5 * z * z - std.log() - HALF_LOG_2PI - _finite(log_background)
        logits = torch.where(known, weight + ratio, torch.where(missing, weight, -torch.inf))
        component = draw(logits, generator).unsqueeze(-1)
        noise = torch.randn(component.shape, generator=generator, dtype=rows.dtype, device=rows.device)
        own = mean.gather(1, component) + std.gather(1, component) * noise
        drawn = self.background.sample(len(rows), generator).scatter(1, component, own)
        return torch.where(rows.isnan(), drawn, rows)

    def expected(self, rows: Tensor, share: Tensor) -> Tensor:
        a = self.arrays(rows)
        missing = self._terms(rows, a["log_background"])[1]
        log_mixed = self(rows, a) - self._base(rows, a["log_background"])
        # The posterior of a missing input's term is its weight over the sum of all terms, exp(log_mixed).
        scaled = share * torch.exp(-log_mixed.clamp(min=math.log(torch.finfo(rows.dtype).tiny)))
        shift = self.log_weight.exp() * (self.mean - self.background.mean)
        return share.sum(dim=-1, keepdim=True) * self.background.mean + missing * (scaled @ shift)

    @torch.no_grad()
    def start(self, mean: Tensor, std: Tensor, rows: Tensor) -> None:
        super().start(mean, std, rows)
        self.mix_logits.zero_()
        if self.fits_background and isinstance(self.background, GaussianBackground):
            fitted = GaussianBackground.fit(rows, min_std=self.min_std)
            self.background.mean.copy_(fitted.mean)
            self.background.std.copy_(fitted.std)

    def _terms(self, rows: Tensor, log_background: Tensor) -> tuple[Tensor, Tensor]:
        """Which terms have a known input, which a missing one, (B, K) each; the others are zero.

        An input outside the support of its background puts a factor of zero into every term but its own.
        With one such input only its own term remains; with several, none does.
        """
        unseen = rows.isnan()
        outside = (log_background == -torch.inf) & ~unseen
        count = outside.sum(dim=-1, keepdim=True)
        inside = count == 0
        return ~unseen & (inside | (outside & (count == 1))), unseen & inside

    def _base(self, rows: Tensor, log_background: Tensor) -> Tensor:
        """sum_l log b_l(x_l) over known inputs inside the support, (B, 1)."""
        return _finite(log_background).masked_fill(rows.isnan(), 0.0).sum(dim=-1, keepdim=True)

    def _mixed(self, rows: Tensor, a: Arrays, known: Tensor) -> Tensor:
        """The operator over the terms with a known input, (B, J); ``-inf`` where there are none."""
        some = known.any(dim=-1, keepdim=True)
        finite = _finite(a["log_background"])
        # A row without any term would have NaN gradients: it is computed with all terms and then discarded.
        removed = finite.masked_fill(~known & some, torch.inf)
        x = rows.nan_to_num()
        parameters = (a["mean"], a["log_std"], a["log_weight"])
        out = functional.ugmm_log_density(x, *parameters, log_background=removed)
        return torch.where(some, out, -torch.inf)


class SmoothedUGMM(Mixture):
    """A mixture of J smoothed neurons: log p(x) = lse_j( log pi_j + log p_j(x) ).

    Args:
        in_features: K, the length of a row.
        num_neurons: J, at least 1.
        background: densities b_k of the features; with None, ``initialise`` and ``em.fit`` fit Gaussians.
        options: ``min_std``, the floor of the standard deviations, > 0, in the features' units, 0.001 by
            default; ``device`` and ``dtype``, float32 or float64. In float32 the fused operator runs; sums
            over hundreds of inputs lose digits that float64 keeps.

    Raises:
        TypeError, ValueError: as :class:`SmoothedNeurons`.

    >>> grid = torch.cartesian_prod(torch.arange(-9.0, 10.0), torch.arange(-9.0, 10.0))
    >>> round(SmoothedUGMM(2, 3).log_prob(grid).exp().sum().item(), 3)  # the integral, cells of size one
    1.0
    """

    components: SmoothedNeurons

    def __init__(
        self, in_features: int, num_neurons: int, *, background: Background | None = None, **options: Any
    ) -> None:
        num_neurons = integer("num_neurons", num_neurons, 1)
        super().__init__(SmoothedNeurons(in_features, num_neurons, background=background, **options))

    @property
    def background(self) -> Background:
        """The densities b_k."""
        return self.components.background

    @property
    def mix_logits(self) -> nn.Parameter:
        """Unnormalised log-weights of the neurons' terms, (J, K)."""
        return self.components.mix_logits

    @property
    def log_weight(self) -> Tensor:
        """Logarithms of the neurons' mixing weights, (J, K)."""
        return self.components.log_weight

    def neuron_log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of the smoothed neurons, ``(*, K)`` to ``(*, J)``. Raises as :meth:`log_prob`."""
        return self.component_log_prob(x)


def _finite(log_background: Tensor) -> Tensor:
    """``log_background`` with 0 in place of -inf, where no term divides by it."""
    return log_background.masked_fill(log_background == -torch.inf, 0.0)


def _log_sum(chosen: Tensor, log_weight: Tensor) -> Tensor:
    """log of the sum of the weights of the chosen terms, (B, K) and (J, K) to (B, J); ``-inf`` for none."""
    total = chosen.to(log_weight.dtype) @ log_weight.exp().T
    some = total > 0.0
    return torch.where(some, torch.where(some, total, 1.0).log(), -torch.inf)


def _fitting(background: Background, like: Tensor) -> Background:
    if not isinstance(background, Background):
        raise TypeError(f"expected background to be a Background or None, got {type(background).__name__}")
    if background.in_features != like.shape[1]:
        raise ValueError(
            f"expected a background of {like.shape[1]} features, got one of {background.in_features}"
        )
    if background.mean.dtype != like.dtype:
        raise TypeError(f"expected a background of dtype {like.dtype}, got {background.mean.dtype}")
    return background
