"""What leaves the sum of one example: inputs that are missing, and components that its own mask drops.

Sums may be divided by the weight that is left. Where nothing is, the output is 0 and has no gradients.
"""

from __future__ import annotations

import numpy as np

from ugmm_tutorial.kernels.compiled import compiled, inner
from ugmm_tutorial.kernels.numba_elements import EXACT, FAST, TWO_LN2, f32, ln
from ugmm_tutorial.kernels.numba_memory import floats, integers

__all__ = [
    "JUST_BELOW",
    "apart",
    "divided",
    "keep_only",
    "kept",
    "of_kept",
    "of_left",
    "of_weight",
    "upstream",
    "within",
]

# The largest maximum of a row that was summed again: 0 would say that it was not.
JUST_BELOW = f32(-1e-30)
_TINY, _LARGE, _LN_LARGE = f32(2.0**-60), f32(2.0**120), f32(120.0 * np.log(2.0))


@inner()
def kept(odd, word, threshold):
    """Whether a mask keeps a component: the product of a neuron's and an example's word is the draw."""
    return np.int32(odd * word) > threshold


@inner(FAST)
def of_kept(value, odd, word, threshold):
    """The value, or 0 for a component that is dropped."""
    return value if kept(odd, word, threshold) else f32(0.0)


@inner()
def keep_only(y, odd, words, threshold, share, weight):
    """Set the exponents of dropped components to -inf.

    Where no component of positive weight is left, the heaviest one stays. Its number is returned, else -1.
    """
    heaviest, top, left = -1, f32(-np.inf), False
    for k in range(y.shape[0]):
        left |= kept(odd[k], words[k], threshold) and share[k] > f32(0.0)
    if not left:
        heaviest = 0
        for k in range(y.shape[0]):
            if weight[k] > top:
                heaviest, top = k, weight[k]
    for k in range(y.shape[0]):
        if k != heaviest and not kept(odd[k], words[k], threshold):
            y[k] = -np.inf
    return heaviest


@inner(FAST)
def divided(base, total, left):
    """The base plus the logarithm of the total over the part of the weight that is left; 0 where none is."""
    factor, log = f32(1.0), base
    if left < _TINY:  # it may be subnormal
        factor, log = _LARGE, base + _LN_LARGE
    found = log + ln(total / (left * factor))
    return f32(0.0) if left <= f32(0.0) else found


@inner(FAST)
def of_left(grad, left):
    """The gradient over the part of the weight that is left, and the gradient; 0 where none is."""
    nothing = left <= f32(0.0)
    over = grad / left
    return f32(0.0) if nothing else over, f32(0.0) if nothing else grad


@inner(FAST)
def of_weight(value, s0, s2, k):
    """Subtract from the sum of r what concerns its weight only; the sum of r t * t keeps it from log_std."""
    s0[k] -= value
    s2[k] -= value * (f32(1.0) / TWO_LN2)


@inner(FAST)
def upstream(delta, total, left, g, q):
    """Divide the gradients g by the totals; 0 where a row was summed again. Return whether one was.

    Unless q is None, it gets them over the weights that are left. Their sum is returned, too.
    """
    far, whole = f32(0.0), f32(0.0)
    if q is not None:
        for b in range(delta.shape[0]):
            q[b], gb = of_left(g[b], left[b])
            whole += gb
        q[delta.shape[0] :] = f32(0.0)
    for b in range(delta.shape[0]):
        far += abs(delta[b])
        over = g[b] / total[b]
        g[b] = over if delta[b] == f32(0.0) else f32(0.0)
    return far != f32(0.0), whole


@compiled(EXACT)
def apart(x, there, present, size):
    """Copy x with -inf for NaN, and inf for -inf: both are without density, but only inf spoils gradients.

    ``present`` becomes 0 for NaN, else 1. Both, and x, are addresses of ``size`` numbers.
    """
    x_, there_, present_ = floats(x, 1, size)[0], floats(there, 1, size)[0], floats(present, 1, size)[0]
    for i in range(size):
        value = x_[i]
        number = value == value
        value = f32(np.inf) if value == -np.inf else value
        there_[i] = value if number else f32(-np.inf)
        present_[i] = f32(1.0) if number else f32(0.0)


@compiled(EXACT)
def within(index, size, inputs):
    """Whether all of the ``size`` int64 numbers at an address are from 0 to ``inputs - 1``."""
    outside = False
    for i in integers(index, 1, size)[0]:
        outside |= i < 0 or i >= inputs
    return not outside
