"""Mixtures of univariate Gaussians fitted to a known density, by quadrature instead of samples.

Without samples there is no estimation error: the best mixture of M components differs from the density by the
approximation error alone. In expectation maximisation, the density's mass at the nodes of a quadrature takes
the place of counts; scikit-learn's ``GaussianMixture`` takes no such weights.

A component narrower than the distance between nodes could collapse onto one node and seem infinitely good.
So deviations have a floor, :data:`NODES_WIDE` such distances around its mean. Taught in chapter 14.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ugmm_tutorial.arrays import numbers
from ugmm_tutorial.kernels.arguments import integer, number, numbers_in, of_one_kind, require_shape
from ugmm_tutorial.kernels.kinds import generator as checked_generator
from ugmm_tutorial.kernels.kinds import instance

__all__ = [
    "NODES_WIDE",
    "Mixture",
    "fit",
    "kl_divergence",
    "l1_distance",
    "polish",
    "quadrature",
    "quantile_start",
    "spread_start",
]

_FURTHEST_FROM_ONE = 1e-3  # how much of its mass a density may lose outside the nodes
#: Smallest deviation of a component, in distances between the nodes around its mean.
NODES_WIDE = 1.5


class Mixture(NamedTuple):
    """A mixture of M univariate Gaussians: ``weight`` (sums to one), ``mean`` and ``std``, (M,) each.

    Raises:
        TypeError, ValueError: where densities are asked for: one of them is no such tensor of finite numbers,
            a weight is negative, all are zero, or a deviation is not positive.

    >>> Mixture(torch.ones(1), torch.zeros(1), torch.ones(1)).log_prob(torch.zeros(1))
    tensor([-0.9189])
    """

    weight: Tensor
    mean: Tensor
    std: Tensor

    def terms(self, x: Tensor) -> Tensor:
        """Log of every weighted component at ``x``: ``(N,)`` to ``(N, M)``, in nats."""
        numbers_in("x", x, finite=False)
        for name, value in self._asdict().items():
            numbers_in(name, value, dim=1)
        for name, value in (("weight", self.weight), ("std", self.std)):
            require_shape(name, value, "mean", self.mean.shape)
        if not ((self.weight >= 0).all() and (self.weight > 0).any()):
            raise ValueError(f"expected weight >= 0, not all zero, got {self.weight.tolist()}")
        if not (self.std > 0).all():
            raise ValueError(f"expected std > 0, got {self.std.min().item()}")
        z = (x.unsqueeze(-1) - self.mean) / self.std
        return self.weight.log() - self.std.log() - 0.5 * math.log(2.0 * math.pi) - 0.5 * z * z

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density: ``(N,)`` to ``(N,)``, in nats."""
        return torch.logsumexp(self.terms(x), dim=-1)


def quadrature(edges: Sequence[float], points: int = 16) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre rule on each panel between neighbouring edges: nodes and weights, (N,) each, float64.

    Place edges where the integrand has a kink or a jump, and close to each other around it.

    Raises:
        ValueError: edges do not increase or are not finite, or there is no panel or no point.

    >>> x, weight = quadrature([0.0, 1.0, 2.0])
    >>> round((weight @ x**2).item(), 4)
    2.6667
    """
    ends, points = numbers("edges", edges), integer("points", points, 1)
    if not np.isfinite(ends).all() or (np.abs(ends) > 0.5 * sys.float_info.max).any():
        raise ValueError(f"expected finite edges, got {edges}: cut off where the integrand vanishes")
    if ends.ndim != 1 or len(ends) < 2 or not (np.diff(ends) > 0).all():
        raise ValueError(f"expected at least two increasing edges, got {edges}")
    node, weight = np.polynomial.legendre.leggauss(points)
    half = 0.5 * np.diff(ends)[:, None]
    x = (ends[:-1, None] + half) + half * node
    return torch.from_numpy(x.ravel()), torch.from_numpy((half * weight).ravel())


def quantile_start(
    log_density: Tensor,
    x: Tensor,
    weight: Tensor,
    components: int,
    generator: torch.Generator | None = None,
) -> Mixture:
    """A start: equal weights, means at quantiles of the density, its standard deviation over M as widths.

    Args:
        log_density: log f at the nodes, (N,).
        x: the nodes, (N,), increasing.
        weight: their quadrature weights, (N,).
        components: M, at least 1.
        generator: with one, quantiles and widths are drawn; without, quantiles are spread evenly.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes differ, the density's integral over the nodes is not one, or M < 1.

    >>> x, weight = quadrature([0.0, 1.0], points=100)
    >>> quantile_start((2 * x).log(), x, weight, components=2).mean.round(decimals=1)
    tensor([0.5000, 0.9000], dtype=torch.float64)
    """
    mass, components = _mass(log_density, x, weight), integer("components", components, 1)
    if checked_generator(generator) is None:
        level = (torch.arange(components, dtype=x.dtype) + 0.5) / components
    else:
        level = torch.rand(components, generator=generator, dtype=x.dtype).sort().values
    place = torch.searchsorted(mass.cumsum(0) / mass.sum(), level).clamp(max=len(x) - 1)
    std = (mass @ (x - mass @ x).square()).sqrt() / components
    width = std.expand(components).clone()
    if generator is not None:
        width *= torch.exp(torch.randn(components, generator=generator, dtype=x.dtype))
    return Mixture(torch.full_like(level, 1.0 / components), x[place], width)


def spread_start(
    log_density: Tensor,
    x: Tensor,
    weight: Tensor,
    components: int,
    beyond: float,
    generator: torch.Generator | None = None,
) -> Mixture:
    """A start that covers the tails: means at equal distances, weights from the density's mass around each.

    A component that starts in the middle seldom finds its way into a tail, and components of one width need
    some there.

    Args:
        log_density, x, weight, components: as for :func:`quantile_start`.
        beyond: the density's mass in each tail beyond the means, between 0 and 1/2.
        generator: with one, means are moved at random by a part of their distances.

    Raises:
        ValueError: as for :func:`quantile_start`, or ``beyond`` is out of its range.

    >>> x, weight = quadrature([0.0, 1.0], points=100)
    >>> spread_start((2 * x).log(), x, weight, components=2, beyond=0.01).mean.round(decimals=1)
    tensor([0.3000, 0.8000], dtype=torch.float64)
    """
    mass, components = _mass(log_density, x, weight), integer("components", components, 1)
    beyond = number("beyond", beyond, above=0.0, below=0.5)
    ends = torch.tensor([beyond, 1.0 - beyond], dtype=x.dtype)
    low, high = x[torch.searchsorted(mass.cumsum(0) / mass.sum(), ends).clamp(max=len(x) - 1)]
    gap = (high - low) / components
    mean = low + gap * (torch.arange(components, dtype=x.dtype) + 0.5)
    if checked_generator(generator) is not None:
        mean += 0.25 * gap * torch.randn(components, generator=generator, dtype=x.dtype)
    nearest = (x.unsqueeze(1) - mean).abs().argmin(dim=1)
    share = torch.zeros_like(mean).index_add(0, nearest, mass).clamp(min=1e-12)
    return Mixture(share / share.sum(), mean, (0.7 * gap).expand(components).clone())


@torch.no_grad()
def fit(
    log_density: Tensor,
    x: Tensor,
    weight: Tensor,
    start: Mixture,
    *,
    iterations: int = 100,
    tied: bool = False,
) -> tuple[Mixture, list[float]]:
    """Expectation maximisation with the density's mass at the nodes as counts.

    Args:
        log_density: log f at the nodes, (N,).
        x: the nodes, (N,).
        weight: their quadrature weights, (N,).
        start: the mixture to begin with.
        iterations: number of iterations.
        tied: one deviation for all components.

    Returns:
        The mixture, and KL(f || mixture) in nats before every iteration and after the last. It never rises
        unless the floor is active.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes differ, or the density's integral over the nodes is not one.

    Source: Dempster, Laird and Rubin (1977). Taught in chapter 14.

    >>> start = Mixture(torch.ones(1), torch.zeros(1), torch.ones(1))
    >>> fit(torch.zeros(16, dtype=torch.float64), *quadrature([0.0, 1.0]), start, iterations=1)[0].mean
    tensor([0.5000], dtype=torch.float64)
    """
    mass, mixture = _mass(log_density, x, weight), _checked("start", start)
    history = []
    for _ in range(integer("iterations", iterations, 0)):
        terms = mixture.terms(x)
        total = torch.logsumexp(terms, dim=-1)
        history.append((mass @ (log_density - total)).item())
        mixture = _maximise(mass.unsqueeze(1) * torch.exp(terms - total.unsqueeze(1)), x, mixture, tied)
        mixture = mixture._replace(std=torch.maximum(mixture.std, _floor(mixture.mean, x, tied)))
    history.append((mass @ (log_density - mixture.log_prob(x))).item())
    return mixture, history


def _maximise(shares: Tensor, x: Tensor, before: Mixture, tied: bool) -> Mixture:
    """Weights, means and deviations from the expected counts (N, M); without counts one stays as it is."""
    count = shares.sum(dim=0)
    floor = torch.finfo(count.dtype).tiny
    there = count > floor
    safe = count.clamp(min=floor)
    mean = torch.where(there, (shares * x.unsqueeze(1)).sum(dim=0) / safe, before.mean)
    square = (shares * (x.unsqueeze(1) - mean).square()).sum(dim=0)
    if tied:
        std = (square.sum() / count.sum()).sqrt().expand_as(mean).clone()
    else:
        std = torch.where(there, (square / safe).sqrt(), before.std)
    return Mixture(safe / safe.sum(), mean, std)


@torch.no_grad()
def polish(
    log_density: Tensor,
    x: Tensor,
    weight: Tensor,
    start: Mixture,
    *,
    iterations: int = 1000,
    tied: bool = False,
) -> Mixture:
    """Lower the Kullback-Leibler divergence of a mixture by quasi-Newton steps (SciPy's L-BFGS-B).

    Expectation maximisation becomes slow where components overlap; this does not. The square of the floor is
    added to the squared deviations, so that it acts smoothly. Apart from that, the result is never worse than
    the start (with ``tied``, than the start with its deviations replaced by their geometric mean).

    Args, Raises: as for :func:`fit`.

    >>> start = Mixture(torch.ones(1), torch.zeros(1), torch.ones(1))
    >>> polish(torch.zeros(16).double(), *quadrature([0.0, 1.0]), start).mean.round(decimals=3)
    tensor([0.5000], dtype=torch.float64)
    """
    from scipy.optimize import minimize

    mass, iterations = _mass(log_density, x, weight), integer("iterations", iterations, 0)
    m = len(_checked("start", start).mean)

    def mixture(values: Tensor) -> Mixture:
        mean, free = values[m : 2 * m], values[2 * m :].exp()
        return Mixture(values[:m].softmax(0), mean, torch.hypot(free.expand(m), _floor(mean, x, tied)))

    def divergence(values: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(values).requires_grad_()
        with torch.enable_grad():
            kl = mass @ (log_density - mixture(leaf).log_prob(x))
        (gradient,) = torch.autograd.grad(kl, leaf)
        return kl.item(), gradient.numpy()

    floor = _floor(start.mean, x, tied)
    std = start.std.log().mean().exp().expand(m) if tied else start.std
    log_std = 0.5 * (std.square() - floor.square()).clamp(min=1e-4 * floor.square()).log()
    log_std = log_std[:1] if tied else log_std
    first = torch.cat([start.weight.log().clamp(min=-50.0), start.mean, log_std]).numpy()
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 20}
    found = minimize(divergence, first, jac=True, method="L-BFGS-B", options=options)
    better = found.fun <= divergence(first)[0]
    return mixture(torch.from_numpy(found.x if better else first))


def _floor(mean: Tensor, x: Tensor, tied: bool) -> Tensor:
    """Smallest deviations (M,) that the nodes resolve at these means; if tied, their largest for all."""
    gap = x.diff()
    around = torch.maximum(torch.cat([gap[:1], gap]), torch.cat([gap, gap[-1:]]))  # (N,)
    with torch.no_grad():
        right = torch.searchsorted(x, mean.contiguous()).clamp(1, len(x) - 1)
    share = ((mean - x[right - 1]) / gap[right - 1]).clamp(0.0, 1.0)
    floor = NODES_WIDE * (around[right - 1] + share * (around[right] - around[right - 1]))
    return floor.amax().expand_as(floor) if tied else floor


def kl_divergence(log_density: Tensor, mixture: Mixture, x: Tensor, weight: Tensor) -> float:
    """KL(f || mixture) = integral of f log(f / mixture), in nats.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes differ, or the density's integral over the nodes is not one.

    >>> normal = Mixture(torch.ones(1), torch.zeros(1), torch.ones(1))
    >>> round(kl_divergence(torch.zeros(16).double(), normal, *quadrature([0.0, 1.0])), 4)
    1.0856
    """
    return (_mass(log_density, x, weight) @ (log_density - _checked("mixture", mixture).log_prob(x))).item()


def l1_distance(log_density: Tensor, mixture: Mixture, x: Tensor, weight: Tensor) -> float:
    """Integral of the absolute difference, 0 to 2; the mixture's mass outside the nodes counts too.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: shapes differ, or the density's integral over the nodes is not one.

    >>> normal = Mixture(torch.ones(1), torch.zeros(1), torch.ones(1))
    >>> round(l1_distance(torch.zeros(16).double(), normal, *quadrature([0.0, 1.0])), 4)
    1.3173
    """
    _mass(log_density, x, weight)
    theirs = _checked("mixture", mixture).log_prob(x).exp()
    outside = max(1.0 - (weight @ theirs).item(), 0.0)
    return (weight @ (log_density.exp() - theirs).abs()).item() + outside


def _mass(log_density: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The density's share of each node, (N,), which sums to one up to rounding and cut-off tails."""
    of_one_kind({"log_density": log_density, "x": x, "weight": weight})
    if not log_density.shape == x.shape == weight.shape or x.dim() != 1 or len(x) < 2:
        shapes = [tuple(t.shape) for t in (log_density, x, weight)]
        raise ValueError(f"expected log_density, x and weight of one shape (N,), N >= 2, got {shapes}")
    numbers_in("log_density", log_density, finite=False)
    if not (step := numbers_in("x", x).diff().min().item()) > 0.0:
        raise ValueError(f"expected nodes x that increase, got a step of {step}")
    numbers_in("weight", weight)
    mass = weight * log_density.exp()
    total = mass.sum().item()
    if not abs(total - 1.0) <= _FURTHEST_FROM_ONE:
        raise ValueError(f"expected log_density and weight whose integral is 1, got {total:.6g}")
    return mass


def _checked(name: str, mixture: Mixture) -> Mixture:
    instance(name, mixture, Mixture)
    mixture.terms(mixture.mean)  # which checks its numbers
    if not abs(mixture.weight.sum().item() - 1.0) <= _FURTHEST_FROM_ONE:
        raise ValueError(f"expected {name} with weights of sum 1, got {mixture.weight.tolist()}")
    return mixture
