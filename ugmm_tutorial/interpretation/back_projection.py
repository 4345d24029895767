"""Back-projection: the responsibilities of all layers as one walk from an output down to the inputs.

Each row of a layer's responsibilities sums to one, so they are the transition probabilities of a Markov
chain: from a neuron to one of its inputs, which is a neuron of the layer below, and so on down. A LayerNorm
in between changes the values, but not which neuron each belongs to. The end points of the walk have a
distribution over the pixels. Taught in chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.interpretation.tracing import batches, layers_of, trace
from ugmm_tutorial.kernels.arguments import indices

__all__ = ["back_project"]


@torch.no_grad()
def back_project(model: nn.Module, x: Tensor, outputs: Sequence[int] | None = None) -> Tensor:
    """Distribution over the inputs at which walks from each output end, (B, C, K); it sums to one over K.

    It tells which inputs answered for an output, not what would change it; for that, delete components with
    :func:`~ugmm_tutorial.interpretation.prune`.

    Args:
        model: as for :func:`~ugmm_tutorial.interpretation.responsibilities`. For a ConvNet the walk ends at
            the features of its head.
        x: a batch of inputs, any number of them.
        outputs: the outputs to start from; all by default.

    Raises:
        TypeError: the network has other layers.
        ValueError: there are no examples.
        IndexError: there is no such output.

    >>> from ugmm_tutorial import UGMMNet
    >>> back_project(UGMMNet([16, 8, 3]), torch.rand(5, 16)).shape
    torch.Size([5, 3, 16])
    """
    count = layers_of(model)[-1].out_features
    starts = torch.eye(count)[indices("outputs", range(count) if outputs is None else outputs, count)]
    ended = []
    for (some,) in batches(model, x):
        stages = trace(model, some)
        share = starts.to(stages[-1][2]).expand(len(some), -1, -1)
        for layer, inputs, _ in reversed(stages):
            share = share @ layer.responsibilities(inputs)
        ended.append(share)
    return torch.cat(ended)
