"""The section of whole networks: a step of training, and inference, for the book's comparisons."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ugmm_tutorial.bench.rows import Row
from ugmm_tutorial.bench.timing import in_turns
from ugmm_tutorial.networks import PRESETS, preset
from ugmm_tutorial.steps import CapturedStep, Step

__all__ = ["networks"]

_BATCH, _AT_ONCE = 128, 1000
#: Beside the paper's: as many parameters as the uGMM network, and larger ones to find one of its time.
_WIDER = ((784, 352, 128, 10), (784, 1024, 512, 10), (784, 2048, 1024, 10))
#: A head that gives a convolutional network as many parameters as one of mixtures.
_WIDE_HEAD = (363, 128, 10)


def networks(device: str, quick: bool) -> list[Row]:
    """Seconds for a training step on 128 images, and for the classes of 1000 images.

    On a GPU the step is timed twice: as Python launches it, and replayed as one CUDA graph.
    """
    torch.manual_seed(0)
    builders: dict[str, Callable[[], nn.Module]] = {name: lambda n=name: preset(n) for name in PRESETS}
    builders["MLP + LayerNorm"] = lambda: preset("MLP", norm="layer")
    for widths in _WIDER:
        builders[_called("MLP", widths)] = lambda w=widths: preset("MLP", widths=w)
    name = f"{_called('MLP', _WIDER[0])} + LayerNorm"
    builders[name] = lambda: preset("MLP", widths=_WIDER[0], norm="layer")
    builders[_called("CNN-MLP, head", _WIDE_HEAD)] = lambda: preset("CNN-MLP", widths=_WIDE_HEAD)
    steps, graphs, inference = {}, {}, {}
    for name, build in builders.items():
        shape = (1, 28, 28) if name.startswith("CNN") else (784,)
        steps[name] = _step(build().to(device).train(), shape, device)
        if device != "cpu":
            graphs[name] = _step(build().to(device).train(), shape, device, CapturedStep)
        inference[name] = _inference(build().to(device).eval(), shape, device)
    # A GPU does one thing at a time: its times scatter less than those of a processor that others use.
    seconds = len(builders) * (0.2 if quick else 3.0 if device == "cpu" else 1.0)
    rows = []
    measured = (("step", steps, _BATCH), ("graph", graphs, _BATCH), ("inference", inference, _AT_ONCE))
    for measure, functions, batch in measured:
        if not functions:
            continue
        for name, times in in_turns(functions, seconds=seconds, device=device).items():
            rows.append(Row("networks", name, batch, 784, 10, 1, measure, *times, unit="s"))
    return rows


def _called(kind: str, widths: tuple[int, ...]) -> str:
    return f"{kind} {'-'.join(map(str, widths))}"


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
