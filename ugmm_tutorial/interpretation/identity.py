"""What deleting components changes, exactly and for every input: log(1 - R_D(x)).

Deleting the components D, with the other weights unchanged, leaves the share 1 - R_D(x) of the sum under the
logarithm, where R_D(x) is the responsibility of D for x. Taught in chapter 12.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ugmm_tutorial.kernels.arguments import numbers_in
from ugmm_tutorial.layers.dense import MixtureLayer

__all__ = ["change_by_deletion"]


def change_by_deletion(layer: MixtureLayer, x: Tensor, deleted: Tensor) -> Tensor:
    """Change of the outputs if components are deleted and no weight is renormalised, ``(*, J)``.

    Args:
        layer: a mixture layer whose outputs sum its components; dropout is ignored.
        x: its inputs, ``(*, K)``. All responsibilities, ``(*, J, K)``, are held at once.
        deleted: True where a component is deleted: (J, K), or (K,) for the same inputs in every neuron.

    Returns:
        ``log(1 - R_D(x))`` in nats, at most 0; ``-inf`` where nothing is left. Precise for R_D near 0 and
        near 1.

    Raises:
        TypeError: ``deleted`` is not boolean, or the layer takes the largest component instead of the sum.
        ValueError: it has another shape.

    >>> from ugmm_tutorial import UGMMLayer
    >>> change_by_deletion(UGMMLayer(3, 2), torch.rand(5, 3), torch.tensor([True, False, False])).shape
    torch.Size([5, 2])
    """
    if not isinstance(layer, MixtureLayer) or not layer.sums_components:
        raise TypeError(f"expected layer to be a layer that sums its components, got {type(layer).__name__}")
    if not isinstance(deleted, Tensor) or deleted.dtype != torch.bool:
        got = deleted.dtype if isinstance(deleted, Tensor) else type(deleted).__name__
        raise TypeError(f"expected deleted to be a boolean tensor, True where a component goes, got {got}")
    numbers_in("deleted", deleted, floating=False, finite=False)
    shape = (layer.out_features, layer.in_features)
    if deleted.shape not in (shape, shape[1:]):
        raise ValueError(f"expected deleted of shape {shape} or {shape[1:]}, got {tuple(deleted.shape)}")
    share = layer.responsibilities(x)
    gone = share.masked_fill(~deleted, 0.0).sum(dim=-1)
    kept = share.masked_fill(deleted, 0.0).sum(dim=-1)
    # One minus a share near one would lose digits, so the smaller part is always summed by itself.
    change = torch.where(gone < 0.5, torch.log1p(-gone.clamp(max=0.5)), kept.log())
    # Without any component left the change is -inf, whatever the rounding of the shares.
    nothing = deleted.expand(shape).all(dim=-1)
    return change.masked_fill(nothing, -torch.inf)
