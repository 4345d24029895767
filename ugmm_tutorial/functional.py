"""The uGMM operator: one formula, and the one place where a backend is chosen.

Shapes, here and everywhere in the book: B batch, K inputs (``in_features``), J outputs (``out_features``).
Inputs are ``(*, K)`` with any leading dimensions, parameters (J, K), outputs ``(*, J)``.

The reference implementation (``kernels.reference``) *is* the specification; fused kernels do the same faster,
and without its (B, J, K) tensor.

Taught in chapter 1 (the formula), chapter 2 (the batched layer) and chapter 3 (the fused kernels).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ugmm_tutorial.kernels import fused
from ugmm_tutorial.kernels.arguments import checked
from ugmm_tutorial.kernels.choice import BACKENDS, choose
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI, component_log_densities, reference_log_density

__all__ = [
    "BACKENDS",
    "component_log_densities",
    "max_log_density",
    "reference_log_density",
    "responsibilities",
    "ugmm_log_density",
    "under_functorch",
]

# Neurons whose terms are looked at together for the largest: few enough for a processor's cache.
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
    """Log-density of J univariate Gaussian mixtures, component k read at input k.

    ``out[..., j] = logsumexp_k( log_weight[j, k] + log N(x[..., k] | mean[j, k], std[j, k]**2) )``

    Args:
        x: inputs, ``(*, K)``, in the units of ``mean``. NaN makes every output of its row NaN; an infinite
            input switches its components off in the output, but their gradients become NaN.
        mean: component means, (J, K).
        log_std: logarithm of the component standard deviations, (J, K), finite.
        log_weight: logarithm of the mixing weights, (J, K). ``-inf`` removes a component exactly. The
            weights of a row need not sum to one; if all are zero, the output is ``-inf`` and its
            gradients are zero. Where nothing is left for another reason (inputs some 1e19 standard
            deviations away, backgrounds of ``inf``) the output is ``-inf`` too; its gradients are zero
            in the fused kernels and NaN in the reference.
        log_background: logarithm of a background density at each input, of the shape of ``x``, subtracted
            from every component that reads this input (chapter 3). ``inf`` removes these components for
            this input; ``-inf``, a density of zero to divide by, makes the outputs of its row ``inf`` or
            NaN. None subtracts nothing.
        backend: ``"reference"``, ``"numba"`` or ``"triton"`` runs that one or raises; ``"auto"`` takes the
            fused one of these tensors' device if it can run and there are at least 4096 terms (on a GPU,
            small layers need a CUDA graph to be fast: chapter 3). The fused ones compute in float32; float64,
            second and forward-mode derivatives and vmap they leave to the reference.

    Returns:
        The outputs, ``(*, J)``, in nats, with the dtype of the parameters.

    Raises:
        TypeError: an argument is no tensor, or its dtype is neither float32 nor float64, or they differ.
            Under ``torch.autocast`` half-precision arguments are computed in float32 instead.
        ValueError: shapes or devices do not fit together, or the backend's name is unknown.
        RuntimeError: the backend that was asked for cannot run here; the message says why.

    Source: the paper's section 3.1, read component by component (y := x_k), as chapter 1 explains.
    """
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
    """Posterior share of each component in each output, ``(*, J, K)``; sums to one over K.

    They are also the gradients of the outputs with respect to ``log_weight`` (chapter 2).

    Args and Raises: as for :func:`ugmm_log_density`.
    """
    x, mean, log_std, log_weight, _ = checked(x, mean, log_std, log_weight)
    return torch.softmax(component_log_densities(x, mean, log_std, log_weight), dim=-1)


def max_log_density(x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
    """The largest term instead of the logarithm of the sum: one component answers alone, ``(*, J)``.

    ``out[..., j] = max_k( log_weight[j, k] + log N(x[..., k] | mean[j, k], std[j, k]**2) )``

    Its gradient goes to that component only. No block of all terms is kept. For comparison.

    Args and Raises: as for :func:`ugmm_log_density`.
    """
    x, mean, log_std, log_weight, _ = checked(x, mean, log_std, log_weight)
    rows = x.reshape(-1, x.shape[-1])
    parameters = (mean, log_std, log_weight)
    with torch.no_grad():
        few = zip(*(p.split(_NEURONS_AT_ONCE) for p in parameters), strict=True)
        winner = torch.cat([component_log_densities(rows, *some).argmax(dim=-1) for some in few], dim=-1)
    # Every example has winners of its own: their parameters, (B, J).
    m, s, w = (p.gather(1, winner.T).T for p in parameters)
    z = (rows.gather(1, winner) - m) * torch.exp(-s)
    return (w - s - HALF_LOG_2PI - 0.5 * z * z).reshape(*x.shape[:-1], len(mean))


def under_functorch(*tensors: Tensor | None) -> bool:
    """Whether vmap, torch.func or forward-mode derivatives are under way: the kernels know neither."""
    if torch.compiler.is_compiling():
        return False
    return any(
        torch._C._functorch.is_functorch_wrapped_tensor(t) or forward_ad.unpack_dual(t).tangent is not None
        for t in tensors
        if t is not None
    )
