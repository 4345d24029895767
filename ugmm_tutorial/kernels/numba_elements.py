"""What all Numba loops share: exponentials, and the exponents of one neuron's terms.

In base 2, with s = sqrt(log2(e) / 2) / std and c = (log_weight - log_std - log(2 pi) / 2) log2(e), a term
under the logsumexp is 2 ** (c - t * t) with t = (x - mean) * s. The largest c of a row bounds all its terms.
It is subtracted in advance, as a static shift that costs nothing and prevents overflow. Only where all inputs
are so far from their means that the sum vanishes, the terms are summed again relative to their true maximum.

Taught in chapter 3.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from ugmm_tutorial.kernels.reference import HALF_LOG_2PI

__all__ = [
    "EXACT",
    "FAST",
    "LN2",
    "LOWEST",
    "SCALE",
    "STEEPEST",
    "TWO_LN2",
    "VANISHING",
    "exp",
    "exp2",
    "exp2_or_zero",
    "exponents",
    "f32",
    "largest",
    "power_of_fraction",
    "power_of_two",
    "prepare",
    "sum_below",
    "terms",
]

f32 = np.float32
LOG2E = f32(math.log2(math.e))
LN2 = f32(math.log(2.0))
SCALE = f32(math.sqrt(0.5 * math.log2(math.e)))
_HALF_LOG_2PI = f32(HALF_LOG_2PI)
TWO_LN2 = f32(2.0 * math.log(2.0))  # 1 / SCALE**2: from t back to standard deviations
# With a clamp at -126, exp2 would make gradients subnormal and the CPU slow; -100 is as exact.
LOWEST = f32(-100.0)
LOWEST_POWER = f32(2.0**-100)
STEEPEST = f32(80.0)  # as in the specification
# A sum below this may lack a relevant part of what exp2 cuts off.
VANISHING = f32(2.0**-50)

# Sums may be reordered and products fused. nnan and ninf are left out: dropped components are -inf, and NaN
# must stay NaN.
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
# Forward and backward have to agree on every bit of an exponent.
EXACT = {"nsz"}


@njit(inline="always")
def power_of_two(n):
    """2 ** n from its bits, for a whole float32 n from -126 to 127."""
    return np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always")
def power_of_fraction(f):
    """2 ** f for 0 <= f < 1 by a polynomial of degree 5.

    Linear programming fitted it: its maximum relative error is the smallest possible with p(0) = 1.
    """
    p = f32(0.0018671557772904634)
    p = p * f + f32(0.009016967378556728)
    p = p * f + f32(0.05579996854066849)
    p = p * f + f32(0.24016442894935608)
    p = p * f + f32(0.6931512951850891)
    return p * f + f32(1.0)


@njit(inline="always")
def exp2(y):
    """2 ** y for y <= 0, with a relative error of 2e-7; 2**-100 for y <= -100; NaN for NaN."""
    y = LOWEST if y < LOWEST else y
    # In Numba, math.floor gives an int64, and the detour through it takes longer than all the rest.
    n = np.floor(y)
    return power_of_fraction(y - n) * power_of_two(n)


@njit(inline="always")
def exp2_or_zero(y):
    """The same, but exactly 0 for y <= -100: a dropped component has no gradient, not a small one."""
    return exp2(y) - LOWEST_POWER


@njit(inline="always")
def exp(v):
    """e ** v with a relative error of 1e-7, for |v| < 87, beyond which float32 has no normal numbers."""
    v = min(max(v, f32(-87.0)), f32(88.0))
    n = np.floor(v * LOG2E + f32(0.5))
    # ln 2 in two parts, so that v - n ln 2 loses no digits.
    r = (v - n * f32(0.693359375)) - n * f32(-2.12194440e-4)
    p = f32(0.00138142)
    p = p * r + f32(0.00836874)
    p = p * r + f32(0.04166841)
    p = p * r + f32(0.1666652)
    p = p * r + f32(0.49999993)
    return (p * (r * r) + r + f32(1.0)) * power_of_two(n)


@njit(fastmath=EXACT)
def _scales(log_std, log_weight, s, c):
    for k in range(s.shape[0]):
        s[k] = exp(min(-log_std[k], STEEPEST)) * SCALE
        c[k] = ((log_weight[k] - log_std[k]) - _HALF_LOG_2PI) * LOG2E


@njit(fastmath=FAST | {"nnan"})
def largest(values):
    """The largest of the values that are numbers."""
    # With nnan this is a vector instruction. It may skip a NaN, which the sum of the values then shows.
    top = f32(-np.inf)
    for k in range(values.shape[0]):
        top = max(top, values[k])
    return top


@njit
def prepare(log_std, log_weight, s, c):
    """Fill s and c of one neuron, (K,) each, and return the shift that makes c at most 0."""
    _scales(log_std, log_weight, s, c)
    shift = largest(c)
    if shift == -np.inf:  # all weights are zero
        shift = f32(0.0)
    for k in range(c.shape[0]):
        c[k] -= shift
    return shift


@njit(fastmath=EXACT)
def exponents(x, mean, s, c, n, y):
    """Fill y with the exponents of one output, (K,), the same bits for every caller."""
    for k in range(y.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        e = c[k] - t * t
        if n is not None:
            e += n[k]
        y[k] = e


@njit(fastmath=FAST)
def sum_below(y, top):
    """The sum of 2 ** (y - top)."""
    total = f32(0.0)
    for k in range(y.shape[0]):
        total += exp2(y[k] - top)
    return total


@njit(inline="always")
def terms(x, mean, s, c, g):
    """r = g 2 ** (c - t * t), r t and r t * t of one element with the static shift."""
    t = (x - mean) * s
    r = g * exp2_or_zero(c - t * t)
    rt = r * t
    return r, rt, rt * t
