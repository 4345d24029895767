"""Exact draws from a tilted model by rejection: propose from the base, accept with exp(root) over its bound.

Taught in chapter 10.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ugmm_tutorial.density.base import ProductBase

__all__ = ["complete"]

_PROPOSALS_AT_ONCE = 1 << 16
# Rounding may lift an output this far above the bound, in nats; such a proposal is accepted.
_ROUNDING = 1e-3


def complete(
    base: ProductBase,
    log_tilt: Callable[[Tensor], Tensor],
    log_bound: float,
    rows: Tensor,
    *,
    max_proposals: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, float | None]:
    """Rows (B, D) with the missing values drawn given the others, and the share of accepted proposals.

    The columns of the base are independent, so its draws of missing values do not depend on the known ones.

    Args:
        base: the density that proposals come from.
        log_tilt: logarithm of the factor that multiplies the base, from rows (N, D) to N numbers.
        log_bound: an upper bound of ``log_tilt``.
        rows: NaN where a value is missing.
        max_proposals: how many draws of the base are allowed.
        generator: source of the random numbers.

    Raises:
        RuntimeError: more than ``max_proposals`` were needed, or the bound was exceeded.
    """
    rows = rows.clone()
    pending = rows.isnan().any(dim=-1).nonzero().squeeze(-1)
    proposed = accepted = 0
    while len(pending):
        if proposed >= max_proposals:
            raise RuntimeError(
                f"rejection sampling accepted {accepted} of {proposed} proposals, and {len(pending)} rows "
                "are still to be drawn: raise max_proposals, draw fewer, or choose a base nearer to the model"
            )
        some = pending[:_PROPOSALS_AT_ONCE]
        each = max(1, _PROPOSALS_AT_ONCE // len(some) if proposed else 4096 // len(some))
        proposals = base.sample(each * len(some), generator).unflatten(0, (len(some), each))
        known = rows[some].unsqueeze(1)
        proposals = torch.where(known.isnan(), proposals, known)
        log_accept = log_tilt(proposals.flatten(0, 1)).reshape(len(some), each) - log_bound
        if (log_accept > _ROUNDING).any():
            raise RuntimeError(
                f"root exceeds its bound by {log_accept.max().item():.3g}: log_bound is not an upper bound"
            )
        uniform = torch.rand(log_accept.shape, generator=generator, dtype=torch.float64, device=rows.device)
        success = uniform.log() < log_accept
        proposed += success.numel()
        accepted += int(success.sum())
        # Take a row's first success; the proposals are independent, so any fixed rule would do.
        found = success.any(dim=1)
        first = success.to(torch.uint8).argmax(dim=1)
        rows[some[found]] = proposals[torch.arange(len(some), device=rows.device), first][found]
        pending = torch.cat([some[~found], pending[_PROPOSALS_AT_ONCE:]])
    return rows, accepted / proposed if proposed else None
