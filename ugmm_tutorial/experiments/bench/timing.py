"""Time several functions in turns, and measure the memory that a call needs."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["gradients", "in_turns", "peak_memory"]

_SMALLEST_SAMPLE = 1e-2  # seconds, far more than the clock's resolution and the time to wake a thread
# After a parallel loop, OpenMP's threads spin for milliseconds. This must not slow the next function.
_PAUSE = 0.02


def in_turns(
    functions: dict[str, Callable[[], object]], *, seconds: float, device: str = "cpu"
) -> dict[str, tuple[float, float]]:
    """Smallest and median seconds per call of each function. They take turns for ``seconds`` in total.

    Each function gets at least five samples. A sample of a short function consists of several calls.
    """
    calls = {name: _calls_per_sample(function, device) for name, function in functions.items()}
    samples: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples[next(iter(functions))]) < 5:
        for name, function in functions.items():
            samples[name].append(_sample(function, calls[name], device))
    return {name: (min(values), statistics.median(values)) for name, values in samples.items()}


def gradients(module: Callable, x: Tensor, wanted: list[Tensor], upstream: Tensor) -> object:
    """Call a module and differentiate its outputs."""
    return torch.autograd.grad(module(x), wanted, upstream)


def _calls_per_sample(function: Callable[[], object], device: str) -> int:
    for _ in range(2):
        _sample(function, 1, device)  # compiles, allocates, fills caches, records a CUDA graph
    once = _sample(function, 1, device)
    return max(1, int(_SMALLEST_SAMPLE / once))


def _sample(function: Callable[[], object], calls: int, device: str) -> float:
    _wait(device)
    time.sleep(_PAUSE)
    function()  # wakes threads and fills caches
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    _wait(device)
    return (time.perf_counter() - start) / calls


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def peak_memory(function: Callable[[], object], device: str = "cpu") -> int:
    """The largest number of bytes that PyTorch holds at once during a call, beyond what it held before."""
    if device != "cpu":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _silent(), torch.profiler.profile(profile_memory=True) as profile:
        function()
    held = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextmanager
def _silent() -> Iterator[None]:
    """Hide what the profiler's C++ code writes to standard error, such as that there is no GPU."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
