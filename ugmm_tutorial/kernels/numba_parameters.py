"""A layer's learnt parameters: into what the loops read, and sums of the loops back into their gradients.

A layer learns an unbounded log_std and unnormalised weights. Bounds, dropout and softmax are applied here,
one neuron at a time, so that nothing runs between two kernels. ``transform`` says how. Taught in chapter 3.
"""

from __future__ import annotations

import numpy as np

from ugmm_tutorial.kernels.compiled import compiled, inner
from ugmm_tutorial.kernels.numba_elements import (
    EXACT,
    FAST,
    HALF_LOG_2PI,
    LOG2E,
    SCALE,
    STEEPEST,
    TWO_LN2,
    exp,
    f32,
    largest,
    ln,
)
from ugmm_tutorial.kernels.numba_memory import floats, short_integers
from ugmm_tutorial.kernels.transform import DROPPED_FIRST, DROPPED_LAST, GIVEN

__all__ = ["divisors", "finish", "gradients", "penalties", "prepare", "shares"]


@inner(EXACT)
def _exp_or_zero(v):
    """e ** v, but exactly 0 far below: a dropped component has no weight, not a small one."""
    return f32(0.0) if v < f32(-80.0) else exp(v)


@inner(FAST)
def _total(logits, top):
    total = f32(0.0)
    for k in range(logits.shape[0]):
        total += _exp_or_zero(logits[k] - top)
    return total


@inner(EXACT)
def _normalise(logits):
    """Subtract the logarithm of the sum of the exponentials, as a log-softmax."""
    top = largest(logits)
    rest = ln(_total(logits, top))
    for k in range(logits.shape[0]):
        logits[k] = (logits[k] - top) - rest


@inner(EXACT)
def _log_weights(weight, penalty, j, mode, c):
    """Fill c with one neuron's logarithms of weights; ``penalty`` is the address of (J, m), or 0."""
    m = c.shape[0]
    for k in range(m):
        c[k] = weight[k]
    if mode == DROPPED_LAST:
        _normalise(c)
    if penalty != 0:
        added = floats(penalty, j + 1, m)[j]
        for k in range(m):
            c[k] += added[k]
    if mode == DROPPED_FIRST:
        _normalise(c)


@inner()
def _bounded(value, low, high):
    value = low if value < low else value  # unlike min and max, NaN stays
    return high if value > high else value


@inner(EXACT)
def _scales(log_std, low, high, s, c):
    low, high = f32(low), f32(high)
    for k in range(s.shape[0]):
        bounded = _bounded(log_std[k], low, high)
        s[k] = exp(min(-bounded, STEEPEST)) * SCALE
        c[k] = ((c[k] - bounded) - HALF_LOG_2PI) * LOG2E


@inner()
def prepare(log_std, weight, penalty, j, mode, low, high, s, c):
    """Fill s and c of neuron j, (m,) each, and return the shift that makes c at most 0."""
    _log_weights(weight, penalty, j, mode, c)
    _scales(log_std, low, high, s, c)
    shift = largest(c)
    if shift == -np.inf:  # all weights are zero
        shift = f32(0.0)
    for k in range(c.shape[0]):
        c[k] -= shift
    return shift


@inner(EXACT)
def _shares(weight, penalty, j, mode, share):
    _log_weights(weight, penalty, j, mode, share)
    _normalise(share)
    for k in range(share.shape[0]):
        share[k] = _exp_or_zero(share[k])


@inner()
def shares(words, weight, penalty, j, mode, share):
    """Fill ``share`` (m,) with the weights of neuron j, if there are masks to choose from them."""
    if words is not None:
        _shares(weight, penalty, j, mode, share)


@inner(EXACT)
def _through_softmax(weight, penalty, j, mode, c, gradient):
    """Turn the gradient of the logarithms of weights into that of the logits."""
    total = f32(0.0)
    for k in range(c.shape[0]):
        total += gradient[k]
    _log_weights(weight, penalty if mode == DROPPED_FIRST else 0, j, mode, c)
    for k in range(c.shape[0]):
        gradient[k] -= _exp_or_zero(c[k]) * total


@inner(EXACT)
def finish(log_std, weight, penalty, j, mode, low, high, c, r, rt, rtt):
    """Turn sums of r, r t and r t * t of neuron j into gradients of weight, mean and log_std, in their place.

    At a bound of log_std only a gradient passes that would lead away from it.
    """
    low, high = f32(low), f32(high)
    for k in range(c.shape[0]):
        value = log_std[k]
        g = rtt[k] * TWO_LN2 - r[k]
        if (value < low and g > f32(0.0)) or (value > high and g < f32(0.0)):
            g = f32(0.0)
        rtt[k] = g
        rt[k] *= TWO_LN2 * SCALE * exp(min(-_bounded(value, low, high), STEEPEST))
    if mode != GIVEN:
        _through_softmax(weight, penalty, j, mode, c, r)


@compiled(EXACT)
def gradients(log_std, weight, penalty, r, rt, rtt, others, parts, rows, m, mode, low, high, j0, j1):
    """Add the sums of other tasks, in order, and :func:`finish`, for the neurons j0:j1.

    All but the numbers are addresses: r, rt, rtt (rows, m) are what the first task has summed, ``others``
    (parts, 3, rows, m) what the others have.
    """
    stds, weights, c = floats(log_std, rows, m), floats(weight, rows, m), np.empty(m, np.float32)
    sums = floats(r, rows, m), floats(rt, rows, m), floats(rtt, rows, m)
    more = floats(others, parts * 3 * rows, m)
    for j in range(j0, j1):
        for part in range(parts):
            for i in range(3):
                place = (part * 3 + i) * rows + j
                for k in range(m):
                    sums[i][j, k] += more[place, k]
        finish(stds[j], weights[j], penalty, j, mode, low, high, c, sums[0][j], sums[1][j], sums[2][j])


@compiled(FAST)
def divisors(share, taken, r, rows, m):
    """Add to the gradients r of the logits those through the weights that are left, which divide outputs.

    All are addresses of (rows, m): ``share`` are the weights, which sum to one, ``taken`` the outputs'
    gradients over what is left of them, summed where the component is there.
    """
    shares_, sums, gradients_ = floats(share, rows, m), floats(taken, rows, m), floats(r, rows, m)
    for j in range(rows):
        whole = f32(0.0)
        for k in range(m):
            whole += shares_[j, k] * sums[j, k]
        for k in range(m):
            gradients_[j, k] += shares_[j, k] * (whole - sums[j, k])


@compiled(EXACT)
def penalties(draws, logits, threshold, penalty, rows, m, j0, j1):
    """Fill the penalty (rows, m): -inf where a draw, int16, is below the threshold, else 0; neurons j0:j1.

    A neuron that would lose all components of positive weight keeps the first of its heaviest ones.
    """
    draws_, logits_, penalty_ = (
        short_integers(draws, rows, m),
        floats(logits, rows, m),
        floats(penalty, rows, m),
    )
    for j in range(j0, j1):
        left, heaviest, top = False, 0, f32(-np.inf)
        for k in range(m):
            dropped = draws_[j, k] < threshold
            penalty_[j, k] = f32(-np.inf) if dropped else f32(0.0)
            left |= not dropped and logits_[j, k] > -np.inf
        if not left:
            for k in range(m):
                if logits_[j, k] > top:
                    heaviest, top = k, logits_[j, k]
            penalty_[j, heaviest] = f32(0.0)
