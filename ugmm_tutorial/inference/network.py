"""The network as inference uses it: float64 constants, the evidence folded into one component per neuron.

Arrays in this package keep the boxes last, as in (J, K, B). The sums over inputs then run along whole rows of
memory, one row for each pair of a neuron and an input.

Taught in chapter 11.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels.arguments import module as checked_module
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI, inverse_std
from ugmm_tutorial.layers.dense import MixtureLayer, UGMMLayer

__all__ = ["EPS", "Layer", "condition", "evaluate", "layers_of", "only_output"]

#: Distance from 1 to the next float64.
EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Layer:
    """One layer's constants, float64, each (J, K, 1): term jk is ``log_peak - ((z_k - mean) / std)**2 / 2``.

    ``slack``, (J, 1), times ``1 + |output|`` bounds an output's rounding error (see :func:`Layer.margin`).
    """

    mean: Tensor
    inverse_std: Tensor
    log_peak: Tensor
    slack: Tensor

    @staticmethod
    def of(mean: Tensor, inverse_std: Tensor, log_peak: Tensor) -> Layer:
        """The layer with these (J, K) constants."""
        largest = log_peak.masked_fill(log_peak == -math.inf, 0.0).abs().amax(dim=1, keepdim=True)
        slack = 8.0 * EPS * (mean.shape[1] + 8) * (1.0 + largest)
        mean, inverse_std, log_peak = (a.unsqueeze(-1).contiguous() for a in (mean, inverse_std, log_peak))
        return Layer(mean, inverse_std, log_peak, slack)

    def margin(self, out: Tensor) -> Tensor:
        """An upper bound on the rounding error of outputs (J, B), including that of the parameters.

        With u = EPS / 2, a term q = ((z - mean) / std)**2 / 2 is off by less than 10 u q and log_peak by less
        than (K + 6) u (1 + |log_peak|); subtracting the largest term, the exponentials, their sum of K
        positive numbers and the logarithm add less than (K + 6) u (1 + |out|). A term's error is weighted by
        its responsibility r, and r q <= |log_peak| + |out| + r log(1 / r) <= |log_peak| + |out| + 1. The
        total is less than (3 K + 30) u (1 + |log_peak|) (1 + |out|), a fourth of the margin. The rest also
        covers the rounding when the margin is added.
        """
        return self.slack * (1.0 + out.abs())


def layers_of(model: nn.Module, name: str = "model") -> list[Layer]:
    """The constants of a stack of :class:`~ugmm_tutorial.layers.UGMMLayer`, without dropout.

    Raises:
        TypeError: the model is not a sequence of uGMM layers (LayerNorms are not allowed either), or its
            parameters are neither float32 nor float64.
        ValueError: a parameter is not finite (a mixing logit may be -inf, which removes its component).
    """
    modules = [model] if isinstance(model, MixtureLayer) else model
    if not isinstance(modules, (nn.Sequential, list)) or len(modules) == 0:
        raise TypeError(f"expected {name} to be a UGMMNet, a stack of UGMMLayer, got {type(model).__name__}")
    return [_layer(module, place, name) for place, module in enumerate(modules)]


@torch.no_grad()
def _layer(module: nn.Module, place: int, name: str) -> Layer:
    checked_module(name, module)
    if isinstance(module, nn.LayerNorm):
        raise TypeError(
            f"module {place} is a LayerNorm, whose mean and variance couple all of its inputs: the bounds of "
            f"uGMM terms do not hold through it. Take as {name} a network with norm='none'"
        )
    if not (isinstance(module, UGMMLayer) and module.sums_components):
        raise TypeError(
            f"expected {name} of dense UGMMLayers that sum over their components, got "
            f"{type(module).__name__} as module {place}: the bounds cover only these"
        )
    if module.mean.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"expected {name} in float32 or float64, got {module.mean.dtype}: .float() converts it"
        )
    module = copy.deepcopy(module).to("cpu", torch.float64)
    log_std, log_weight = module.bounded_log_std, module.log_weight
    mean = module.mean.detach()
    bad = not (mean.isfinite().all() and log_std.isfinite().all())
    if bad or bool((log_weight.isnan() | (log_weight == math.inf)).any()):
        raise ValueError(
            f"module {place} has parameters that are not finite: nothing can be inferred from {name}"
        )
    return Layer.of(mean, inverse_std(log_std), log_weight - log_std - HALF_LOG_2PI)


def only_output(layers: Sequence[Layer], output: int) -> list[Layer]:
    """The network with one of its outputs only."""
    last, one = layers[-1], slice(output, output + 1)
    parts = (last.mean, last.inverse_std, last.log_peak, last.slack)
    return [*layers[:-1], Layer(*(a[one] for a in parts))]


def condition(layers: Sequence[Layer], evidence: dict[int, float], query: Sequence[int]) -> list[Layer]:
    """The network as a function of the query inputs alone, in the order of ``query``.

    What the observed inputs add to a neuron's sum does not depend on the query, so one component of infinite
    std stands for all of them. It reads an additional last input, always 0, if there is evidence.
    """
    first = layers[0]
    query = list(query)
    parts = [a.squeeze(-1) for a in (first.mean, first.inverse_std, first.log_peak)]
    mean, inverse_std, log_peak = (a[:, query] for a in parts)
    if evidence:
        index = list(evidence)
        value = torch.tensor([evidence[k] for k in index], dtype=torch.float64)
        m, s, c = (a[:, index] for a in parts)
        observed = torch.logsumexp(c - 0.5 * ((value - m) * s) ** 2, dim=1, keepdim=True)
        nothing = torch.zeros_like(observed)
        mean, inverse_std = torch.cat([mean, nothing], dim=1), torch.cat([inverse_std, nothing], dim=1)
        log_peak = torch.cat([log_peak, observed], dim=1)
    conditioned = Layer.of(mean, inverse_std, log_peak)
    # The evidence's component has the rounding error of a whole layer's output.
    return [replace(conditioned, slack=conditioned.slack + first.slack), *layers[1:]]


def evaluate(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Outputs (J, B) at points (K, B), in float64, without bounds on their rounding."""
    for layer in layers:
        distance = (x.unsqueeze(0) - layer.mean) * layer.inverse_std
        x = torch.logsumexp(layer.log_peak - 0.5 * distance * distance, dim=1)
    return x
