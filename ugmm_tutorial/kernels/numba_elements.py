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

from ugmm_tutorial.kernels import reference
from ugmm_tutorial.kernels.compiled import inner

__all__ = [
    "EXACT",
    "FAST",
    "HALF_LOG_2PI",
    "LN2",
    "LOG2E",
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
    "finite",
    "largest",
    "ln",
    "power_of_fraction",
    "power_of_two",
    "sum_below",
    "terms",
]

f32 = np.float32
LOG2E = f32(math.log2(math.e))
LN2 = f32(math.log(2.0))
SCALE = f32(math.sqrt(0.5 * math.log2(math.e)))
HALF_LOG_2PI = f32(reference.HALF_LOG_2PI)
TWO_LN2 = f32(2.0 * math.log(2.0))  # 1 / SCALE**2: from t back to standard deviations
# With a clamp at -126, exp2 would make gradients subnormal and the CPU slow; -100 is as exact.
LOWEST = f32(-100.0)
LOWEST_POWER = f32(2.0**-100)
STEEPEST = f32(80.0)  # as in the specification
# The furthest t from 0 whose square is finite.
FURTHEST = f32(-1.8e19)
# A sum below this may lack a relevant part of what exp2 cuts off.
VANISHING = f32(2.0**-50)

# Sums may be reordered and products fused. nnan and ninf are left out: dropped components are -inf, and NaN
# must stay NaN.
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
# Forward and backward have to agree on every bit of an exponent.
EXACT = {"nsz"}


@inner(FAST)
def power_of_two(n):
    """2 ** n from its bits, for a whole float32 n from -126 to 127."""
    return np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@inner(FAST)
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


@inner(FAST)
def exp2(y):
    """2 ** y for y <= 0, with a relative error of 2e-7; 2**-100 for y <= -100; NaN for NaN."""
    y = LOWEST if y < LOWEST else y
    # In Numba, math.floor gives an int64, and the detour through it takes longer than all the rest.
    n = np.floor(y)
    return power_of_fraction(y - n) * power_of_two(n)


@inner(FAST)
def exp2_or_zero(y):
    """The same, but exactly 0 for y <= -100: a dropped component has no gradient, not a small one."""
    return exp2(y) - LOWEST_POWER


@inner(EXACT)
def exp(v):
    """e ** v with a relative error of 1e-7, for |v| < 87, beyond which float32 has no normal numbers."""
    v = f32(-87.0) if v < f32(-87.0) else v  # unlike min and max, NaN stays
    v = f32(88.0) if v > f32(88.0) else v
    n = np.floor(v * LOG2E + f32(0.5))
    # ln 2 in two parts, so that v - n ln 2 loses no digits.
    r = (v - n * f32(0.693359375)) - n * f32(-2.12194440e-4)
    p = f32(0.00138142)
    p = p * r + f32(0.00836874)
    p = p * r + f32(0.04166841)
    p = p * r + f32(0.1666652)
    p = p * r + f32(0.49999993)
    return (p * (r * r) + r + f32(1.0)) * power_of_two(n)


@inner(FAST)
def ln(v):
    """The logarithm of v >= 2**-50 with an error of 1e-7, absolute or relative; NaN and inf stay."""
    bits = f32(v).view(np.int32)
    e = np.int32((bits >> np.int32(23)) - np.int32(127))
    m = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
    above = m > f32(1.4142135)
    m = m * f32(0.5) if above else m  # from 1 / sqrt(2) to sqrt(2)
    n = f32(e) + f32(1.0) if above else f32(e)
    f = m - f32(1.0)
    # ln(1 + f) = f - f**2 / 2 + f**3 p(f); p is fitted like the polynomial above.
    p = f32(0.09083715081214905)
    p = p * f + f32(-0.1456453800201416)
    p = p * f + f32(0.1491744965314865)
    p = p * f + f32(-0.16539812088012695)
    p = p * f + f32(0.19958265125751495)
    p = p * f + f32(-0.2500239908695221)
    p = p * f + f32(0.3333408832550049)
    ff = f * f
    # ln 2 in two parts, as in exp.
    found = (n * f32(-2.12194440e-4) + (f * ff * p - f32(0.5) * ff)) + f + n * f32(0.693359375)
    return found if v < f32(np.inf) else v


@inner(FAST | {"nnan"})
def largest(values):
    """The largest of the values that are numbers."""
    # With nnan this is a vector instruction. It may skip a NaN, which the sum of the values then shows.
    top = f32(-np.inf)
    for k in range(values.shape[0]):
        top = max(top, values[k])
    return top


@inner(EXACT)
def exponents(x, mean, s, c, n, y):
    """Fill y with the exponents of one output, (K,), the same bits for every caller."""
    for k in range(y.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        e = c[k] - t * t
        if n is not None:
            e += n[k]
        y[k] = e


@inner(FAST)
def sum_below(y, top):
    """The sum of 2 ** (y - top)."""
    total = f32(0.0)
    for k in range(y.shape[0]):
        total += exp2(y[k] - top)
    return total


@inner(FAST)
def finite(t):
    """t, but finite where it is -inf or NaN, so that a gradient of 0 times it is 0."""
    return t if t > FURTHEST else FURTHEST  # one instruction


@inner(FAST)
def terms(x, mean, s, c, g, skips):
    """r = g 2 ** (c - t * t), r t and r t * t of one element with the static shift.

    Unless ``skips`` is None, inputs may be -inf, which leaves them out.
    """
    t = (x - mean) * s
    if skips is not None:
        t = finite(t)
    r = g * exp2_or_zero(c - t * t)
    rt = r * t
    return r, rt, rt * t
