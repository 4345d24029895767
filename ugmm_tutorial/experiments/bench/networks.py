"""The section on whole networks: times of a training step and of inference, for the book's comparisons."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import nn

from ugmm_tutorial.experiments.bench.rows import Row
from ugmm_tutorial.experiments.bench.timing import in_turns
from ugmm_tutorial.experiments.catalogue import WIDE, WIDE_HEAD
from ugmm_tutorial.networks import PRESETS, ConvNet, preset
from ugmm_tutorial.training import identity
from ugmm_tutorial.training.steps import CapturedStep, Step

__all__ = ["TIMED", "networks", "timed_as"]

_BATCH, _AT_ONCE = 128, 1000
#: The networks that are timed, by their names in the rows.
TIMED: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(preset, name) for name in PRESETS},
    "MLP + LayerNorm": partial(preset, "MLP", norm="layer"),
    "MLP 784-352-128-10": partial(preset, "MLP", widths=WIDE),
    # Two larger MLPs, to find one that takes as long as the uGMM network.
    "MLP 784-1024-512-10": partial(preset, "MLP", widths=(784, 1024, 512, 10)),
    "MLP 784-2048-1024-10": partial(preset, "MLP", widths=(784, 2048, 1024, 10)),
    "MLP 784-352-128-10 + LayerNorm": partial(preset, "MLP", widths=WIDE, norm="layer"),
    "CNN-MLP, head 363-128-10": partial(preset, "CNN-MLP", widths=WIDE_HEAD),
}


def networks(device: str, quick: bool) -> list[Row]:
    """Seconds for a training step on 128 images, and for predicting the classes of 1000 images.

    On a GPU the step is timed twice: launched from Python, and replayed as one CUDA graph.
    """
    torch.manual_seed(0)
    steps, graphs, inference = {}, {}, {}
    for name, build in TIMED.items():
        shape = (1, 28, 28) if isinstance(build(), ConvNet) else (784,)
        steps[name] = _step(build().to(device).train(), shape, device)
        if device != "cpu":
            graphs[name] = _step(build().to(device).train(), shape, device, CapturedStep)
        inference[name] = _inference(build().to(device).eval(), shape, device)
    # A GPU does one thing at a time, so its times scatter less than those of a shared CPU.
    seconds = len(TIMED) * (0.2 if quick else 3.0 if device == "cpu" else 1.0)
    rows = []
    measured = (("step", steps, _BATCH), ("graph", graphs, _BATCH), ("inference", inference, _AT_ONCE))
    for measure, functions, batch in measured:
        if not functions:
            continue
        for name, times in in_turns(functions, seconds=seconds, device=device).items():
            rows.append(Row("networks", name, batch, 784, 10, 1, measure, *times, unit="s"))
    return rows


def timed_as(network: nn.Module) -> str | None:
    """The name in ``TIMED`` of a network with the same operations and sizes; None if there is none.

    The values of parameters and of most options do not matter.
    """
    mine = _operations(network)
    return next((name for name, theirs in _operations_of_timed().items() if mine == theirs), None)


@cache
def _operations_of_timed() -> dict[str, list[tuple]]:
    return {name: _operations(build()) for name, build in TIMED.items()}


def _operations(network: nn.Module) -> list[tuple]:
    """For every module without submodules: its class, its shapes, and whether and how it applies dropout."""
    found = []
    for name, module in identity.describe(network).items():
        if next(network.get_submodule(name).children(), None) is None:
            options = module["options"]
            drops = max(options.get("p", 0.0), options.get("dropout", 0.0)) > 0.0
            found.append((module["class"], module["shapes"], drops and options.get("dropout_mode", True)))
    return found


def _step(
    model: nn.Module, shape: tuple[int, ...], device: str, kind: type[Step] = Step
) -> Callable[[], object]:
    images = torch.rand(_BATCH, *shape, device=device)
    labels = torch.randint(10, (_BATCH,), device=device)
    recorded = kind is CapturedStep
    take = kind(model, torch.optim.Adam(model.parameters(), lr=1e-3, fused=True, capturable=recorded))
    return lambda: take(images, labels)


def _inference(model: nn.Module, shape: tuple[int, ...], device: str) -> Callable[[], object]:
    images = torch.rand(_AT_ONCE, *shape, device=device)

    def classes() -> torch.Tensor:
        with torch.no_grad():
            return model(images).argmax(dim=1)

    return classes
