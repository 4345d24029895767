"""A whole dense layer on a GPU: two launches forward, three backward. Taught in chapter 3.

Softmax, bounds and dropout's penalty are part of them. ``triton_learnt`` packs what the loops read, and makes
gradients of their sums. Of the two kernels here, one makes outputs, the other sums for all gradients at once.
Symbols as in ``triton_kernels``, tiles as in ``triton_elements``.

**These kernels have run in Triton's interpreter, and have been compiled for GPUs on a machine without any.
They have not run on a GPU yet.** ``layers.on_gpu.ENABLED = False`` switches them off. The loops of the
backward pass are those of ``triton_backward``, which have run on an H200.

No output is split over programs, or a third launch would have to add its parts. Where there are few outputs,
tiles are small and the threads of a block share the components: each sums one of ST parts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from ugmm_tutorial.kernels.autograd import outputs_and_state
from ugmm_tutorial.kernels.triton_backward import (
    TWO_LN2,
    input_kernel,
    input_sums,
    parameter_kernel,
    parameter_sums,
)
from ugmm_tutorial.kernels.triton_elements import CHUNK, SIZES, UNROLL, exponent, lanes, tile_place
from ugmm_tutorial.kernels.triton_forward import UNDERFLOW, write_outputs
from ugmm_tutorial.kernels.triton_learnt import layer_finish, layer_panels
from ugmm_tutorial.kernels.triton_tiles import INPUT_TILE, PARAMETER_TILE, Tile, splits

__all__ = [
    "OPTIONS",
    "TILES",
    "backward",
    "blocks",
    "forward",
    "layer_gradients",
    "layer_outputs",
    "tile_for",
    "unfilled",
    "unfilled_gradients",
]

OPTIONS = {"num_warps": 4, "maxnreg": 96, "enable_fp_fusion": False}


@dataclass(frozen=True)
class _Tile(Tile):
    ST: int = 1


# The last two are for few outputs. As many programs as _FILLED are worth a larger tile.
TILES = (_Tile(2, 8, 4, 16), _Tile(2, 32, 4, 4), _Tile(2, 8, 4, 4, 4), _Tile(1, 8, 4, 2, 8))
_FILLED = 256


@triton.jit
def _sums(
    rows, columns, row, column, delta, steps, MAXIMA: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr, ST: tl.constexpr,
):  # fmt: skip
    """The sum of 2**(y - delta) over the steps of every part, or the largest y; no delta is one of zero."""
    start_value: tl.constexpr = float("-inf") if MAXIMA else 0.0
    total = tl.full([R, C, ST, RT, CT], start_value, tl.float32)
    for start in range(0, steps, CHUNK):
        chunk = tl.full([R, C, ST, RT, CT], start_value, tl.float32)
        for _ in tl.range(start, tl.minimum(start + CHUNK, steps), loop_unroll_factor=UNROLL):
            mean, scale = tl.load(rows + row), tl.load(rows + (row + R * RT))
            c = tl.load(rows + (row + 2 * R * RT))
            _, y = exponent(tl.load(columns + column), mean, scale, c, None)
            if delta is not None:
                y -= delta
            chunk = tl.maximum(chunk, y) if MAXIMA else chunk + tl.exp2(y)
            rows += 3 * R * RT
            columns += C * CT
        total = tl.maximum(total, chunk) if MAXIMA else total + chunk
    return total


@triton.jit(do_not_specialize=SIZES)
def layer_outputs(
    row_panels, column_panels, statistics, out, state, B, J, steps,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr, ST: tl.constexpr,
):  # fmt: skip
    """Outputs (B, J) and state (2, B, J) of a tile, rows J and columns B, from what ``layer_panels`` packed.

    If a sum has vanished, the tile is done again with true maxima.
    """
    row_tile, column_tile, row, column = tile_place(tl.program_id(0), B, R, RT, C, CT)
    j = tl.minimum(row_tile * (R * RT) + row, J - 1)
    b = tl.minimum(column_tile * (C * CT) + column, B - 1)
    rows = row_panels + row_tile * steps * (3 * R * RT)
    columns = column_panels + column_tile * steps * (C * CT)
    span = steps // ST
    part = (tl.arange(0, ST) * span)[None, None, :, None, None]
    row = lanes(R, RT)[:, None, None, :, None] + part * (3 * R * RT)
    column = lanes(C, CT)[None, :, None, None, :] + part * (C * CT)
    total = tl.sum(_sums(rows, columns, row, column, None, span, False, R, RT, C, CT, ST), 2)
    redo = total < UNDERFLOW  # false for NaN, which stays
    delta = tl.zeros_like(total)
    if tl.max(redo.to(tl.int32)) > 0:
        top = tl.max(_sums(rows, columns, row, column, None, span, True, R, RT, C, CT, ST), 2)
        delta = tl.where(redo & (top > float("-inf")), top, 0.0)
        shift = tl.expand_dims(delta, 2)
        total = tl.sum(_sums(rows, columns, row, column, shift, span, False, R, RT, C, CT, ST), 2)
    write_outputs(out, state, statistics + 3 * J, None, b, j, B, J, delta, total)


@triton.jit
def _any_below_zero(lowest, first, last):
    smallest = tl.zeros([128], tl.float32)
    for start in range(first, last, 128):
        place = start + tl.arange(0, 128)
        smallest = tl.minimum(smallest, tl.load(lowest + place, place < last, other=0.0))
    return tl.min(smallest, 0) < 0.0


@triton.jit
def _parameter_program(
    program, by_neuron, input_panels, parameter_panels, lowest, sums, B, J, K, span, group,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
):  # fmt: skip
    """S0, S1 and S2 of a tile, rows J and columns K, over ``span`` examples."""
    tiles = tl.cdiv(J, R * RT) * tl.cdiv(K, C * CT)
    row_tile, column_tile, row, column = tile_place(program % tiles, K, R, RT, C, CT)
    first = program // tiles * span
    last = tl.minimum(first + span, B)
    j, k = row_tile * (R * RT) + row, column_tile * (C * CT) + column
    panel = parameter_panels + ((column_tile * J + tl.minimum(j, J - 1)) * (3 * C * CT) + column)
    m, s, c = tl.load(panel), tl.load(panel + C * CT), tl.load(panel + 2 * C * CT)
    rows = by_neuron + (row_tile * B + first) * (2 * R * RT)
    columns = input_panels + (column_tile * B + first) * (C * CT)
    if _any_below_zero(lowest, first // group, tl.cdiv(last, group)):
        s0, s1, s2 = parameter_sums(
            rows, columns, row, column, m, s, c, first, last, False, True, R, RT, C, CT
        )
    else:
        s0, s1, s2 = parameter_sums(
            rows, columns, row, column, m, s, c, first, last, False, False, R, RT, C, CT
        )
    size, inside = J.to(tl.int64) * K, (j < J) & (k < K)
    address = sums + ((program // tiles) * (3 * size) + (j * K + k))
    tl.store(address, s0, inside)
    tl.store(address + size, s1, inside)
    tl.store(address + 2 * size, s2, inside)


@triton.jit
def _input_program(
    program, by_example, parameter_panels, x, lowest, grad_x, B, J, K, span, group,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
):  # fmt: skip
    """The gradient of x in a tile, rows B and columns K, over ``span`` neurons."""
    tiles = tl.cdiv(B, R * RT) * tl.cdiv(K, C * CT)
    row_tile, column_tile, row, column = tile_place(program % tiles, K, R, RT, C, CT)
    first = program // tiles * span
    last = tl.minimum(first + span, J)
    b, k = row_tile * (R * RT) + row, column_tile * (C * CT) + column
    inside = (b < B) & (k < K)
    inputs = tl.load(x + (b * K + k), inside, other=0.0)
    rows = by_example + (row_tile * J + first) * (2 * R * RT)
    columns = parameter_panels + (column_tile * J + first) * (3 * C * CT)
    groups = row_tile.to(tl.int32) * (R * RT) // group
    if _any_below_zero(lowest, groups, groups + R * RT // group):
        total, _ = input_sums(rows, columns, row, column, inputs, None, first, last, True, R, RT, C, CT)
    else:
        total, _ = input_sums(rows, columns, row, column, inputs, None, first, last, False, R, RT, C, CT)
    tl.store(grad_x + ((program // tiles) * (B.to(tl.int64) * K) + (b * K + k)), total * -TWO_LN2, inside)


@triton.jit(do_not_specialize=SIZES)
def layer_gradients(
    by_neuron, by_example, parameter_panels, input_panels, x, lowest, sums, partial,
    B, J, K, span, input_span, parameters, group,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
    INPUT_R: tl.constexpr, INPUT_RT: tl.constexpr,
):  # fmt: skip
    """Sums for the parameters, in as many programs as ``parameters`` says, and those for x in all others.

    ``sums`` is (splits, 3, J, K), ``partial`` (input_splits, B, K); ``lowest`` has a number for each group of
    examples.
    """
    program = tl.program_id(0)
    if program < parameters:
        _parameter_program(
            program, by_neuron, input_panels, parameter_panels, lowest, sums, B, J, K, span, group,
            R, RT, C, CT,
        )  # fmt: skip
    else:
        _input_program(
            program - parameters, by_example, parameter_panels, x, lowest, partial, B, J, K, input_span, group,
            INPUT_R, INPUT_RT, C, CT,
        )  # fmt: skip


def tile_for(examples: int, neurons: int) -> _Tile:
    """The tile of outputs: of the first two the one that computes less beyond the end, if programs are many."""
    wide = min(TILES[:2], key=lambda tile: tile.count(neurons, examples) * tile.rows * tile.columns)
    many = (tile for tile in (wide, *TILES[2:]) if tile.count(neurons, examples) >= _FILLED)
    return next(many, TILES[-1])


def blocks(rows: int) -> dict[str, int]:
    """What a program of the other kernels takes at a time: of few rows one, so that programs are many."""
    return {"ROWS": 1, "BLOCK": 1024} if rows < 2048 else {"ROWS": 8, "BLOCK": 128}


def unfilled(x: Tensor, mean: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`forward` fills."""
    return *outputs_and_state(x, mean), x.new_empty(4, mean.shape[0])


def unfilled_gradients(grad: Tensor, x: Tensor, mean: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """What :func:`backward` fills; its last two arguments say whether x and the parameters have any."""
    needed = others[-2], *(others[-1],) * 3
    return tuple(t.new_empty(t.shape if n else (0,)) for t, n in zip((x, *(mean,) * 3), needed, strict=True))


def forward(
    x: Tensor, mean: Tensor, log_std: Tensor, logits: Tensor, penalty: Tensor | None, *rule: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, their state, and what was found out about every neuron; ``rule`` is mode, low and high."""
    x, mean, log_std, logits = (t.contiguous() for t in (x, mean, log_std, logits))
    (b, k), j = x.shape, mean.shape[0]
    tile = tile_for(b, j)
    lanes_, block = tile.ST * UNROLL.value, blocks(b + j)
    steps = -(-k // lanes_) * lanes_
    j_tiles, b_tiles = -(-j // tile.rows), -(-b // tile.columns)
    neurons = j_tiles * tile.rows // block["ROWS"]
    out, state, statistics = unfilled(x, mean)
    parameters = x.new_empty(j_tiles, steps, 3, tile.rows)
    inputs = x.new_empty(b_tiles, steps, 1, tile.columns)
    learnt = _learnt(log_std, logits, penalty, *rule)
    _launch(
        wrap_triton(layer_panels), neurons + b_tiles * tile.columns // block["ROWS"], x=x, mean=mean, **learnt,
        statistics=statistics, parameter_panels=parameters, input_panels=inputs, **block,
        **dict.fromkeys(("grad", "state", "by_neuron", "by_example", "lowest"), x), BACKWARD=False,
        B=b, J=j, K=k, steps=steps, neurons=neurons, row_stride=0, column_stride=0,
        PARAMETER_WIDTH=tile.rows, INPUT_WIDTH=tile.columns, NEURONS=1, EXAMPLES=1,
    )  # fmt: skip
    _launch(
        wrap_triton(layer_outputs), j_tiles * b_tiles, row_panels=parameters, column_panels=inputs,
        statistics=statistics, out=out, state=state, B=b, J=j, steps=steps, **asdict(tile),
    )  # fmt: skip
    return out, state, statistics


def backward(
    grad: Tensor, x: Tensor, mean: Tensor, log_std: Tensor, logits: Tensor, penalty: Tensor | None,
    state: Tensor, statistics: Tensor, mode: int, low: float, high: float, needs_x: bool,
    needs_parameters: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, mean, log_std and logits; those that are not needed are empty."""
    x, mean, log_std, logits = (t.contiguous() for t in (x, mean, log_std, logits))
    (b, k), j = x.shape, mean.shape[0]
    tile, input_tile, block = PARAMETER_TILE, INPUT_TILE, blocks(b + j)
    b_tiles, j_tiles, k_tiles = -(-b // input_tile.rows), -(-j // tile.rows), -(-k // tile.columns)
    neurons, groups = -(-j // block["ROWS"]), b_tiles * input_tile.rows // block["ROWS"]
    learnt = _learnt(log_std, logits, penalty, mode, low, high)
    panels = {
        "parameter_panels": x.new_empty(k_tiles, j, 3, tile.columns),
        "input_panels": x.new_empty(k_tiles, b, 1, tile.columns),
        "by_neuron": x.new_empty(j_tiles, b, 2, tile.rows),
        "by_example": x.new_empty(b_tiles, j, 2, input_tile.rows),
        "lowest": x.new_empty(groups),
    }
    sizes = {"B": b, "J": j, "K": k}
    _launch(
        wrap_triton(layer_panels), neurons + groups, x=x, mean=mean, **learnt, statistics=statistics, grad=grad,
        state=state, **panels, **block, **sizes, BACKWARD=True, steps=k_tiles * tile.columns, neurons=neurons,
        row_stride=grad.stride(0), column_stride=grad.stride(1), PARAMETER_WIDTH=tile.columns,
        INPUT_WIDTH=tile.columns, NEURONS=tile.rows, EXAMPLES=input_tile.rows,
    )  # fmt: skip
    split, span = splits(parameter_kernel, j_tiles * k_tiles, b)
    input_split, input_span = splits(input_kernel, b_tiles * k_tiles, j)
    parameters = j_tiles * k_tiles * split if needs_parameters else 0
    inputs = b_tiles * k_tiles * input_split if needs_x else 0
    sums = x.new_empty(split, 3, j, k) if needs_parameters else x
    partial = x.new_empty(input_split, b, k) if needs_x else x
    _launch(
        wrap_triton(layer_gradients), parameters + inputs, x=x, **panels, sums=sums, partial=partial, **sizes,
        span=span, input_span=input_span, parameters=parameters, group=block["ROWS"], **asdict(tile),
        INPUT_R=input_tile.R, INPUT_RT=input_tile.RT,
    )  # fmt: skip
    del panels
    parts = needs_x and input_split > 1
    grad_x, *gradients = unfilled_gradients(x, x, mean, needs_x and parts, needs_parameters)
    if needs_x and not parts:
        grad_x = partial[0]
    neurons = neurons if needs_parameters else 0
    programs = neurons + (-(-b * k // block["BLOCK"]) if parts else 0)
    if programs:
        _launch(
            wrap_triton(layer_finish), programs, sums=sums, partial=partial, **learnt, statistics=statistics,
            **dict(zip(("grad_mean", "grad_log_std", "grad_logits"), gradients, strict=True)), grad_x=grad_x,
            **sizes, splits=split, input_splits=input_split, neurons=neurons, **block,
        )  # fmt: skip
    return grad_x, gradients[0], gradients[1], gradients[2]


def _learnt(
    log_std: Tensor, logits: Tensor, penalty: Tensor | None, mode: int, low: float, high: float
) -> dict[str, Any]:
    given = {"log_std": log_std, "logits": logits, "low": low, "high": high}
    # A tensor that is not read stands for none, which not every version of the compiler takes.
    return given | ({"penalty": logits, "MODE": 0} if penalty is None else {"penalty": penalty, "MODE": mode})


def _launch(kernel: Any, programs: int, **arguments: Tensor | float) -> None:
    tensor = next(value for value in arguments.values() if isinstance(value, Tensor))
    # Compiled code takes all options from PyTorch 2.14 on, and before that only one.
    whole = type(tensor) is Tensor or torch.__version__ >= (2, 14)  # type: ignore[operator]
    # As in triton_tiles.launch.
    with torch.cuda.device_of(tensor), np.errstate(all="ignore"):
        kernel[(programs,)](**arguments, **(OPTIONS if whole else {"num_warps": OPTIONS["num_warps"]}))
