"""The dense operator's loops for wide layers: vectors run along a neuron's components.

Each element is computed where it is needed and never stored. Arguments that are not numbers are the addresses
of float32 memory: x, n (B, K); mean, log_std, weight (J, K); out (B, J); state (2, B, J), which holds delta
and total. n is minus the background in base 2, shifted to be at most 0; delta is the true maximum of a row
that was summed again, else 0. ``index`` is None: ``numba_columns`` has the same functions for narrow and for
sparse layers. Other symbols as in ``numba_elements`` and ``numba_parameters``. Taught in chapter 3.

Components leave the sum of one example in two ways, unless what says so is None. If it ``skips`` inputs, x
is as ``numba_left_out.apart`` makes it. With int32 ``words`` (B, K) and ``odd`` (J, K), a component stays
where the product of its two words is above the ``threshold``. If ``divides``, outputs are divided by the
weight that is left. This is the state's third part, which masks fill; where inputs are skipped, it is filled
before, and the ``backward`` of narrow layers writes the outputs' gradients over what is left to ``divides``.

Conditions name arguments, never local variables: Numba before 0.62 drops a branch on None only for those.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ugmm_tutorial.kernels.compiled import compiled, inner
from ugmm_tutorial.kernels.numba_elements import (
    FAST,
    LN2,
    TWO_LN2,
    VANISHING,
    exp2,
    exp2_or_zero,
    exponents,
    f32,
    finite,
    largest,
    ln,
    sum_below,
    terms,
)
from ugmm_tutorial.kernels.numba_left_out import JUST_BELOW, divided, keep_only, of_kept, of_left, of_weight
from ugmm_tutorial.kernels.numba_memory import floats, words_at
from ugmm_tutorial.kernels.numba_parameters import finish, prepare, shares

__all__ = ["backward", "forward", "input_gradients"]


@inner(FAST)
def _sum(x, mean, s, c, n, words, odd, threshold, share, divides):
    """The sum, and the weight of what is in it if that is needed."""
    total, left = f32(0.0), f32(0.0)
    for k in range(x.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        y = c[k] - t * t
        if n is not None:
            y += n[k]
        power = exp2(y)
        if words is not None:
            power = of_kept(power, odd[k], words[k], threshold)
            if divides is not None:
                left += of_kept(share[k], odd[k], words[k], threshold)
        total += power
    return total, left


@compiled(FAST)
def forward(
    x, index, mean, log_std, weight, penalty, n, skips, words, odd, out, state, sizes, mode, low, high,
    threshold, divides, b0, b1, j0, j1,
):  # fmt: skip
    """Fill out, and the state unless its address is 0, for the examples b0:b1 and the neurons j0:j1.

    ``sizes`` are B, J, K and the number of components, which is K here.
    """
    b_all, j_all, k_all, _ = sizes
    x_, mean_, out_ = floats(x, b_all, k_all), floats(mean, j_all, k_all), floats(out, b_all, j_all)
    std_, weight_ = floats(log_std, j_all, k_all), floats(weight, j_all, k_all)
    n_: Any = None if n is None else floats(n, b_all, k_all)
    words_: Any = None if words is None else words_at(words, b_all, k_all)
    state_, limit = floats(state, 3 * b_all, j_all), np.int32(threshold)
    s, c, y = np.empty(k_all, np.float32), np.empty(k_all, np.float32), np.empty(k_all, np.float32)
    share = np.empty(k_all, np.float32)
    for j in range(j0, j1):
        shift = prepare(std_[j], weight_[j], penalty, j, mode, low, high, s, c)
        shares(words, weight_[j], penalty, j, mode, share)
        oj = None if words is None else words_at(odd, j_all, k_all)[j]
        for b in range(b0, b1):
            nb = None if n is None else n_[b]
            wb = None if words is None else words_[b]
            top = f32(0.0)
            total, left = _sum(x_[b], mean_[j], s, c, nb, wb, oj, limit, share, divides)
            if total < VANISHING:
                exponents(x_[b], mean_[j], s, c, nb, y)
                if words is not None:
                    alone = keep_only(y, oj, wb, limit, share, weight_[j])
                    left = share[alone] if alone >= 0 else left
                    top = JUST_BELOW
                top = min(top, largest(y)) if words is not None else largest(y)
                total = f32(1.0) if top == -np.inf else sum_below(y, top)
            out_[b, j] = (shift + top) * LN2 + ln(total)
            if divides is not None:
                if words is None:
                    left = state_[2 * b_all + b, j]
                out_[b, j] = divided((shift + top) * LN2, total, left)
                top = f32(-np.inf) if left <= f32(0.0) else top
            if state != 0:
                # Without a component left, density and gradients are 0.
                state_[b, j] = np.inf if top == -np.inf else top
                state_[b_all + b, j] = total
                if divides is not None:
                    state_[2 * b_all + b, j] = left


@inner(FAST)
def _pull(
    x, mean, s, c, n, skips, words, odd, threshold, share, weight, y, delta, g, q, gx, gn, s0, s1, s2
):  # fmt: skip
    """Add one output's share of the gradients of inputs and parameters; g is its gradient over its total.

    If masks divide outputs, q is its gradient over the weight that is left, and its gradient.
    """
    again = delta != f32(0.0)
    if again:
        exponents(x, mean, s, c, n, y)
        if words is not None:
            alone = keep_only(y, odd, words, threshold, share, weight)
            if q is not None:
                over, whole = q
                if alone >= 0:
                    of_weight(share[alone] * over, s0, s2, alone)
    for k in range(x.shape[0]):
        t = (x[k] - mean[k]) * s[k]
        if skips is not None:
            t = finite(t)
        gk = g
        if words is not None and not again:
            gk = of_kept(g, odd[k], words[k], threshold)
        if again:
            e = y[k] - delta
        else:
            e = c[k] - t * t
            if n is not None:
                e += n[k]
        r = gk * exp2_or_zero(e)
        rt = r * t
        s0[k] += r
        if words is not None and q is not None:
            over, whole = q
            taken = of_kept(over, odd[k], words[k], threshold)
            of_weight(share[k] * (taken - whole), s0, s2, k)
        s1[k] += rt
        s2[k] += rt * t
        if gx is not None:
            gx[k] -= rt * s[k]
        if gn is not None:
            gn[k] -= r


@inner(FAST)
def _pull_four(x, mean, s, c, n, skips, words, odd, threshold, share, g, q, gx, s0, s1, s2):
    """The same for four examples with the static shift: the sums are loaded and stored once for all."""
    for k in range(mean.shape[0]):
        mk, sk, ck = mean[k], s[k], c[k]
        g0, g1, g2, g3 = g
        if words is not None:
            ok = odd[k]
            g0, g1 = of_kept(g0, ok, words[0, k], threshold), of_kept(g1, ok, words[1, k], threshold)
            g2, g3 = of_kept(g2, ok, words[2, k], threshold), of_kept(g3, ok, words[3, k], threshold)
        e0 = e1 = e2 = e3 = ck
        if n is not None:
            e0, e1, e2, e3 = ck + n[0, k], ck + n[1, k], ck + n[2, k], ck + n[3, k]
        a0, a1, a2 = terms(x[0, k], mk, sk, e0, g0, skips)
        b0, b1, b2 = terms(x[1, k], mk, sk, e1, g1, skips)
        c0, c1, c2 = terms(x[2, k], mk, sk, e2, g2, skips)
        d0, d1, d2 = terms(x[3, k], mk, sk, e3, g3, skips)
        s0[k] += (a0 + b0) + (c0 + d0)
        if words is not None and q is not None:
            q0, q1, q2, q3, whole = q
            taken = of_kept(q0, ok, words[0, k], threshold) + of_kept(q1, ok, words[1, k], threshold)
            taken += of_kept(q2, ok, words[2, k], threshold) + of_kept(q3, ok, words[3, k], threshold)
            of_weight(share[k] * (taken - whole), s0, s2, k)
        s1[k] += (a1 + b1) + (c1 + d1)
        s2[k] += (a2 + b2) + (c2 + d2)
        if gx is not None:
            gx[0, k] -= a1 * sk
            gx[1, k] -= b1 * sk
            gx[2, k] -= c1 * sk
            gx[3, k] -= d1 * sk


@inner(FAST)
def _quarters(grad, left, b, j):
    """For four examples: gradients over what is left of the weight, and the sum of their gradients."""
    q0, g0 = of_left(grad[b, j], left[b, j])
    q1, g1 = of_left(grad[b + 1, j], left[b + 1, j])
    q2, g2 = of_left(grad[b + 2, j], left[b + 2, j])
    q3, g3 = of_left(grad[b + 3, j], left[b + 3, j])
    return q0, q1, q2, q3, (g0 + g1) + (g2 + g3)


@inner(FAST)
def _of_neuron(
    grad, x, mean, s, c, n, skips, words, odd, threshold, share, weight, divides, y, delta, total, left,
    gx, gn, s0, s1, s2, j, b0, b1,
):  # fmt: skip
    """Add the shares of neuron j: four examples at a time, or one where a row was summed again."""
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
            w4 = None if words is None else words[b : b + 4]
            q = None if words is None or divides is None else _quarters(grad, left, b, j)
            g = g0, g1, g2, g3
            _pull_four(x[b : b + 4], mean, s, c, n4, skips, w4, odd, threshold, share, g, q, gx4, s0, s1, s2)
        else:
            for i in range(b, min(b + 4, b1)):
                g = grad[i, j] / total[i, j]
                ni = None if n is None else n[i]
                gxi = None if gx is None else gx[i - b0]
                gni = None if gn is None else gn[i - b0]
                wi = None if words is None else words[i]
                qi = None if words is None or divides is None else of_left(grad[i, j], left[i, j])
                _pull(
                    x[i], mean, s, c, ni, skips, wi, odd, threshold, share, weight, y, delta[i, j], g, qi,
                    gxi, gni, s0, s1, s2,
                )  # fmt: skip
        b += 4


@compiled(FAST)
def backward(
    grad, x, index, mean, log_std, weight, penalty, n, skips, words, odd, state, gx, gn, r, rt, rtt, sizes,
    mode, low, high, threshold, divides, own, fresh, last, whole, b0, b1, j0, j1,
):  # fmt: skip
    """Fill gx and gn (b1 - b0, K), and r, rt, rtt with the shares of the outputs b0:b1, j0:j1.

    The sums r, rt, rtt have a row for each neuron if ``own``, else one for all, and go on from what they held
    unless ``fresh``. If ``last``, they become gradients. Unless gx is ``whole``, it lacks the factor 2 ln 2.
    """
    b_all, j_all, k_all, _ = sizes
    x_, mean_, grad_ = floats(x, b_all, k_all), floats(mean, j_all, k_all), floats(grad, b_all, j_all)
    std_, weight_ = floats(log_std, j_all, k_all), floats(weight, j_all, k_all)
    n_: Any = None if n is None else floats(n, b_all, k_all)
    words_: Any = None if words is None else words_at(words, b_all, k_all)
    state_, limit = floats(state, 3 * b_all, j_all), np.int32(threshold)
    delta, total, left = state_[:b_all], state_[b_all : 2 * b_all], state_[2 * b_all :]
    gx_: Any = None if gx is None else floats(gx, b1 - b0, k_all)
    gn_: Any = None if gn is None else floats(gn, b1 - b0, k_all)
    rows = j_all if own else 1
    r_, rt_, rtt_ = floats(r, rows, k_all), floats(rt, rows, k_all), floats(rtt, rows, k_all)
    s, c, y = np.empty(k_all, np.float32), np.empty(k_all, np.float32), np.empty(k_all, np.float32)
    share = np.empty(k_all, np.float32)
    if gx is not None:
        gx_[:] = f32(0.0)
    if gn is not None:
        gn_[:] = f32(0.0)
    for j in range(j0, j1):
        prepare(std_[j], weight_[j], penalty, j, mode, low, high, s, c)
        shares(words, weight_[j], penalty, j, mode, share)
        oj = None if words is None else words_at(odd, j_all, k_all)[j]
        row = j if own else 0
        s0, s1, s2 = r_[row], rt_[row], rtt_[row]
        if fresh:
            s0[:], s1[:], s2[:] = f32(0.0), f32(0.0), f32(0.0)
        _of_neuron(
            grad_, x_, mean_[j], s, c, n_, skips, words_, oj, limit, share, weight_[j], divides, y, delta,
            total, left, gx_, gn_, s0, s1, s2, j, b0, b1,
        )  # fmt: skip
        if last:
            finish(std_[j], weight_[j], penalty, j, mode, low, high, c, s0, s1, s2)
    if gx is not None and whole:
        for b in range(b1 - b0):
            for k in range(k_all):
                gx_[b, k] *= TWO_LN2


@compiled(FAST)
def input_gradients(gx, others, parts, rows, k_all, factor, b0, b1):
    """Add ``others`` (parts, rows, K), from other tasks, to gx (rows, K), in order, and scale; rows b0:b1."""
    gx_, others_ = floats(gx, rows, k_all), floats(others, parts * rows, k_all)
    for b in range(b0, b1):
        for part in range(parts):
            for k in range(k_all):
                gx_[b, k] += others_[part * rows + b, k]
        for k in range(k_all):
            gx_[b, k] *= factor
