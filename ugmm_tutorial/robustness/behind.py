"""Linear bounds of everything behind the first layer, in evaluation mode.

Going backward from the scores, ordinary layers, LayerNorms and further uGMM layers become a weighted sum of
the first layer's outputs.

Source: Zhang, Weng, Chen, Hsieh and Daniel (2018), *Efficient Neural Network Robustness Certification with
General Activation Functions*.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.inference.network import layers_of
from ugmm_tutorial.layers import (
    FrozenStdLayer,
    PerExampleDropoutLayer,
    TiedStdLayer,
    UGMMLayer,
    UniformWeightLayer,
)
from ugmm_tutorial.robustness.mixture import Mixture
from ugmm_tutorial.robustness.steps import ROUNDING, Affine, Normalised, Rectified, Step, dot

__all__ = ["MIXTURES", "backward", "concrete", "ends", "flat", "plain", "steps_of"]

#: Layers whose outputs are the logsumexp of Gaussian terms, and nothing else, in evaluation mode.
MIXTURES = (UGMMLayer, UniformWeightLayer, TiedStdLayer, FrozenStdLayer, PerExampleDropoutLayer)


def steps_of(modules: Sequence[nn.Module]) -> list[Step]:
    """The steps of modules in evaluation mode; dropout and identities are left out.

    Raises:
        TypeError: bounds of a module are not known.
    """
    return [_step(plain(module)) for module in modules if type(module) not in (nn.Dropout, nn.Identity)]


def plain(module: nn.Module) -> nn.Module:
    """The module, if nothing changes what its class computes.

    Raises:
        TypeError: it has forward hooks, which bounds cannot see through.
    """
    if module._forward_hooks or module._forward_pre_hooks:
        raise TypeError(f"expected modules without forward hooks, got one on {type(module).__name__}")
    return module


def flat(network: nn.Module) -> list[nn.Module]:
    """The modules of nested stacks. A stack with a forward of its own is a module of its own."""
    if not isinstance(network, nn.Sequential) or type(network).forward is not nn.Sequential.forward:
        return [network]
    plain(network)
    return [module for part in network for module in flat(part)]


def _step(module: nn.Module) -> Step:
    # Not isinstance: a subclass may compute something else.
    if type(module) in MIXTURES:
        return Mixture(layers_of(module, "network")[0])
    module = copy.deepcopy(module).to("cpu", torch.float64).requires_grad_(False)
    if type(module) is nn.Linear:
        return Affine(module.weight, _or(module.bias, torch.zeros(module.out_features)))
    if type(module) is nn.ReLU:
        return Rectified()
    if type(module) is nn.BatchNorm1d and module.running_mean is not None and module.running_var is not None:
        gain = (module.running_var + module.eps).rsqrt()
        gain = gain * _or(module.weight, torch.ones_like(gain))
        return Affine(torch.diag(gain), _or(module.bias, torch.zeros_like(gain)) - gain * module.running_mean)
    if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1 and module.eps > 0.0:
        one, zero = torch.ones(module.normalized_shape), torch.zeros(module.normalized_shape)
        return Normalised(_or(module.weight, one), _or(module.bias, zero), module.eps)
    raise TypeError(
        "expected Linear, ReLU, LayerNorm with eps above 0, BatchNorm1d with running statistics, Dropout or "
        f"UGMMLayer behind the first layer, got {type(module).__name__}: its bounds are not known here"
    )


def _or(parameter: Tensor | None, default: Tensor) -> Tensor:
    return default.double() if parameter is None else parameter


def ends(
    steps: Sequence[Step],
    low: Tensor,
    high: Tensor,
    at_once: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """The ends of every step's inputs, for inputs of the first step between ``low`` and ``high``, (B, n).

    Args:
        steps: what follows the first layer.
        low, high: ends of that layer's outputs, each on its own, (B, J).
        at_once: knows more of these outputs together. From weights (B, P, J) and constants (B, P) it makes
            lower bounds, (B, P).
    """
    found: list[tuple[Tensor, Tensor]] = []
    below, above = low, high
    for step in steps:
        if found and not isinstance(step, Affine):  # an affine step needs no ends of its own
            every = torch.eye(below.shape[1], dtype=low.dtype).expand(len(low), -1, -1)
            linear = []
            for sign in (1, -1):
                function = backward(steps[: len(found)], found, sign * every)
                bound = concrete(*function, low, high)
                linear.append(bound if at_once is None else torch.maximum(bound, at_once(*function)))
            below, above = torch.maximum(below, linear[0]), torch.minimum(above, -linear[1])
            below, above = torch.minimum(below, above), torch.maximum(below, above)  # rounding may cross them
        found.append((below, above))
        below, above = step.outer(below, above)
    return found


def backward(
    steps: Sequence[Step], inputs: Sequence[tuple[Tensor, Tensor]], weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights and constants of a linear function of the first step's inputs.

    It is nowhere above ``weight``, (B, P, m), times the outputs of the last step.
    """
    constant = torch.zeros(weight.shape[:2], dtype=weight.dtype)
    for step, (low, high) in zip(reversed(steps), reversed(list(inputs)[: len(steps)]), strict=True):
        weight, more = step.lower(weight, low, high)
        constant = constant + more
    return weight, constant


def concrete(weight: Tensor, constant: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The least value between the ends of a linear function, (B, P), moved outward."""
    size = constant.abs() + dot(weight.abs(), torch.maximum(low.abs(), high.abs()))
    return constant + dot(weight.clamp(min=0.0), low) + dot(weight.clamp(max=0.0), high) - ROUNDING * size
