"""The section that tries other tiles in the kernels for GPUs, at large sizes and small ones.

Tiles are constants of the kernels, so that the same arguments are summed in the same order everywhere. This
section says which constants would serve the device at hand better. What it times is also compared: a tile
may change the last digits only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ugmm_tutorial import kernels
from ugmm_tutorial.experiments.bench.rows import Report, Row
from ugmm_tutorial.experiments.bench.timing import in_turns
from ugmm_tutorial.experiments.bench.verdicts import Target, at_most, exactly
from ugmm_tutorial.functional import ugmm_log_density
from ugmm_tutorial.layers.dense import UGMMLayer

__all__ = ["tiles", "tiles_target"]

_SHAPES = ((4096, 1024, 1024), (128, 784, 128), (32, 64, 10))
# R, RT, C, CT of a tile, with ST for the layer's: 128 threads each.
_OPERATOR = (
    (2, 8, 4, 16),
    (2, 32, 4, 4),
    (1, 8, 4, 16),
    (2, 8, 2, 16),
    (4, 8, 2, 16),
    (4, 8, 4, 16),
    (2, 16, 4, 8),
)
_LAYER = (
    *((*tile, 1) for tile in _OPERATOR),
    (2, 8, 4, 4, 4),
    (1, 8, 4, 2, 8),
    (1, 8, 2, 4, 4),
    (2, 4, 4, 8, 4),
)
# Those of parameters and inputs, whose columns are the same in the layer.
_GRADIENTS = (
    ((2, 8, 2, 16), (4, 8, 2, 16)),
    ((1, 8, 2, 16), (4, 8, 2, 16)),
    ((2, 8, 2, 16), (2, 8, 2, 16)),
    ((4, 8, 2, 16), (4, 8, 2, 16)),
    ((2, 8, 4, 16), (2, 8, 4, 16)),
    ((2, 16, 2, 8), (4, 16, 2, 8)),
)
_LIKE = 1e-4  # relative, norm over norm

Run = Callable[[], tuple[Tensor, ...]]


def tiles(device: str, quick: bool) -> list[Row]:
    """Seconds of the operator and of the layer with every candidate; none without a GPU."""
    if (device == "cpu" and not kernels.interpreted()) or kernels.unavailable("triton"):
        return []
    patience = 1.0 if quick else 8.0
    return [row for shape in _SHAPES for row in _of_shape(shape, device, patience)]


def tiles_target(report: Report) -> Target:
    """How much longer the tiles that the kernels take need than the best candidate, at worst."""
    groups: dict[tuple, dict[bool, list[float]]] = {}
    for row in report.select(section="tiles"):
        kind = row.implementation.partition(":")[0], row.batch, row.inputs, row.outputs
        ours = row.implementation.endswith("chosen")
        groups.setdefault(kind, {True: [], False: []})[ours].append(row.value)
    ratios = [min(of[True]) / min(of[True] + of[False]) for of in groups.values() if of[True]]
    return at_most("GPU, tiles as they are against the best", 1.1, exactly, max(ratios, default=None), 1.0)


def _of_shape(shape: tuple[int, int, int], device: str, patience: float) -> Iterable[Row]:
    from ugmm_tutorial.kernels import triton_layer, triton_tiles

    of_operator, of_layer = triton_tiles.Tile, type(triton_layer.TILES[0])
    chosen = triton_tiles.sum_tile(shape[0], shape[2]), triton_layer.tile_for(shape[0], shape[2])
    pair = triton_tiles.PARAMETER_TILE, triton_tiles.INPUT_TILE
    pairs = [pair, *(tuple(of_operator(*sizes) for sizes in sizes_of) for sizes_of in _GRADIENTS)]
    for kind, name, own, sizes_of in (
        ("operator", "SUM_TILES", chosen[0], [of_operator(*sizes) for sizes in _OPERATOR]),
        ("layer", "TILES", chosen[1], [of_layer(*sizes) for sizes in _LAYER]),
    ):
        forward, both = _runs(kind, shape, device)
        outputs = {_name(tile): {name: (tile,)} for tile in (own, *sizes_of)}
        gradients = {_name(*two): {"PARAMETER_TILE": two[0], "INPUT_TILE": two[1]} for two in pairs}
        for what, run, candidates, tiles_of in (
            ("outputs", forward, outputs, _name(own)),
            ("gradients", both, gradients, _name(*pair)),
        ):
            functions = _checked(f"{kind}, {what}", run, candidates, tiles_of)
            timed = in_turns(functions, seconds=patience, device=device)
            measure = "forward" if what == "outputs" else "both"
            for row, found in timed.items():
                yield Row("tiles", row, *shape, 1, measure, *found, "s")


def _name(*tiles: Any) -> str:
    sizes = [f"{t.R} x {t.C} of {t.RT} x {t.CT}" for t in tiles]
    parts = f" in {tiles[0].ST}" if getattr(tiles[0], "ST", 1) > 1 else ""
    return " and ".join(sizes) + parts


def _checked(what: str, run: Run, candidates: dict[str, dict[str, Any]], chosen: str) -> dict[str, Run]:
    """The call with each candidate that the device can run, by name.

    Raises:
        RuntimeError: one of them computes something else.
    """
    wanted = run()
    functions = {}
    for name, constants in candidates.items():
        other = partial(_run_with, constants, run)
        try:
            found = other()
        except Exception as error:
            if type(error).__name__ != "OutOfResources":
                raise
            continue
        for one, reference in zip(found, wanted, strict=True):
            if not (one - reference).norm() <= _LIKE * reference.norm():
                raise RuntimeError(f"{what}: the tile {name} computes something else")
        functions[f"{what}: {name}{', chosen' * (name == chosen)}"] = other
    return functions


def _runs(kind: str, shape: tuple[int, int, int], device: str) -> tuple[Run, Run]:
    """Calls that make outputs, and gradients of everything."""
    b, k, j = shape
    torch.manual_seed(0)
    layer = UGMMLayer(k, j, backend="triton").to(device)
    x, upstream = torch.randn(b, k, device=device).requires_grad_(), torch.randn(b, j, device=device)
    if kind == "layer":
        leaves, call = [x, *layer.parameters()], partial(layer, x)
    else:
        with torch.no_grad():
            log_weight = layer.mix_logits.log_softmax(dim=-1)
        leaves = [x, *(t.detach().requires_grad_() for t in (layer.mean, layer.log_std, log_weight))]
        call = partial(ugmm_log_density, *leaves, backend="triton")

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (call(),)

    return forward, lambda: torch.autograd.grad(call(), leaves, upstream)


def _run_with(constants: dict[str, Any], run: Run) -> tuple[Tensor, ...]:
    with _instead(constants):
        return run()


@contextmanager
def _instead(constants: dict[str, Any]) -> Iterator[None]:
    """The kernels with other constants, in every module that has them by these names."""
    from ugmm_tutorial.kernels import triton_kernels, triton_layer, triton_tiles

    modules: tuple[ModuleType, ...] = (triton_tiles, triton_kernels, triton_layer)
    before = [(m, name, getattr(m, name)) for m in modules for name in constants if hasattr(m, name)]
    try:
        for module, name, _ in before:
            setattr(module, name, constants[name])
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
