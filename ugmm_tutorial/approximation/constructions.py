"""Networks whose parameters are written down instead of trained, as in two proofs of chapter 14.

A neuron takes the logarithm of a sum of Gaussians. Wide Gaussians look like parabolas, or far from their
means like exponentials. From parabolas, two layers make bumps. From exponentials, one layer makes features
with which a linear readout can approximate any continuous function.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.kernels.arguments import number, numbers_in
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.networks import UGMMNet

__all__ = ["bump_network", "exponential_layer"]


@torch.no_grad()
def bump_network(centres: Tensor, log_values: Tensor, radius: float, wide: float = 30.0) -> UGMMNet:
    """Two layers whose output is the logarithm of a weighted sum of bumps, up to a constant.

    Hidden neuron j has all its means at centre j and one wide deviation, so it falls off like
    ``-|x - centre_j|^2 / (2 K wide^2)``. Component j of the output has its mean at the top and makes it
    ``exp(-(|x - centre_j| / radius)^4)``. A larger ``wide`` makes this more exact.

    Args:
        centres: (J, K), float64.
        log_values: log of the bumps' weights up to a constant, (J,).
        radius: of the bumps, in the unit of the inputs.
        wide: deviation of the hidden components, large beside the distances between inputs and centres.

    Returns:
        A network (K, J, 1) with
        ``out(x) = const + log sum_j exp(log_values_j - (|x - centre_j| / radius)^4)``.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes do not fit, or radius or wide is not positive.

    >>> bump = bump_network(torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1), radius=0.5)
    >>> round(bump(torch.tensor([[0.0], [0.5]], dtype=torch.float64)).diff(dim=0).item(), 4)
    -1.0
    """
    _real("centres", centres)
    numbers_in("log_values", log_values)
    if centres.dim() != 2 or log_values.shape != centres.shape[:1] or centres.numel() == 0:
        raise ValueError(
            f"expected centres (J, K) and log_values (J,), got {tuple(centres.shape)}, "
            f"{tuple(log_values.shape)}"
        )
    radius, wide = number("radius", radius, above=0.0), number("wide", wide, above=0.0)
    bumps, inputs = centres.shape
    network = UGMMNet((inputs, bumps, 1), min_std=0.0, dtype=centres.dtype)
    hidden, output = (layer for layer in network if isinstance(layer, UGMMLayer))
    hidden.mean.copy_(centres)
    hidden.log_std.fill_(math.log(wide))
    hidden.mix_logits.zero_()
    output.mean.fill_(-math.log(wide) - 0.5 * math.log(2.0 * math.pi))
    # In logarithms, where no square of a tiny or huge number leaves the range of floating point.
    output.log_std.fill_(2.0 * (math.log(radius) - math.log(wide)) - math.log(2.0 * math.sqrt(2.0) * inputs))
    output.mix_logits.copy_(log_values.unsqueeze(0))
    return network


@torch.no_grad()
def exponential_layer(slope: Tensor, share: Tensor, wide: float = 30.0) -> UGMMLayer:
    """A layer with ``out_j(x) = const_j + log sum_k share_jk exp(slope_jk x_k)``, approximately.

    The component with mean ``slope wide^2`` is far away from all inputs, where a Gaussian looks like an
    exponential: ``-(x - slope wide^2)^2 / (2 wide^2) = const + slope x - x^2 / (2 wide^2)``.

    Args:
        slope: (J, K), float64, one over the unit of the inputs.
        share: positive, (J, K).
        wide: deviation of all components; larger is more exact.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes differ, a share or wide is not positive, or numbers are too large for the dtype.

    >>> layer = exponential_layer(torch.tensor([[2.0]], dtype=torch.float64), torch.ones(1, 1))
    >>> round(layer(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).diff(dim=0).item(), 2)
    2.0
    """
    _real("slope", slope)
    numbers_in("share", share)
    if slope.dim() != 2 or slope.shape != share.shape or slope.numel() == 0:
        raise ValueError(
            f"expected slope and share of one shape (J, K), got {tuple(slope.shape)} and {tuple(share.shape)}"
        )
    wide = number("wide", wide, above=0.0)
    if not (share > 0).all():
        raise ValueError(f"expected share > 0, got {share.min().item()}")
    neurons, inputs = slope.shape
    layer = UGMMLayer(inputs, neurons, min_std=0.0, dtype=slope.dtype)
    layer.mean.copy_(slope * wide * wide)
    layer.log_std.fill_(math.log(wide))
    # The weights compensate for the low densities so far from the means.
    layer.mix_logits.copy_(share.log() + 0.5 * (slope * wide).square())
    if not (layer.mean.isfinite().all() and layer.mix_logits.isfinite().all()):
        raise ValueError(f"expected slope and wide whose squares {slope.dtype} can hold, got wide={wide}")
    return layer


def _real(name: str, value: Tensor) -> None:
    """Check numbers whose dtype becomes that of the parameters."""
    if numbers_in(name, value).dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected {name} in float64 or float32, got {value.dtype}")
