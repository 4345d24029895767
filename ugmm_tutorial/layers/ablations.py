"""Layers that each lack one thing, to measure what it is worth, and one that draws more dropout masks.

Every class takes the arguments of :class:`~ugmm_tutorial.layers.UGMMLayer`; outputs have the same shape.
``LAYERS`` names them for :class:`~ugmm_tutorial.networks.UGMMNet`. Taught in chapters 4 and 8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ugmm_tutorial import functional
from ugmm_tutorial.kernels.arguments import checked
from ugmm_tutorial.kernels.choice import choose
from ugmm_tutorial.kernels.transform import DROPPED_FIRST, DROPPED_LAST, Transform
from ugmm_tutorial.layers import direct, on_gpu
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.layers.masks import masks_of_examples
from ugmm_tutorial.layers.missing import absent_inputs

__all__ = [
    "LAYERS",
    "FrozenStdLayer",
    "MaxLayer",
    "PerExampleDropoutLayer",
    "TiedStdLayer",
    "UniformWeightLayer",
]


class MaxLayer(UGMMLayer):
    """The largest weighted log-density instead of the logarithm of the sum: one input answers alone.

    >>> MaxLayer(4, 8).responsibilities(torch.rand(5, 4)).unique()
    tensor([0., 1.])
    """

    sums_components = False
    leaves_out = False

    def log_density(self, x: Tensor, log_weight: Tensor, absent: Tensor | None = None) -> Tensor:
        if absent is not None:
            raise ValueError("expected no absent inputs: this layer leaves out no components")
        return functional.max_log_density(x, self.mean, self.bounded_log_std, log_weight)

    def responsibilities(self, x: Tensor) -> Tensor:
        """1 for the component that answers, 0 for the others, ``(*, J, K)``, without dropout."""
        terms = self.component_log_densities(x)
        return nn.functional.one_hot(terms.argmax(dim=-1), self.components).to(terms.dtype)


class UniformWeightLayer(UGMMLayer):
    """All mixing weights equal, and not learnt.

    >>> UniformWeightLayer(4, 1).mix_weight
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    frozen = ("mix_logits",)

    def initial_values(self) -> dict[str, Tensor]:
        values = super().initial_values()
        return values | {"mix_logits": torch.zeros_like(values["mix_logits"])}


class TiedStdLayer(UGMMLayer):
    """One standard deviation for each neuron, shared by its components: ``log_std`` is (J, 1).

    >>> TiedStdLayer(4, 8).log_std.shape
    torch.Size([8, 1])
    """

    def parameter_columns(self) -> dict[str, int]:
        return super().parameter_columns() | {"log_std": 1}


class FrozenStdLayer(UGMMLayer):
    """Standard deviations keep their initial values.

    >>> [name for name, _ in FrozenStdLayer(4, 8).named_parameters()]
    ['mean', 'mix_logits']
    """

    frozen = ("log_std",)


class PerExampleDropoutLayer(UGMMLayer):
    """A dropout mask for every example instead of one for the batch.

    The kernels draw the masks while they compute, and store none. In float64, in compiled code on a CPU, and
    where no kernel can run, all terms are stored, ``(*, J, K)``, while components are dropped.

    >>> one, other = PerExampleDropoutLayer(99, 8, dropout=0.5)(torch.zeros(2, 99))  # two equal examples
    >>> one.allclose(other)
    False
    """

    leaves_out = False

    def forward(self, x: Tensor) -> Tensor:
        """Log-densities of the J mixtures at ``x``: ``(*, K)`` to ``(*, J)``, in nats."""
        if not (self.drops and isinstance(x, Tensor) and x.dim() > 1 and x.numel() > 0):
            return super().forward(x)
        absent_inputs(x, self.missing)
        x, mean, log_std, logits, _ = checked(x, self.mean, self.log_std, self.mix_logits)
        rows = x.reshape(-1, x.shape[-1])
        transform = self._transform(len(rows))
        out = on_gpu.log_density(self, rows, UGMMLayer, transform)
        if out is None:
            out = direct.log_density(self, rows, UGMMLayer, transform=transform)
        if out is None:
            choose(self.backend, rows, mean)  # which tells what cannot run
            out = direct.specification(transform, None, rows, mean, log_std, logits)
        return out.reshape(*x.shape[:-1], self.out_features)

    def _transform(self, examples: int) -> Transform:
        """Bounds, softmax and fresh masks."""
        p = self.dropout + self.input_dropout
        masks = masks_of_examples(examples, self.mix_logits, p, of_inputs=self.input_dropout > 0.0)
        divides, penalty = self.dropout_mode == "renormalize" and self.dropout > 0.0, None
        if self.dropout_mode == "inverted" and self.dropout > 0.0:
            # A constant: no gradient may flow through the expected sum of the kept weights.
            penalty = -self._expected_kept_weight().log().expand_as(self.mix_logits).contiguous()
        mode = DROPPED_FIRST if divides else DROPPED_LAST
        return Transform(mode, penalty, *self.log_std_bounds, masks=masks, divides=divides)


#: Layers by the name that ``UGMMNet(layer=...)`` takes.
LAYERS: dict[str, type[UGMMLayer]] = {
    "ugmm": UGMMLayer,
    "hard": MaxLayer,
    "uniform weights": UniformWeightLayer,
    "tied std": TiedStdLayer,
    "frozen std": FrozenStdLayer,
    "per-example dropout": PerExampleDropoutLayer,
}
