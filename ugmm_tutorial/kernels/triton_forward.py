"""The Triton kernels of the forward pass: sums with the static bound, then outputs, redone where necessary.

The sums take most of the time. They may be split over programs, so a second kernel adds the parts. Only this
kernel knows which rows underflowed, and it recomputes them itself, with a warp's lanes along the components.
Symbols as in ``triton_kernels``, tiles as in ``triton_elements``.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from ugmm_tutorial.kernels.triton_elements import CHUNK, SIZES, UNROLL, exponent, tile_position

__all__ = ["STRIP_ROWS", "UNDERFLOW", "finish_kernel", "sum_kernel", "write_outputs"]

# A sum below this may have lost digits that matter to underflow: its row is redone with its true maximum.
UNDERFLOW = tl.constexpr(2.0**-50)
LN2 = tl.constexpr(math.log(2.0))
# Outputs that a warp redoes at a time.
STRIP_ROWS = tl.constexpr(8)
STRIP_COLUMNS = tl.constexpr(2)
LANES = tl.constexpr(32)


@triton.jit(do_not_specialize=SIZES)
def sum_kernel(
    row_panels,  # (J tiles, K, 3, rows): mean, s, c
    column_panels,  # (B tiles, K, 1 or 2, columns): x, and n if there is a background
    partial,  # (splits, J, B)
    B, J, K, span, BACKGROUND: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
):  # fmt: skip
    """sum_k 2**y with delta = 0, rows J and columns B, for a whole tile, over ``span`` components."""
    row_tile, column_tile, row, column = tile_position(tl.program_id(0), B, R, RT, C, CT)
    QUANTITIES: tl.constexpr = 2 if BACKGROUND else 1
    first = tl.program_id(1) * span
    last = tl.minimum(first + span, K)
    rows = row_panels + (row_tile * K + first) * (3 * R * RT)
    columns = column_panels + (column_tile * K + first) * (QUANTITIES * C * CT)
    total = tl.zeros([R, C, RT, CT], tl.float32)
    for start in range(first, last, CHUNK):
        chunk = tl.zeros([R, C, RT, CT], tl.float32)
        for _ in tl.range(start, tl.minimum(start + CHUNK, last), loop_unroll_factor=UNROLL):
            mean = tl.load(rows + row)
            scale = tl.load(rows + (row + R * RT))
            c = tl.load(rows + (row + 2 * R * RT))
            x = tl.load(columns + column)
            n = tl.load(columns + (column + C * CT)) if BACKGROUND else None
            _, y = exponent(x, mean, scale, c, n)
            chunk += tl.exp2(y)
            rows += 3 * R * RT
            columns += QUANTITIES * C * CT
        total += chunk
    j = tl.minimum(row_tile * (R * RT) + row, J - 1)
    b = tl.minimum(column_tile * (C * CT) + column, B - 1)
    tl.store(partial + ((tl.program_id(1).to(tl.int64) * J + j) * B + b), total)


@triton.jit
def _far(x, mean, scale, c, n, b, j, k, K):
    """y of a block of elements, read directly from (B, K) and (J, K); -inf beyond the last component."""
    inside = k < K
    k = tl.minimum(k, K - 1)
    bk, jk = b * K + k, j * K + k
    background = tl.load(n + bk) if n is not None else None
    _, y = exponent(tl.load(x + bk), tl.load(mean + jk), tl.load(scale + jk), tl.load(c + jk), background)
    return tl.where(inside, y, float("-inf"))


@triton.jit
def _redo(x, mean, scale, c, n, b, j, K):
    """The maximum of y over the components, and the sum of 2**(y - maximum), for a strip of outputs."""
    b, j = b[:, :, None], j[:, :, None]
    lane = tl.arange(0, LANES)[None, None, :]
    top = tl.full([STRIP_ROWS, STRIP_COLUMNS, LANES], float("-inf"), tl.float32)
    for start in range(0, K, LANES):
        top = tl.maximum(top, _far(x, mean, scale, c, n, b, j, start + lane, K))
    delta = tl.max(top, 2)
    delta = tl.where(delta > float("-inf"), delta, 0.0)
    total = tl.zeros([STRIP_ROWS, STRIP_COLUMNS, LANES], tl.float32)
    for start in range(0, K, LANES):
        total += tl.exp2(_far(x, mean, scale, c, n, b, j, start + lane, K) - delta[:, :, None])
    return delta, tl.sum(total, 2)


@triton.jit
def _add_splits(partial, b, j, B, J, splits):
    total = tl.load(partial + (j * B + b))
    for split in range(1, splits):
        total += tl.load(partial + ((j + J.to(tl.int64) * split) * B + b))
    return total


@triton.jit
def _any(mask):
    return tl.max(tl.max(mask.to(tl.int32), 1), 0) > 0


@triton.jit
def write_outputs(out, state, shift, background_shift, b, j, B, J, delta, total, left=None):
    """Store what sums with these maxima, in any layout, make of the outputs (b, j), over what is left."""
    nats = tl.load(shift + j)
    if left is not None:
        nats -= tl.log(left)
    if background_shift is not None:
        nats += tl.load(background_shift + b)
    # A sum of zero: no component is left. The reciprocal is then 0, and so are the gradients.
    empty = total == 0.0
    total = tl.where(empty, 1.0, total)
    bj = b * J + j
    tl.store(out + bj, tl.where(empty, float("-inf"), nats + delta * LN2 + tl.log(total)))
    tl.store(state + bj, delta)
    if left is not None:
        tl.store(state + (2 * B.to(tl.int64) * J + bj), left)
    tl.store(state + (B.to(tl.int64) * J + bj), tl.where(empty, 0.0, tl.div_rn(1.0, total)))


@triton.jit
def _finish_strip(
    partial, x, mean, scale, c, n, shift, background_shift, out, state, b, first, B, J, K, splits
):
    j = tl.minimum(first + tl.arange(0, STRIP_COLUMNS)[None, :], J - 1).to(tl.int64)
    total = _add_splits(partial, b, j, B, J, splits)
    redo = total < UNDERFLOW  # false for NaN, which stays
    if _any(redo):
        delta, sums = _redo(x, mean, scale, c, n, b, j, K)
        delta = tl.where(redo, delta, 0.0)
        total = tl.where(redo, sums, total)
        write_outputs(out, state, shift, background_shift, b, j, B, J, delta, total)
    else:
        write_outputs(out, state, shift, background_shift, b, j, B, J, tl.zeros_like(total), total)


@triton.jit(do_not_specialize=SIZES)
def finish_kernel(
    partial,  # (splits, J, B)
    x,  # (B, K)
    mean,  # (J, K), like the next two
    scale,
    c,
    n,  # (B, K) or None
    shift,  # (J,)
    background_shift,  # (B,) or None
    out,  # (B, J)
    state,  # (2, B, J)
    B, J, K, splits, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Add the partial sums, redo the rows that underflowed, and write outputs and state: rows B, columns J.

    One warp writes STRIP_ROWS x COLUMNS outputs. It redoes them in strips of STRIP_COLUMNS, with its lanes
    along the components.
    """
    column_tiles = tl.cdiv(J, COLUMNS)
    b = (tl.program_id(0) // column_tiles) * STRIP_ROWS + tl.arange(0, STRIP_ROWS)[:, None]
    b = tl.minimum(b, B - 1).to(tl.int64)
    start = (tl.program_id(0) % column_tiles) * COLUMNS
    j = tl.minimum(start + tl.arange(0, COLUMNS)[None, :], J - 1).to(tl.int64)
    total = _add_splits(partial, b, j, B, J, splits)
    if _any(total < UNDERFLOW):
        for first in range(start, tl.minimum(start + COLUMNS, J), STRIP_COLUMNS):
            _finish_strip(
                partial, x, mean, scale, c, n, shift, background_shift, out, state, b, first, B, J, K, splits
            )
    else:
        write_outputs(out, state, shift, background_shift, b, j, B, J, tl.zeros_like(total), total)
