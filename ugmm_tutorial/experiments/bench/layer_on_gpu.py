"""The section on the paper's first layer on a GPU: launched step by step, as one graph, and compiled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ugmm_tutorial import kernels
from ugmm_tutorial.experiments.bench.rows import Report, Row
from ugmm_tutorial.experiments.bench.timing import in_turns
from ugmm_tutorial.experiments.bench.verdicts import Target, at_most, milliseconds, times
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.training.cuda_graphs import record, run_aside

__all__ = ["layer", "layer_targets", "recorded"]

_SHAPE = (128, 784, 128)
_BACKENDS = {"gpu": "auto", "eager": "reference"}


def layer(device: str, quick: bool) -> list[Row]:
    """Forward and backward of the layer with its fused kernels, and as the broadcast."""
    if device == "cpu" or kernels.unavailable("triton"):
        return []
    runs = {name: _run(name, _SHAPE, device) for name in _BACKENDS}
    measured = {"both": runs, "graph": {name: recorded(run) for name, run in runs.items()}}
    if not quick:
        measured["compiled"] = {name: _run(name, _SHAPE, device, compiled=True) for name in _BACKENDS}
    rows = []
    for measure, functions in measured.items():
        timed = in_turns(functions, seconds=0.5 if quick else 6.0, device=device)
        rows += [Row("layer", name, *_SHAPE, 1, measure, *found, "s") for name, found in timed.items()]
    return rows


def layer_targets(report: Report) -> list[Target]:
    """The targets for this layer on a GPU."""

    def seconds(measure: str, name: str = "gpu") -> float | None:
        return report.value(section="layer", implementation=name, measure=measure)

    compiled = seconds("compiled"), seconds("compiled", "eager")
    what = "GPU, the paper's layer"
    return [
        at_most(f"{what}, launched", 0.3, milliseconds, seconds("both"), 1e-3),
        at_most(f"{what}, as a graph", 0.06, milliseconds, seconds("graph"), 1e-3),
        at_most(f"{what} compiled, against the broadcast compiled", 1, times, *compiled),
    ]


def recorded(run: Callable[[], object]) -> Callable[[], None]:
    """The same call as one CUDA graph, without the time in which Python and PyTorch launch its kernels."""
    for _ in range(3):
        run_aside(run)
    graph, _ = record(run)
    return graph.replay


def _run(
    name: str, shape: tuple[int, int, int], device: str, *, compiled: bool = False
) -> Callable[[], tuple[Tensor, ...]]:
    """A call that makes the gradients of inputs and parameters."""
    b, k, j = shape
    torch.manual_seed(0)
    one = UGMMLayer(k, j, backend=_BACKENDS[name]).to(device)
    x, upstream = torch.rand(b, k, device=device).requires_grad_(), torch.ones(b, j, device=device)
    wanted = [x, *one.parameters()]
    # As a graph inside torch.compile, which has to be told where an iteration ends.
    forward = torch.compile(one, mode="reduce-overhead", dynamic=False) if compiled else one

    def run() -> tuple[Tensor, ...]:
        if compiled:
            torch.compiler.cudagraph_mark_step_begin()
        return torch.autograd.grad(forward(x), wanted, upstream)

    return run
