"""A layer's learnt parameters on a GPU: into the panels that loops read, and sums of loops into gradients.

As ``numba_parameters``, for whole layers at once. One kernel stands before the loops of either pass, one
behind those of the backward pass. A program takes ROWS neurons or ROWS examples, and walks along their
components in blocks.

The backward pass computes s and c again instead of keeping them, by the same operations, whether or not a
compiler fuses multiplications and additions. Only the sum of a softmax may be added up in another order. That
changes all terms of a neuron alike, in the last bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ugmm_tutorial.kernels.transform import DROPPED_FIRST, DROPPED_LAST
from ugmm_tutorial.kernels.triton_elements import HALF_LOG_2PI, LOG2_E, SIZES, exp_or_zero, scale_of

__all__ = ["layer_finish", "layer_panels"]

FIRST, LAST = tl.constexpr(DROPPED_FIRST), tl.constexpr(DROPPED_LAST)


@triton.jit
def _logits(logits, penalty, j, k, K, MODE: tl.constexpr):
    """What the softmax is taken of; -inf beyond the last component."""
    value = tl.load(logits + (j * K + k), k < K, other=float("-inf"))
    if MODE == FIRST:
        value += tl.load(penalty + (j * K + k), k < K, other=0.0)
    return value


@triton.jit
def _coefficients(log_std, logits, penalty, j, k, K, low, high, top, rest, MODE: tl.constexpr):
    """s, and the logarithm of weight over standard deviation, in which NaN stays."""
    weight = (_logits(logits, penalty, j, k, K, MODE) - top) - rest
    if MODE == LAST:
        weight += tl.load(penalty + (j * K + k), k < K, other=0.0)
    value = tl.load(log_std + (j * K + k), k < K, other=0.0)
    value = tl.where(value < low, low, value)
    value = tl.where(value > high, high, value)
    return scale_of(value), weight - value


@triton.jit
def _statistics(
    log_std, logits, penalty, j, K, low, high, MODE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Of every neuron: the largest logit, the logarithm of the sum relative to it, the largest c in nats."""
    lane = tl.arange(0, BLOCK)[None, :]
    top = tl.full([ROWS, BLOCK], float("-inf"), tl.float32)
    for start in range(0, K, BLOCK):
        top = tl.maximum(top, _logits(logits, penalty, j, start + lane, K, MODE))
    top = tl.max(top, 1)[:, None]
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(0, K, BLOCK):
        total += exp_or_zero(_logits(logits, penalty, j, start + lane, K, MODE) - top)
    rest = tl.log(tl.sum(total, 1))[:, None]
    peak = tl.full([ROWS, BLOCK], float("-inf"), tl.float32)
    for start in range(0, K, BLOCK):
        _, c = _coefficients(log_std, logits, penalty, j, start + lane, K, low, high, top, rest, MODE)
        peak = tl.maximum(peak, c)
    peak = tl.max(peak, 1)[:, None]
    return top, rest, tl.where(peak > float("-inf"), peak, 0.0)  # all weights are zero


@triton.jit
def _heaviest(logits, j, K, top, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The first component of every neuron whose logit is the largest."""
    lane = tl.arange(0, BLOCK)[None, :]
    first = tl.zeros([ROWS, BLOCK], tl.int32) + (K - 1)
    for start in range(0, K, BLOCK):
        k = start + lane
        value = tl.load(logits + (j * K + k), k < K, other=float("-inf"))
        first = tl.minimum(first, tl.where((value == top) & (k < K), k, K - 1))
    return tl.min(first, 1)[:, None]


@triton.jit
def _panel(panels, place, step, steps, QUANTITIES: tl.constexpr, WIDTH: tl.constexpr):
    """Where (steps, size) is kept as (tiles, steps, QUANTITIES, WIDTH)."""
    return panels + (((place // WIDTH).to(tl.int64) * steps + step) * (QUANTITIES * WIDTH) + place % WIDTH)


@triton.jit
def _upstream(
    grad, state, by_neuron, by_example, place, b, B, J, row_stride, column_stride,
    NEURONS: tl.constexpr, EXAMPLES: tl.constexpr, BLOCK: tl.constexpr, DIVIDES: tl.constexpr,
):  # fmt: skip
    """The gradients of some examples' outputs, g and delta, for either kind of loops."""
    QUANTITIES: tl.constexpr = 3 if DIVIDES else 2
    size = B.to(tl.int64) * J
    for start in range(0, tl.cdiv(J, NEURONS) * NEURONS, BLOCK):
        step = start + tl.arange(0, BLOCK)[None, :]
        n = tl.minimum(step, J - 1)
        inside, bj = step < tl.cdiv(J, NEURONS) * NEURONS, b * J + n
        delta = tl.load(state + bj)
        upstream = tl.load(grad + (b * row_stride + n * column_stride))
        g = upstream * tl.load(state + (size + bj))
        panel = _panel(by_neuron, step, b, B, QUANTITIES, NEURONS)
        tl.store(panel, g, inside)
        tl.store(panel + NEURONS, delta, inside)
        if DIVIDES:
            left = tl.load(state + (2 * size + bj))
            tl.store(panel + 2 * NEURONS, tl.div_rn(upstream, left), inside)
        panel = _panel(by_example, place, n, J, 2, EXAMPLES)
        tl.store(panel, g)
        tl.store(panel + EXAMPLES, delta)


@triton.jit(do_not_specialize=SIZES)
def layer_panels(
    x, mean, log_std, logits, penalty, low, high, words, odd, heaviest, statistics, parameter_panels,
    input_panels, lowest, scale, coefficient, grad, state, by_neuron, by_example,
    B, J, K, steps, neurons, row_stride, column_stride,
    MODE: tl.constexpr, BACKWARD: tl.constexpr, PARAMETER_WIDTH: tl.constexpr, INPUT_WIDTH: tl.constexpr,
    NEURONS: tl.constexpr, EXAMPLES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    MASKS: tl.constexpr,
):  # fmt: skip
    """What the loops read, by programs of neurons and then of examples.

    Statistics, (3, J), are the largest logit, the rest of the normaliser, and what outputs are shifted by.
    Forward, the panels are (J tiles, steps, 3, width) of mean, s and c, and (B tiles, steps, 1, width) of x.
    Components from K to ``steps`` have no weight. Backward, they are (K tiles, J, 3, width) and (K tiles, B,
    1, width); s and c, (J, K), are written too, and ``grad`` becomes g, beside delta, in (J tiles, B, 2,
    NEURONS) and in (B tiles, J, 2, EXAMPLES).

    With MASKS, the first panels also have the odd words, and forward the weights; the second ones the words
    of examples. Of every neuron ``heaviest``, (J,), is filled. If masks divide, ``by_neuron`` has 3 numbers:
    the last one is ``grad`` over the weight that is left.
    """
    PARAMETERS: tl.constexpr = 3 if not MASKS else 4 if BACKWARD else 5
    INPUTS: tl.constexpr = 2 if MASKS else 1
    low, high = tl.cast(low, tl.float32), tl.cast(high, tl.float32)  # PyTorch's compiler passes float64
    row, lane = tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    if tl.program_id(0) < neurons:
        place = tl.program_id(0) * ROWS + row
        j = tl.minimum(place, J - 1).to(tl.int64)
        top, rest, peak = _statistics(log_std, logits, penalty, j, K, low, high, MODE, ROWS, BLOCK)
        tl.store(statistics + j, top)
        tl.store(statistics + (J + j), rest)
        tl.store(statistics + (2 * J + j), peak - HALF_LOG_2PI)
        if MASKS:
            tl.store(heaviest + j, _heaviest(logits, j, K, top, ROWS, BLOCK))
        if not BACKWARD:
            tl.store(lowest, 0.0)
        for start in range(0, steps, BLOCK):
            step = start + lane
            k = tl.minimum(step, K - 1) if BACKWARD else step
            m = tl.load(mean + (j * K + k), k < K, other=0.0)
            s, c = _coefficients(log_std, logits, penalty, j, k, K, low, high, top, rest, MODE)
            c = (c - peak) * LOG2_E
            if BACKWARD:
                tl.store(scale + (j * K + k), s)
                tl.store(coefficient + (j * K + k), c)
                panel = _panel(parameter_panels, step, j, J, PARAMETERS, PARAMETER_WIDTH)
            else:
                panel = _panel(parameter_panels, place, step, steps, PARAMETERS, PARAMETER_WIDTH)
            tl.store(panel, m, step < steps)
            tl.store(panel + PARAMETER_WIDTH, s, step < steps)
            tl.store(panel + 2 * PARAMETER_WIDTH, c, step < steps)
            if MASKS:
                word = tl.load(odd + (j * K + k), k < K, other=0)
                tl.store(panel + 3 * PARAMETER_WIDTH, word.to(tl.float32, bitcast=True), step < steps)
                if not BACKWARD:
                    share = exp_or_zero((_logits(logits, penalty, j, k, K, MODE) - top) - rest)
                    tl.store(panel + 4 * PARAMETER_WIDTH, share, step < steps)
    else:
        place = (tl.program_id(0) - neurons) * ROWS + row
        b = tl.minimum(place, B - 1).to(tl.int64)
        for start in range(0, steps, BLOCK):
            step = start + lane
            k = tl.minimum(step, K - 1) if BACKWARD else step
            if BACKWARD:
                panel = _panel(input_panels, step, b, B, INPUTS, INPUT_WIDTH)
            else:
                panel = _panel(input_panels, place, step, steps, INPUTS, INPUT_WIDTH)
            tl.store(panel, tl.load(x + (b * K + k), k < K, other=0.0), step < steps)
            if MASKS:
                word = tl.load(words + (b * K + k), k < K, other=0)
                tl.store(panel + INPUT_WIDTH, word.to(tl.float32, bitcast=True), step < steps)
        if BACKWARD:
            _upstream(
                grad, state, by_neuron, by_example, place, b, B, J, row_stride, column_stride, NEURONS,
                EXAMPLES, BLOCK, MASKS == 2,
            )  # fmt: skip


@triton.jit
def _added(partial, address, inside, splits, stride):
    total = tl.load(partial + address, inside, other=0.0)
    for split in range(1, splits):
        total += tl.load(partial + (address + split * stride), inside, other=0.0)
    return total


@triton.jit(do_not_specialize=SIZES)
def layer_finish(
    sums, log_std, logits, penalty, low, high, statistics, gradients, J, K, splits,
    MODE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add up the gradients of ``parameter_tile``, (3, splits, J, K), and go back through softmax and bounds.

    Both have them in the order of mean, log_std, and log-weights or logits.
    """
    low, high = tl.cast(low, tl.float32), tl.cast(high, tl.float32)
    j = tl.minimum(tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None], J - 1).to(tl.int64)
    lane, size = tl.arange(0, BLOCK)[None, :], J.to(tl.int64) * K
    top, rest = tl.load(statistics + j), tl.load(statistics + (J + j))
    weights = sums + 2 * splits * size
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(0, K, BLOCK):
        total += _added(weights, j * K + (start + lane), start + lane < K, splits, size)
    total = tl.sum(total, 1)[:, None]
    for start in range(0, K, BLOCK):
        k = start + lane
        jk, inside = j * K + k, k < K
        tl.store(gradients + jk, _added(sums, jk, inside, splits, size), inside)
        g = _added(sums + splits * size, jk, inside, splits, size)
        # At a bound only a gradient passes that would lead away from it.
        value = tl.load(log_std + jk, inside, other=0.0)
        stopped = ((value < low) & (g > 0.0)) | ((value > high) & (g < 0.0))
        tl.store(gradients + (size + jk), tl.where(stopped, 0.0, g), inside)
        share = exp_or_zero((_logits(logits, penalty, j, k, K, MODE) - top) - rest)
        g = tl.fma(-share, total, _added(weights, jk, inside, splits, size))
        tl.store(gradients + (2 * size + jk), g, inside)
