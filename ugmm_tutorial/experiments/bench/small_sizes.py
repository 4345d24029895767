"""The section on what large layers hide: small and narrow ones, two threads, whole steps, and first calls.

Everything is measured as a user's own code would run: through the layer or the public function, without
settings. On a GPU it is only how well ``auto`` chooses.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ugmm_tutorial import kernels
from ugmm_tutorial.experiments.bench.rows import Report, Row
from ugmm_tutorial.experiments.bench.timing import gradients, in_turns
from ugmm_tutorial.experiments.bench.verdicts import Target, at_least, at_most, exactly, seconds, times
from ugmm_tutorial.functional import ugmm_log_density
from ugmm_tutorial.kernels.choice import choose
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.networks import MLP, UGMMNet, preset
from ugmm_tutorial.training.steps import Step

__all__ = ["small", "small_targets"]

_ONE = (1, 1, 1)
_TINY = ((1, 64, 10), (32, 4, 10))
_WIDE, _NARROW = (128, 784, 128), ((1024, 16, 16), (1024, 64, 64))
_NETWORKS = {"5-10-5-1": (5, 10, 5, 1), "64-64-10": (64, 64, 10)}
# Examples, inputs and outputs for which ``auto`` has to choose.
_GRID = tuple(itertools.product((1, 16, 128, 1024), (2, 16, 64, 256), (2, 16, 64, 256)))
_LARGEST = 1 << 24  # terms that the broadcast may store
_FIRST = (
    "import time, torch; import ugmm_tutorial as ug; x = torch.rand(32, 64); layer = ug.UGMMLayer(64, 10); "
    "start = time.perf_counter(); layer(x); print(time.perf_counter() - start)"
)


def small(device: str, quick: bool) -> list[Row]:
    """Rows of the section; none where the kernel for the device does not run."""
    patience = 0.3 if quick else 5.0
    fused = "numba" if device == "cpu" else "triton"
    if kernels.unavailable(fused):
        return []
    if fused == "triton":
        return [*_regret(patience, quick, fused, device)]
    before = torch.get_num_threads()
    try:
        rows = [*_threads(patience), *_narrow(patience)]
        torch.set_num_threads(1)
        rows += [*_tiny(patience), *_steps(patience)]
        rows += _regret(patience, quick, fused, device)
    finally:
        torch.set_num_threads(before)
    return rows if quick else [*rows, *_first_calls()]


def small_targets(report: Report) -> list[Target]:
    """The targets for small sizes, threads and first calls."""

    def value(name: str, shape: tuple[int, int, int] = _ONE, measure: str = "both") -> float | None:
        sizes = dict(zip(("batch", "inputs", "outputs"), shape, strict=True))
        return report.value(section="small", implementation=name, measure=measure, **sizes)

    def per_term(shape: tuple[int, int, int], measure: str) -> float | None:
        forward, both = (value("operator, 1 thread", shape, name) for name in ("forward", "both"))
        if forward is None or both is None:
            return None
        found = {"forward": forward, "backward": both - forward, "both": both}[measure]
        return found / (shape[0] * shape[1] * shape[2])

    found = []
    for shape in _TINY:
        size = f"{shape[0]}, {shape[1]} to {shape[2]}"
        for kind, bound in (("operator", 2), ("layer", 3)):
            linear = value("linear", shape)
            found.append(at_most(f"{kind} at {size} against a linear layer", bound, times,
                                 value(kind, shape), linear))  # fmt: skip
    for shape in _NARROW:
        for measure in ("forward", "backward", "both"):
            what = f"a term with {shape[1]} inputs against one with 784, {measure}"
            found.append(at_most(what, 1.5, times, per_term(shape, measure), per_term(_WIDE, measure)))
    for name, bound in (("operator", 1.7), ("the paper's network", 1.6)):
        shape = _NARROW[1] if name == "operator" else _WIDE
        one, two = (value(f"{name}, {n} thread{'s' * (n > 1)}", shape) for n in (1, 2))
        found.append(at_least(f"two threads against one, {name}", bound, times, one, two))
    for name in _NETWORKS:
        mixtures, mlp = (value(f"{kind} {name}", measure="step") for kind in ("UGMMNet", "MLP"))
        found.append(at_most(f"a step of {name} against an MLP", 3, times, mixtures, mlp))
    regrets = report.select(section="small", measure="regret")
    worst = max((row.value for row in regrets), default=None)
    found.append(at_most("auto against the best, at worst", 1.15, exactly, worst, 1.0))
    for name, bound in (("cold", 3), ("warm", 1)):
        first = value(f"first call, {name} cache", measure="first")
        found.append(at_most(f"first call, {name} cache", bound, seconds, first, 1.0))
    return found


def _tiny(patience: float) -> Iterable[Row]:
    for shape in _TINY:
        b, k, j = shape
        x, upstream = torch.randn(b, k, requires_grad=True), torch.randn(b, j)
        functions: dict[str, Callable] = {"operator": _operator(shape)}
        for name, module in (
            ("layer", UGMMLayer(k, j)),
            ("linear", nn.Sequential(nn.Linear(k, j), nn.ReLU())),
        ):
            functions[name] = partial(gradients, module, x, [x, *module.parameters()], upstream)
        yield from _rows(functions, shape, "both", patience)


def _narrow(patience: float) -> Iterable[Row]:
    """Times per term are compared, and one thread with two, so all sizes take turns."""
    cases = [("operator, 1 thread", 1, shape) for shape in (*_NARROW, _WIDE)]
    for measure, make in (("forward", _forward), ("both", _operator)):
        if measure == "both":
            cases.append(("operator, 2 threads", 2, _NARROW[1]))
        timed = in_turns({str(c): _with(c[1], make(c[2])) for c in cases}, seconds=patience)
        for case in cases:
            yield _row(case[0], case[2], measure, timed[str(case)])


def _threads(patience: float) -> Iterable[Row]:
    torch.manual_seed(0)
    model, x, y = preset("uGMM-NN").train(), torch.rand(128, 784), torch.randint(10, (128,))

    def step() -> None:
        model.zero_grad()
        cross_entropy(model(x), y).backward()

    names = {f"the paper's network, {n} thread{'s' * (n > 1)}": _with(n, step) for n in (1, 2)}
    yield from _rows(names, _WIDE, "both", patience)


def _steps(patience: float) -> Iterable[Row]:
    for name, widths in _NETWORKS.items():
        functions = {}
        for kind, network in (("UGMMNet", UGMMNet), ("MLP", MLP)):
            model = network(widths)
            take = Step(model, torch.optim.Adam(model.parameters(), fused=True))
            x = torch.randn(128, widths[0])
            # With a single output there are no classes to tell apart, and the step is as long.
            functions[f"{kind} {name}"] = partial(take, x, torch.zeros(128, dtype=torch.int64))
        yield from _rows(functions, _ONE, "step", patience)


def _regret(patience: float, quick: bool, fused: str, device: str) -> Iterable[Row]:
    """How much longer what ``auto`` takes is than the best implementation, forward and backward.

    An implementation is timed once: where ``auto`` takes the best, the ratio is 1.
    """
    for shape in _GRID[:: 16 if quick else 1]:
        x, mean, *_ = _arguments(shape, device)
        chosen, names = choose("auto", x, mean), [fused]
        if shape[0] * shape[1] * shape[2] <= _LARGEST:
            names.append("reference")
        runs = {name: _operator(shape, name, device) for name in names}
        timed = in_turns(runs, seconds=patience / 8, device=device)
        ratio = [timed[chosen][i] / min(timed[n][i] for n in names) for i in (0, 1)]
        yield Row("small", f"auto ({chosen}) over the best", *shape, 1, "regret", *ratio, "ratio")


def _first_calls() -> Iterable[Row]:
    """Seconds of a layer's first call in a new process: with no compiled kernels in the cache, and later."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        taken: dict[str, list[float]] = {"cold": [], "warm": []}
        for name in ("cold", "warm", "warm", "warm"):
            command = [sys.executable, "-c", _FIRST]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            taken[name].append(float(done.stdout))
    for name, all_ in taken.items():
        yield _row(f"first call, {name} cache", _ONE, "first", (min(all_), sorted(all_)[len(all_) // 2]))


def _arguments(shape: tuple[int, int, int], device: str = "cpu") -> list[Tensor]:
    b, k, j = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, k, generator=generator)
    mean, log_std, logits = (0.5 * torch.randn(j, k, generator=generator) for _ in range(3))
    return [t.to(device) for t in (x, mean, log_std, torch.log_softmax(logits, dim=-1))]


def _forward(shape: tuple[int, int, int]) -> Callable[[], Tensor]:
    arguments = _arguments(shape)
    return lambda: ugmm_log_density(*arguments)


def _operator(
    shape: tuple[int, int, int], backend: str = "auto", device: str = "cpu"
) -> Callable[[], object]:
    leaves = [t.requires_grad_() for t in _arguments(shape, device)]
    upstream = torch.ones(shape[0], shape[2], device=device)
    return lambda: torch.autograd.grad(ugmm_log_density(*leaves, backend=backend), leaves, upstream)


def _with(threads: int, function: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        torch.set_num_threads(threads)
        return function()

    return run


def _rows(
    functions: dict[str, Callable], shape: tuple[int, int, int], measure: str, patience: float
) -> Iterable[Row]:
    timed = in_turns(functions, seconds=patience)
    return [_row(name, shape, measure, found) for name, found in timed.items()]


def _row(name: str, shape: tuple[int, int, int], measure: str, found: tuple[float, float]) -> Row:
    return Row("small", name, *shape, 1, measure, *found, unit="s")
