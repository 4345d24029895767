"""Test the bounds on random networks: no value and no slope may lie outside, not even by a rounding error.

The oracle is a second implementation of the network in NumPy's long double. On x86 its unit of rounding is
2048 times smaller than that of float64. Part of the study ``mpe``.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from ugmm_tutorial.inference.bounds import output_bounds
from ugmm_tutorial.inference.derivatives import gradient_bounds
from ugmm_tutorial.inference.network import layers_of, only_output
from ugmm_tutorial.networks import UGMMNet

__all__ = ["exact_values_and_slopes", "random_case", "sweep", "violations"]

_POINTS = 16


def sweep(networks: int, seed: int) -> dict:
    """Count values and slopes outside their bounds, over random networks, boxes and points."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    values = slopes = 0
    with torch.random.fork_rng(devices=[]):
        for _ in range(networks):
            outside = violations(*random_case(rng))
            values, slopes = values + outside[0], slopes + outside[1]
    return {
        "networks": networks,
        "points": networks * _POINTS,
        "values_outside": values,
        "slopes_outside": slopes,
        "long_double_eps": float(np.finfo(np.longdouble).eps),
        "seconds": time.perf_counter() - start,
    }


def random_case(rng: np.random.Generator) -> tuple[UGMMNet, np.ndarray, np.ndarray, np.ndarray]:
    """A network, a box ``low``, ``high`` (K,), and points (P, K) in it, of which half are corners."""
    widths = [int(n) for n in rng.integers(1, 9, size=rng.integers(1, 5))] + [1]
    net = UGMMNet(widths, dtype=torch.float64, min_std=0.0)
    spread, width = 10.0 ** rng.uniform(-1, 2), 10.0 ** rng.uniform(-2.5, 1)
    with torch.no_grad():
        for layer in net:
            shape = layer.mean.shape
            layer.mean.copy_(torch.from_numpy(rng.normal(size=shape) * spread))
            layer.log_std.copy_(torch.from_numpy(np.log(width) + rng.normal(size=shape)))
            layer.mix_logits.copy_(torch.from_numpy(3.0 * rng.normal(size=shape)))
    half = spread * 10.0 ** rng.uniform(-8, 1, size=widths[0]) * (rng.random(widths[0]) > 0.1)
    center = spread * rng.normal(size=widths[0])
    low, high = center - half, center + half
    share = rng.random((_POINTS, widths[0]))
    share[: _POINTS // 2] = np.round(share[: _POINTS // 2])
    return net, low, high, np.clip(low + share * (high - low), low, high)


def violations(net: UGMMNet, low: np.ndarray, high: np.ndarray, points: np.ndarray) -> tuple[int, int]:
    """The number of points with a value outside the bounds for the box, and of points with such a slope."""
    layers = only_output(layers_of(net), 0)
    bounds = output_bounds(layers, torch.from_numpy(low).unsqueeze(1), torch.from_numpy(high).unsqueeze(1))
    least, most = (g[:, 0].numpy() for g in gradient_bounds(layers, bounds))
    value, slope = exact_values_and_slopes(net, points)
    outside = (value < bounds[-1].out_low.item()) | (value > bounds[-1].out_high.item())
    return int(outside.sum()), int(((slope < least) | (slope > most)).any(axis=1).sum())


def exact_values_and_slopes(net: UGMMNet, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output 0 at points (P, K), and its gradient there: (P,) and (P, K), in long double."""
    z = points.astype(np.longdouble)
    jacobian = np.broadcast_to(np.eye(z.shape[1], dtype=np.longdouble), (len(z), z.shape[1], z.shape[1]))
    for layer in net:
        mean, log_std, logit = (
            p.detach().numpy().astype(np.longdouble) for p in (layer.mean, layer.log_std, layer.mix_logits)
        )
        deviation = (z[:, None, :] - mean) / np.exp(log_std)
        log_weight = logit - _logsumexp(logit)[:, None]
        two_pi = 2 * np.arctan2(np.longdouble(0), np.longdouble(-1))
        term = log_weight - log_std - np.log(two_pi) / 2 - deviation**2 / 2
        z = _logsumexp(term)
        share = np.exp(term - z[..., None])
        jacobian = np.einsum("pjk,pki->pji", -share * deviation / np.exp(log_std), jacobian)
    return z[:, 0], jacobian[:, 0]


def _logsumexp(a: np.ndarray) -> np.ndarray:
    largest = a.max(axis=-1, keepdims=True)
    return np.log(np.exp(a - largest).sum(axis=-1)) + largest[..., 0]
