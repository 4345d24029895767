"""A differentiable bound: how far ahead the right class stays, whatever happens to any m inputs.

:func:`~ugmm_tutorial.robustness.certify` proves more and in float64; this one is fast enough to train with.
Taught in the chapter *When inputs break*.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels.arguments import integer, labels, module, numbers_in
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI, inverse_std
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.robustness import behind
from ugmm_tutorial.robustness.layer import Box, checked_box

__all__ = ["certified_loss", "lower_leads"]

# A sum so many nats below its greatest possible value is taken as larger, against overflow.
_NEXT_TO_NOTHING = 60.0


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
        network: a UGMMLayer, then ``nn.Linear`` layers with ``nn.ReLU`` between them. Behind the UGMMLayer
            may stand an ``nn.LayerNorm`` without parameters, if the linear layers have no bias: it divides
            all scores by one positive number, which cannot change who leads. Leads are then in units of that
            number at ``x``.
        x: inputs, (B, K), within the box.
        y: their classes, (B,).
        changed: m, 0 to K.
        box: the least and the greatest value of a changed input; None stands for the whole line.

    Raises:
        TypeError: the network is another one.
        ValueError: ``changed`` or ``y`` is out of range, or ``x`` lies outside of the box.

    >>> network = nn.Sequential(UGMMLayer(6, 8), nn.LayerNorm(8, elementwise_affine=False),
    ...                         nn.Linear(8, 3, bias=False))
    >>> lower_leads(network, torch.rand(5, 6), torch.zeros(5, dtype=torch.long), changed=2).shape
    torch.Size([5, 2])
    """
    layer, norm, linears = _parts(network)
    changed, ends = integer("changed", changed, 0, layer.in_features), checked_box(box, layer.in_features)
    log_weight = layer.dropped_log_weight() if layer.drops else layer.log_weight
    numbers_in("x", x, dim=2, finite=False)
    out = layer.log_density(x, log_weight)
    reach = _Reach.of(layer, x, out, log_weight, changed, ends) if changed else None
    hidden: list[tuple[Tensor, Tensor]] = []  # ends of what the ReLUs get, (B, n) each

    def lower(weight: Tensor) -> Tensor:
        """Lower bounds (B, P) of ``weight``, (B or 1, P, n), times the next linear layer's outputs."""
        total: Tensor | float = 0.0
        for place in range(len(hidden), -1, -1):
            linear = linears[place]
            total = total if linear.bias is None else total + weight @ linear.bias
            weight = weight @ linear.weight
            if place:
                weight, more = _through_relu(weight, *hidden[place - 1])
                total = total + more
        if norm is not None:
            weight = weight - weight.mean(dim=2, keepdim=True)
        total = total + (weight @ out.unsqueeze(-1)).squeeze(-1)
        return total if reach is None else total + reach.harm(weight)

    for linear in linears[:-1]:
        every = torch.eye(linear.out_features).to(linear.weight).unsqueeze(0)
        hidden.append((lower(every), -lower(-every)))
    classes = torch.eye(linears[-1].out_features).to(out)
    y = labels("y", y, len(x), len(classes)).to(x.device)
    # NaN comes of an output that can become -inf, as when every input may be far away: no bound.
    leads = lower(classes[y].unsqueeze(1) - classes[_others(y, len(classes))]).nan_to_num(
        nan=-math.inf, neginf=-math.inf
    )
    return leads if norm is None else leads / (out.var(dim=1, correction=0, keepdim=True) + norm.eps).sqrt()


def _through_relu(weight: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, P, n) and constants (B, P) of a lower bound behind a ReLU whose inputs have these ends.

    Source: Zhang et al. (2018): the chord above, and below it 0 or the input itself.
    """
    above, below = high.clamp(min=0.0), low.clamp(max=0.0)
    # Where the other value is taken, a denominator of 1 keeps gradients finite.
    chord = torch.where(below < 0.0, above / torch.where(below < 0.0, above - below, 1.0), 1.0)
    floor = torch.where(low >= 0.0, 1.0, torch.where(high <= 0.0, 0.0, (above > -below).to(low)))
    up, down = weight.clamp(min=0.0), weight.clamp(max=0.0)
    constant = (down @ (-chord * below).unsqueeze(-1)).squeeze(-1)
    return up * floor.unsqueeze(1) + down * chord.unsqueeze(1), constant


class _Reach(NamedTuple):
    """What changes of an input can do to each neuron, whatever is made of the neurons' outputs.

    Where a weight is negative, the logarithm lies below its tangent; where it is positive, above a chord.
    Both are linear in the terms, so every input has its own part, and the m worst of them count.
    """

    changed: int
    share: Tensor  # of each term in its sum, (B, J, K)
    slope: Tensor  # of the chords, (B, 1, J)
    offset: Tensor  # of the tangents where they touch, (B, J)
    per_sum: Tensor  # their slopes, per unit of the sum, (B, 1, J)
    scale: Tensor  # the same per unit of what follows, (B, 1, J)
    greatest: Tensor  # terms within the box at most, (J, K)
    least: Tensor | None  # and at least; None: nothing

    @classmethod
    def of(
        cls,
        layer: UGMMLayer,
        x: Tensor,
        out: Tensor,
        log_weight: Tensor,
        changed: int,
        ends: tuple[Tensor, Tensor] | None,
    ) -> _Reach:
        log_std = layer.bounded_log_std
        peak = log_weight - log_std - HALF_LOG_2PI
        per_std = inverse_std(log_std)
        terms = peak - 0.5 * ((x.unsqueeze(1) - layer.mean) * per_std).square()
        share = torch.exp(terms - out.unsqueeze(-1))
        least, greatest = None, peak
        if ends is not None:
            low, high = (end.to(layer.mean) for end in ends)
            if not ((x >= low) & (x <= high)).all():
                raise ValueError("expected x within the box")
            below, above = low - layer.mean, high - layer.mean
            nearest, farthest = torch.maximum(below, -above).clamp(min=0.0), torch.maximum(-below, above)
            least = peak - 0.5 * (farthest * per_std).square()
            greatest = peak - 0.5 * (nearest * per_std).square()
        # The least sum, (B, J), in logarithms, because next to nothing may be left: the inputs that can take
        # most away do so.
        if least is None:
            rest = terms.scatter(-1, terms.topk(changed, dim=-1).indices, -math.inf).logsumexp(dim=-1)
        else:
            loss = terms + torch.log(-torch.expm1((least - terms).clamp(max=0.0)))
            worst = loss.detach().topk(changed, dim=-1).indices
            rest = terms.scatter(-1, worst, least.expand_as(terms).gather(-1, worst)).logsumexp(dim=-1)
        gap = (out - rest).clamp(min=1e-6)  # the chord's slope grows with it, so a larger one is safe
        slope = (gap / -torch.expm1(-gap)).unsqueeze(1)
        # A tangent is below wherever it touches: at the sum itself, unless the sum is next to nothing.
        unit = greatest.detach().amax(dim=1)  # of each neuron, against overflow
        touch = torch.maximum(out, unit - _NEXT_TO_NOTHING)
        offset = touch - out + torch.expm1(out - touch)
        per_sum, scale = torch.exp(out - touch).unsqueeze(1), torch.exp(unit - touch).unsqueeze(1)
        greatest = torch.exp(greatest - unit.unsqueeze(1))
        least = None if least is None else torch.exp(least - unit.unsqueeze(1))
        return cls(changed, share, slope, offset, per_sum, scale, greatest, least)

    def harm(self, weight: Tensor) -> Tensor:
        """What the worst changes do to ``weight`` times the outputs, at most: (B, P), never above 0."""
        rising, falling = weight.clamp(min=0.0), weight.clamp(max=0.0)
        rising = torch.where(rising > 0.0, rising * self.slope, 0.0)
        constant = falling @ self.offset.unsqueeze(-1)
        harm = (falling * self.scale) @ self.greatest - (rising + falling * self.per_sum) @ self.share
        if self.least is not None:
            harm = harm + (rising * self.scale) @ self.least
        # If nothing at all is left of a sum, there is no bound.
        harm = harm.nan_to_num(nan=-math.inf, neginf=-math.inf).clamp(max=0.0)
        return constant.squeeze(-1) + harm.topk(self.changed, dim=-1, largest=False).values.sum(dim=-1)


def _others(y: Tensor, classes: int) -> Tensor:
    """The other classes of every example, (B, C - 1)."""
    every = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
    return every + (every >= y.unsqueeze(1))


def _parts(network: nn.Module) -> tuple[UGMMLayer, nn.LayerNorm | None, list[nn.Linear]]:
    modules = [behind.plain(part) for part in behind.flat(module("network", network))]
    # Not isinstance: a subclass may compute something else.
    names = [type(part).__name__ for part in modules]
    layer, *rest = modules or [nn.Identity()]
    norm = rest[0] if rest and isinstance(rest[0], nn.LayerNorm) else None
    rest = rest if norm is None else rest[1:]
    linears = [part for part in rest[::2] if type(part) is nn.Linear]
    between = [part for part in rest[1::2] if type(part) is nn.ReLU]
    alternate = linears and len(linears) + len(between) == len(rest) == 2 * len(linears) - 1
    if not isinstance(layer, UGMMLayer) or type(layer) is not UGMMLayer or not alternate:
        raise TypeError(
            f"expected network of a UGMMLayer, perhaps a LayerNorm, and Linear with ReLU between, got {names}"
        )
    if norm and (norm.elementwise_affine or any(linear.bias is not None for linear in linears)):
        raise TypeError("expected network with a LayerNorm without parameters and no bias behind it")
    return layer, norm, linears
