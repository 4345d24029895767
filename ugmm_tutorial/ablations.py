"""Layers that lack one thing each, to find out what it is worth: the ablations of chapter 6.

Every class is a :class:`~ugmm_tutorial.layers.UGMMLayer` with the same arguments and outputs of the same
shape. ``LAYERS`` names them for :class:`~ugmm_tutorial.networks.UGMMNet`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ugmm_tutorial.functional import component_log_densities
from ugmm_tutorial.layers import UGMMLayer

__all__ = [
    "LAYERS",
    "FrozenStdLayer",
    "HardLayer",
    "TiedStdLayer",
    "UniformWeightLayer",
    "hard_log_density",
]

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_AT_ONCE = 8  # neurons whose terms are looked at together: few enough for a processor's cache


class HardLayer(UGMMLayer):
    """The largest weighted log-density instead of the logarithm of the sum: one input answers alone."""

    def _log_density(self, x: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
        return hard_log_density(x, self.mean, log_std, log_weight)


class UniformWeightLayer(UGMMLayer):
    """All mixing weights equal, and not learnt."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        _freeze(self, "mix_logits")

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            self.mix_logits.zero_()


class TiedStdLayer(UGMMLayer):
    """One standard deviation for each neuron, shared by its components: ``log_std`` is (J, 1)."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.log_std = nn.Parameter(self.log_std.detach()[:, :1].clone())

    def _floored_log_std(self) -> Tensor:
        return super()._floored_log_std().expand_as(self.mean)


class FrozenStdLayer(UGMMLayer):
    """Standard deviations stay as they are drawn."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        _freeze(self, "log_std")


def _freeze(layer: UGMMLayer, name: str) -> None:
    """Turn a parameter into a buffer: it moves and is saved with the layer, and no optimizer sees it."""
    value = getattr(layer, name).detach()
    delattr(layer, name)
    layer.register_buffer(name, value)


def hard_log_density(x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
    """``max_k( log_weight[j, k] + log N(x[..., k] | mean[j, k], std[j, k]**2) )``: ``(*, K)`` to ``(*, J)``.

    Arguments as for :func:`~ugmm_tutorial.functional.ugmm_log_density`, unchecked. The gradient goes to the
    largest term of each neuron alone. No block of all terms is kept.
    """
    rows = x.reshape(-1, x.shape[-1])
    parameters = (mean, log_std, log_weight)
    with torch.no_grad():
        few = zip(*(p.split(_AT_ONCE) for p in parameters), strict=True)
        winner = torch.cat([component_log_densities(rows, *some).argmax(dim=-1) for some in few], dim=-1)
    m, s, w = (p.gather(1, winner.T).T for p in parameters)  # (B, J): those of the winners
    z = (rows.gather(1, winner) - m) * torch.exp(-s)
    return (w - s - _HALF_LOG_2PI - 0.5 * z * z).reshape(*x.shape[:-1], len(mean))


#: Layers by the name that ``UGMMNet(layer=...)`` takes.
LAYERS: dict[str, type[UGMMLayer]] = {
    "ugmm": UGMMLayer,
    "hard": HardLayer,
    "uniform weights": UniformWeightLayer,
    "tied std": TiedStdLayer,
    "frozen std": FrozenStdLayer,
}
