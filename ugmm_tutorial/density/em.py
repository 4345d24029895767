"""Expectation maximisation, whose E-step is one backward pass.

Let r be the responsibility of the Gaussian (j, k) for a row. The gradients of log p(x) are

    d / d log_weight_jk = r,   d / d mean_jk = r (x_k - mean_jk) / std_jk^2,
    d / d log_std_jk = r ((x_k - mean_jk)^2 / std_jk^2 - 1),

so the gradients of sum_b log p(x_b) hold the sums over rows whose ratios the M-step needs. The gradient with
respect to a sum's log-weight is its expected count; with respect to log b_k(x_k) it is the background's share
of the value. A missing value affects only the weight of its term, not the Gaussian's mean and width.

Source: Dempster, Laird and Rubin (1977); for circuits, Peharz et al. (2017). Taught in chapter 10.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.density.background import GaussianBackground
from ugmm_tutorial.density.components import Arrays, Components
from ugmm_tutorial.density.smoothed import SmoothedNeurons
from ugmm_tutorial.density.tractable import TractableDensity
from ugmm_tutorial.kernels.arguments import integer, number

__all__ = ["fit"]

# A Gaussian with a smaller expected count than this has nothing to average.
_LEAST_COUNT = 1e-8


def fit(model: TractableDensity, x: Tensor, *, iterations: int = 100, tolerance: float = 1e-5) -> list[float]:
    """Maximise the likelihood of the rows ``x`` (N, D), starting from ``model`` as it is; NaN is missing.

    Every iteration sets weights, means, standard deviations (to at least ``min_std``) and the Gaussian
    backgrounds that the caller did not give. The sums are float64, because a new variance is a difference of
    two. The likelihood never falls, except by rounding.

    Args:
        model: ``SmoothedUGMM``, ``DiagonalGaussianMixture`` or ``Circuit``; call its ``initialise`` first.
        iterations: at most this many.
        tolerance: stop when the mean log-likelihood grows by less than this, in nats per row.

    Returns:
        Mean log-likelihoods in nats per row, before every iteration and after the last one.

    Raises:
        TypeError: the model is of another kind.
        ValueError: the data do not fit the model, or a row has density zero.

    >>> from ugmm_tutorial.density import DiagonalGaussianMixture
    >>> round(fit(DiagonalGaussianMixture(1, 1), torch.tensor([[1.0], [3.0]]), iterations=1)[-1], 4)
    -1.4189
    """
    if not isinstance(model, TractableDensity):
        raise TypeError(
            "expected model to be a SmoothedUGMM, DiagonalGaussianMixture or Circuit, got "
            f"{type(model).__name__}: use gradient.fit"
        )
    integer("iterations", iterations, 1)
    number("tolerance", tolerance, -math.inf)
    rows = model._data(x)
    history: list[float] = []
    while True:
        log_likelihood, leaf_arrays, log_weights = _expectation(model, rows)
        history.append(log_likelihood)
        converged = len(history) > 1 and history[-1] - history[-2] < tolerance
        if converged or len(history) > iterations:
            return history
        _maximisation(model, rows, leaf_arrays, log_weights)


def _expectation(model: TractableDensity, rows: Tensor) -> tuple[float, list[Arrays], list[Tensor]]:
    """Mean log-likelihood and the tensors it depends on; their ``.grad`` is that of the sum over rows."""
    parts = [rows[:, scope] for scope in model.scopes]
    leaf_arrays = [
        {name: value.detach().double().requires_grad_() for name, value in leaf.arrays(part).items()}
        for leaf, part in zip(model._components, parts, strict=True)
    ]
    log_weights = [value.detach().double().requires_grad_() for value in model.log_weights()]
    with torch.enable_grad():
        calls = zip(model._components, (part.double() for part in parts), leaf_arrays, strict=True)
        log_prob = model.combine([leaf(part, arrays) for leaf, part, arrays in calls], log_weights)
        impossible = log_prob == -torch.inf
        if impossible.any():
            which = impossible.nonzero()[0].item()
            raise ValueError(f"expected rows of positive density, but row {which} has density zero")
        log_prob.sum().backward()
    return log_prob.mean().item(), leaf_arrays, log_weights


@torch.no_grad()
def _maximisation(
    model: TractableDensity, rows: Tensor, leaf_arrays: list[Arrays], log_weights: list[Tensor]
) -> None:
    for logits, log_weight in zip(model.sum_logits, log_weights, strict=True):
        logits.copy_(_log_share(_gradient(log_weight)))
    for leaf, scope, arrays in zip(model._components, model.scopes, leaf_arrays, strict=True):
        _update_gaussians(leaf, arrays)
        if isinstance(leaf, SmoothedNeurons):
            counts = _gradient(arrays["log_weight"]) + _gradient(arrays["log_missing_weight"])
            leaf.mix_logits.copy_(_log_share(counts))
            if leaf.fits_background and isinstance(leaf.background, GaussianBackground):
                _update_background(leaf.background, rows[:, scope], arrays, leaf.min_std)


def _update_gaussians(leaf: Components, arrays: Arrays) -> None:
    count = _gradient(arrays["log_weight"])
    # Where the count vanishes, so do the other two gradients, and the Gaussian stays as it is.
    count = torch.where(count > _LEAST_COUNT, count, 1.0)
    variance = (2.0 * arrays["log_std"]).exp()
    shift = variance * _gradient(arrays["mean"]) / count
    # The variance around the old mean, moved to the new one.
    new_variance = variance * (_gradient(arrays["log_std"]) / count + 1.0) - shift.square()
    new_log_std = 0.5 * new_variance.clamp(min=leaf.min_std**2).log()
    leaf.mean.copy_(arrays["mean"] + shift)
    leaf.log_std.copy_(new_log_std)


def _update_background(background: GaussianBackground, rows: Tensor, arrays: Arrays, min_std: float) -> None:
    share = _gradient(arrays["log_background"]).clamp(min=0.0)
    total = share.sum(dim=0)
    seen = total > _LEAST_COUNT
    share = share / torch.where(seen, total, 1.0)
    mean = (share * rows.nan_to_num()).sum(dim=0)
    std = (share * (rows - mean).nan_to_num().square()).sum(dim=0).sqrt().clamp(min=min_std)
    background.mean.copy_(torch.where(seen, mean, background.mean))
    background.std.copy_(torch.where(seen, std, background.std))


def _gradient(value: Tensor) -> Tensor:
    """The gradient from the E-step; zero if the likelihood does not depend on the value at all."""
    return torch.zeros_like(value) if value.grad is None else value.grad


def _log_share(counts: Tensor) -> Tensor:
    """Logarithms of the counts' shares along the last axis; a count of zero keeps a tiny share."""
    return torch.log_softmax(counts.clamp(min=torch.finfo(counts.dtype).tiny).log(), dim=-1)
