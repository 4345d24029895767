"""Which inputs answer: responsibilities of every layer over a data set, without holding them all.

Taught in chapter 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ugmm_tutorial.interpretation.tracing import batches, examples, layers_of, trace
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.layers.dense import MixtureLayer

__all__ = ["LayerStatistics", "mean_responsibilities", "responsibilities", "statistics", "submodes"]

# Examples at a time where only sums are kept.
_EXAMPLES = 512


@dataclass(frozen=True)
class LayerStatistics:
    """Summary of one layer's responsibilities over N examples.

    Attributes:
        mean: mean responsibility of each component, (J, K); every row sums to one.
        largest: its largest responsibility, (J, K).
        effective: mean effective number of components, exp(entropy), (J,): 1 if one component answers
            alone, K if all have equal shares.
        outputs: the layer's outputs, (N, J), in nats.

    >>> from ugmm_tutorial import UGMMLayer
    >>> statistics(UGMMLayer(16, 3), torch.rand(5, 16))[0].largest.shape
    torch.Size([3, 16])
    """

    mean: Tensor
    largest: Tensor
    effective: Tensor
    outputs: Tensor


@torch.no_grad()
def responsibilities(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Responsibilities of every layer, each (B, J, K), without dropout; each row sums to one over K.

    They take B x J x K numbers: 400 MB for 1000 images and the 784-128 layer of the book's network. For
    more images see :func:`statistics` and :func:`mean_responsibilities`.

    Args:
        model: a :class:`~ugmm_tutorial.networks.UGMMNet`, or a ConvNet with such a head (the K inputs are
            then its features). LayerNorms between the layers are fine.
        x: a batch of its inputs.

    Raises:
        TypeError: the network has other layers.

    >>> from ugmm_tutorial import UGMMNet
    >>> [share.shape for share in responsibilities(UGMMNet([16, 8, 3]), torch.rand(5, 16))]
    [torch.Size([5, 8, 16]), torch.Size([5, 3, 8])]
    """
    return [layer.responsibilities(inputs) for layer, inputs, _ in trace(model, x)]


@torch.no_grad()
def statistics(model: nn.Module, x: Tensor) -> list[LayerStatistics]:
    """Mean, maximum and concentration of every layer's responsibilities over the examples ``x``.

    Args and Raises: as for :func:`responsibilities`; ValueError without examples.

    >>> from ugmm_tutorial import UGMMLayer
    >>> statistics(UGMMLayer(1, 2), torch.rand(8, 1))[0].effective
    tensor([1., 1.])
    """
    collected = [_Collected(layer) for layer in layers_of(model)]
    for (some,) in batches(model, x):
        for kept, (layer, inputs, out) in zip(collected, trace(model, some), strict=True):
            kept.add(layer.responsibilities(inputs), out)
    return [kept.summary() for kept in collected]


class _Collected:
    """Sums and maxima of one layer so far."""

    def __init__(self, layer: MixtureLayer) -> None:
        # No responsibility is below zero.
        self.largest = layer.mean.new_zeros(())
        self.total = self.effective = self.largest.double()
        self.outputs: list[Tensor] = []

    def add(self, share: Tensor, out: Tensor) -> None:
        self.total = self.total + share.sum(dim=0, dtype=torch.float64)
        self.largest = torch.maximum(self.largest, share.amax(dim=0))
        entropy = torch.special.entr(share).sum(dim=-1)
        self.effective = self.effective + entropy.exp().sum(dim=0, dtype=torch.float64)
        self.outputs.append(out)

    def summary(self) -> LayerStatistics:
        outputs = torch.cat(self.outputs)
        mean, effective = (v.div(len(outputs)).to(outputs.dtype) for v in (self.total, self.effective))
        return LayerStatistics(mean, self.largest, effective, outputs)


def mean_responsibilities(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Mean responsibility of every component over the examples ``x``: (J, K) for each layer.

    A responsibility is the derivative of an output with respect to a log-weight (chapter 2), so one fused
    backward pass adds all of them up. No (B, J, K) block is made, and all of MNIST takes seconds.

    Args and Raises: as for :func:`responsibilities`; ValueError without examples.

    >>> from ugmm_tutorial import UGMMLayer
    >>> mean_responsibilities(UGMMLayer(16, 3), torch.rand(5, 16))[0].sum(dim=1).allclose(torch.ones(3))
    True
    """
    examples(x)
    totals = [layer.mean.new_zeros((), dtype=torch.float64) for layer in layers_of(model)]
    for some in x.split(_EXAMPLES):
        for place, (layer, inputs, _) in enumerate(trace(model, some)):
            totals[place] = totals[place] + _summed_responsibility(layer, inputs).double()
    pairs = zip(totals, layers_of(model), strict=True)
    return [(total / len(x)).to(layer.mean.dtype) for total, layer in pairs]


def submodes(
    model: nn.Module, x: Tensor, labels: Tensor, *, classes: int | None = None, layer: int = 0
) -> Tensor:
    """Mean responsibility of each input for each neuron, over the examples of each class: (J, C, K).

    With ``layer=0`` and images, ``[j, c]`` is an image: the pixels that answer for neuron j on digit c.

    Args:
        model, x: as for :func:`responsibilities`.
        labels: classes of the examples, (N,), integers from 0.
        classes: the number of classes; by default the largest label plus one.
        layer: which mixture layer, counted from the input.

    Raises:
        TypeError, ValueError: as for :func:`responsibilities`; ValueError if a class has no example.
        IndexError: there is no such layer.

    >>> from ugmm_tutorial import UGMMLayer
    >>> submodes(UGMMLayer(16, 8), torch.rand(6, 16), labels=torch.arange(6) % 3).shape
    torch.Size([8, 3, 16])
    """
    classes = None if classes is None else check.integer("classes", classes, 1)
    labels = check.labels("labels", labels, len(examples(x)), classes)
    (layer,) = check.indices("layer", [layer], len(layers_of(model)))
    classes = int(labels.max()) + 1 if classes is None else classes
    by_class = []
    for c in range(classes):
        chosen = x[labels == c]
        if len(chosen) == 0:
            raise ValueError(f"expected examples of all {classes} classes, got none of class {c}")
        by_class.append(mean_responsibilities(model, chosen)[layer])
    return torch.stack(by_class, dim=1)


def _summed_responsibility(layer: MixtureLayer, inputs: Tensor) -> Tensor:
    """The layer's responsibilities, summed over the examples, (J, K)."""
    with torch.enable_grad():
        log_weight = layer.log_weight.detach().requires_grad_()
        out = layer.log_density(inputs, log_weight)
        (total,) = torch.autograd.grad(out.sum(), log_weight)
    return layer.by_input(total)
