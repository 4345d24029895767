"""The operator's specification: written to be read, with broadcasting, and differentiated by autograd.

It builds the (B, J, K) tensor that the fused kernels avoid, and knows float64, second derivatives and vmap.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["HALF_LOG_2PI", "component_log_densities", "inverse_std", "log_sum_exp", "reference_log_density"]

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def component_log_densities(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, log_background: Tensor | None = None
) -> Tensor:
    """Weighted log-density of every component, ``(*, J, K)``: the terms under the logsumexp, unchecked.

    >>> component_log_densities(torch.rand(5, 4), *torch.zeros(3, 8, 4)).shape
    torch.Size([5, 8, 4])
    """
    z = (x.unsqueeze(-2) - mean) * inverse_std(log_std)
    terms = log_weight - log_std - HALF_LOG_2PI - 0.5 * z * z
    return terms if log_background is None else terms - log_background.unsqueeze(-2)


def inverse_std(log_std: Tensor) -> Tensor:
    """``1 / std``, but so far below infinity that ordinary inputs are finitely many standard deviations away.

    At the mean of a very narrow component 0 times infinity would be NaN, and so would be the gradients of a
    component that is infinitely far away.
    """
    return torch.exp((-log_std).clamp(max=80.0 if log_std.dtype == torch.float32 else 700.0))


def reference_log_density(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, log_background: Tensor | None = None
) -> Tensor:
    """The specification of ``ugmm_log_density``, ``(*, K)`` to ``(*, J)``. Nothing is checked.

    >>> reference_log_density(torch.zeros(1), *torch.zeros(3, 1, 1))  # log N(0 | 0, 1)
    tensor([-0.9189])
    """
    # A neuron without components would have NaN gradients. It gets other weights, whose output is masked.
    empty = (log_weight == -math.inf).all(dim=-1)
    log_weight = log_weight.masked_fill(empty.unsqueeze(-1), 0.0)
    terms = component_log_densities(x, mean, log_std, log_weight, log_background)
    if log_background is not None:
        return log_sum_exp(terms).masked_fill(empty, -math.inf)
    out = torch.logsumexp(terms, dim=-1)
    return out.masked_fill(empty & ~out.isnan(), -math.inf)  # NaN from an input stays NaN


def log_sum_exp(terms: Tensor) -> Tensor:
    """logsumexp over the last dimension; where every term is -inf, with gradients of zero instead of NaN.

    >>> log_sum_exp(torch.tensor([[0.0, -math.inf], [-math.inf, -math.inf]]))
    tensor([0., -inf])
    """
    nothing = terms.amax(dim=-1) == -math.inf
    out = torch.logsumexp(terms.masked_fill(nothing.unsqueeze(-1), 0.0), dim=-1)
    return out.masked_fill(nothing, -math.inf)
