"""The Triton kernels of neurons that read a few inputs each: one prepares what the other two sum up.

A warp has one neuron, one component, or a part of the components that read one input. Its lanes lie along the
examples: of x, turned round, they read what lies side by side, whichever input a neuron names. A thread has
four examples, so the numbers of a component are read once for four terms.

Examples are filled up to whole programs. Those beyond the end repeat the last one, with gradients of zero.
Symbols as in ``triton_kernels``; a *component* is a number from 0 to J m - 1.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from ugmm_tutorial.kernels.triton_elements import HALF_LOG_2PI, LOG2_E, SIZES, UNROLL, exponent, scale_of
from ugmm_tutorial.kernels.triton_forward import UNDERFLOW

__all__ = ["EXAMPLES", "TURNED", "WARPS", "sparse_gradients", "sparse_outputs", "sparse_prepared"]

LN2, TWO_LN2 = tl.constexpr(math.log(2.0)), tl.constexpr(2.0 * math.log(2.0))
# A program's warps, the examples of each, and how many of them a thread has.
WARPS, PER_THREAD, LANES = tl.constexpr(4), tl.constexpr(4), tl.constexpr(32)
EXAMPLES = tl.constexpr(128)
# Neurons of each warp where outputs are made: with those of the others, they fill what memory writes at once.
NEURONS = tl.constexpr(2)
# Rows and columns that a program turns round.
TURNED = tl.constexpr(32)


@triton.jit
def _coefficients(log_std, log_weight, j, k, m):
    """s, and the logarithm of weight over standard deviation; -inf beyond the last component."""
    inside = k < m
    value = tl.load(log_std + (j * m + k), inside, other=0.0)
    return scale_of(value), tl.load(log_weight + (j * m + k), inside, other=float("-inf")) - value


@triton.jit
def _turn(source, row_stride, column_stride, factor, target, tile, B, size, filled):
    """Write (B, size) as (size, filled); times ``factor`` (size, B), if there is one, and then zeros."""
    lane = tl.arange(0, TURNED)
    b = (tile % (filled // TURNED) * TURNED + lane)[:, None].to(tl.int64)
    k = (tile // (filled // TURNED) * TURNED + lane)[None, :].to(tl.int64)
    within, last = k < size, tl.minimum(b, B - 1)
    value = tl.load(source + (last * row_stride + k * column_stride), within, other=0.0)
    if factor is not None:
        value *= tl.load(factor + (k * B + b), within & (b < B), other=0.0)
        value = tl.where(b < B, value, 0.0)
    tl.store(target + (k * filled + b), value, within)


@triton.jit(do_not_specialize=SIZES)
def sparse_prepared(
    x, mean, log_std, log_weight, scale, coefficient, shift, turned, lowest, grad, reciprocal, g,
    B, J, K, m, filled, neurons, x_row_stride, x_column_stride, row_stride, column_stride,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What the loops read, by ``neurons`` programs of ROWS neurons, and then others that turn round.

    They fill s and c, (J, m), what outputs are shifted by, (J,), and x as (K, filled). Without a ``grad``
    (B, J), ``lowest`` becomes zero; with one, times the reciprocals (J, B), it fills g, (J, filled).
    """
    if tl.program_id(0) < neurons:
        j = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
        j = tl.minimum(j, J - 1).to(tl.int64)
        lane = tl.arange(0, BLOCK)[None, :]
        peak = tl.full([ROWS, BLOCK], float("-inf"), tl.float32)
        for start in range(0, m, BLOCK):
            _, c = _coefficients(log_std, log_weight, j, start + lane, m)
            peak = tl.maximum(peak, c)
        peak = tl.max(peak, 1)[:, None]
        peak = tl.where(peak > float("-inf"), peak, 0.0)  # all weights are zero
        tl.store(shift + j, peak - HALF_LOG_2PI)
        for start in range(0, m, BLOCK):
            k = start + lane
            s, c = _coefficients(log_std, log_weight, j, k, m)
            tl.store(scale + (j * m + k), s, k < m)
            tl.store(coefficient + (j * m + k), (c - peak) * LOG2_E, k < m)
        if grad is None:
            tl.store(lowest, 0.0)
    else:
        tile, tiles = tl.program_id(0) - neurons, tl.cdiv(K, TURNED) * (filled // TURNED)
        if tile < tiles:
            _turn(x, x_row_stride, x_column_stride, None, turned, tile, B, K, filled)
        elif grad is not None:
            _turn(grad, row_stride, column_stride, reciprocal, g, tile - tiles, B, J, filled)


@triton.jit
def _examples(block):
    """The examples of a program, (PER_THREAD, 1, LANES)."""
    within = tl.arange(0, PER_THREAD)[:, None, None] * LANES + tl.arange(0, LANES)[None, None, :]
    return within + block * EXAMPLES


@triton.jit
def _sums(turned, index, mean, scale, coefficient, jm, b, m, filled, delta, MAXIMA: tl.constexpr):
    """The sum of 2**(y - delta) of every output, or the largest y; no delta is one of zero."""
    nothing: tl.constexpr = float("-inf") if MAXIMA else 0.0
    total = tl.full([NEURONS, PER_THREAD, WARPS, LANES], nothing, tl.float32)
    for k in tl.range(0, m, loop_unroll_factor=UNROLL):
        x = tl.load(turned + (tl.load(index + (jm + k)) * filled + b))
        place = jm + k
        _, y = exponent(x, tl.load(mean + place), tl.load(scale + place), tl.load(coefficient + place), None)
        if delta is not None:
            y -= delta
        total = tl.maximum(total, y) if MAXIMA else total + tl.exp2(y)
    return total


@triton.jit(do_not_specialize=SIZES)
def sparse_outputs(turned, index, mean, scale, coefficient, shift, out, state, B, J, m, filled):
    """Outputs (B, J) and their state: delta and the sums' reciprocals, (2, J, B), and then the lowest delta.

    If a sum has vanished, all of the program are done again with true maxima, and the last number is no
    longer zero. All programs that write it write the same.
    """
    blocks, row = filled // EXAMPLES, tl.arange(0, NEURONS)[:, None, None, None] * WARPS
    j = tl.program_id(0) // blocks * (NEURONS * WARPS) + row + tl.arange(0, WARPS)[None, None, :, None]
    b = tl.expand_dims(_examples(tl.program_id(0) % blocks), 0)
    inside, j = (j < J) & (b < B), j.to(tl.int64)
    jm = tl.minimum(j, J - 1) * m
    total = _sums(turned, index, mean, scale, coefficient, jm, b, m, filled, None, False)
    redo = total < UNDERFLOW  # false for NaN, which stays
    delta = tl.zeros_like(total)
    if tl.max(redo.to(tl.int32)) > 0:
        tl.store(state + 2 * J.to(tl.int64) * B, -1.0)
        top = _sums(turned, index, mean, scale, coefficient, jm, b, m, filled, None, True)
        delta = tl.where(redo & (top > float("-inf")), top, 0.0)
        total = _sums(turned, index, mean, scale, coefficient, jm, b, m, filled, delta, False)
    # A sum of zero: no component is left. The reciprocal is then 0, and so are the gradients.
    empty = total == 0.0
    total = tl.where(empty, 1.0, total)
    nats = tl.load(shift + tl.minimum(j, J - 1)) + delta * LN2
    tl.store(out + (b * J.to(tl.int64) + j), tl.where(empty, float("-inf"), nats + tl.log(total)), inside)
    tl.store(state + (j * B + b), delta, inside)
    tl.store(state + ((J + j) * B + b), tl.where(empty, 0.0, tl.div_rn(1.0, total)), inside)


@triton.jit
def _of_components(x, g, delta, mean, scale, c, b, first, last, B):
    """S0, S1 and S2 of one component a warp, over the examples from ``first`` to ``last``."""
    s0 = tl.zeros([PER_THREAD, WARPS, LANES], tl.float32)
    s1 = tl.zeros([PER_THREAD, WARPS, LANES], tl.float32)
    s2 = tl.zeros([PER_THREAD, WARPS, LANES], tl.float32)
    for start in tl.range(first, last, EXAMPLES, loop_unroll_factor=UNROLL):
        t, y = exponent(tl.load(x + start), mean, scale, c, None)
        if delta is not None:
            y -= tl.load(delta + tl.minimum(b + start, B - 1))
        r = tl.load(g + start) * tl.exp2(y)
        rt = r * t
        s0 += r
        s1 += rt
        s2 = tl.fma(rt, t, s2)
    return s0, s1, s2


@triton.jit
def _over_lanes(values):
    return tl.sum(tl.sum(values, 0), 1)


@triton.jit
def _parameters(
    tile, split, turned, index, mean, scale, coefficient, g, state, grad_mean, grad_log_std, grad_log_weight,
    B, J, m, filled, span,
):  # fmt: skip
    """Gradients of four components, summed over ``span`` examples."""
    size = J.to(tl.int64) * m
    component = tl.minimum(tile.to(tl.int64) * WARPS + tl.arange(0, WARPS), size - 1)
    jk = component[None, :, None]
    s, b, j = tl.load(scale + component), _examples(0), (component // m)[None, :, None]
    given = tl.load(mean + jk), tl.load(scale + jk), tl.load(coefficient + jk)
    x = turned + (tl.load(index + jk) * filled + b)
    upstream = g + (j * filled + b)
    first = split * span
    last = tl.minimum(first + span, filled)
    if tl.load(state + 2 * J.to(tl.int64) * B) < 0.0:
        s0, s1, s2 = _of_components(
            x, upstream, state + j * B, given[0], given[1], given[2], b, first, last, B
        )
    else:
        s0, s1, s2 = _of_components(x, upstream, None, given[0], given[1], given[2], b, first, last, B)
    s0, s1, s2 = _over_lanes(s0), _over_lanes(s1), _over_lanes(s2)
    place = split * size + component
    tl.store(grad_mean + place, s1 * s * TWO_LN2)
    tl.store(grad_log_std + place, tl.fma(s2, TWO_LN2, -s0))
    tl.store(grad_log_weight + place, s0)


@triton.jit
def _of_input(x, order, neurons, first, last, mean, scale, coefficient, g, delta, b, B, filled):
    """sum g 2**y t s over the components that read one input, every fourth of them in each warp."""
    part = tl.arange(0, WARPS)[None, :, None]
    total = tl.zeros([PER_THREAD, WARPS, LANES], tl.float32)
    for start in tl.range(first, last, WARPS, loop_unroll_factor=UNROLL):
        place = tl.minimum(start + part, last - 1)
        jk, j = tl.load(order + place), tl.load(neurons + place)
        s = tl.load(scale + jk)
        t, y = exponent(x, tl.load(mean + jk), s, tl.load(coefficient + jk), None)
        if delta is not None:
            y -= tl.load(delta + (j * B + tl.minimum(b, B - 1)))
        r = tl.load(g + (j * filled + b)) * tl.exp2(y)
        total = tl.where(start + part < last, tl.fma(r * t, s, total), total)
    return total


@triton.jit
def _input(
    program, order, neurons, starts, turned, mean, scale, coefficient, g, state, grad_x, B, J, K, filled
):
    """Gradients of one input, for the examples of a program."""
    blocks = filled // EXAMPLES
    k, b = (program // blocks).to(tl.int64), _examples(program % blocks)
    first, last = tl.load(starts + k), tl.load(starts + (k + 1))
    x = tl.load(turned + (k * filled + b))
    if tl.load(state + 2 * J.to(tl.int64) * B) < 0.0:
        total = _of_input(
            x, order, neurons, first, last, mean, scale, coefficient, g, state, b, B, filled
        )  # fmt: skip
    else:
        total = _of_input(x, order, neurons, first, last, mean, scale, coefficient, g, None, b, B, filled)
    total = tl.sum(total, 1) * -TWO_LN2
    example = tl.arange(0, PER_THREAD)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    example += program % blocks * EXAMPLES
    tl.store(grad_x + (example.to(tl.int64) * K + k), total, example < B)


@triton.jit(do_not_specialize=SIZES)
def sparse_gradients(
    turned, index, mean, scale, coefficient, g, state, order, neurons, starts,
    grad_x, grad_mean, grad_log_std, grad_log_weight, B, J, K, m, filled, span, inputs,
):  # fmt: skip
    """Gradients of x (B, K), in the first programs, as many as ``inputs`` says; then of the parameters.

    These are (splits, J, m). For every input, ``starts`` says where in ``order`` the components begin that
    read it, and ``neurons`` to whom they belong; so every sum has one program and one order.
    """
    program = tl.program_id(0)
    if program < inputs:
        _input(
            program, order, neurons, starts, turned, mean, scale, coefficient, g, state, grad_x, B, J, K,
            filled,
        )  # fmt: skip
    else:
        program, tiles = program - inputs, tl.cdiv(J * m, WARPS)
        _parameters(
            program % tiles, program // tiles, turned, index, mean, scale, coefficient, g, state, grad_mean,
            grad_log_std, grad_log_weight, B, J, m, filled, span,
        )  # fmt: skip
