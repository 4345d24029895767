"""Dead neurons, silent components, and neurons that share a mode.

Taught in chapter 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ugmm_tutorial.interpretation.responsible import LayerStatistics, statistics
from ugmm_tutorial.interpretation.tracing import examples
from ugmm_tutorial.kernels.arguments import fraction

__all__ = ["LayerHealth", "health"]

# Rounding moves a constant output by at most this many units in its last place.
_ROUNDING = 16.0


@dataclass(frozen=True)
class LayerHealth:
    """What is wrong with one layer, judged on some examples.

    Attributes:
        constant: (J,), True where an output hardly changes from example to example.
        unread: (J,), True where this neuron's responsibility in the next layer is always negligible; False
            in the last layer.
        silent: (J, K), True where a component's responsibility in its neuron is always negligible.
        twins: groups of neurons, each a tuple of at least two, that share a mode.

    >>> LayerHealth(torch.tensor([True, False]), torch.tensor([False, False]), torch.eye(2) > 1, ()).dead
    tensor([ True, False])
    """

    constant: Tensor
    unread: Tensor
    silent: Tensor
    twins: tuple[tuple[int, ...], ...]

    @property
    def dead(self) -> Tensor:
        """(J,), True where a neuron is constant or unread."""
        return self.constant | self.unread


@torch.no_grad()
def health(
    model: nn.Module,
    x: Tensor,
    *,
    spread: float = 1e-3,
    share: float = 1e-3,
    correlation: float = 0.99,
    overlap: float = 0.9,
) -> list[LayerHealth]:
    """Look for dead neurons, silent components and neurons that share a mode, in every layer.

    Args:
        model: as for :func:`~ugmm_tutorial.interpretation.responsibilities`.
        x: examples to judge on, at least two.
        spread: an output is constant if its standard deviation over the examples is at most this fraction
            of its layer's (the root of the mean square over the neurons), or no more than rounding.
        share: a component is silent if its responsibility stays below this on all examples; a neuron is
            unread if all components that read it are silent. Deleting one such component changes an output
            by less than ``-log(1 - share)`` nats; deleting many may change more.
        correlation, overlap: two neurons share a mode if neither is constant, their outputs have at least
            this correlation over the examples, and their mean responsibilities have at least this overlap:
            the sum over inputs of the smaller of both, from 0 to 1.

    Raises:
        TypeError: the network has other layers.
        ValueError: there are fewer than two examples, outputs are not finite, or a tolerance is not between 0
            and 1.

    >>> from ugmm_tutorial import UGMMNet
    >>> [layer.dead.shape for layer in health(UGMMNet([16, 8, 3]), torch.rand(20, 16))]
    [torch.Size([8]), torch.Size([3])]
    """
    spread, share = fraction("spread", spread), fraction("share", share)
    correlation, overlap = fraction("correlation", correlation), fraction("overlap", overlap)
    found = statistics(model, examples(x, least=2))  # with one, no output changes
    if not all(layer.outputs.isfinite().all() for layer in found):
        raise ValueError("expected x and a model whose outputs are finite, got NaN or infinity")
    reports = []
    for place, layer in enumerate(found):
        constant = _constant(layer.outputs, spread)
        unread = torch.zeros_like(constant)
        if place + 1 < len(found):
            unread = found[place + 1].largest.amax(dim=0) < share
        twins = _twins(layer, constant, correlation, overlap)
        reports.append(LayerHealth(constant, unread, layer.largest < share, twins))
    return reports


def _constant(outputs: Tensor, spread: float) -> Tensor:
    """Which outputs (N, J) hardly change, compared with the whole layer."""
    deviation = outputs.double().std(dim=0)
    rounding = _ROUNDING * torch.finfo(outputs.dtype).eps * (1.0 + outputs.abs().amax(dim=0).double())
    return (deviation <= spread * deviation.square().mean().sqrt()) | (deviation <= rounding)


def _twins(
    layer: LayerStatistics, constant: Tensor, correlation: float, overlap: float
) -> tuple[tuple[int, ...], ...]:
    """Groups of neurons connected by pairs that share a mode."""
    from scipy.sparse.csgraph import connected_components

    outputs = layer.outputs.double()
    centred = outputs - outputs.mean(dim=0)
    scaled = centred / centred.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    alike = (scaled.T @ scaled >= correlation) & (_overlap(layer.mean) >= overlap)
    alike &= ~constant & ~constant.unsqueeze(1)
    count, group = connected_components(alike.cpu().numpy(), directed=False)
    members = [tuple((group == g).nonzero()[0].tolist()) for g in range(count)]
    return tuple(some for some in members if len(some) > 1)


def _overlap(mean: Tensor) -> Tensor:
    """Overlap of every two rows of (J, K), which sum to one: (J, J), from 0 to 1."""
    return torch.stack([torch.minimum(row, mean).sum(dim=1) for row in mean])
