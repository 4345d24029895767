"""Count a network's parameters, and the exponentials and other operations that one example takes.

PyTorch counts linear and convolutional layers; this module counts mixture neurons. Taught in chapter 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ugmm_tutorial.layers.dense import MixtureLayer
from ugmm_tutorial.training.evaluation import evaluating

__all__ = ["Cost", "count"]

#: For each component: subtract the mean, scale, square, subtract from a constant, add the exponential.
#: Instead of adding, a MaxLayer compares with the largest value so far.
FLOPS_PER_COMPONENT = 5


@dataclass(frozen=True)
class Cost:
    """Counts of one forward pass for one example.

    Attributes:
        parameters: the number of learnt values.
        flops: additions, multiplications, and the comparisons of a MaxLayer, without exponentials.
        exponentials: one for each component of a mixture neuron, none in a MaxLayer. Softmax, LayerNorm and
            the single logarithm of each neuron are not counted.
    """

    parameters: int
    flops: int
    exponentials: int


def count(model: nn.Module, example: Tensor) -> Cost:
    """Count what ``model`` does with one example.

    Args:
        model: any module of linear, convolutional and mixture layers. Its modules keep their modes.
        example: one input without the batch axis, such as (784,) or (1, 28, 28).
    """
    components = exponentials = 0

    def look(layer: MixtureLayer, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal components, exponentials
        # Every component has one log-weight, whatever other parameters the neurons share or lack.
        met = inputs[0].shape[:-1].numel() * layer.mix_logits.numel()
        components += met
        exponentials += met if layer.sums_components else 0

    mixtures = [m for m in model.modules() if isinstance(m, MixtureLayer)]
    hooks = [m.register_forward_hook(look) for m in mixtures]
    try:
        # In evaluation mode, because a dropout mask is drawn once for a batch and not for an example.
        with torch.no_grad(), FlopCounterMode(display=False) as counter, evaluating(model):
            model(example.unsqueeze(0))
    finally:
        for hook in hooks:
            hook.remove()
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    flops = counter.get_total_flops() + FLOPS_PER_COMPONENT * components
    return Cost(parameters, flops, exponentials)
