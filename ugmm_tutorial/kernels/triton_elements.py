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

import triton
import triton.language as tl

__all__ = ["CHUNK", "SIZES", "UNROLL", "exponent", "lanes", "tile_position"]

# Terms are added in chunks, and chunks to a total: rounding errors then grow with sqrt(CHUNK), not sqrt(K).
CHUNK = tl.constexpr(64)
UNROLL = tl.constexpr(4)
# Arguments that change between calls, as B does in the last batch of an epoch. Kernels are compiled once for
# all values, so Triton cannot see where addresses would allow wide loads and stores in another layout.
SIZES = ("B", "J", "K", "span", "splits", "steps", "neurons", "inputs", "row_stride", "column_stride")


@triton.jit
def exponent(x, mean, scale, c, n):
    """t and y of one element. All kernels must round y identically: delta was one of these y."""
    t = (x - mean) * scale
    y = tl.fma(-t, t, c)
    if n is not None:
        y += n
    return t, y


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
