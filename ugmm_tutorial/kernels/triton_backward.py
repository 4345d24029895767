"""The Triton kernels of the backward pass: one sums over examples, one over neurons.

The first gives the gradients of the parameters, the second those of the inputs. Both recompute 2**y, which
costs less than keeping it. Usually no row was redone and delta is zero everywhere; a second loop without
delta then saves one operation in ten. With ``MASKS``, for whole layers only, each example has one: 2
if they divide outputs by the weight that they leave, else 1.
Symbols as in ``triton_kernels``, tiles as in ``triton_elements``.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from ugmm_tutorial.kernels.triton_elements import (
    CHUNK,
    SIZES,
    UNROLL,
    exp_or_zero,
    exponent,
    masked,
    tile_position,
)

__all__ = ["input_kernel", "input_tile", "parameter_kernel", "parameter_tile"]

TWO_LN2 = tl.constexpr(2.0 * math.log(2.0))


@triton.jit
def _parameter_sums(
    rows, columns, row, column, mean, scale, c, odd, threshold, alone, first, last,
    BACKGROUND: tl.constexpr, REDONE: tl.constexpr, MASKS: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
):  # fmt: skip
    """S0, S1 and S2 over the examples from ``first`` to ``last``, and if masks divide, what these take."""
    QUANTITIES: tl.constexpr = 2 if BACKGROUND or MASKS else 1
    ROW_QUANTITIES: tl.constexpr = 3 if MASKS == 2 else 2
    total0 = tl.zeros([R, C, RT, CT], tl.float32)
    total1 = tl.zeros([R, C, RT, CT], tl.float32)
    total2 = tl.zeros([R, C, RT, CT], tl.float32)
    taken = tl.zeros([R, C, RT, CT], tl.float32)
    for start in range(first, last, CHUNK):
        s0 = tl.zeros([R, C, RT, CT], tl.float32)
        s1 = tl.zeros([R, C, RT, CT], tl.float32)
        s2 = tl.zeros([R, C, RT, CT], tl.float32)
        for _ in tl.range(start, tl.minimum(start + CHUNK, last), loop_unroll_factor=UNROLL):
            x = tl.load(columns + column)
            n = tl.load(columns + (column + C * CT)) if BACKGROUND else None
            t, y = exponent(x, mean, scale, c, n)
            delta = tl.load(rows + (row + R * RT)) if REDONE else None
            if REDONE:
                y -= delta
            if MASKS:
                y, kept = masked(y, odd, tl.load(columns + (column + C * CT)), threshold, delta, alone)
                if MASKS == 2:
                    taken += tl.where(kept, tl.load(rows + (row + 2 * R * RT)), 0.0)
            r = tl.load(rows + row) * tl.exp2(y)
            rt = r * t
            s0 += r
            s1 += rt
            s2 = tl.fma(rt, t, s2)
            rows += ROW_QUANTITIES * R * RT
            columns += QUANTITIES * C * CT
        total0 += s0
        total1 += s1
        total2 += s2
    return total0, total1, total2, taken


@triton.jit
def parameter_tile(
    tile, split, row_panels, column_panels, mean, scale, c, lowest, grad_mean, grad_log_std, grad_log_weight,
    B, J, K, span, BACKGROUND: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
    odd=None, threshold=None, heaviest=None, logits=None, statistics=None, MASKS: tl.constexpr = 0,
):  # fmt: skip
    """What a program of ``parameter_kernel`` does."""
    row_tile, column_tile, row, column = tile_position(tile, K, R, RT, C, CT)
    j = tl.minimum(row_tile * (R * RT) + row, J - 1)
    jk = j * K
    k = tl.minimum(column_tile * (C * CT) + column, K - 1)
    jk += k
    odd = tl.load(odd + jk) if MASKS else None
    m = tl.load(mean + jk)
    s = tl.load(scale + jk)
    w = tl.load(c + jk)
    first = split * span
    last = tl.minimum(first + span, B)
    rows = row_panels + (row_tile * B + first) * ((3 if MASKS == 2 else 2) * R * RT)
    columns = column_panels + (column_tile * B + first) * ((2 if BACKGROUND or MASKS else 1) * C * CT)
    if tl.load(lowest) < 0.0:
        alone = tl.load(heaviest + j) == k if MASKS else None
        s0, s1, s2, taken = _parameter_sums(
            rows, columns, row, column, m, s, w, odd, threshold, alone, first, last, BACKGROUND, True, MASKS,
            R, RT, C, CT,
        )  # fmt: skip
    else:
        s0, s1, s2, taken = _parameter_sums(
            rows, columns, row, column, m, s, w, odd, threshold, None, first, last, BACKGROUND, False, MASKS,
            R, RT, C, CT,
        )  # fmt: skip
    address = split.to(tl.int64) * J * K + jk
    tl.store(grad_mean + address, s1 * s * TWO_LN2)
    tl.store(grad_log_std + address, tl.fma(s2, TWO_LN2, -s0))
    if MASKS == 2:
        share = (tl.load(logits + jk) - tl.load(statistics + j)) - tl.load(statistics + (J + j))
        s0 = tl.fma(-exp_or_zero(share), taken, s0)
    tl.store(grad_log_weight + address, s0)


@triton.jit(do_not_specialize=SIZES)
def parameter_kernel(
    row_panels,  # (J tiles, B, 2, rows): g, delta
    column_panels,  # (K tiles, B, 1 or 2, columns): x, and n if there is a background
    mean,  # (J, K), like the next two
    scale,
    c,
    lowest,  # the lowest delta, a scalar
    grad_mean,  # (splits, J, K), like the next two
    grad_log_std,
    grad_log_weight,
    B, J, K, span, BACKGROUND: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
):  # fmt: skip
    """Gradients of the parameters, rows J and columns K, for a whole tile, summed over ``span`` examples."""
    parameter_tile(
        tl.program_id(0), tl.program_id(1), row_panels, column_panels, mean, scale, c, lowest, grad_mean,
        grad_log_std, grad_log_weight, B, J, K, span, BACKGROUND, R, RT, C, CT,
    )  # fmt: skip


@triton.jit
def _input_sums(
    rows, columns, row, column, x, n, words, threshold, heaviest, k, first, last,
    REDONE: tl.constexpr, MASKS: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
):  # fmt: skip
    """sum_j g 2**y t s, and sum_j g 2**y if there is a background, from neuron ``first`` to ``last``."""
    total_x = tl.zeros([R, C, RT, CT], tl.float32)
    total_n = tl.zeros([R, C, RT, CT], tl.float32)
    QUANTITIES: tl.constexpr = 4 if MASKS else 3
    for start in range(first, last, CHUNK):
        sum_x = tl.zeros([R, C, RT, CT], tl.float32)
        sum_n = tl.zeros([R, C, RT, CT], tl.float32)
        for j in tl.range(start, tl.minimum(start + CHUNK, last), loop_unroll_factor=UNROLL):
            mean = tl.load(columns + column)
            scale = tl.load(columns + (column + C * CT))
            c = tl.load(columns + (column + 2 * C * CT))
            t, y = exponent(x, mean, scale, c, n)
            delta = tl.load(rows + (row + R * RT)) if REDONE else None
            if REDONE:
                y -= delta
            if MASKS:
                odd = tl.load(columns + (column + 3 * C * CT))
                alone = tl.load(heaviest + j) == k if REDONE else None
                y, _ = masked(y, odd, words, threshold, delta, alone)
            r = tl.load(rows + row) * tl.exp2(y)
            sum_x = tl.fma(r * t, scale, sum_x)
            if n is not None:
                sum_n += r
            rows += 2 * R * RT
            columns += QUANTITIES * C * CT
        total_x += sum_x
        total_n += sum_n
    return total_x, total_n


@triton.jit
def input_tile(
    tile, split, row_panels, column_panels, x, n, lowest, grad_x, grad_n, B, J, K, span,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
    words=None, threshold=None, heaviest=None, MASKS: tl.constexpr = 0,
):  # fmt: skip
    """What a program of ``input_kernel`` does."""
    row_tile, column_tile, row, column = tile_position(tile, K, R, RT, C, CT)
    bk = tl.minimum(row_tile * (R * RT) + row, B - 1) * K
    k = tl.minimum(column_tile * (C * CT) + column, K - 1)
    bk += k
    words = tl.load(words + bk) if MASKS else None
    inputs = tl.load(x + bk)
    background = tl.load(n + bk) if n is not None else None
    first = split * span
    last = tl.minimum(first + span, J)
    rows = row_panels + (row_tile * J + first) * (2 * R * RT)
    columns = column_panels + (column_tile * J + first) * ((4 if MASKS else 3) * C * CT)
    if tl.load(lowest) < 0.0:
        sum_x, sum_n = _input_sums(
            rows, columns, row, column, inputs, background, words, threshold, heaviest, k, first, last, True,
            MASKS, R, RT, C, CT,
        )  # fmt: skip
    else:
        sum_x, sum_n = _input_sums(
            rows, columns, row, column, inputs, background, words, threshold, heaviest, k, first, last, False,
            MASKS, R, RT, C, CT,
        )  # fmt: skip
    address = split.to(tl.int64) * B * K + bk
    tl.store(grad_x + address, sum_x * -TWO_LN2)
    if n is not None:
        tl.store(grad_n + address, -sum_n)


@triton.jit(do_not_specialize=SIZES)
def input_kernel(
    row_panels,  # (B tiles, J, 2, rows): g, delta
    column_panels,  # (K tiles, J, 3, columns): mean, s, c
    x,  # (B, K)
    n,  # (B, K) or None
    lowest,  # the lowest delta, a scalar
    grad_x,  # (splits, B, K)
    grad_n,  # (splits, B, K) or None
    B, J, K, span,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
):  # fmt: skip
    """Gradients of inputs and background, rows B and columns K, for a whole tile, over ``span`` neurons."""
    input_tile(
        tl.program_id(0), tl.program_id(1), row_panels, column_panels, x, n, lowest, grad_x, grad_n, B, J, K,
        span, R, RT, C, CT,
    )  # fmt: skip
