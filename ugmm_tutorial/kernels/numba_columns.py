"""Loops for narrow and for sparse layers: vectors run along the examples, which lie side by side.

A vector of components would be half empty where a neuron has few. The functions and their arguments are those
of ``numba_loops``. With an ``index`` (J, m), int64, neuron j reads the inputs in its row; without one, all.
Taught in chapters 3 and 12.
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
from ugmm_tutorial.kernels.numba_left_out import JUST_BELOW, divided, keep_only, of_kept, of_weight, upstream
from ugmm_tutorial.kernels.numba_memory import floats, integers, words_at
from ugmm_tutorial.kernels.numba_parameters import finish, prepare, shares

__all__ = ["backward", "forward"]

# Examples side by side: enough to fill vectors, few enough for a core's own cache.
_WIDTH = 128
# Neurons between two turns from rows of neurons to rows of examples.
_NEURONS = 32
# Rows are filled up to a multiple of this, so that vectors have no rest.
_LANES = 16


@inner()
def _turned(x, b0, b1, turned):
    """Write the examples b0:b1 of x into the columns of ``turned``; return how many, filled up with zeros."""
    width = (b1 - b0 + _LANES - 1) // _LANES * _LANES
    for k in range(x.shape[1]):
        for b in range(b0, b1):
            turned[k, b - b0] = x[b, k]
        for b in range(b1 - b0, width):
            turned[k, b] = 0
    return width


@inner(FAST)
def _sums(xt, index, mean, s, c, nt, wt, odd, threshold, share, sums, lefts):
    """Fill the totals of one neuron, (b,), from xt (K, b), and what masks leave of the weights."""
    sums[:] = f32(0.0)
    if wt is not None and lefts is not None:
        lefts[:] = f32(0.0)
    for k in range(mean.shape[0]):
        place = k if index is None else index[k]
        row, mk, sk, ck = xt[place], mean[k], s[k], c[k]
        for b in range(sums.shape[0]):
            t = (row[b] - mk) * sk
            y = ck - t * t
            if nt is not None:
                y += nt[k, b]
            power = exp2(y)
            if wt is not None:
                power = of_kept(power, odd[k], wt[k, b], threshold)
                if lefts is not None:
                    lefts[b] += of_kept(share[k], odd[k], wt[k, b], threshold)
            sums[b] += power


@inner()
def _read(x, index, read):
    for k in range(read.shape[0]):
        read[k] = x[k if index is None else index[k]]


@inner()
def _vanish(sums):
    some = False
    for b in range(sums.shape[0]):
        some |= sums[b] < VANISHING
    return some


@inner(FAST)
def _again(
    x, index, mean, s, c, n, words, odd, threshold, share, weight, y, read, sums, tops, lefts, count, b0
):
    """Sum once more, below their true maxima, the rows whose sums vanish."""
    for b in range(count):
        if sums[b] < VANISHING:
            _read(x[b0 + b], index, read)
            exponents(read, mean, s, c, None if n is None else n[b0 + b], y)
            if words is not None:
                alone = keep_only(y, odd, words[b0 + b], threshold, share, weight)
                if lefts is not None and alone >= 0:
                    lefts[b] = share[alone]
            tops[b] = min(JUST_BELOW, largest(y)) if words is not None else largest(y)
            sums[b] = f32(1.0) if tops[b] == -np.inf else sum_below(y, tops[b])


@inner(FAST)
def _logarithms(sums, tops, shift, lefts, outs):
    for b in range(outs.shape[0]):
        if lefts is not None:
            outs[b] = divided((shift + tops[b]) * LN2, sums[b], lefts[b])
        else:
            outs[b] = (shift + tops[b]) * LN2 + ln(sums[b])


@inner()
def _keep(tops, sums, lefts, words, delta, total, left):
    for b in range(delta.shape[0]):
        # Without a component left, density and gradients are 0.
        delta[b] = f32(np.inf) if tops[b] == -np.inf else tops[b]
        total[b] = sums[b]
        if lefts is not None:
            delta[b] = f32(np.inf) if lefts[b] <= f32(0.0) else delta[b]
            if words is not None:
                left[b] = lefts[b]


@compiled(FAST)
def forward(
    x, index, mean, log_std, weight, penalty, n, skips, words, odd, out, state, sizes, mode, low, high,
    threshold, divides, b0, b1, j0, j1,
):  # fmt: skip
    """As ``numba_loops.forward``; ``sizes`` are B, J, K and m, and each part of the state is (J, B)."""
    b_all, j_all, k_all, m = sizes
    x_, mean_, out_ = floats(x, b_all, k_all), floats(mean, j_all, m), floats(out, b_all, j_all)
    std_, weight_ = floats(log_std, j_all, m), floats(weight, j_all, m)
    index_: Any = None if index is None else integers(index, j_all, m)
    n_: Any = None if n is None else floats(n, b_all, k_all)
    words_: Any = None if words is None else words_at(words, b_all, k_all)
    state_, limit = floats(state, 3 * j_all, b_all), np.int32(threshold)
    each = j1 - j0, m
    s, c, share = np.empty(each, np.float32), np.empty(each, np.float32), np.empty(each, np.float32)
    shift, y, read = np.empty(j1 - j0, np.float32), np.empty(m, np.float32), np.empty(m, np.float32)
    for j in range(j0, j1):
        shift[j - j0] = prepare(std_[j], weight_[j], penalty, j, mode, low, high, s[j - j0], c[j - j0])
        shares(words, weight_[j], penalty, j, mode, share[j - j0])
    xt = np.empty((k_all, _WIDTH), np.float32)
    nt = None if n is None else np.empty((k_all, _WIDTH), np.float32)
    wt = None if words is None else np.empty((k_all, _WIDTH), np.int32)
    tile = _NEURONS, _WIDTH
    lefts: Any = None if divides is None else np.empty(tile, np.float32)
    sums, tops, outs = np.empty(tile, np.float32), np.empty(tile, np.float32), np.empty(tile, np.float32)
    for start in range(b0, b1, _WIDTH):
        stop = min(b1, start + _WIDTH)
        width = _turned(x_, start, stop, xt)
        if n is not None:
            _turned(n_, start, stop, nt)
        if words is not None:
            _turned(words_, start, stop, wt)
        for first in range(j0, j1, _NEURONS):
            end = min(j1, first + _NEURONS)
            tops[:] = f32(0.0)
            for j in range(first, end):
                i, row = j - j0, None if index is None else index_[j]
                sums_j, tops_j = sums[j - first, :width], tops[j - first, :width]
                lefts_j = None if divides is None else lefts[j - first, :width]
                oj = None if words is None else words_at(odd, j_all, m)[j]
                if divides is not None and words is None:
                    lefts[j - first, : stop - start] = state_[2 * j_all + j, start:stop]
                _sums(xt, row, mean_[j], s[i], c[i], nt, wt, oj, limit, share[i], sums_j, lefts_j)
                if _vanish(sums_j):
                    _again(
                        x_, row, mean_[j], s[i], c[i], n_, words_, oj, limit, share[i], weight_[j], y, read,
                        sums_j, tops_j, lefts_j, stop - start, start,
                    )  # fmt: skip
                _logarithms(sums_j, tops_j, shift[i], lefts_j, outs[j - first, :width])
                if state != 0:
                    delta, total = state_[j, start:stop], state_[j_all + j, start:stop]
                    _keep(tops_j, sums_j, lefts_j, words, delta, total, state_[2 * j_all + j, start:stop])
            for b in range(start, stop):
                for j in range(first, end):
                    out_[b, j] = outs[j - first, b - start]


@inner(FAST)
def _pull(xt, index, mean, s, c, nt, skips, wt, odd, threshold, share, g, q, whole, gxt, gnt, s0, s1, s2):
    """Add one neuron's share of the gradients of inputs and parameters, for examples on the static shift.

    If masks divide outputs, q are their gradients over the weight that is left, ``whole`` their sum.
    """
    for k in range(mean.shape[0]):
        place = k if index is None else index[k]
        row, mk, sk, ck = xt[place], mean[k], s[k], c[k]
        a0, a1, a2, taken = f32(0.0), f32(0.0), f32(0.0), f32(0.0)
        for b in range(g.shape[0]):
            e = ck if nt is None else ck + nt[k, b]
            gb = g[b]
            if wt is not None:
                gb = of_kept(gb, odd[k], wt[k, b], threshold)
                if q is not None:
                    taken += of_kept(q[b], odd[k], wt[k, b], threshold)
            r, rt, rtt = terms(row[b], mk, sk, e, gb, skips)
            a0 += r
            a1 += rt
            a2 += rtt
            if gxt is not None:
                gxt[place, b] -= rt * sk
            if gnt is not None:
                gnt[k, b] -= r
        s0[k] += a0
        if wt is not None and q is not None:
            of_weight(share[k] * (taken - whole), s0, s2, k)
        s1[k] += a1
        s2[k] += a2


@inner(FAST)
def _pull_again(
    x, index, mean, s, c, n, skips, words, odd, threshold, share, weight, delta, g, q, gxt, gnt, s0, s1, s2,
    b, y, read,
):  # fmt: skip
    """The same for one example that was summed again below its true maximum; ``b`` is its place in gxt.

    Of q, which has been added, only a component's that dropout kept because no other was left.
    """
    _read(x, index, read)
    exponents(read, mean, s, c, n, y)
    if words is not None:
        alone = keep_only(y, odd, words, threshold, share, weight)
        if q is not None and alone >= 0:
            of_weight(share[alone] * q[b], s0, s2, alone)
    for k in range(y.shape[0]):
        t = (read[k] - mean[k]) * s[k]
        if skips is not None:
            t = finite(t)
        r = g * exp2_or_zero(y[k] - delta)
        s0[k] += r
        s1[k] += r * t
        s2[k] += r * t * t
        if gxt is not None:
            gxt[k if index is None else index[k], b] -= r * t * s[k]
        if gnt is not None:
            gnt[k, b] -= r


@inner()
def _back(turned, b0, b1, start, factor, rows):
    """Write the columns of ``turned`` into rows; the first row is that of example ``start``."""
    for b in range(b0, b1):
        for k in range(rows.shape[1]):
            rows[b - start, k] = turned[k, b - b0] * factor


@compiled(FAST)
def backward(
    grad, x, index, mean, log_std, weight, penalty, n, skips, words, odd, state, gx, gn, r, rt, rtt, sizes,
    mode, low, high, threshold, divides, own, fresh, last, whole, b0, b1, j0, j1,
):  # fmt: skip
    """As ``numba_loops.backward``."""
    b_all, j_all, k_all, m = sizes
    x_, mean_, grad_ = floats(x, b_all, k_all), floats(mean, j_all, m), floats(grad, b_all, j_all)
    std_, weight_ = floats(log_std, j_all, m), floats(weight, j_all, m)
    index_: Any = None if index is None else integers(index, j_all, m)
    n_: Any = None if n is None else floats(n, b_all, k_all)
    words_: Any = None if words is None else words_at(words, b_all, k_all)
    state_, limit = floats(state, 3 * j_all, b_all), np.int32(threshold)
    over: Any = None if divides is None else floats(divides, j_all, b_all)
    rows = j_all if own else 1
    r_, rt_, rtt_ = floats(r, rows, m), floats(rt, rows, m), floats(rtt, rows, m)
    each = j1 - j0, m
    s, c, share = np.empty(each, np.float32), np.empty(each, np.float32), np.empty(each, np.float32)
    y, read = np.empty(m, np.float32), np.empty(m, np.float32)
    for j in range(j0, j1):
        prepare(std_[j], weight_[j], penalty, j, mode, low, high, s[j - j0], c[j - j0])
        shares(words, weight_[j], penalty, j, mode, share[j - j0])
        if fresh:
            row = j if own else 0
            r_[row], rt_[row], rtt_[row] = f32(0.0), f32(0.0), f32(0.0)
    xt = np.empty((k_all, _WIDTH), np.float32)
    nt = None if n is None else np.empty((k_all, _WIDTH), np.float32)
    wt = None if words is None else np.empty((k_all, _WIDTH), np.int32)
    gxt: Any = None if gx is None else np.empty((k_all, _WIDTH), np.float32)
    gnt: Any = None if gn is None else np.empty((k_all, _WIDTH), np.float32)
    g = np.empty((_NEURONS, _WIDTH), np.float32)
    q: Any = None if divides is None else np.zeros(_WIDTH, np.float32)
    for start in range(b0, b1, _WIDTH):
        stop = min(b1, start + _WIDTH)
        width = _turned(x_, start, stop, xt)
        if n is not None:
            _turned(n_, start, stop, nt)
        if words is not None:
            _turned(words_, start, stop, wt)
        if gx is not None:
            gxt[:] = f32(0.0)
        if gn is not None:
            gnt[:] = f32(0.0)
        for first in range(j0, j1, _NEURONS):
            end = min(j1, first + _NEURONS)
            g[:] = f32(0.0)
            for b in range(start, stop):
                for j in range(first, end):
                    g[j - first, b - start] = grad_[b, j]
            for j in range(first, end):
                i, place = j - j0, None if index is None else index_[j]
                row = j if own else 0
                s0, s1, s2 = r_[row], rt_[row], rtt_[row]
                delta, total, gj = state_[j, start:stop], state_[j_all + j, start:stop], g[j - first, :width]
                qj = None if divides is None else q[:width]
                if divides is not None and words is None:
                    qj = over[j, start:stop]
                oj = None if words is None else words_at(odd, j_all, m)[j]
                alone, whole_g = upstream(delta, total, state_[2 * j_all + j, start:stop], gj, qj)
                _pull(
                    xt, place, mean_[j], s[i], c[i], nt, skips, wt, oj, limit, share[i], gj, qj, whole_g, gxt,
                    gnt, s0, s1, s2,
                )  # fmt: skip
                if alone:
                    for b in range(start, stop):
                        top = delta[b - start]
                        if top != f32(0.0):
                            nb, gb = None if n is None else n_[b], grad_[b, j] / total[b - start]
                            wb = None if words is None else words_[b]
                            _pull_again(
                                x_[b], place, mean_[j], s[i], c[i], nb, skips, wb, oj, limit, share[i],
                                weight_[j], top, gb, qj, gxt, gnt, s0, s1, s2, b - start, y, read,
                            )  # fmt: skip
        if gx is not None:
            _back(gxt, start, stop, b0, TWO_LN2 if whole else f32(1.0), floats(gx, b1 - b0, k_all))
        if gn is not None:
            _back(gnt, start, stop, b0, f32(1.0), floats(gn, b1 - b0, k_all))
    if last:
        for j in range(j0, j1):
            row = j if own else 0
            finish(std_[j], weight_[j], penalty, j, mode, low, high, y, r_[row], rt_[row], rtt_[row])
