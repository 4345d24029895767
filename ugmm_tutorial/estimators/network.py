"""The networks behind the estimators, and the head that makes a regression of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.hybrid import HybridNet
from ugmm_tutorial.layers import lower_bound
from ugmm_tutorial.networks import UGMMNet

__all__ = ["ESTIMATES", "MIXTURES", "MixtureHead", "network"]

#: Which layers are mixtures: the first one, with an ordinary network behind it, or all.
MIXTURES = ("first", "all")
#: What a regression predicts: the expected y, or the most probable one.
ESTIMATES = ("mean", "mode")


def network(
    widths: Sequence[int],
    *,
    mixtures: str,
    norm: str,
    input_dropout: float,
    init_std: float,
    min_std: float,
    missing: str,
    device: torch.device,
    dtype: torch.dtype,
) -> nn.Sequential:
    """A network from features to outputs, ``(*, widths[0])`` to ``(*, widths[-1])``, on a device.

    Inputs are dropped in training, for the whole first layer at once.
    """
    options: dict = {"input_dropout": input_dropout, "min_std": min_std, "missing": missing}
    if mixtures == "all" or len(widths) == 2:
        return UGMMNet(widths, norm="layer", **options).to(device, dtype)
    return HybridNet(widths, norm=norm, init_std=init_std, **options).to(device, dtype)


class MixtureHead(nn.Module):
    """The density of an observed y whose mixture has its means at a network's outputs: ``(*, M)``, ``(*)``.

    ``log p(y | x) = logsumexp_m( log w_m + log N(y | z_m(x), std_m**2) )``

    Under this reading the paper's formula, with means equal to the inputs, is a regression. Being a logarithm
    of a sum of bounded terms, it lets go of a y that fits none of its components.

    Args:
        components: M.
        min_std: smallest standard deviation, in the units of y.

    >>> MixtureHead(3)(torch.zeros(5, 3), torch.zeros(5)).shape
    torch.Size([5])
    """

    def __init__(self, components: int, min_std: float = 1e-3) -> None:
        super().__init__()
        self.min_std = min_std
        self.log_std = nn.Parameter(torch.linspace(-1.5, 0.5, components))
        self.mix_logits = nn.Parameter(torch.zeros(components))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Log-densities in nats."""
        log_std = lower_bound(self.log_std, math.log(self.min_std))
        distance = (y.unsqueeze(-1) - z) * torch.exp(-log_std)
        terms = torch.log_softmax(self.mix_logits, dim=0) - log_std - 0.5 * distance.square()
        return torch.logsumexp(terms, dim=-1) - 0.5 * math.log(2.0 * math.pi)

    def mode(self, z: Tensor) -> Tensor:
        """The component mean at which the density is greatest, ``(*)``; other components hardly move it."""
        density = self(z.unsqueeze(-2), z)  # of each mean under the mixture, (*, M)
        return z.gather(-1, density.argmax(dim=-1, keepdim=True)).squeeze(-1)

    def mean(self, z: Tensor) -> Tensor:
        """The expected y, ``(*)``."""
        return z @ torch.softmax(self.mix_logits, dim=0)
