"""How closely can a mixture of M univariate Gaussians approximate a density? Part of the approximation study.

The densities are known, so no samples are needed, and only approximation is measured. Each of several starts
is improved by expectation maximisation and then by quasi-Newton steps. The best result has an error that is
an upper bound for the smallest error of M components.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ugmm_tutorial.approximation import univariate
from ugmm_tutorial.approximation.univariate import Mixture

__all__ = ["TARGETS", "Target", "best_mixtures", "claw", "measure_densities", "slopes"]


class Target(NamedTuple):
    """A density: its logarithm, and the edges of the panels on which it is smooth."""

    log_prob: Callable[[Tensor], Tensor]
    edges: Sequence[float]


def claw() -> Mixture:
    """The claw of Marron and Wand (1992): a standard normal with five narrow peaks, six components."""
    means = [0.0, -1.0, -0.5, 0.0, 0.5, 1.0]
    weight = torch.tensor([0.5] + [0.1] * 5, dtype=torch.float64)
    std = torch.tensor([1.0] + [0.1] * 5, dtype=torch.float64)
    return Mixture(weight, torch.tensor(means, dtype=torch.float64), std)


def _laplace(x: Tensor) -> Tensor:
    return -x.abs() - math.log(2.0)


def _logistic(x: Tensor) -> Tensor:
    return torch.nn.functional.logsigmoid(x) + torch.nn.functional.logsigmoid(-x)


def _gumbel(x: Tensor) -> Tensor:
    return -x - torch.exp(-x)


def _towards_zero(length: float, longest: float = 1.0, halvings: int = 16) -> list[float]:
    """Edges of panels that halve towards zero, excluding it. No panel is longer than ``longest``."""
    ends = [length * 2.0**-k for k in range(halvings, -1, -1)]
    parts = [math.ceil((b - a) / longest) for a, b in itertools.pairwise(ends)]
    fine = [np.linspace(a, b, n + 1)[1:] for (a, b), n in zip(itertools.pairwise(ends), parts, strict=True)]
    return [ends[0], *np.concatenate(fine).tolist()]


_HALF = _towards_zero(0.5, longest=0.1)
_SIDE = _towards_zero(24.0)

#: One density has a kink, one has jumps, one is itself a mixture, and two are analytic.
TARGETS: dict[str, Target] = {
    "Laplace": Target(_laplace, [-e for e in reversed(_SIDE)] + [0.0] + _SIDE),
    "uniform": Target(torch.zeros_like, [0.0, *_HALF, *(1.0 - e for e in reversed(_HALF[:-1])), 1.0]),
    "claw": Target(claw().log_prob, np.linspace(-7.0, 7.0, 57).tolist()),
    "Gumbel": Target(_gumbel, np.linspace(-4.0, 28.0, 65).tolist()),
    "logistic": Target(_logistic, np.linspace(-28.0, 28.0, 57).tolist()),
}


def measure_densities(settings: dict, progress: bool) -> dict:
    """Measure all targets, each with free and with tied deviations.

    Each result has three lists over ``settings["components"]`` for the best mixture found: ``kl`` (nats),
    ``l1``, and ``check``, its KL by another quadrature. It also has ``slopes``.
    """
    found: dict = {}
    for name in settings["targets"]:
        found[name] = {}
        for kind in ("free", "tied"):
            rows = best_mixtures(TARGETS[name], settings, tied=kind == "tied")
            row = {key: [entry[key] for entry in rows] for key in ("kl", "check", "l1")}
            found[name][kind] = row | {"slopes": slopes(settings["components"], row["kl"], settings)}
            if progress:
                print(f"{name}, {kind}: KL {' '.join(f'{kl:.1e}' for kl in row['kl'])}", flush=True)
    return found


def best_mixtures(target: Target, settings: dict, *, tied: bool) -> list[dict[str, float]]:
    """``kl``, ``check`` and ``l1`` of the best mixture for every number of components."""
    x, weight = univariate.quadrature(target.edges, settings["points"])
    other_x, other_weight = univariate.quadrature(target.edges, settings["points"] + 5)
    log_density, other = target.log_prob(x), target.log_prob(other_x)
    generator = torch.Generator().manual_seed(settings["seed"])
    rows: list[dict[str, float]] = []
    before: Mixture | None = None
    for components in settings["components"]:
        starts = _starts(log_density, x, weight, components, settings, generator)
        if before is not None:
            starts += [_grown(before, components, generator) for _ in range(settings["grown_starts"])]
        ends = _improved(log_density, x, weight, starts, settings, tied)
        kl = [univariate.kl_divergence(log_density, end, x, weight) for end in ends]
        before = ends[int(np.argmin(kl))]
        rows.append(
            {
                "kl": min(kl),
                "check": univariate.kl_divergence(other, before, other_x, other_weight),
                "l1": univariate.l1_distance(log_density, before, x, weight),
            }
        )
    return rows


def _starts(
    log_density: Tensor,
    x: Tensor,
    weight: Tensor,
    components: int,
    settings: dict,
    generator: torch.Generator,
) -> list[Mixture]:
    """Starts with means at quantiles, evenly spaced or drawn, and at equal distances that reach the tails."""
    density = log_density, x, weight
    starts = [univariate.quantile_start(*density, components)]
    for _ in range(settings["random_starts"]):
        starts.append(univariate.quantile_start(*density, components, generator))
    for beyond in settings["beyond"]:
        starts.append(univariate.spread_start(*density, components, beyond))
        # A symmetric start for a symmetric density stays symmetric, so slightly moved copies are tried too.
        for _ in range(settings["moved_starts"]):
            starts.append(univariate.spread_start(*density, components, beyond, generator))
    return starts


def _improved(
    log_density: Tensor, x: Tensor, weight: Tensor, starts: list[Mixture], settings: dict, tied: bool
) -> list[Mixture]:
    """Improve all starts by a few steps, and the best different ones by many more."""
    ends = []
    for start in starts:
        by_em, _ = univariate.fit(log_density, x, weight, start, iterations=settings["em"], tied=tied)
        end = univariate.polish(log_density, x, weight, by_em, iterations=settings["short"], tied=tied)
        ends.append((univariate.kl_divergence(log_density, end, x, weight), end))
    ends.sort(key=lambda pair: pair[0])
    # Many starts end in the same place, and continuing from it once is enough.
    differ = [ends[0]] + [b for a, b in itertools.pairwise(ends) if b[0] > 1.01 * a[0]]
    return [
        univariate.polish(log_density, x, weight, end, iterations=settings["polish"], tied=tied)
        for _, end in differ[: settings["finalists"]]
    ]


def _grown(mixture: Mixture, components: int, generator: torch.Generator) -> Mixture:
    """A mixture with more components. Randomly chosen ones are split in two that lie beside each other."""
    while len(mixture.mean) < components:
        chosen = int(torch.multinomial(mixture.weight + 1e-3, 1, generator=generator))
        weight = mixture.weight.clone()
        weight[chosen] /= 2.0
        aside = mixture.std[chosen] * torch.randn(1, generator=generator, dtype=weight.dtype)
        mean = torch.cat([mixture.mean, mixture.mean[chosen] + 0.7 * aside])
        narrower = mixture.std[chosen] * torch.rand(1, generator=generator, dtype=weight.dtype).clamp(0.1)
        mixture = Mixture(
            torch.cat([weight, weight[chosen].reshape(1)]), mean, torch.cat([mixture.std, narrower])
        )
    return mixture


def slopes(components: Sequence[int], kl: Sequence[float], settings: dict) -> dict[str, dict | None]:
    """Fit straight lines to log KL, from ``slope_from`` components on and where KL exceeds ``smallest``.

    ``power`` is a line against log M (at slope -2, twice as many components leave a quarter of the KL),
    ``root`` against the square root of M, and ``exponential`` against M. Each has ``slope`` and ``residual``,
    the root mean square of the residuals in the unit of log KL. All are None with fewer than three points.
    """
    pairs = [
        (m, value)
        for m, value in zip(components, kl, strict=True)
        if m >= settings["slope_from"] and value > settings["smallest"]
    ]
    if len(pairs) < 3:
        return {"power": None, "root": None, "exponential": None}
    m, value = np.array(pairs).T
    along = {"power": np.log(m), "root": np.sqrt(m), "exponential": m}
    return {name: _line(axis, np.log(value)) for name, axis in along.items()}


def _line(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    slope, level = np.polyfit(x, y, 1)
    return {"slope": float(slope), "residual": float(np.sqrt(np.mean((y - level - slope * x) ** 2)))}
