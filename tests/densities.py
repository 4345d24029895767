"""Densities with random parameters, and quadrature and a goodness-of-fit test to check them."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ugmm_tutorial.density import (
    Circuit,
    DiagonalGaussianMixture,
    GaussianBackground,
    SmoothedUGMM,
    UniformBackground,
)

LOW, HIGH = -1.2, 1.6  # of the uniform backgrounds
REACH = 9.0  # all densities below are negligible beyond it


def scattered(model, seed=0):
    """The model with random parameters, drawn in float64, and standard deviations from 0.4 to 1.1."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            if "log_std" in name:
                noise = 0.4 + 0.7 * torch.sigmoid(noise)
                parameter.copy_(noise.log())
            else:
                parameter.copy_(noise)
    return model


def gaussian(features):
    return GaussianBackground(
        torch.linspace(-0.5, 0.5, features, dtype=torch.float64),
        torch.linspace(0.8, 1.2, features, dtype=torch.float64),
    )


def uniform(features):
    return UniformBackground(
        torch.full((features,), LOW, dtype=torch.float64), torch.full((features,), HIGH, dtype=torch.float64)
    )


F64 = {"dtype": torch.float64}
#: Functions that make models over any number of features.
MODELS = {
    "smoothed": lambda k: scattered(SmoothedUGMM(k, 3, background=gaussian(k), **F64)),
    "smoothed, uniform": lambda k: scattered(SmoothedUGMM(k, 3, background=uniform(k), **F64)),
    "product": lambda k: scattered(DiagonalGaussianMixture(k, 3, **F64)),
    "circuit": lambda k: scattered(Circuit(k, 3, depth=min(2, k // 2), trees=2, seed=3, **F64)),
    "smoothed circuit": lambda k: scattered(
        Circuit(k, 3, leaf="smoothed", depth=min(1, k // 2), background=gaussian(k), seed=4, **F64)
    ),
}


def rule(edges, nodes=24):
    """Gauss-Legendre nodes and weights for every interval between the edges, each (intervals, nodes)."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    low, high = np.asarray(edges[:-1])[:, None], np.asarray(edges[1:])[:, None]
    points, weights = 0.5 * (high + low) + 0.5 * (high - low) * x, 0.5 * (high - low) * w
    return torch.as_tensor(points), torch.as_tensor(weights)


def axis(nodes=24):
    """Nodes and weights for one variable from -REACH to REACH, with breaks where a background has them."""
    points, weights = rule([-REACH, -3.0, LOW, 0.0, HIGH, 4.0, REACH], nodes)
    return points.flatten(), weights.flatten()


def grid(dimensions, nodes=24):
    """All points of a product rule (N, dimensions) and their weights (N,)."""
    points, weights = axis(nodes)
    mesh = torch.meshgrid(*[points] * dimensions, indexing="ij")
    product = torch.meshgrid(*[weights] * dimensions, indexing="ij")
    return torch.stack(mesh, dim=-1).flatten(0, -2), torch.stack(product, dim=-1).prod(dim=-1).flatten()


def p_value(samples: Tensor, density, nodes: int = 14) -> float:
    """The p-value of a chi-squared test that samples (N, 2) come from a density, which maps (M, 2) to (M,).

    The expected count of each cell comes from quadrature.
    """
    inner = [np.quantile(samples[:, i], np.linspace(0, 1, 7)[1:-1]) for i in (0, 1)]
    edges = [np.unique([-REACH, -4.5, LOW, HIGH, 4.5, REACH, *np.round(e, 1)]) for e in inner]
    (x, v), (y, w) = (rule(e, nodes) for e in edges)
    points = torch.stack([x[:, None, :, None].expand(-1, len(y), -1, nodes)] * 2, dim=-1).clone()
    points[..., 1] = y[None, :, None, :]
    values = density(points.flatten(0, -2)).detach().reshape(points.shape[:-1])
    expected = torch.einsum("abij,ai,bj->ab", values, v, w).numpy().ravel()
    assert abs(expected.sum() - 1.0) < 1e-2
    found = np.histogram2d(*samples.T.numpy(), bins=edges)[0].ravel()
    expected *= found.sum() / expected.sum()
    few = expected < 10
    found = np.append(found[~few], found[few].sum())
    expected = np.append(expected[~few], max(expected[few].sum(), 1e-3))
    return float(stats.chi2.sf(((found - expected) ** 2 / expected).sum(), len(found) - 1))
