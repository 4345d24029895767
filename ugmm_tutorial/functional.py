"""The uGMM operator: its formula as functions of tensors, whichever backend computes it.

Shapes, here and throughout the book: B batch, K inputs (``in_features``), J outputs (``out_features``).
Inputs are ``(*, K)`` with any leading dimensions, parameters (J, K), outputs ``(*, J)``.

``kernels.reference`` *is* the specification, the fused kernels are faster, ``kernels.choice`` takes one.

Taught in chapter 1 (the formula), chapter 2 (the batched layer) and chapter 3 (the fused kernels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ugmm_tutorial import _moved
from ugmm_tutorial.kernels import eager, fused
from ugmm_tutorial.kernels.arguments import checked
from ugmm_tutorial.kernels.choice import BACKENDS, choose
from ugmm_tutorial.kernels.reference import (
    HALF_LOG_2PI,
    component_log_densities,
    inverse_std,
    reference_log_density,
)

__all__ = [
    "BACKENDS",
    "component_log_densities",
    "max_log_density",
    "reference_log_density",
    "responsibilities",
    "ugmm_log_density",
    "under_functorch",
]

if not TYPE_CHECKING:
    __getattr__ = _moved.renamed(__name__)

# How many neurons are searched for their largest terms at once: few enough for a processor's cache.
_NEURONS_AT_ONCE = 8


def ugmm_log_density(
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    *,
    log_background: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Log-density of J univariate Gaussian mixtures whose component k reads input k.

    ``out[..., j] = logsumexp_k( log_weight[j, k] + log N(x[..., k] | mean[j, k], std[j, k]**2) )``

    Args:
        x: inputs, ``(*, K)``, in the units of ``mean``. NaN makes every output of its row NaN. An infinite
            input switches off the components that read it, but their gradients become NaN.
        mean: component means, (J, K).
        log_std: logarithm of the component standard deviations, (J, K), finite.
        log_weight: logarithm of the mixing weights, (J, K). ``-inf`` removes a component exactly. The weights
            of a row need not sum to one. If all are zero, the output is ``-inf`` and its gradients are zero.
            The output is also ``-inf`` if no component is left for another reason: backgrounds of ``inf``,
            where gradients are zero too, or inputs about 1e19 standard deviations away, where gradients are
            zero in the fused kernels and NaN in the reference.
        log_background: logarithm of a background density at each input, with the shape of ``x``. It is
            subtracted from every component that reads this input (chapter 3). ``inf`` removes these
            components for this input. ``-inf`` divides by a density of zero and makes the outputs of its row
            ``inf`` or NaN. None subtracts nothing.
        backend: ``"reference"``, ``"numba"`` or ``"triton"`` runs that implementation or raises. ``"auto"``
            takes the fused kernel for the tensors' device if it can run, on a GPU from 4096 terms on, else
            the reference (on a GPU, small layers need a CUDA graph to be fast: chapter 3). The fused
            kernels compute in float32. They leave float64, second derivatives, forward-mode derivatives and
            vmap to the reference. ``torch.onnx.export`` and ``torch.jit.trace`` write the reference's
            operations, so what they write needs neither a kernel nor this package.

    Returns:
        The outputs, ``(*, J)``, in nats, with the dtype of the parameters.

    Raises:
        TypeError: an argument is not a tensor, its dtype is neither float32 nor float64, or the dtypes
            differ. Under ``torch.autocast``, half-precision arguments are computed in float32 instead.
        ValueError: shapes or devices do not fit together, or the backend's name is unknown.
        RuntimeError: the requested backend cannot run here; the message says why.

    Source: the paper's section 3.1, read component by component (y := x_k), as chapter 1 explains.

    >>> ugmm_log_density(torch.rand(32, 4), *torch.zeros(3, 8, 4)).shape  # 8 neurons over 4 inputs
    torch.Size([32, 8])
    """
    given = () if log_background is None else (log_background,)
    if eager.takes(backend, x, mean, log_std, log_weight, *given):
        return eager.log_density(x, mean, log_std, log_weight, log_background)
    x, mean, log_std, log_weight, log_background = checked(x, mean, log_std, log_weight, log_background)
    chosen = choose(backend, x, mean)
    arguments = (x, mean, log_std, log_weight, log_background)
    if chosen == "reference" or x.dtype == torch.float64 or under_functorch(*arguments):
        return reference_log_density(*arguments)
    rows = x.reshape(-1, x.shape[-1])
    background = None if log_background is None else log_background.reshape(rows.shape)
    out, _ = fused.log_density(rows, mean, log_std, log_weight, background, chosen)
    return out.reshape(*x.shape[:-1], len(mean))


def responsibilities(x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
    """Posterior share of each component in each output, ``(*, J, K)``; sums to one over K (chapter 2).

    Args and Raises: as for :func:`ugmm_log_density`.

    >>> responsibilities(torch.rand(5, 4), *torch.zeros(3, 8, 4)).sum(dim=-1).allclose(torch.ones(5, 8))
    True
    """
    x, mean, log_std, log_weight, _ = checked(x, mean, log_std, log_weight)
    return torch.softmax(component_log_densities(x, mean, log_std, log_weight), dim=-1)


def max_log_density(x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
    """The largest term instead of the logarithm of the sum, ``(*, J)``: one component answers alone.

    ``out[..., j] = max_k( log_weight[j, k] + log N(x[..., k] | mean[j, k], std[j, k]**2) )``

    The gradient goes to that component only. No (B, J, K) tensor is built. It serves for comparison.

    Args and Raises: as for :func:`ugmm_log_density`.

    >>> max_log_density(torch.zeros(2), *torch.zeros(3, 1, 2))  # two equal terms, so log(2) below logsumexp
    tensor([-0.9189])
    """
    x, mean, log_std, log_weight, _ = checked(x, mean, log_std, log_weight)
    rows = x.reshape(-1, x.shape[-1])
    parameters = (mean, log_std, log_weight)
    with torch.no_grad():
        few = zip(*(p.split(_NEURONS_AT_ONCE) for p in parameters), strict=True)
        winner = torch.cat([component_log_densities(rows, *some).argmax(dim=-1) for some in few], dim=-1)
    # Every example has its own winners. These are their parameters, (B, J).
    m, s, w = (p.gather(1, winner.T).T for p in parameters)
    z = (rows.gather(1, winner) - m) * inverse_std(s)
    return (w - s - HALF_LOG_2PI - 0.5 * z * z).reshape(*x.shape[:-1], len(mean))


def under_functorch(*tensors: Tensor | None) -> bool:
    """Whether any tensor is inside vmap, torch.func or forward-mode derivatives: kernels support none.

    >>> torch.vmap(lambda x: x * under_functorch(x))(torch.ones(3)), under_functorch(torch.ones(3))
    (tensor([1., 1., 1.]), False)
    """
    if torch.compiler.is_compiling():
        return False
    return any(
        torch._C._functorch.is_functorch_wrapped_tensor(t) or forward_ad.unpack_dual(t).tangent is not None
        for t in tensors
        if t is not None
    )
