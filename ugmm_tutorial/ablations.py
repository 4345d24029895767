"""Layers that lack one thing each, to find out what it is worth: for the ablations.

Every class is a :class:`~ugmm_tutorial.layers.UGMMLayer` with the same arguments and outputs of the same
shape. ``LAYERS`` names them for :class:`~ugmm_tutorial.networks.UGMMNet`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ugmm_tutorial import functional
from ugmm_tutorial.arguments import checked
from ugmm_tutorial.layers import UGMMLayer

__all__ = [
    "LAYERS",
    "FrozenStdLayer",
    "HardLayer",
    "TiedStdLayer",
    "UniformWeightLayer",
]


class HardLayer(UGMMLayer):
    """The largest weighted log-density instead of the logarithm of the sum: one input answers alone."""

    def _log_density(self, x: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
        return functional.hard_log_density(x, self.mean, log_std, log_weight)

    def responsibilities(self, x: Tensor) -> Tensor:
        """1 for the component that answers, 0 for the others, ``(*, J, K)``, without dropout."""
        arguments = checked(x, self.mean, self._bounded_log_std(), self.log_weight)
        terms = functional.component_log_densities(*arguments)
        return nn.functional.one_hot(terms.argmax(dim=-1), self.in_features).to(terms.dtype)


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

    def reset_parameters(self) -> None:
        """Draw as many numbers as the constructor, which keeps the first deviation of each neuron."""
        tied, self.log_std = self.log_std, nn.Parameter(torch.empty_like(self.mean))
        super().reset_parameters()
        with torch.no_grad():
            tied.copy_(self.log_std[:, : tied.shape[1]])
        self.log_std = tied

    def _bounded_log_std(self) -> Tensor:
        return super()._bounded_log_std().expand_as(self.mean)


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


#: Layers by the name that ``UGMMNet(layer=...)`` takes.
LAYERS: dict[str, type[UGMMLayer]] = {
    "ugmm": UGMMLayer,
    "hard": HardLayer,
    "uniform weights": UniformWeightLayer,
    "tied std": TiedStdLayer,
    "frozen std": FrozenStdLayer,
}
