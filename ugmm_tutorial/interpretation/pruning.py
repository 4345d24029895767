"""prune(): a smaller network with the most important components.

Taught in chapter 12.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor, nn

from ugmm_tutorial.interpretation.importance import importance as measured
from ugmm_tutorial.interpretation.importance import most_important
from ugmm_tutorial.interpretation.tracing import head_of, layers_of
from ugmm_tutorial.kernels.arguments import numbers_in, shown
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.layers.sparse import SparseUGMMLayer
from ugmm_tutorial.networks import ConvNet

__all__ = ["Keep", "counts_of", "dense_layers_of", "prune"]

Keep = float | int | Sequence[float | int]


@torch.no_grad()
def prune(
    model: nn.Module,
    keep: Keep,
    importance: Sequence[Tensor] | None = None,
    *,
    renormalize: bool = False,
    remove_unread: bool = True,
) -> nn.Module:
    """A network in which every neuron keeps its most important components; ``model`` stays as it is.

    Args:
        model: a :class:`~ugmm_tutorial.networks.UGMMNet` with any LayerNorms, or a ConvNet with such a head.
        keep: how much each neuron keeps: a fraction above 0 and up to 1 (a float, rounded to at least one
            component), or a number of components (an int); one for all layers or one for each. ``1.0``
            keeps all, ``1`` keeps one.
        importance: of the components of every layer, each (J, K); larger is more important: see
            :func:`~ugmm_tutorial.interpretation.importance`. By default the mixing weights, which need no
            data.
        renormalize: whether the remaining weights are divided by their sum. If not, outputs change by
            exactly log(1 - R_D(x)) (:func:`~ugmm_tutorial.interpretation.change_by_deletion`), and a
            neuron whose deleted components never answered stays as it was.
        remove_unread: whether hidden neurons that no neuron of the next layer reads are removed. This
            changes outputs only if a LayerNorm follows: its mean and variance lose these neurons. Inputs
            of the network that no neuron reads are still passed in.

    Returns:
        A sequence of :class:`~ugmm_tutorial.layers.SparseUGMMLayer` and LayerNorms (or a ConvNet with it as
        its head), in the mode of ``model`` and on its device. It can be trained further.

    Raises:
        TypeError: the network has layers that are not plain mixture layers, or ``keep`` is not a number.
        ValueError: ``keep`` is out of its range, or ``importance`` does not fit the layers.

    >>> prune(UGMMLayer(64, 10), keep=0.25)[0].components
    16
    """
    layers = dense_layers_of(model)
    if importance is None:
        importance = measured(model, "weight")
    kept = _kept(layers, counts_of(keep, layers), importance)
    neurons = _neurons(layers, kept, remove_unread)
    head = _rebuilt(head_of(model), kept, neurons, renormalize).train(model.training)
    if not isinstance(model, ConvNet):
        return head
    pruned = copy.deepcopy(model)
    pruned.head = head
    return pruned


def dense_layers_of(model: nn.Module) -> list[UGMMLayer]:
    """The mixture layers of a network, if each sums over all of its inputs.

    Raises:
        TypeError: one of them does not, or the network has other layers.
    """
    dense: list[UGMMLayer] = []
    for layer in layers_of(model):
        if not (isinstance(layer, UGMMLayer) and layer.sums_components):
            raise TypeError(
                f"expected dense layers that sum over their components, got {type(layer).__name__}: prune "
                "the network they come from"
            )
        dense.append(layer)
    return dense


def counts_of(keep: Keep, layers: Sequence[UGMMLayer]) -> list[int]:
    """How many components each neuron of each layer keeps.

    Raises:
        TypeError: ``keep`` is not a number or a sequence of numbers.
        ValueError: it is out of its range, or the sequence has another length than ``layers``.
    """
    each = list(keep) if isinstance(keep, Sequence) and not isinstance(keep, str) else [keep] * len(layers)
    if len(each) != len(layers):
        raise ValueError(f"expected keep for each of the {len(layers)} layers, got {len(each)} of them")
    return [_count(one, layer.in_features) for one, layer in zip(each, layers, strict=True)]


def _count(keep: float | int, inputs: int) -> int:
    if isinstance(keep, bool) or not isinstance(keep, Real):
        raise TypeError(
            "expected keep to be a float (a fraction) or an int (a number of components), or one of them for "
            f"each layer, got {keep!r}"
        )
    if isinstance(keep, Integral):
        if not 1 <= keep <= inputs:
            raise ValueError(
                f"expected keep from 1 to {inputs} components for a layer of {inputs} inputs, got {keep}; "
                "give one number for each layer, or a fraction"
            )
        return int(keep)
    if not 0.0 < keep <= 1.0:
        raise ValueError(f"expected keep to be a fraction above 0 and up to 1, got {keep}")
    return max(1, round(keep * inputs))


def _kept(layers: list[UGMMLayer], counts: list[int], importance: Sequence[Tensor]) -> list[Tensor]:
    """The components that each neuron of each layer keeps, (J, m)."""
    if not isinstance(importance, Sequence) or isinstance(importance, str):
        raise TypeError(f"expected importance to be a list of tensors, got {shown(importance)}")
    if len(importance) != len(layers):
        raise ValueError(f"expected importance for each of the {len(layers)} layers, got {len(importance)}")
    kept = []
    for place, (layer, count, values) in enumerate(zip(layers, counts, importance, strict=True)):
        shape = (layer.out_features, layer.in_features)
        if numbers_in(f"importance of layer {place}", values, floating=False, finite=False).shape != shape:
            raise ValueError(
                f"expected importance of shape {shape} for layer {place}, got {tuple(values.shape)}"
            )
        if values.isnan().any():
            raise ValueError(f"expected importance without NaN, got some for layer {place}")
        kept.append(most_important(values, count).to(layer.mean.device))
    return kept


def _neurons(layers: list[UGMMLayer], kept: list[Tensor], remove_unread: bool) -> list[Tensor]:
    """The neurons to keep in each layer: from the output down, those that a kept neuron reads."""
    neurons = [torch.arange(layer.out_features, device=layer.mean.device) for layer in layers]
    if remove_unread:
        for place in reversed(range(len(layers) - 1)):
            neurons[place] = kept[place + 1][neurons[place + 1]].unique()
    return neurons


def _rebuilt(
    head: nn.Sequential, kept: list[Tensor], neurons: list[Tensor], renormalize: bool
) -> nn.Sequential:
    modules: list[nn.Module] = []
    place, inputs = 0, None  # the values that arrive from the layer below; None for all
    for module in head:
        if isinstance(module, nn.LayerNorm):
            modules.append(copy.deepcopy(module) if inputs is None else _narrower(module, inputs))
        elif isinstance(module, UGMMLayer):
            modules.append(_sparse(module, kept[place], neurons[place], inputs, renormalize))
            place, inputs = place + 1, neurons[place]
    return nn.Sequential(*modules)


def _narrower(norm: nn.LayerNorm, stay: Tensor) -> nn.LayerNorm:
    """The LayerNorm over the remaining values."""
    affine = norm.elementwise_affine
    narrow = nn.LayerNorm(len(stay), eps=norm.eps, elementwise_affine=affine, bias=norm.bias is not None)
    if affine:
        narrow = narrow.to(norm.weight)
        for mine, theirs in ((narrow.weight, norm.weight), (narrow.bias, norm.bias)):
            if mine is not None:
                mine.copy_(theirs[stay])
    return narrow


def _sparse(
    layer: UGMMLayer, kept: Tensor, neurons: Tensor, inputs: Tensor | None, renormalize: bool
) -> SparseUGMMLayer:
    """The layer with the given neurons, their kept components, and the remaining inputs."""
    kept = kept[neurons]
    index, count = kept, layer.in_features
    if inputs is not None:
        # Both are sorted, so a search finds each input's new place.
        index, count = torch.searchsorted(inputs, kept), len(inputs)
    options = layer.options | {"input_dropout": 0.0}  # which sparse layers do not have
    sparse = SparseUGMMLayer(count, len(neurons), index=index, **options).to(layer.mean)
    for name in ("mean", "log_std", "mix_logits"):
        dense = getattr(layer, name).expand(layer.out_features, layer.in_features)
        getattr(sparse, name).copy_(dense[neurons].gather(1, kept))
    if not renormalize:
        sparse.log_total.copy_(layer.log_weight[neurons].gather(1, kept).logsumexp(dim=1))
    return sparse
