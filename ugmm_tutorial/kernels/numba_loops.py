"""The loops of the CPU kernel, for Numba: each element is computed where it is needed, none is stored.

In base 2, with s = sqrt(log2(e) / 2) / std and c = (log_weight - log_std - log(2 pi) / 2) log2(e), a term
under the logsumexp is 2 ** (c - t * t) with t = (x - mean) * s. The largest c of a row bounds all its terms:
subtracted beforehand, it is a shift that costs nothing and cannot overflow. Only where all inputs are
so far from their means that the sum vanishes, it is taken again below its true maximum.

All arrays are float32 and C-contiguous: x, n (B, K); mean, log_std, log_weight (J, K); delta, total (B, J).
n is minus the background in base 2, shifted to be at most 0; delta is the true maximum of a row that was
summed again, else 0. Taught in chapter 3.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ugmm_tutorial.kernels.compiled import compiled

__all__ = [
    "backward",
    "forward",
    "input_gradients",
    "parameter_gradients",
    "sparse_backward",
    "sparse_forward",
]

_f32 = np.float32
_LOG2E = _f32(math.log2(math.e))
_LN2 = _f32(math.log(2.0))
_SCALE = _f32(math.sqrt(0.5 * math.log2(math.e)))
_HALF_LOG_2PI = _f32(0.5 * math.log(2.0 * math.pi))
_TWO_LN2 = _f32(2.0 * math.log(2.0))  # 1 / _SCALE**2: from t back to standard deviations
# Clamped at -126, exp2 would make the gradients subnormal, and the CPU slow; -100 is as exact.
_LOWEST = _f32(-100.0)
_LOWEST_POWER = _f32(2.0**-100)
# A sum below this might miss something of what exp2 cuts off.
_VANISHING = _f32(2.0**-50)

# Sums may be reordered and products fused. Not nnan and ninf: dropped components are -inf, and what is
# no number must stay none.
_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
# Forward and backward have to agree on every bit of an exponent.
_EXACT = {"nsz"}


@njit(inline="always")
def _power_of_two(n):
    """2 ** n from its bits, for a whole float32 n from -126 to 127."""
    return np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always")
def _power_of_fraction(f):
    """2 ** f for 0 <= f < 1 by a polynomial of degree 5.

    It has the smallest largest relative error with p(0) = 1, fitted by linear programming.
    """
    p = _f32(0.0018671557772904634)
    p = p * f + _f32(0.009016967378556728)
    p = p * f + _f32(0.05579996854066849)
    p = p * f + _f32(0.24016442894935608)
    p = p * f + _f32(0.6931512951850891)
    return p * f + _f32(1.0)


@njit(inline="always")
def _exp2(y):
    """2 ** y for y <= 0, to 2e-7 of its value; 2**-100 for y <= -100; NaN for NaN."""
    y = _LOWEST if y < _LOWEST else y
    # Not math.floor, which is an int64 in Numba: the detour through it takes longer than all the rest.
    n = np.floor(y)
    return _power_of_fraction(y - n) * _power_of_two(n)


@njit(inline="always")
def _exp2_or_zero(y):
    """The same, but exactly 0 for y <= -100: a dropped component has no gradient, not a small one."""
    return _exp2(y) - _LOWEST_POWER


@njit(inline="always")
def _exp(v):
    """e ** v to 1e-7 of its value, for |v| < 87, beyond which float32 has no normal numbers."""
    v = min(max(v, _f32(-87.0)), _f32(88.0))
    n = np.floor(v * _LOG2E + _f32(0.5))
    # ln 2 in two parts, so that v - n ln 2 loses nothing.
    r = (v - n * _f32(0.693359375)) - n * _f32(-2.12194440e-4)
    p = _f32(0.00138142)
    p = p * r + _f32(0.00836874)
    p = p * r + _f32(0.04166841)
    p = p * r + _f32(0.1666652)
    p = p * r + _f32(0.49999993)
    return (p * (r * r) + r + _f32(1.0)) * _power_of_two(n)


@njit(fastmath=_EXACT)
def _scales(log_std, log_weight, s, c):
    for k in range(s.shape[0]):
        s[k] = _exp(-log_std[k]) * _SCALE
        c[k] = ((log_weight[k] - log_std[k]) - _HALF_LOG_2PI) * _LOG2E


@njit(fastmath=_FAST | {"nnan"})
def _largest(values):
    # With nnan this is a vector instruction. A NaN may be skipped: it is still among the values.
    top = _f32(-np.inf)
    for k in range(values.shape[0]):
        top = max(top, values[k])
    return top


@njit
def _prepare(log_std, log_weight, s, c):
    """Fill s and c of one neuron, (K,) each, and return the shift: c is at most 0 after it."""
    _scales(log_std, log_weight, s, c)
    shift = _largest(c)
    if shift == -np.inf:  # all weights are zero
        shift = _f32(0.0)
    for k in range(c.shape[0]):
        c[k] -= shift
    return shift


@njit(fastmath=_EXACT)
def _exponents(x, mean, s, c, n, y):
    """Fill y with the exponents of one output, (K,): the same bits whoever calls."""
    for k in range(y.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        e = c[k] - t * t
        if n is not None:
            e += n[k]
        y[k] = e


@njit(fastmath=_FAST)
def _sum(x, mean, s, c, n):
    total = _f32(0.0)
    for k in range(x.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        y = c[k] - t * t
        if n is not None:
            y += n[k]
        total += _exp2(y)
    return total


@njit(fastmath=_FAST)
def _sum_below(y, top):
    total = _f32(0.0)
    for k in range(y.shape[0]):
        total += _exp2(y[k] - top)
    return total


@compiled(_FAST)
def forward(x, mean, log_std, log_weight, n, out, delta, total, b0, b1, j0, j1):
    """Fill delta, total and, as far as known without the logarithm of the total, out."""
    s, c, y = np.empty_like(x[0]), np.empty_like(x[0]), np.empty_like(x[0])
    for j in range(j0, j1):
        shift = _prepare(log_std[j], log_weight[j], s, c)
        for b in range(b0, b1):
            nb = None if n is None else n[b]
            top = _f32(0.0)
            sum_b = _sum(x[b], mean[j], s, c, nb)
            if sum_b < _VANISHING:
                _exponents(x[b], mean[j], s, c, nb, y)
                top = _largest(y)
                if top == -np.inf:  # no component is left: the density is 0, and so are its gradients
                    delta[b, j], total[b, j], out[b, j] = np.inf, 1.0, -np.inf
                    continue
                sum_b = _sum_below(y, top)
            delta[b, j], total[b, j], out[b, j] = top, sum_b, (shift + top) * _LN2


@njit(fastmath=_FAST)
def _pull(x, mean, s, c, n, y, delta, g, gx, gn, s0, s1, s2):
    """Add what one output, whose gradient over its total is g, asks of its inputs and parameters."""
    again = delta != _f32(0.0)
    if again:
        _exponents(x, mean, s, c, n, y)
    for k in range(x.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        if again:
            e = y[k] - delta
        else:
            e = c[k] - t * t
            if n is not None:
                e += n[k]
        r = g * _exp2_or_zero(e)
        rt = r * t
        s0[k] += r
        s1[k] += rt
        s2[k] += rt * t
        if gx is not None:
            gx[k] -= rt * s[k]
        if gn is not None:
            gn[k] -= r


@njit(inline="always")
def _terms(x, mean, s, c, g):
    t = (x - mean) * s
    r = g * _exp2_or_zero(c - t * t)
    rt = r * t
    return r, rt, rt * t


@njit(fastmath=_FAST)
def _pull_four(x0, x1, x2, x3, mean, s, c, g0, g1, g2, g3, gx, s0, s1, s2):
    """The same for four examples with the static shift: the sums are loaded and stored once for four."""
    for k in range(mean.shape[0]):
        mk, sk, ck = mean[k], s[k], c[k]
        a0, a1, a2 = _terms(x0[k], mk, sk, ck, g0)
        b0, b1, b2 = _terms(x1[k], mk, sk, ck, g1)
        c0, c1, c2 = _terms(x2[k], mk, sk, ck, g2)
        d0, d1, d2 = _terms(x3[k], mk, sk, ck, g3)
        s0[k] += (a0 + b0) + (c0 + d0)
        s1[k] += (a1 + b1) + (c1 + d1)
        s2[k] += (a2 + b2) + (c2 + d2)
        if gx is not None:
            gx[0, k] -= a1 * sk
            gx[1, k] -= b1 * sk
            gx[2, k] -= c1 * sk
            gx[3, k] -= d1 * sk


@compiled(_FAST)
def backward(
    grad, x, mean, log_std, log_weight, n, delta, total, gx, gn, sum_r, sum_rt, sum_rtt, fresh, b0, b1, j0, j1
):  # fmt: skip
    """Fill gx, gn (b1 - b0, K) and the sums (J or 1, K) with what the outputs b0:b1, j0:j1 ask for.

    What the sums held before is kept unless ``fresh``. gx still lacks the factor 2 ln 2, and the sums are
    those of r, r t and r t * t.
    """
    s, c, y = np.empty_like(x[0]), np.empty_like(x[0]), np.empty_like(x[0])
    if gx is not None:
        gx[:] = _f32(0.0)
    if gn is not None:
        gn[:] = _f32(0.0)
    own = 1 if sum_r.shape[0] > 1 else 0
    for j in range(j0, j1):
        _prepare(log_std[j], log_weight[j], s, c)
        m, s0, s1, s2 = mean[j], sum_r[own * j], sum_rt[own * j], sum_rtt[own * j]
        if fresh:
            s0[:] = _f32(0.0)
            s1[:] = _f32(0.0)
            s2[:] = _f32(0.0)
        b = b0
        while b < b1:
            four = n is None and b + 4 <= b1
            for i in range(b, min(b + 4, b1)):
                four = four and delta[i, j] == _f32(0.0)
            if four:
                g0, g1 = grad[b, j] / total[b, j], grad[b + 1, j] / total[b + 1, j]
                g2, g3 = grad[b + 2, j] / total[b + 2, j], grad[b + 3, j] / total[b + 3, j]
                gx4 = None if gx is None else gx[b - b0 : b - b0 + 4]
                _pull_four(x[b], x[b + 1], x[b + 2], x[b + 3], m, s, c, g0, g1, g2, g3, gx4, s0, s1, s2)
            else:
                for i in range(b, min(b + 4, b1)):
                    g = grad[i, j] / total[i, j]
                    ni = None if n is None else n[i]
                    gxi = None if gx is None else gx[i - b0]
                    gni = None if gn is None else gn[i - b0]
                    _pull(x[i], m, s, c, ni, y, delta[i, j], g, gxi, gni, s0, s1, s2)
            b += 4


@compiled(_EXACT)
def parameter_gradients(log_std, sum_r, sum_rt, sum_rtt, j0, j1):
    """Turn sums (parts, J, K) into gradients of log_weight, mean and log_std, in part 0; neurons j0:j1."""
    for j in range(j0, j1):
        for part in range(1, sum_r.shape[0]):
            for k in range(log_std.shape[1]):
                sum_r[0, j, k] += sum_r[part, j, k]
                sum_rt[0, j, k] += sum_rt[part, j, k]
                sum_rtt[0, j, k] += sum_rtt[part, j, k]
        for k in range(log_std.shape[1]):
            sum_rtt[0, j, k] = sum_rtt[0, j, k] * _TWO_LN2 - sum_r[0, j, k]
            sum_rt[0, j, k] *= _TWO_LN2 * _SCALE * _exp(-log_std[j, k])


@compiled(_EXACT)
def input_gradients(gx, copies, factor, b0, b1):
    """Add the copies (parts - 1, rows, K) to gx (rows, K), in order, and scale; examples b0:b1."""
    for b in range(b0, b1):
        for part in range(copies.shape[0]):
            for k in range(gx.shape[1]):
                gx[b, k] += copies[part, b, k]
        for k in range(gx.shape[1]):
            gx[b, k] *= factor


@njit(fastmath=_FAST)
def _sparse_sums(xt, index, mean, s, c, total):
    """Fill the totals of one neuron, (b,), from xt (K, b): the inner loop runs along the examples."""
    total[:] = _f32(0.0)
    for k in range(index.shape[0]):
        row, mk, sk, ck = xt[index[k]], mean[k], s[k], c[k]
        for b in range(total.shape[0]):
            t = (row[b] - mk) * sk
            total[b] += _exp2(ck - t * t)


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


@compiled(_FAST)
def sparse_forward(x, index, mean, log_std, log_weight, out, delta, total, b0, b1):
    """As :func:`forward`, for neurons that read the inputs in index (J, m); parameters (J, m) too."""
    xt = _beside_one_another(x, b0, b1)
    sums = np.empty_like(xt[0])
    s, c = np.empty_like(mean[0]), np.empty_like(mean[0])
    y, read = np.empty_like(mean[0]), np.empty_like(mean[0])
    for j in range(index.shape[0]):
        shift = _prepare(log_std[j], log_weight[j], s, c)
        _sparse_sums(xt, index[j], mean[j], s, c, sums)
        for b in range(b0, b1):
            top, sum_b = _f32(0.0), sums[b - b0]
            if sum_b < _VANISHING:
                _read(x[b], index[j], read)
                _exponents(read, mean[j], s, c, None, y)
                top = _largest(y)
                if top == -np.inf:
                    delta[b, j], total[b, j], out[b, j] = np.inf, 1.0, -np.inf
                    continue
                sum_b = _sum_below(y, top)
            delta[b, j], total[b, j], out[b, j] = top, sum_b, (shift + top) * _LN2


@njit(fastmath=_FAST)
def _sparse_pull(xt, index, mean, s, c, g, gxt, s0, s1, s2):
    """Add what one neuron asks of its inputs and parameters, for examples with the static shift."""
    for k in range(index.shape[0]):
        row, mk, sk, ck = xt[index[k]], mean[k], s[k], c[k]
        a0, a1, a2 = _f32(0.0), _f32(0.0), _f32(0.0)
        if gxt is not None:
            gx = gxt[index[k]]
            for b in range(g.shape[0]):
                r, rt, rtt = _terms(row[b], mk, sk, ck, g[b])
                a0 += r
                a1 += rt
                a2 += rtt
                gx[b] -= rt * sk
        else:
            for b in range(g.shape[0]):
                r, rt, rtt = _terms(row[b], mk, sk, ck, g[b])
                a0 += r
                a1 += rt
                a2 += rtt
        s0[k] += a0
        s1[k] += a1
        s2[k] += a2


@njit(fastmath=_FAST)
def _sparse_pull_again(x, index, mean, s, c, delta, g, gxt, s0, s1, s2, b, y, read):
    """The same for one example that was summed again below its true maximum; ``b`` is its place in gxt."""
    _read(x, index, read)
    _exponents(read, mean, s, c, None, y)
    for k in range(y.shape[0]):
        t = (read[k] - mean[k]) * s[k]
        r = g * _exp2_or_zero(y[k] - delta)
        s0[k] += r
        s1[k] += r * t
        s2[k] += r * t * t
        if gxt is not None:
            gxt[index[k], b] -= r * t * s[k]


@compiled(_FAST)
def sparse_backward(
    grad, x, index, mean, log_std, log_weight, delta, total, gx, sum_r, sum_rt, sum_rtt, b0, b1, width
):  # fmt: skip
    """Fill gx (B, K) for the examples b0:b1, and the sums (J, m); ``width`` examples at a time."""
    s, c = np.empty_like(mean[0]), np.empty_like(mean[0])
    y, read = np.empty_like(mean[0]), np.empty_like(mean[0])
    sum_r[:], sum_rt[:], sum_rtt[:] = _f32(0.0), _f32(0.0), _f32(0.0)
    for start in range(b0, b1, width):
        stop = min(b1, start + width)
        xt = _beside_one_another(x, start, stop)
        gxt = None if gx is None else np.zeros_like(xt)
        g = np.empty_like(xt[0])
        for j in range(index.shape[0]):
            s0, s1, s2 = sum_r[j], sum_rt[j], sum_rtt[j]
            _prepare(log_std[j], log_weight[j], s, c)
            for b in range(start, stop):
                alone = delta[b, j] != _f32(0.0)
                g[b - start] = _f32(0.0) if alone else grad[b, j] / total[b, j]
            _sparse_pull(xt, index[j], mean[j], s, c, g, gxt, s0, s1, s2)
            for b in range(start, stop):
                if delta[b, j] != _f32(0.0):
                    gb, i = grad[b, j] / total[b, j], b - start
                    _sparse_pull_again(
                        x[b], index[j], mean[j], s, c, delta[b, j], gb, gxt, s0, s1, s2, i, y, read
                    )
        if gx is not None and gxt is not None:  # both are there, or neither
            for k in range(gx.shape[1]):
                for b in range(start, stop):
                    gx[b, k] = gxt[k, b - start] * _TWO_LN2
