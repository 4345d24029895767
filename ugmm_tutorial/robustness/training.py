"""A differentiable bound: how far ahead the right class stays, whatever happens to any m inputs.

:func:`~ugmm_tutorial.robustness.certify` proves more and in float64; this one is fast enough to train with.
Taught in the chapter *When inputs break*.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels.reference import HALF_LOG_2PI
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.robustness.layer import Box, checked_box, checked_count

__all__ = ["certified_loss", "lower_leads"]


def certified_loss(
    network: nn.Sequential, x: Tensor, y: Tensor, *, changed: int, box: Box | None = None
) -> Tensor:
    """Cross-entropy if the worst happens to ``changed`` inputs, up to the looseness of :func:`lower_leads`.

    Args, Raises:
        as for :func:`lower_leads`.

    Returns:
        The mean over the examples, in nats. With ``changed=0`` it is the ordinary cross-entropy.

    >>> network = nn.Sequential(UGMMLayer(6, 8), nn.Linear(8, 3))
    >>> x, y = torch.rand(5, 6), torch.tensor([0, 1, 2, 0, 1])
    >>> certified_loss(network, x, y, changed=0).allclose(nn.functional.cross_entropy(network(x), y))
    True
    """
    leads = lower_leads(network, x, y, changed=changed, box=box)
    return torch.logsumexp(nn.functional.pad(-leads, (1, 0)), dim=1).mean()


def lower_leads(
    network: nn.Sequential, x: Tensor, y: Tensor, *, changed: int, box: Box | None = None
) -> Tensor:
    """Lower bounds of the class's score minus each other class's, if any ``changed`` inputs take any values.

    The changed inputs are the same for all neurons, but each neuron meets its own worst value of them, so
    this is looser than ``certify``. Rounding is not accounted for. Gradients reach all parameters. In
    training, dropout acts on the layer.

    Args:
        network: a UGMMLayer and a Linear; or a UGMMLayer, a LayerNorm without parameters, and a Linear
            without a bias. Such a LayerNorm divides all scores by one positive number, which cannot change
            who leads; leads are then in units of that number at ``x``.
        x: inputs, (B, K), within the box.
        y: their classes, (B,).
        changed: m, 0 to K.
        box: the least and the greatest value of a changed input; None stands for the whole line.

    Raises:
        TypeError: the network is another one.
        ValueError: ``changed`` is out of range, or ``x`` lies outside of the box.

    >>> network = nn.Sequential(UGMMLayer(6, 8), nn.LayerNorm(8, elementwise_affine=False),
    ...                         nn.Linear(8, 3, bias=False))
    >>> lower_leads(network, torch.rand(5, 6), torch.zeros(5, dtype=torch.long), changed=2).shape
    torch.Size([5, 2])
    """
    layer, norm, readout = _parts(network)
    changed, ends = checked_count(changed, layer.in_features), checked_box(box, layer.in_features)
    log_weight = layer.dropped_log_weight() if layer.drops else layer.log_weight
    out = layer.log_density(x, log_weight)
    weight = readout.weight[y].unsqueeze(1) - readout.weight[_others(y, len(readout.weight))]  # (B, C - 1, J)
    if norm is not None:
        weight = weight - weight.mean(dim=2, keepdim=True)
    leads = (weight @ out.unsqueeze(-1)).squeeze(-1)
    if readout.bias is not None:
        leads = leads + readout.bias[y].unsqueeze(1) - readout.bias[_others(y, len(readout.bias))]
    if changed:
        leads = leads + _harm(layer, x, out, log_weight, weight, changed, ends)
    if norm is not None:
        leads = leads / (out.var(dim=1, correction=0, keepdim=True) + norm.eps).sqrt()
    return leads


def _harm(
    layer: UGMMLayer,
    x: Tensor,
    out: Tensor,
    log_weight: Tensor,
    weight: Tensor,
    changed: int,
    ends: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """What the worst changes do to ``weight @ out``, at most: (B, P), never above 0.

    Where a weight is negative, the logarithm lies below its tangent; where it is positive, above a chord.
    Both are linear in the terms, so every input has its own part, and the m worst of them count.
    """
    log_std = layer.bounded_log_std
    peak = log_weight - log_std - HALF_LOG_2PI
    inverse_std = torch.exp(-log_std)
    terms = peak - 0.5 * ((x.unsqueeze(1) - layer.mean) * inverse_std).square()
    share = torch.exp(terms - out.unsqueeze(-1))  # (B, J, K): the only tensor of this size
    least, greatest = None, peak
    if ends is not None:
        low, high = (end.to(layer.mean) for end in ends)
        if not ((x >= low) & (x <= high)).all():
            raise ValueError("expected x within the box")
        below, above = low - layer.mean, high - layer.mean
        nearest, farthest = torch.maximum(below, -above).clamp(min=0.0), torch.maximum(-below, above)
        least = peak - 0.5 * (farthest * inverse_std).square()
        greatest = peak - 0.5 * (nearest * inverse_std).square()
    # The least sum, (B, J), in logarithms, because next to nothing may be left: the inputs that can take most
    # away do so.
    if least is None:
        rest = terms.scatter(-1, terms.topk(changed, dim=-1).indices, -math.inf).logsumexp(dim=-1)
    else:
        loss = terms + torch.log(-torch.expm1((least - terms).clamp(max=0.0)))
        worst = loss.detach().topk(changed, dim=-1).indices
        rest = terms.scatter(-1, worst, least.expand_as(terms).gather(-1, worst)).logsumexp(dim=-1)
    gap = (out - rest).clamp(min=1e-6)  # the chord's slope grows with it, so a larger one is safe
    slope = (gap / -torch.expm1(-gap)).unsqueeze(1)
    rising, falling = weight.clamp(min=0.0), weight.clamp(max=0.0)
    rising = torch.where(rising > 0.0, rising * slope, 0.0)
    unit = greatest.detach().amax(dim=1)  # of each neuron, against overflow
    scale = torch.exp(unit - out).unsqueeze(1)
    harm = (falling * scale) @ torch.exp(greatest - unit.unsqueeze(1)) - (rising + falling) @ share
    if least is not None:
        harm = harm + (rising * scale) @ torch.exp(least - unit.unsqueeze(1))
    harm = harm.nan_to_num(nan=-math.inf)  # if nothing at all is left of a sum, there is no bound
    return harm.clamp(max=0.0).topk(changed, dim=-1, largest=False).values.sum(dim=-1)


def _others(y: Tensor, classes: int) -> Tensor:
    """The other classes of every example, (B, C - 1)."""
    every = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
    return every + (every >= y.unsqueeze(1))


def _parts(network: nn.Sequential) -> tuple[UGMMLayer, nn.LayerNorm | None, nn.Linear]:
    match list(network):
        case [UGMMLayer() as layer, nn.Linear() as readout] if type(layer) is UGMMLayer:
            return layer, None, readout
        case [UGMMLayer() as layer, nn.LayerNorm() as norm, nn.Linear() as readout] if (
            type(layer) is UGMMLayer
        ):
            if norm.elementwise_affine or readout.bias is not None:
                raise TypeError(
                    "expected a LayerNorm without parameters and a Linear without a bias behind it"
                )
            return layer, norm, readout
    names = [type(part).__name__ for part in network]
    raise TypeError(f"expected UGMMLayer and Linear, perhaps a LayerNorm between them, got {names}")
