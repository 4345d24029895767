"""What deleting components changes, exactly and for every input: log(1 - R_D(x)).

Without the components D, and with the weights of the others as they were, the sum under the logarithm keeps
the share 1 - R_D(x) of itself, where R_D(x) is the responsibility of D for x. Taught in chapter 11.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ugmm_tutorial.layers.dense import MixtureLayer

__all__ = ["change_by_deletion"]


def change_by_deletion(layer: MixtureLayer, x: Tensor, deleted: Tensor) -> Tensor:
    """By how much the outputs change if components are deleted and no weight is renormalised, ``(*, J)``.

    Args:
        layer: a mixture layer; dropout does not count.
        x: its inputs, ``(*, K)``. All responsibilities, ``(*, J, K)``, are held at once.
        deleted: True where a component goes: (J, K), or (K,) for the same inputs in every neuron.

    Returns:
        ``log(1 - R_D(x))`` in nats, at most 0; ``-inf`` where nothing is left. Precise for R_D near 0 and
        near 1.

    Raises:
        TypeError: ``deleted`` is not boolean.
        ValueError: it has another shape.

    Taught in chapter 11.
    """
    if not isinstance(deleted, Tensor) or deleted.dtype != torch.bool:
        raise TypeError("expected deleted to be a boolean tensor: True where a component goes")
    shape = (layer.out_features, layer.in_features)
    if deleted.shape not in (shape, shape[1:]):
        raise ValueError(f"expected deleted of shape {shape} or {shape[1:]}, got {tuple(deleted.shape)}")
    share = layer.responsibilities(x)
    gone = share.masked_fill(~deleted, 0.0).sum(dim=-1)
    kept = share.masked_fill(deleted, 0.0).sum(dim=-1)
    # One minus a share near one would keep few digits: whichever part is small is summed by itself.
    change = torch.where(gone < 0.5, torch.log1p(-gone.clamp(max=0.5)), kept.log())
    # Gone by name, not only by rounding.
    nothing = deleted.expand(shape).all(dim=-1)
    return change.masked_fill(nothing, -torch.inf)
