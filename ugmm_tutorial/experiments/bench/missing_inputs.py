"""The section on what leaves single examples: missing inputs, and components that their own masks drop."""

from __future__ import annotations

import math
from functools import partial

import torch

from ugmm_tutorial import kernels
from ugmm_tutorial.experiments.bench.rows import Report, Row
from ugmm_tutorial.experiments.bench.timing import gradients, in_turns
from ugmm_tutorial.experiments.bench.verdicts import Target, at_most, exactly
from ugmm_tutorial.layers.ablations import PerExampleDropoutLayer
from ugmm_tutorial.layers.dense import UGMMLayer

__all__ = ["missing", "missing_targets"]

_LAYERS = ((256, 16, 256), (128, 784, 128), (64, 60, 256))
_WAYS = ("drop", "renormalize")


def missing(device: str, quick: bool) -> list[Row]:
    """Rows that lack one input in ten against whole ones, and a mask for every example against one for all.

    On a CPU, on one thread.
    """
    if device != "cpu" or kernels.unavailable("numba"):
        return []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        return [row for shape in _LAYERS for row in _of_layer(shape, 0.3 if quick else 10.0)]
    finally:
        torch.set_num_threads(before)


def missing_targets(report: Report) -> list[Target]:
    """The targets for missing inputs and masks."""
    found = []
    for shape in _LAYERS:
        sizes = dict(zip(("batch", "inputs", "outputs"), shape, strict=True))
        time = partial(report.value, section="missing", **sizes)
        for way in _WAYS:
            what = f"rows that lack inputs against whole ones, {way}, {_words(shape)}"
            lacking, whole = (time(implementation=f"{r}, {way}") for r in ("lacking inputs", "whole rows"))
            found.append(at_most(what, 1.1, exactly, lacking, whole))
        what = f"a mask for every example against one, {_words(shape)}"
        each, one = (time(implementation=f"a mask for {w}") for w in ("every example", "the batch"))
        found.append(at_most(what, 1.3, exactly, each, one))
    return found


def _words(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]}, {shape[1]} to {shape[2]}"


def _of_layer(shape: tuple[int, int, int], patience: float) -> list[Row]:
    b, k, j = shape
    upstream = torch.ones(b, j)
    whole = torch.randn(b, k, generator=torch.Generator().manual_seed(0))
    lacking = whole.masked_fill(torch.arange(b * k).view(b, k) % 10 == 0, math.nan)
    reads = {way: UGMMLayer(k, j, missing=way) for way in _WAYS}
    functions = {}
    for name, layer, x in (
        *((f"whole rows, {way}", layer, whole) for way, layer in reads.items()),
        *((f"lacking inputs, {way}", layer, lacking) for way, layer in reads.items()),
        ("a mask for the batch", UGMMLayer(k, j, dropout=0.5), whole),
        ("a mask for every example", PerExampleDropoutLayer(k, j, dropout=0.5), whole),
    ):
        functions[name] = partial(gradients, layer, x, list(layer.parameters()), upstream)
    timed = in_turns(functions, seconds=patience)
    return [Row("missing", name, *shape, 1, "both", *found, unit="s") for name, found in timed.items()]
