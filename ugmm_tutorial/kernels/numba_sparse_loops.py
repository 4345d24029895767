"""The sparse operator's loops for Numba: neurons read the inputs in index (J, m).

Symbols as in ``numba_elements``; parameters are (J, m). The inner loops run along the examples, which lie
beside one another in memory. Taught in chapter 12.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ugmm_tutorial.kernels.compiled import compiled
from ugmm_tutorial.kernels.numba_elements import (
    FAST,
    LN2,
    TWO_LN2,
    VANISHING,
    exp2,
    exp2_or_zero,
    exponents,
    f32,
    largest,
    prepare,
    sum_below,
    terms,
)

__all__ = ["sparse_backward", "sparse_forward"]


@njit(fastmath=FAST)
def _sparse_sums(xt, index, mean, s, c, total):
    """Fill the totals of one neuron, (b,), from xt (K, b): the inner loop runs along the examples."""
    total[:] = f32(0.0)
    for k in range(index.shape[0]):
        row, mk, sk, ck = xt[index[k]], mean[k], s[k], c[k]
        for b in range(total.shape[0]):
            t = (row[b] - mk) * sk
            total[b] += exp2(ck - t * t)


@njit
def _beside_one_another(x, b0, b1):
    """Inputs of the examples b0:b1 as (K, b1 - b0)."""
    xt = np.empty((x.shape[1], b1 - b0), np.float32)
    for k in range(x.shape[1]):
        for b in range(b0, b1):
            xt[k, b - b0] = x[b, k]
    return xt


@njit
def _read(x, index, read):
    for k in range(read.shape[0]):
        read[k] = x[index[k]]


@compiled(FAST)
def sparse_forward(x, index, mean, log_std, log_weight, out, delta, total, b0, b1):
    """As ``numba_loops.forward``, for neurons that read the inputs in index (J, m); parameters are (J, m)."""
    xt = _beside_one_another(x, b0, b1)
    sums = np.empty_like(xt[0])
    s, c = np.empty_like(mean[0]), np.empty_like(mean[0])
    y, read = np.empty_like(mean[0]), np.empty_like(mean[0])
    for j in range(index.shape[0]):
        shift = prepare(log_std[j], log_weight[j], s, c)
        _sparse_sums(xt, index[j], mean[j], s, c, sums)
        for b in range(b0, b1):
            top, sum_b = f32(0.0), sums[b - b0]
            if sum_b < VANISHING:
                _read(x[b], index[j], read)
                exponents(read, mean[j], s, c, None, y)
                top = largest(y)
                if top == -np.inf:
                    delta[b, j], total[b, j], out[b, j] = np.inf, 1.0, -np.inf
                    continue
                sum_b = sum_below(y, top)
            delta[b, j], total[b, j], out[b, j] = top, sum_b, (shift + top) * LN2


@njit(fastmath=FAST)
def _sparse_pull(xt, index, mean, s, c, g, gxt, s0, s1, s2):
    """Add one neuron's share of the gradients of inputs and parameters, for examples on the static shift."""
    for k in range(index.shape[0]):
        row, mk, sk, ck = xt[index[k]], mean[k], s[k], c[k]
        a0, a1, a2 = f32(0.0), f32(0.0), f32(0.0)
        if gxt is not None:
            gx = gxt[index[k]]
            for b in range(g.shape[0]):
                r, rt, rtt = terms(row[b], mk, sk, ck, g[b])
                a0 += r
                a1 += rt
                a2 += rtt
                gx[b] -= rt * sk
        else:
            for b in range(g.shape[0]):
                r, rt, rtt = terms(row[b], mk, sk, ck, g[b])
                a0 += r
                a1 += rt
                a2 += rtt
        s0[k] += a0
        s1[k] += a1
        s2[k] += a2


@njit(fastmath=FAST)
def _sparse_pull_again(x, index, mean, s, c, delta, g, gxt, s0, s1, s2, b, y, read):
    """The same for one example that was summed again below its true maximum; ``b`` is its place in gxt."""
    _read(x, index, read)
    exponents(read, mean, s, c, None, y)
    for k in range(y.shape[0]):
        t = (read[k] - mean[k]) * s[k]
        r = g * exp2_or_zero(y[k] - delta)
        s0[k] += r
        s1[k] += r * t
        s2[k] += r * t * t
        if gxt is not None:
            gxt[index[k], b] -= r * t * s[k]


@compiled(FAST)
def sparse_backward(
    grad, x, index, mean, log_std, log_weight, delta, total, gx, sum_r, sum_rt, sum_rtt, b0, b1, width
):  # fmt: skip
    """Fill gx (B, K) for the examples b0:b1, and the sums (J, m); ``width`` examples at a time."""
    s, c = np.empty_like(mean[0]), np.empty_like(mean[0])
    y, read = np.empty_like(mean[0]), np.empty_like(mean[0])
    sum_r[:], sum_rt[:], sum_rtt[:] = f32(0.0), f32(0.0), f32(0.0)
    for start in range(b0, b1, width):
        stop = min(b1, start + width)
        xt = _beside_one_another(x, start, stop)
        gxt = None if gx is None else np.zeros_like(xt)
        g = np.empty_like(xt[0])
        for j in range(index.shape[0]):
            s0, s1, s2 = sum_r[j], sum_rt[j], sum_rtt[j]
            prepare(log_std[j], log_weight[j], s, c)
            for b in range(start, stop):
                alone = delta[b, j] != f32(0.0)
                g[b - start] = f32(0.0) if alone else grad[b, j] / total[b, j]
            _sparse_pull(xt, index[j], mean[j], s, c, g, gxt, s0, s1, s2)
            for b in range(start, stop):
                if delta[b, j] != f32(0.0):
                    gb, i = grad[b, j] / total[b, j], b - start
                    _sparse_pull_again(
                        x[b], index[j], mean[j], s, c, delta[b, j], gb, gxt, s0, s1, s2, i, y, read
                    )
        if gx is not None and gxt is not None:  # both exist, or neither
            for k in range(gx.shape[1]):
                for b in range(start, stop):
                    gx[b, k] = gxt[k, b - start] * TWO_LN2
