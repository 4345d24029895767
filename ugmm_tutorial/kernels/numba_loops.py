"""The dense operator's loops for Numba: each element is computed where it is needed and never stored.

All arrays are float32 and C-contiguous: x, n (B, K); mean, log_std, log_weight (J, K); delta, total (B, J).
n is minus the background in base 2, shifted to be at most 0; delta is the true maximum of a row that was
summed again, else 0. Other symbols as in ``numba_elements``. Taught in chapter 3.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ugmm_tutorial.kernels.compiled import compiled
from ugmm_tutorial.kernels.numba_elements import (
    EXACT,
    FAST,
    LN2,
    SCALE,
    STEEPEST,
    TWO_LN2,
    VANISHING,
    exp,
    exp2,
    exp2_or_zero,
    exponents,
    f32,
    largest,
    prepare,
    sum_below,
    terms,
)

__all__ = ["backward", "forward", "input_gradients", "parameter_gradients"]


@njit(fastmath=FAST)
def _sum(x, mean, s, c, n):
    total = f32(0.0)
    for k in range(x.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        y = c[k] - t * t
        if n is not None:
            y += n[k]
        total += exp2(y)
    return total


@compiled(FAST)
def forward(x, mean, log_std, log_weight, n, out, delta, total, b0, b1, j0, j1):
    """Fill delta, total and out, which still lacks the logarithm of the total."""
    s, c, y = np.empty_like(x[0]), np.empty_like(x[0]), np.empty_like(x[0])
    for j in range(j0, j1):
        shift = prepare(log_std[j], log_weight[j], s, c)
        for b in range(b0, b1):
            nb = None if n is None else n[b]
            top = f32(0.0)
            sum_b = _sum(x[b], mean[j], s, c, nb)
            if sum_b < VANISHING:
                exponents(x[b], mean[j], s, c, nb, y)
                top = largest(y)
                if top == -np.inf:  # no component is left: density and gradients are 0
                    delta[b, j], total[b, j], out[b, j] = np.inf, 1.0, -np.inf
                    continue
                sum_b = sum_below(y, top)
            delta[b, j], total[b, j], out[b, j] = top, sum_b, (shift + top) * LN2


@njit(fastmath=FAST)
def _pull(x, mean, s, c, n, y, delta, g, gx, gn, s0, s1, s2):
    """Add one output's share of the gradients of inputs and parameters; g is its gradient over its total."""
    again = delta != f32(0.0)
    if again:
        exponents(x, mean, s, c, n, y)
    for k in range(x.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        if again:
            e = y[k] - delta
        else:
            e = c[k] - t * t
            if n is not None:
                e += n[k]
        r = g * exp2_or_zero(e)
        rt = r * t
        s0[k] += r
        s1[k] += rt
        s2[k] += rt * t
        if gx is not None:
            gx[k] -= rt * s[k]
        if gn is not None:
            gn[k] -= r


@njit(fastmath=FAST)
def _pull_four(x, mean, s, c, n, g0, g1, g2, g3, gx, s0, s1, s2):
    """The same for four examples with the static shift: the sums are loaded and stored once for all."""
    for k in range(mean.shape[0]):
        mk, sk, ck = mean[k], s[k], c[k]
        e0 = e1 = e2 = e3 = ck
        if n is not None:
            e0, e1, e2, e3 = ck + n[0, k], ck + n[1, k], ck + n[2, k], ck + n[3, k]
        a0, a1, a2 = terms(x[0, k], mk, sk, e0, g0)
        b0, b1, b2 = terms(x[1, k], mk, sk, e1, g1)
        c0, c1, c2 = terms(x[2, k], mk, sk, e2, g2)
        d0, d1, d2 = terms(x[3, k], mk, sk, e3, g3)
        s0[k] += (a0 + b0) + (c0 + d0)
        s1[k] += (a1 + b1) + (c1 + d1)
        s2[k] += (a2 + b2) + (c2 + d2)
        if gx is not None:
            gx[0, k] -= a1 * sk
            gx[1, k] -= b1 * sk
            gx[2, k] -= c1 * sk
            gx[3, k] -= d1 * sk


@compiled(FAST)
def backward(
    grad, x, mean, log_std, log_weight, n, delta, total, gx, gn, sum_r, sum_rt, sum_rtt, fresh, b0, b1, j0, j1
):  # fmt: skip
    """Fill gx, gn (b1 - b0, K) and the sums (J or 1, K) with the shares of the outputs b0:b1, j0:j1.

    They are added to what the sums held before unless ``fresh``. gx still lacks the factor 2 ln 2, and the
    sums are those of r, r t and r t * t.
    """
    s, c, y = np.empty_like(x[0]), np.empty_like(x[0]), np.empty_like(x[0])
    if gx is not None:
        gx[:] = f32(0.0)
    if gn is not None:
        gn[:] = f32(0.0)
    own = 1 if sum_r.shape[0] > 1 else 0
    for j in range(j0, j1):
        prepare(log_std[j], log_weight[j], s, c)
        m, s0, s1, s2 = mean[j], sum_r[own * j], sum_rt[own * j], sum_rtt[own * j]
        if fresh:
            s0[:] = f32(0.0)
            s1[:] = f32(0.0)
            s2[:] = f32(0.0)
        b = b0
        while b < b1:
            four = gn is None and b + 4 <= b1
            for i in range(b, min(b + 4, b1)):
                four = four and delta[i, j] == f32(0.0)
            if four:
                g0, g1 = grad[b, j] / total[b, j], grad[b + 1, j] / total[b + 1, j]
                g2, g3 = grad[b + 2, j] / total[b + 2, j], grad[b + 3, j] / total[b + 3, j]
                gx4 = None if gx is None else gx[b - b0 : b - b0 + 4]
                n4 = None if n is None else n[b : b + 4]
                _pull_four(x[b : b + 4], m, s, c, n4, g0, g1, g2, g3, gx4, s0, s1, s2)
            else:
                for i in range(b, min(b + 4, b1)):
                    g = grad[i, j] / total[i, j]
                    ni = None if n is None else n[i]
                    gxi = None if gx is None else gx[i - b0]
                    gni = None if gn is None else gn[i - b0]
                    _pull(x[i], m, s, c, ni, y, delta[i, j], g, gxi, gni, s0, s1, s2)
            b += 4


@compiled(EXACT)
def parameter_gradients(log_std, sum_r, sum_rt, sum_rtt, j0, j1):
    """Turn sums (parts, J, K) into gradients of log_weight, mean and log_std, in part 0; neurons j0:j1."""
    for j in range(j0, j1):
        for part in range(1, sum_r.shape[0]):
            for k in range(log_std.shape[1]):
                sum_r[0, j, k] += sum_r[part, j, k]
                sum_rt[0, j, k] += sum_rt[part, j, k]
                sum_rtt[0, j, k] += sum_rtt[part, j, k]
        for k in range(log_std.shape[1]):
            sum_rtt[0, j, k] = sum_rtt[0, j, k] * TWO_LN2 - sum_r[0, j, k]
            sum_rt[0, j, k] *= TWO_LN2 * SCALE * exp(min(-log_std[j, k], STEEPEST))


@compiled(EXACT)
def input_gradients(gx, copies, factor, b0, b1):
    """Add the copies (parts - 1, rows, K) to gx (rows, K), in order, and scale; examples b0:b1."""
    for b in range(b0, b1):
        for part in range(copies.shape[0]):
            for k in range(gx.shape[1]):
                gx[b, k] += copies[part, b, k]
        for k in range(gx.shape[1]):
            gx[b, k] *= factor
