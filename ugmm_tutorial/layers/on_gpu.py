"""A dense layer on a GPU as five kernels, in operators that compilers see through from PyTorch 2.14 on.

Masks are part of them, one for the batch or one for every example. ``kernels.triton_layer`` has the kernels,
and says what they have been tried on. The layer's own methods do everything else: float64, missing inputs,
vmap, exporters. So do the same operations for second derivatives.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ugmm_tutorial import kernels
from ugmm_tutorial.kernels import eager
from ugmm_tutorial.kernels.autograd import differentiable_gradients
from ugmm_tutorial.kernels.fused import one_after_the_other
from ugmm_tutorial.kernels.transform import DROPPED_FIRST, Masks, Transform
from ugmm_tutorial.layers import direct

if TYPE_CHECKING:
    from ugmm_tutorial.layers.dense import UGMMLayer

__all__ = ["ENABLED", "log_density"]

# Whether layers use these kernels at all. Without them a layer calls the operator, with kernels of its own.
ENABLED = True
_ARGUMENTS = "Tensor x, Tensor mean, Tensor log_std, Tensor logits, Tensor? penalty"
_RULE = "int mode, float low, float high"
_MASKS = "Tensor? words=None, Tensor? odd=None, int threshold=0, bool divides=False"
_lock = threading.Lock()
_LARGEST = torch.finfo(torch.float32).max


def log_density(
    layer: UGMMLayer, x: Tensor, kind: type[UGMMLayer], transform: Transform | None = None
) -> Tensor | None:
    """Outputs of the layer, ``(*, K)`` to ``(*, J)``; None if others have to tell them.

    Args:
        layer: computes as ``kind`` does, or is left to its own methods.
        x: inputs of which none is left out.
        kind: the class whose outputs the kernels compute.
        transform: bounds, softmax and dropout, if they are not those of the layer.
    """
    if not (_takes(layer, x) and direct.computes_as(type(layer), kind)):
        return None
    if transform is None:
        mode, penalty = layer.dropout_penalty() if layer.drops else (DROPPED_FIRST, None)
        transform = Transform(mode, penalty, *layer.log_std_bounds)
    # Finite bounds, because not everything that writes code can write infinity.
    rule = transform.mode, max(transform.low, -_LARGEST), min(transform.high, _LARGEST)
    parameters = layer.mean, layer.log_std, layer.mix_logits, transform.penalty
    masks = (None, None, 0) if transform.masks is None else transform.masks
    given = (*parameters, *rule, *masks, transform.divides)
    out, _, _ = torch.ops.ugmm.layer(x.reshape(-1, x.shape[-1]), *given)
    return out.reshape(*x.shape[:-1], layer.out_features)


def _takes(layer: UGMMLayer, x: Tensor) -> bool:
    backend = layer.backend
    if not (ENABLED and isinstance(x, Tensor) and isinstance(backend, str) and backend in ("auto", "triton")):
        return False
    if not (x.is_cuda or (backend == "triton" and kernels.interpreted())):
        return False
    if torch.compiler.is_exporting() or not (torch.compiler.is_compiling() or eager.ordinary()):
        return False
    mean, log_std, logits = layer.mean, layer.log_std, layer.mix_logits
    if x.dim() == 0 or x.shape[-1] != mean.shape[-1] or x.numel() == 0:
        return False
    fits = log_std.shape == logits.shape == mean.shape
    for tensor in (x, mean, log_std, logits):
        fits &= type(tensor) in (Tensor, nn.Parameter) and tensor.dtype == torch.float32
        fits &= tensor.device == x.device and tensor.layout == torch.strided
    return fits and _registered()


def _registered() -> bool:
    """Whether the operators exist. Triton takes long to import, so they are made when they are needed."""
    with _lock:
        if kernels.unavailable("triton") is None and not hasattr(torch.ops.ugmm, "layer"):
            _register()
    return kernels.unavailable("triton") is None


# A constant for torch.compile, like kernels.unavailable.
_registered._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _register() -> None:
    from ugmm_tutorial.kernels import triton_layer

    operator: Any = torch.library.custom_op if triton_layer.OPAQUE else torch.library.triton_op
    forward = operator(
        "ugmm::layer", triton_layer.forward, mutates_args=(),
        schema=f"({_ARGUMENTS}, {_RULE}, {_MASKS}) -> (Tensor, Tensor, Tensor)",
    )  # fmt: skip
    backward = operator(
        "ugmm::layer_backward", triton_layer.backward, mutates_args=(),
        schema=f"(Tensor grad, {_ARGUMENTS}, Tensor state, Tensor lowest, {_RULE}, bool needs_x, "
        f"bool needs_parameters, {_MASKS}) -> (Tensor, Tensor)",
    )  # fmt: skip
    forward.register_fake(triton_layer.unfilled)
    backward.register_fake(triton_layer.unfilled_gradients)
    forward.register_autograd(_differentiate, setup_context=_setup_context)
    for one in (forward, backward):
        one.register_vmap(partial(one_after_the_other, one))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5], *output[1:], *inputs[8:10])
    ctx.rule, ctx.masks = inputs[5:8], inputs[10:]
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    *arguments, penalty, state, lowest, words, odd = ctx.saved_tensors
    needed = ctx.needs_input_grad[:4]
    if grad is None:
        return (None,) * 12
    if torch.is_grad_enabled():
        mode, low, high = ctx.rule
        threshold, divides = ctx.masks
        masks = None if words is None else Masks(words, odd, threshold)
        transform = Transform(mode, penalty, low, high, masks=masks, divides=divides)
        reference = partial(direct.specification, transform, None)
        gradients = differentiable_gradients(reference, grad, arguments, needed)
    else:
        wanted = needed[0], any(needed[1:])
        grad_x, rest = torch.ops.ugmm.layer_backward(
            grad, *arguments, penalty, state, lowest, *ctx.rule, *wanted, words, odd, *ctx.masks
        )
        found = grad_x, *(rest.unbind() if wanted[1] else (rest,) * 3)
        gradients = tuple(g if need else None for g, need in zip(found, needed, strict=True))
    return (*gradients, *(None,) * 8)
