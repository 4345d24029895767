"""What all Triton kernels share: one element's exponent, and where the elements of a program lie.

A program owns a *tile* of the result, held in registers, and walks along the axis that is summed. The shape
of a tile, (R, C, RT, CT), is also its layout: Triton deals its last axes out to the threads of a block, here
RT x CT of them, so each thread holds the R x C elements of the first two. The tile has R*RT rows and C*CT
columns.

At each step a tile needs a few numbers per row and per column. They come in *panels*
(``triton_tiles.panels``), packed in the order in which the loop reads them, as a matrix multiplication packs
its factors: a warp reads few cache lines, and all addresses are one base plus constants. Two rules keep a
loop free of anything else:

- A side of a tile has fewer numbers than the block has threads, or Triton would change the layout.
- Nothing is masked. Beyond the end of an axis, its last row or column is computed again and stored again in
  its own place, with the same bits.

Symbols as in ``triton_kernels``. Taught in chapter 3.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from ugmm_tutorial.kernels.reference import HALF_LOG_2PI as _HALF_LOG_2PI

__all__ = ["CHUNK", "HALF_LOG_2PI", "LOG2_E", "SIZES", "UNROLL", "exp", "exp_or_zero", "exponent", "lanes"]
__all__ += ["masked", "scale_of", "tile_position"]

HALF_LOG_2PI = tl.constexpr(_HALF_LOG_2PI)
LOG2_E = tl.constexpr(math.log2(math.e))
LN2_HIGH, LN2_LOW = tl.constexpr(355.0 / 512.0), tl.constexpr(math.log(2.0) - 355.0 / 512.0)
SCALE = tl.constexpr(math.sqrt(0.5 * math.log2(math.e)))

# Terms are added in chunks, and chunks to a total: rounding errors then grow with sqrt(CHUNK), not sqrt(K).
CHUNK = tl.constexpr(64)
UNROLL = tl.constexpr(4)
# Arguments that change between calls, as B does in the last batch of an epoch. Kernels are compiled once for
# all values, so Triton cannot see where addresses would allow wide loads and stores in another layout.
SIZES: tuple[str, ...] = ("B", "J", "K", "m", "filled", "span", "splits", "steps", "neurons", "inputs")
SIZES += ("threshold", "row_stride", "column_stride", "x_row_stride", "x_column_stride")


@triton.jit
def exponent(x, mean, scale, c, n):
    """t and y of one element. All kernels must round y identically: delta was one of these y."""
    t = (x - mean) * scale
    y = tl.fma(-t, t, c)
    if n is not None:
        y += n
    return t, y


@triton.jit
def masked(y, odd, word, threshold, delta, alone):
    """y of a component that an example's mask keeps, else -inf, and whether it does: see ``transform.Masks``.

    A delta above zero says that they leave none; then the one that stands ``alone`` is all of the sum.
    """
    kept = odd.to(tl.int32, bitcast=True) * word.to(tl.int32, bitcast=True) > threshold
    if delta is not None:
        y = tl.where(delta > 0.0, 0.0, y)
        kept = tl.where(delta > 0.0, alone, kept)
    return tl.where(kept, y, float("-inf")), kept


@triton.jit
def lanes(REGISTERS: tl.constexpr, THREADS: tl.constexpr):
    """The positions along one side of a tile, (REGISTERS, THREADS)."""
    return tl.arange(0, REGISTERS)[:, None] * THREADS + tl.arange(0, THREADS)[None, :]


@triton.jit
def tile_position(tile, columns, R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr):
    """A tile's row tile and column tile, counted row by row, and the positions inside."""
    column_tiles = tl.cdiv(columns, C * CT)
    row_tile = (tile // column_tiles).to(tl.int64)
    column_tile = (tile % column_tiles).to(tl.int64)
    return row_tile, column_tile, lanes(R, RT)[:, None, :, None], lanes(C, CT)[None, :, None, :]


@triton.jit
def exp(v):
    """e**v for -87 <= v <= 88, to the last digits; a GPU's own loses as many as stand before the point."""
    n = tl.floor(tl.fma(v, LOG2_E, 0.5))
    r = tl.fma(-n, LN2_LOW, tl.fma(-n, LN2_HIGH, v))
    p = tl.fma(r, 1.9875691500e-4, 1.3981999507e-3)
    p = tl.fma(tl.fma(p, r, 8.3334519073e-3), r, 4.1665795894e-2)
    p = tl.fma(tl.fma(p, r, 1.6666665459e-1), r, 5.0000001201e-1)
    p = tl.fma(tl.fma(p, r, 1.0), r, 1.0)
    return p * ((n.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def exp_or_zero(v):
    """e**v, but exactly 0 far below: a dropped component has no weight, not a small one."""
    return tl.where(v < -80.0, 0.0, exp(tl.where(v < -80.0, -80.0, v)))


@triton.jit
def scale_of(log_std):
    """s, of a finite width even where a component has none: as ``reference.inverse_std``."""
    return exp(tl.minimum(tl.maximum(-log_std, -87.0), 80.0)) * SCALE
