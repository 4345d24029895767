"""Maxima that both fused kernels subtract in advance, so that no power of two exceeds one."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["below_its_maximum", "finite_maximum"]


def below_its_maximum(log_background: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Minus the background in base 2, shifted to be at most 0, (B, K), and the shift in nats, (B, 1)."""
    if log_background is None:
        return None, None
    n = -log_background
    top = finite_maximum(n)
    return n.sub_(top).mul_(math.log2(math.e)), top


def finite_maximum(values: Tensor) -> Tensor:
    """The maximum of every row, (rows, 1), or 0 for a row that holds only -inf; NaN stays NaN."""
    return values.amax(dim=1, keepdim=True).nan_to_num_(nan=math.nan, posinf=math.inf, neginf=0.0)
