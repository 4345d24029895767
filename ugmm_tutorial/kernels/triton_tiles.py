"""How the Triton kernels cut up their work: tiles, splits, panels, launches. Taught in chapter 3.

Everything here depends only on shapes, never on the device or on timings. So the same arguments are summed in
the same order everywhere, and a machine without a GPU can compile and inspect whatever a GPU would run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ugmm_tutorial.kernels import triton_backward, triton_forward
from ugmm_tutorial.kernels.triton_elements import SIZES, UNROLL

__all__ = ["FINISH_COLUMNS", "INPUT_TILE", "PARAMETER_TILE", "SUM_TILES", "Configuration", "Tile"]
__all__ += ["configurations", "finish_columns", "finish_configuration", "finish_programs"]
__all__ += ["input_configuration", "launch"]
__all__ += ["panels", "parameter_configuration", "splits", "sum_configuration", "sum_tile"]

# How many programs fill a large GPU, and the fewest steps of the summed axis that are worth a program. With
# these, partial sums take less memory than arguments and gradients; more splits would need more.
_PROGRAMS = 512
_FEWEST_STEPS = {"sum_kernel": 32, "input_kernel": 32, "parameter_kernel": 64}
# Registers per thread, without and with a background: few enough for 12 or more warps per multiprocessor (20
# where 96 suffice), and enough to spill none.
_REGISTERS = {
    "sum_kernel": (96, 96),
    "parameter_kernel": (96, 96),
    "input_kernel": (96, 168),
    "finish_kernel": (128, 168),
}


@dataclass(frozen=True)
class Tile:
    """R x C elements in the registers of each of RT x CT threads (see ``triton_elements``)."""

    R: int
    RT: int
    C: int
    CT: int

    @property
    def rows(self) -> int:
        return self.R * self.RT

    @property
    def columns(self) -> int:
        return self.C * self.CT

    def count(self, rows: int, columns: int) -> int:
        """How many tiles cover ``rows`` x ``columns``."""
        return -(-rows // self.rows) * -(-columns // self.columns)


# With 8 elements a thread reads 1.25 numbers per element. With 16 it would read one, but needs more than 96
# registers: on an H100 that took half as long again with 96, and 7 % longer with 128. The second tile is for
# few examples.
SUM_TILES = (Tile(2, 8, 4, 16), Tile(2, 32, 4, 4))
PARAMETER_TILE = Tile(2, 8, 2, 16)
INPUT_TILE = Tile(4, 8, 2, 16)
# Columns of outputs for one warp of the finishing kernel: one strip, or many if there are many outputs.
FINISH_COLUMNS = (2, 32)
_MANY_OUTPUTS = 1 << 17


def sum_tile(examples: int, neurons: int) -> Tile:
    """The forward tile that computes the fewest elements beyond the end; the first if both are equal."""
    return min(SUM_TILES, key=lambda tile: tile.count(neurons, examples) * tile.rows * tile.columns)


def finish_columns(examples: int, neurons: int) -> int:
    """Few outputs get as many programs as possible, because each program may have to redo its own."""
    return FINISH_COLUMNS[examples * neurons >= _MANY_OUTPUTS]


def finish_programs(columns: int, examples: int, neurons: int) -> int:
    """How many programs of the finishing kernel cover the outputs."""
    return -(-examples // triton_forward.STRIP_ROWS.value) * -(-neurons // columns)


def splits(kernel: Any, tiles: int, steps: int) -> tuple[int, int]:
    """Into how many programs to split the summed axis of each tile, and how many steps each takes."""
    wanted = min(_PROGRAMS // tiles, steps // _FEWEST_STEPS[kernel.__name__])
    span = -(-steps // max(1, wanted))
    span += -span % UNROLL.value
    return -(-steps // span), span


def panels(width: int, *quantities: Tensor) -> Tensor:
    """Pack quantities of shape (steps, size) as (tiles, steps, quantities, width).

    So a tile finds the numbers of one step in one place, followed by those of the next step. The last panel
    repeats the last column: what is computed there repeats a result and may be stored in its place.
    """
    steps, size = quantities[0].shape
    tiles = -(-size // width)
    packed = quantities[0].new_empty(tiles, steps, len(quantities), width)
    for i, quantity in enumerate(quantities):
        if tiles * width > size:
            quantity = F.pad(quantity, (0, tiles * width - size), mode="replicate")
        packed[:, :, i] = quantity.unflatten(1, (tiles, width)).transpose(0, 1)
    return packed


class Configuration(NamedTuple):
    """A kernel to compile, with its compile-time constants and the compiler's options."""

    kernel: Any
    background: bool
    constants: dict[str, int | bool | None]

    @property
    def options(self) -> dict[str, int | bool]:
        name = self.kernel.__name__
        return {
            "num_warps": 1 if name == "finish_kernel" else 4,
            "maxnreg": _REGISTERS[name][self.background],
            # Fusing x*y+z anywhere would round the same exponent differently in different kernels.
            "enable_fp_fusion": False,
        }

    def signature(self) -> dict[str, str]:
        """The types of the arguments, as Triton writes them."""
        sizes = dict.fromkeys(SIZES, "i32") | dict.fromkeys(self.constants, "constexpr")
        return {name: sizes.get(name, "*fp32") for name in self.kernel.arg_names}


def sum_configuration(tile: Tile, background: bool) -> Configuration:
    """The kernel that adds up exponentials, with tiles of this size."""
    return Configuration(triton_forward.sum_kernel, background, {"BACKGROUND": background, **asdict(tile)})


def parameter_configuration(background: bool) -> Configuration:
    """The kernel of the parameters' gradients."""
    constants = {"BACKGROUND": background, **asdict(PARAMETER_TILE)}
    return Configuration(triton_backward.parameter_kernel, background, constants)


def input_configuration(background: bool) -> Configuration:
    """The kernel of the inputs' gradients."""
    absent = {} if background else {"n": None, "grad_n": None}
    return Configuration(triton_backward.input_kernel, background, {**absent, **asdict(INPUT_TILE)})


def finish_configuration(columns: int, background: bool) -> Configuration:
    """The kernel that makes outputs of sums, with this many columns for each warp."""
    absent = {} if background else {"n": None, "background_shift": None}
    return Configuration(triton_forward.finish_kernel, background, {**absent, "COLUMNS": columns})


def configurations() -> Iterator[Configuration]:
    """Every configuration that can be launched."""
    for background in (False, True):
        yield from (sum_configuration(tile, background) for tile in SUM_TILES)
        yield from (finish_configuration(columns, background) for columns in FINISH_COLUMNS)
        yield parameter_configuration(background)
        yield input_configuration(background)


def launch(configuration: Configuration, grid: tuple[int, ...], **arguments: Tensor | int | None) -> None:
    """Run a kernel on the device of its tensors; arguments that are None belong to its constants."""
    given = {name: value for name, value in arguments.items() if value is not None}
    tensor = next(value for value in given.values() if isinstance(value, Tensor))
    # Triton launches on the current device, whatever the tensors' device is. Its interpreter uses NumPy,
    # which would warn of the infinities and NaN that a GPU passes on silently.
    with torch.cuda.device_of(tensor), np.errstate(all="ignore"):
        configuration.kernel[grid](**given, **configuration.constants, **configuration.options)
