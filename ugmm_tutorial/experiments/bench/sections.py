"""The sections of the benchmark. Each one measures and returns rows."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ugmm_tutorial import kernels
from ugmm_tutorial.experiments.bench.layer_on_gpu import recorded
from ugmm_tutorial.experiments.bench.rows import Row
from ugmm_tutorial.experiments.bench.timing import in_turns, peak_memory
from ugmm_tutorial.functional import ugmm_log_density
from ugmm_tutorial.kernels.reference import reference_log_density
from ugmm_tutorial.layers.dense import MixtureLayer
from ugmm_tutorial.networks import UGMMNet, preset
from ugmm_tutorial.training.steps import CapturedStep, Step

__all__ = ["LARGE", "PAPER", "accuracy", "left_out", "limit", "memory", "operator", "scaling", "step"]

PAPER = (128, 784, 128)  # batch, inputs, outputs of the first layer of the paper's network
_BACKENDS = {"cpu": "numba", "gpu": "triton"}
_CASES = {"cpu": (PAPER, (512, 256, 256)), "cuda": (PAPER, (4096, 1024, 1024))}
LARGE = (1024, 4096, 4096)
# The broadcast stores about this many numbers per element, forward and backward.
_BROADCAST_COPIES = 8


def limit(device: str, quick: bool) -> list[Row]:
    """Seconds for only the exponentials of the paper's first layer, and for copying memory.

    The seconds for exponentials are measured on a CPU, and calculated from the clock rate on a GPU.
    """
    return [*_arithmetic_limit(device, quick), _copy(device, quick)]


def _copy(device: str, quick: bool) -> Row:
    """Seconds to read and write a block far larger than any cache."""
    source = torch.zeros(1 << 26, device=device)
    target = torch.zeros_like(source)
    timed = in_turns({"copy": lambda: target.copy_(source)}, seconds=_patience(quick) / 4, device=device)
    return Row("limit", "copy", source.numel(), 1, 1, 1, "copy", *timed["copy"], unit="s")


def _arithmetic_limit(device: str, quick: bool) -> list[Row]:
    count = math.prod(PAPER)
    if device != "cpu":
        # Special-function units: 16 results per clock cycle and multiprocessor since Volta.
        properties = torch.cuda.get_device_properties(device)
        clock = getattr(properties, "clock_rate", None)  # kHz; not every version of PyTorch has it
        if clock is None:
            return []
        seconds = count / (properties.multi_processor_count * 16 * clock * 1e3)
        return [_row("limit", "exponentials", PAPER, "forward", (seconds, seconds))]
    if kernels.unavailable("numba"):
        return []
    from ugmm_tutorial.experiments.bench import limits

    functions = {
        "exponentials": lambda: limits.exponentials(count),
        "exponentials by integers": lambda: limits.exponentials_by_integers(count),
        "terms": lambda: limits.terms(count),
    }
    timed = in_turns(functions, seconds=_patience(quick))
    return [_row("limit", name, PAPER, "forward", times) for name, times in timed.items()]


def operator(device: str, quick: bool) -> list[Row]:
    """The operator in every implementation, beside a linear layer of the same width.

    On a GPU, forward and backward of the paper's first layer are also timed as a CUDA graph. This gives the
    time of the device alone.
    """
    rows = []
    for shape in _CASES[torch.device(device).type][: 1 if quick else None]:
        arguments = _arguments(shape, device)
        upstream = torch.randn(shape[0], shape[2], device=device)
        forward, both = {}, {}
        for name, function in _implementations(shape, device, compiled=not quick).items():
            leaves = [t.requires_grad_() for t in arguments[: 2 if name == "linear" else 4]]
            forward[name], both[name] = _forward(function, leaves), _both(function, leaves, upstream)
        for measure, functions in (("forward", forward), ("both", both)):
            rows += _timed(measure, functions, shape, device, quick)
        if device != "cpu" and shape == PAPER:  # larger shapes keep a device busy without a graph
            rows += _timed("graph", {n: recorded(run) for n, run in both.items()}, shape, device, quick)
        for name, run in both.items():
            rows.append(_extra("operator", name, shape, run, _returned(shape, name), device))
    return rows


def accuracy(device: str, quick: bool) -> list[Row]:
    """Relative error (norm over norm) of outputs and gradients against the reference in float64."""
    fused = "cpu" if device == "cpu" else "gpu"
    implementations = {"eager": reference_log_density}
    if kernels.unavailable(_BACKENDS[fused]) is None:
        implementations[fused] = _fused(fused)
    rows = []
    for shape in ((33, 61, 17), PAPER):
        arguments = _arguments(shape, device)
        upstream = torch.randn(shape[0], shape[2], device=device)
        truth = _results(reference_log_density, [t.double() for t in arguments], upstream.double())
        for name, function in implementations.items():
            results = _results(function, arguments, upstream)
            names = ("output", "grad x", "grad mean", "grad log_std", "grad log_weight")
            for measure, got, exact in zip(names, results, truth, strict=True):
                error = ((got.double() - exact).norm() / exact.norm()).item()
                rows.append(_row("accuracy", name, shape, measure, (error, error), unit="relative"))
    return rows


def step(device: str, quick: bool) -> list[Row]:
    """A training step of the paper's network, and its parts measured separately."""
    torch.manual_seed(0)
    model = preset("uGMM-NN").to(device).train()
    images, labels = torch.rand(4096, 784), torch.randint(10, (4096,))
    order = torch.randperm(4096)[:128]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True, capturable=device != "cpu")

    def batch() -> tuple[Tensor, Tensor]:
        return images.index_select(0, order).to(device), labels.index_select(0, order).to(device)

    take = Step(model, optimizer)
    take(*batch())
    functions = {
        "step": lambda: take(*batch()),
        "operator": _operators(model, batch()[0]),
        "dropout": lambda: _dropout(model[0]),
        "optimizer": optimizer.step,
        "batch": batch,
    }
    if device != "cpu":
        captured = CapturedStep(model, optimizer)
        functions["step as a CUDA graph"] = lambda: captured(*batch())
    timed = in_turns(functions, seconds=3 * _patience(quick), device=device)
    return [_row("step", name, PAPER, "step", times) for name, times in timed.items()]


def left_out(device: str, quick: bool) -> str | None:
    """Why the two sections on large layers, memory and scaling, are left out; None if they are measured."""
    if quick:
        return "it takes longer than quick=True (--quick) allows, leave that out"
    return kernels.unavailable("numba" if device == "cpu" else "triton")


def memory(device: str, quick: bool) -> list[Row]:
    """A layer that the broadcast cannot train: one (B, J, K) tensor has 69 GB, and it stores several."""
    if left_out(device, quick):
        return []
    fused = "cpu" if device == "cpu" else "gpu"
    arguments = [t.requires_grad_() for t in _arguments(LARGE, device)]
    both = _both(_fused(fused), arguments, torch.ones(LARGE[0], LARGE[2], device=device))
    both()
    timed = in_turns({"both": both}, seconds=0.0, device=device)["both"]
    extra = _extra("memory", fused, LARGE, both, _returned(LARGE, fused), device)
    return [_row("memory", fused, LARGE, "both", timed), extra]


def scaling(device: str, quick: bool) -> list[Row]:
    """Forward and backward of the fused operator as one of B, K, J or the depth varies."""
    if left_out(device, quick):
        return []
    fused = "cpu" if device == "cpu" else "gpu"
    b, k, j = PAPER
    factors = [2.0**i for i in range(-2, 4)]
    shapes = {(int(b * f), k, j) for f in factors} | {(b, int(k * f), j) for f in factors}
    shapes |= {(b, k, int(j * f)) for f in factors}
    functions: dict[tuple, Callable] = {}
    for shape in sorted(shapes):
        arguments = [t.requires_grad_() for t in _arguments(shape, device)]
        upstream = torch.randn(shape[0], shape[2], device=device)
        functions[(*shape, 1)] = _both(_fused(fused), arguments, upstream)
    for depth in (1, 2, 4, 8, 16, 32):
        functions[(b, j, j, depth)] = _deep(depth, device)
    timed = in_turns(functions, seconds=6 * _patience(quick), device=device)
    return [
        Row("scaling", fused, b, k, j, depth, "both", *times, unit="s")
        for (b, k, j, depth), times in timed.items()
    ]


def _implementations(shape: tuple[int, int, int], device: str, *, compiled: bool) -> dict[str, Callable]:
    """The implementations by name: functions of (x, mean, log_std, log_weight); ``linear`` of (x, weight)."""
    found: dict[str, Callable] = {}
    if math.prod(shape) * 4 * _BROADCAST_COPIES < _free_memory(device):
        found["eager"] = reference_log_density
        if compiled and _compiler_is_there(device):
            torch.compiler.reset()
            found["torch.compile"] = torch.compile(reference_log_density, dynamic=False)
    fused = "cpu" if device == "cpu" else "gpu"
    if kernels.unavailable(_BACKENDS[fused]) is None:
        found[fused] = _fused(fused)
    found["linear"] = lambda x, weight: torch.nn.functional.linear(x, weight).relu()
    return found


def _compiler_is_there(device: str) -> bool:
    """Whether ``torch.compile`` can build its code. For a CPU it needs a C++ compiler."""
    names = filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++", "cl"))
    there = device != "cpu" or any(map(shutil.which, names))
    if not there:
        print("torch.compile is left out: there is no C++ compiler (or name one in CXX)", file=sys.stderr)
    return there


def _free_memory(device: str) -> float:
    return 8e9 if device == "cpu" else torch.cuda.mem_get_info(device)[0]


def _fused(row: str) -> Callable:
    """The fused operator. Its rows are named after the device it runs on."""
    return lambda *arguments: ugmm_log_density(*arguments, backend=_BACKENDS[row])


def _arguments(shape: tuple[int, int, int], device: str) -> list[Tensor]:
    """The inputs and the parameters of a layer that has begun to learn."""
    generator = torch.Generator().manual_seed(0)
    b, k, j = shape
    x = torch.rand(b, k, generator=generator)
    mean, log_std, logits = (torch.randn(j, k, generator=generator) for _ in range(3))
    return [t.to(device) for t in (x, mean, 0.5 * log_std, torch.log_softmax(logits, dim=-1))]


def _forward(function: Callable, leaves: list[Tensor]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad():
            return function(*leaves)

    return run


def _both(function: Callable, leaves: list[Tensor], upstream: Tensor) -> Callable[[], tuple]:
    return lambda: torch.autograd.grad(function(*leaves), leaves, upstream)


def _timed(
    measure: str, functions: dict[str, Callable], shape: tuple[int, int, int], device: str, quick: bool
) -> list[Row]:
    timed = in_turns(functions, seconds=_patience(quick), device=device)
    return [_row("operator", name, shape, measure, times) for name, times in timed.items()]


def _results(function: Callable, arguments: list[Tensor], upstream: Tensor) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in arguments]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


def _operators(model: UGMMNet, x: Tensor) -> Callable[[], None]:
    """Only the operator of each layer, forward and backward, on the tensors that reach this layer."""
    calls = []
    for index, layer in enumerate(model):
        parameters = (
            layer.mean,
            layer.log_std,
            layer.dropped_log_weight() if layer.dropout else layer.log_weight,
        )
        leaves = [t.detach().clone().requires_grad_() for t in (x, *parameters)]
        # The gradient of the images is not needed.
        leaves[0].requires_grad_(index > 0)
        x = ugmm_log_density(*leaves).detach()
        wanted = [t for t in leaves if t.requires_grad]
        calls.append((leaves, wanted, torch.ones_like(x)))

    def run() -> None:
        for leaves, wanted, upstream in calls:
            torch.autograd.grad(ugmm_log_density(*leaves), wanted, upstream)

    return run


def _dropout(layer: MixtureLayer) -> Tensor:
    """Draw a dropout mask and normalise the remaining weights, forward and backward."""
    log_weight = layer.dropped_log_weight()
    return torch.autograd.grad(log_weight, layer.mix_logits, torch.ones_like(log_weight))[0]


def _deep(depth: int, device: str) -> Callable[[], None]:
    """A network of equal layers, forward and backward."""
    b, _, j = PAPER
    torch.manual_seed(0)
    model = UGMMNet([j] * (depth + 1), norm="layer").to(device)
    x = torch.randn(b, j, device=device)

    def run() -> None:
        model(x).sum().backward()
        model.zero_grad()

    return run


def _returned(shape: tuple[int, int, int], name: str) -> int:
    """The number of bytes in the outputs and all gradients."""
    b, k, j = shape
    return 4 * (b * j + b * k + (1 if name == "linear" else 3) * j * k)


def _extra(
    section: str, name: str, shape: tuple[int, int, int], both: Callable, returned: int, device: str
) -> Row:
    extra = float(max(0, peak_memory(both, device) - returned))
    return _row(section, name, shape, "extra", (extra, extra), unit="B")


def _row(
    section: str,
    name: str,
    shape: Iterable[int],
    measure: str,
    times: tuple[float, float],
    unit: str = "s",
) -> Row:
    return Row(section, name, *shape, 1, measure, *times, unit)


def _patience(quick: bool) -> float:
    return 0.5 if quick else 6.0
