"""A whole dense layer on a GPU: two launches forward, three backward.

Softmax, bounds and dropout are part of them; so is a mask for every example, if its words are given
(``transform.Masks``). ``triton_learnt`` packs what the loops read, and makes gradients of their sums. Of the
two kernels here, one makes outputs, the other is both kernels of ``triton_backward`` in one launch.
Symbols as in ``triton_kernels``, tiles as in ``triton_elements``.

**These kernels have run in Triton's interpreter, and have been compiled for GPUs on a machine without any.
They have not run on a GPU yet.** ``layers.on_gpu.ENABLED = False`` switches them off. Only what they take
over from ``triton_backward`` has run on an H200.

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

from ugmm_tutorial.kernels import interpreted
from ugmm_tutorial.kernels.autograd import outputs_and_state
from ugmm_tutorial.kernels.triton_backward import input_tile, parameter_kernel, parameter_tile
from ugmm_tutorial.kernels.triton_elements import CHUNK, SIZES, UNROLL, exponent, lanes, masked, tile_position
from ugmm_tutorial.kernels.triton_forward import UNDERFLOW, write_outputs
from ugmm_tutorial.kernels.triton_learnt import layer_finish, layer_panels
from ugmm_tutorial.kernels.triton_tiles import INPUT_TILE, PARAMETER_TILE, Tile, splits

__all__ = ["backward", "blocks", "forward", "layer_gradients", "layer_outputs", "tile_for", "unfilled"]
__all__ += ["OPAQUE", "unfilled_gradients", "wrap_triton"]

# Whether compilers see operators instead of kernels: those that are interpreted cannot be traced, and older
# compilers would not pass the options on.
OPAQUE = interpreted() or torch.__version__ < (2, 14)  # type: ignore[operator]
OPTIONS = {"num_warps": 4, "maxnreg": 96, "enable_fp_fusion": False}
MASKED_OPTIONS = OPTIONS | {"maxnreg": 128}  # with fewer registers, some would spill


@dataclass(frozen=True)
class _Tile(Tile):
    ST: int = 1


# The last two are for few outputs. As many programs as _FILLED are worth a larger tile.
TILES = (_Tile(2, 8, 4, 16), _Tile(2, 32, 4, 4), _Tile(2, 8, 4, 4, 4), _Tile(1, 8, 4, 2, 8))
_FILLED = 256


@triton.jit
def _sums(
    rows, columns, row, column, delta, threshold, steps, MAXIMA: tl.constexpr, MASKS: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr, ST: tl.constexpr,
):  # fmt: skip
    """The sum of 2**(y - delta) over the steps of every part, or the largest y; no delta is one of zero.

    Without a delta, the weight that masks leave, too.
    """
    nothing: tl.constexpr = float("-inf") if MAXIMA else 0.0
    PARAMETERS: tl.constexpr = 5 if MASKS else 3
    INPUTS: tl.constexpr = 2 if MASKS else 1
    total = tl.full([R, C, ST, RT, CT], nothing, tl.float32)
    left = tl.zeros([R, C, ST, RT, CT], tl.float32)
    for start in range(0, steps, CHUNK):
        chunk = tl.full([R, C, ST, RT, CT], nothing, tl.float32)
        weight = tl.zeros([R, C, ST, RT, CT], tl.float32)
        for _ in tl.range(start, tl.minimum(start + CHUNK, steps), loop_unroll_factor=UNROLL):
            mean, scale = tl.load(rows + row), tl.load(rows + (row + R * RT))
            c = tl.load(rows + (row + 2 * R * RT))
            _, y = exponent(tl.load(columns + column), mean, scale, c, None)
            if MASKS:
                odd, word = tl.load(rows + (row + 3 * R * RT)), tl.load(columns + (column + C * CT))
                y, kept = masked(y, odd, word, threshold, None, None)
                if delta is None and not MAXIMA:
                    weight += tl.where(kept, tl.load(rows + (row + 4 * R * RT)), 0.0)
            if delta is not None:
                y -= delta
            chunk = tl.maximum(chunk, y) if MAXIMA else chunk + tl.exp2(y)
            rows += PARAMETERS * R * RT
            columns += INPUTS * C * CT
        total = tl.maximum(total, chunk) if MAXIMA else total + chunk
        left += weight
    return tl.max(total, 2) if MAXIMA else tl.sum(total, 2), left


@triton.jit
def _heaviest_alone(
    rows, columns, row, column, place, delta, total, left,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
):  # fmt: skip
    """Maxima, sums and weights, with the heaviest component alone where masks leave no weight."""
    rows += place * (5 * R * RT) + row
    x = tl.load(columns + (place * (2 * C * CT) + column))
    _, y = exponent(x, tl.load(rows), tl.load(rows + R * RT), tl.load(rows + 2 * R * RT), None)
    far = y == float("-inf")
    total = tl.where(left > 0.0, total, tl.where(far, 0.0, 1.0 + (y - y)))  # NaN stays
    delta = tl.where((left > 0.0) | far, delta, y)
    return delta, total, tl.where(left > 0.0, left, tl.load(rows + 4 * R * RT))


@triton.jit(do_not_specialize=SIZES)
def layer_outputs(
    row_panels, column_panels, statistics, heaviest, out, state, lowest, threshold, B, J, steps,
    MASKS: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr, ST: tl.constexpr,
):  # fmt: skip
    """Outputs (B, J) and state (2, B, J) of a tile, rows J and columns B, from what ``layer_panels`` packed.

    If a sum has vanished, the tile is done again with true maxima, and ``lowest`` is no longer zero. All
    programs that write it write the same number. With MASKS, some outputs may have only their heaviest
    component: the backward pass finds a delta of one there. If they divide, the state is (3, B, J): it has
    the weight that is left, too.
    """
    row_tile, column_tile, row, column = tile_position(tl.program_id(0), B, R, RT, C, CT)
    j = tl.minimum(row_tile * (R * RT) + row, J - 1)
    b = tl.minimum(column_tile * (C * CT) + column, B - 1)
    PARAMETERS: tl.constexpr = 5 if MASKS else 3
    INPUTS: tl.constexpr = 2 if MASKS else 1
    rows = row_panels + row_tile * steps * (PARAMETERS * R * RT)
    columns = column_panels + column_tile * steps * (INPUTS * C * CT)
    span, near_row, near_column = steps // ST, row, column
    part = (tl.arange(0, ST) * span)[None, None, :, None, None]
    row = lanes(R, RT)[:, None, None, :, None] + part * (PARAMETERS * R * RT)
    column = lanes(C, CT)[None, :, None, None, :] + part * (INPUTS * C * CT)
    total, left = _sums(
        rows, columns, row, column, None, threshold, span, False, MASKS, R, RT, C, CT, ST
    )  # fmt: skip
    left = tl.sum(left, 2)
    redo = total < UNDERFLOW  # false for NaN, which stays
    delta = tl.zeros_like(total)
    alone = left == 0.0
    if tl.max(redo.to(tl.int32)) > 0:
        tl.store(lowest, -1.0)
        top, _ = _sums(rows, columns, row, column, None, threshold, span, True, MASKS, R, RT, C, CT, ST)
        delta = tl.where(redo & (top > float("-inf")), top, 0.0)
        shift = tl.expand_dims(delta, 2)
        total, _ = _sums(rows, columns, row, column, shift, threshold, span, False, MASKS, R, RT, C, CT, ST)
        if MASKS:
            delta, total, left = _heaviest_alone(
                rows, columns, near_row, near_column, tl.load(heaviest + j), delta, total, left, R, RT, C, CT
            )
    left = left if MASKS == 2 else None
    write_outputs(out, state, statistics + 2 * J, None, b, j, B, J, delta, total, left)
    if MASKS:
        tl.store(state + (b * J + j), tl.where(alone, 1.0, delta))


@triton.jit(do_not_specialize=SIZES)
def layer_gradients(
    by_neuron, by_example, parameter_panels, input_panels, x, mean, scale, coefficient, lowest, sums, grad_x,
    words, odd, heaviest, logits, statistics, threshold, B, J, K, span, splits, inputs, MASKS: tl.constexpr,
    R: tl.constexpr, RT: tl.constexpr, C: tl.constexpr, CT: tl.constexpr,
    INPUT_R: tl.constexpr, INPUT_RT: tl.constexpr,
):  # fmt: skip
    """``input_kernel`` in the first programs, as many as ``inputs`` says, and then ``parameter_kernel``.

    ``sums``, (3, splits, J, K), are the gradients of mean, log_std and log-weights.
    """
    program = tl.program_id(0)
    if program < inputs:
        input_tile(
            program, program // inputs, by_example, parameter_panels, x, None, lowest, grad_x, None, B, J, K,
            J, INPUT_R, INPUT_RT, C, CT, words, threshold, heaviest, MASKS,
        )  # fmt: skip
    else:
        tiles, size = tl.cdiv(J, R * RT) * tl.cdiv(K, C * CT), splits.to(tl.int64) * J * K
        program -= inputs
        parameter_tile(
            program % tiles, program // tiles, by_neuron, input_panels, mean, scale, coefficient, lowest,
            sums, sums + size, sums + 2 * size, B, J, K, span, False, R, RT, C, CT, odd, threshold, heaviest,
            logits, statistics, MASKS,
        )  # fmt: skip


def tile_for(examples: int, neurons: int) -> _Tile:
    """The tile of outputs: of the first two the one that computes less beyond the end, if they are many."""
    wide = min(TILES[:2], key=lambda tile: tile.count(neurons, examples) * tile.rows * tile.columns)
    many = (tile for tile in (wide, *TILES[2:]) if tile.count(neurons, examples) >= _FILLED)
    return next(many, TILES[-1])


def blocks(rows: int) -> dict[str, int]:
    """What a program of the kernels around the loops takes at a time: of few rows one, for many programs."""
    return {"ROWS": 1, "BLOCK": 512} if rows < 2048 else {"ROWS": 8, "BLOCK": 64}


def unfilled(x: Tensor, mean: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`forward` fills; its last argument says whether the weight that is left is kept, too."""
    out, state = outputs_and_state(x, mean)
    divides = len(others) > 9 and others[9]
    return out, x.new_empty((3, *out.shape)) if divides else state, x.new_empty(1)


def unfilled_gradients(grad: Tensor, x: Tensor, mean: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """What :func:`backward` fills; two of its arguments say whether x and the parameters have any."""
    needs_x, needs_parameters = others[8:10]
    return x.new_empty(x.shape if needs_x else (0,)), x.new_empty((3, *mean.shape) if needs_parameters else 0)


def forward(
    x: Tensor, mean: Tensor, log_std: Tensor, logits: Tensor, penalty: Tensor | None,
    mode: int, low: float, high: float, words: Tensor | None = None, odd: Tensor | None = None,
    threshold: int = 0, divides: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Outputs, their state, and a number below zero if a sum had vanished. For masks see ``transform``."""
    x, mean, *learnt, mode = _read(x, mean, log_std, logits, penalty, mode)
    (b, k), j = x.shape, mean.shape[0]
    tile, block = tile_for(b, j), blocks(b + j)
    steps = -(-k // (tile.ST * UNROLL.value)) * tile.ST * UNROLL.value
    j_tiles, b_tiles = -(-j // tile.rows), -(-b // tile.columns)
    neurons, examples = (n // block["ROWS"] for n in (j_tiles * tile.rows, b_tiles * tile.columns))
    out, state, lowest = unfilled(x, mean, *(None,) * 9, divides)
    masks, tables = _tables(x, j, words, odd, divides)
    statistics, sizes = x.new_empty(3, j), (5, 2) if masks else (3, 1)
    panels = [
        x.new_empty(j_tiles, steps, sizes[0], tile.rows),
        x.new_empty(b_tiles, steps, sizes[1], tile.columns),
    ]
    _launch(
        wrap_triton(layer_panels), neurons + examples, x, mean, *learnt, low, high, *tables, statistics,
        *panels, lowest, *(x,) * 6, b, j, k, steps, neurons, 0, 0, MODE=mode, BACKWARD=False,
        PARAMETER_WIDTH=tile.rows, INPUT_WIDTH=tile.columns, NEURONS=1, EXAMPLES=1, MASKS=masks, **block,
    )  # fmt: skip
    _launch(
        wrap_triton(layer_outputs), j_tiles * b_tiles, *panels, statistics, tables[2], out, state, lowest,
        threshold, b, j, steps, MASKS=masks, **asdict(tile),
    )  # fmt: skip
    return out, state, lowest


def backward(
    grad: Tensor, x: Tensor, mean: Tensor, log_std: Tensor, logits: Tensor, penalty: Tensor | None,
    state: Tensor, lowest: Tensor, mode: int, low: float, high: float, needs_x: bool, needs_parameters: bool,
    words: Tensor | None = None, odd: Tensor | None = None, threshold: int = 0, divides: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of x, (B, K), and of mean, log_std and logits, (3, J, K); what is not needed is empty."""
    x, mean, *learnt, mode = _read(x, mean, log_std, logits, penalty, mode)
    (b, k), j = x.shape, mean.shape[0]
    tile, block = PARAMETER_TILE, blocks(b + j)
    b_tiles, j_tiles, k_tiles = -(-b // INPUT_TILE.rows), -(-j // tile.rows), -(-k // tile.columns)
    neurons = -(-j // block["ROWS"])
    masks, tables = _tables(x, j, words, odd, divides)
    sizes = (4, 2) if masks else (3, 1)
    panels = [x.new_empty(k_tiles, rows, n, tile.columns) for rows, n in zip((j, b), sizes, strict=True)]
    g = x.new_empty(j_tiles, b, 3 if divides else 2, tile.rows), x.new_empty(b_tiles, j, 2, INPUT_TILE.rows)
    coefficients, statistics = (torch.empty_like(mean), torch.empty_like(mean)), x.new_empty(3, j)
    _launch(
        wrap_triton(layer_panels), neurons + b_tiles * INPUT_TILE.rows // block["ROWS"], x, mean, *learnt,
        low, high, *tables, statistics, *panels, lowest, *coefficients, grad, state, *g, b, j, k,
        k_tiles * tile.columns, neurons, *grad.stride(), MODE=mode, BACKWARD=True,
        PARAMETER_WIDTH=tile.columns, INPUT_WIDTH=tile.columns, NEURONS=tile.rows, EXAMPLES=INPUT_TILE.rows,
        MASKS=masks, **block,
    )  # fmt: skip
    grad_x, gradients = unfilled_gradients(grad, x, mean, *(None,) * 8, needs_x, needs_parameters)
    split, span = splits(parameter_kernel, j_tiles * k_tiles, b)
    sums = x.new_empty((3, split, j, k) if needs_parameters else (1,))
    inputs, parameters = needs_x * b_tiles * k_tiles, needs_parameters * j_tiles * k_tiles * split
    _launch(
        wrap_triton(layer_gradients), inputs + parameters, *g, *panels, x, mean, *coefficients, lowest,
        sums, grad_x, *tables, learnt[1], statistics, threshold, b, j, k, span, split, inputs, MASKS=masks,
        **asdict(tile), INPUT_R=INPUT_TILE.R, INPUT_RT=INPUT_TILE.RT,
    )  # fmt: skip
    if needs_parameters:
        _launch(
            wrap_triton(layer_finish), neurons, sums, *learnt, low, high, statistics, gradients, j, k,
            split, MODE=mode, **block,
        )  # fmt: skip
    return grad_x, gradients


def _tables(
    x: Tensor, neurons: int, words: Tensor | None, odd: Tensor | None, divides: bool
) -> tuple[int, tuple[Tensor, ...]]:
    """How kernels mask, and words of examples and neurons, and the heaviest components, to be filled."""
    if words is None or odd is None:
        return 0, (x,) * 3
    return 1 + divides, (words.contiguous(), odd.contiguous(), words.new_empty(neurons))


def wrap_triton(kernel: Any) -> Any:
    """PyTorch's function of this name, which lets compilers see a kernel, where that is possible."""
    return kernel if OPAQUE else torch.library.wrap_triton(kernel)


def _read(*arguments: Any) -> tuple[Any, ...]:
    """Contiguous tensors and the mode; without a penalty it is zero, and another tensor stands in for it."""
    *tensors, penalty, mode = arguments
    tensors = [t.contiguous() for t in tensors]
    return *tensors, *((tensors[-1], 0) if penalty is None else (penalty.contiguous(), mode))


def _launch(kernel: Any, programs: int, *arguments: Any, **constants: int) -> None:
    options = MASKED_OPTIONS if constants.get("MASKS") else OPTIONS
    with torch.cuda.device_of(arguments[0]), np.errstate(all="ignore"):  # as in triton_tiles.launch
        kernel[(programs,)](*arguments, **constants, **options)
