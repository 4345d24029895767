"""The fused CPU kernel: tensors in and out, and the work cut into tasks for threads.

No (B, J, K) tensor exists: ``numba_loops`` computes each element where it is needed. Taught in chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ugmm_tutorial.arrays import array_of
from ugmm_tutorial.kernels import numba_loops, numba_sparse_loops, thread_pool
from ugmm_tutorial.kernels.autograd import outputs_and_state
from ugmm_tutorial.kernels.shifts import below_its_maximum

__all__ = ["backward", "forward", "probe", "sparse_backward", "sparse_forward"]

# Below this many elements per task, handing it over costs more than it saves.
_ELEMENTS_PER_TASK = 1 << 16
# There are more tasks than threads, so that a delayed thread does not delay the others. But tasks that share
# input gradients each need a copy of them.
_TASKS_PER_THREAD = 4
_TASKS_PER_THREAD_WITH_COPIES = 2
# Room for these copies: this many numbers, or as many as x has if that is more.
_ROOM = 1 << 20
# Examples whose inputs are laid side by side for sparse neurons: enough to fill vectors, few enough for a
# core's own cache.
_EXAMPLES_AT_ONCE = 128

_Part = tuple[int, int, int, int]  # examples b0:b1, neurons j0:j1


def forward(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, log_background: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Outputs (B, J) in nats, and a state (2, B, J) that :func:`backward` needs besides the arguments.

    Args:
        x: (B, K), B >= 1; log_background is (B, K) or None.
        mean, log_std, log_weight: (J, K), J >= 1; all float32 and contiguous, on the CPU.
    """
    n, top = below_its_maximum(log_background)
    out, state = outputs_and_state(x, mean)
    arrays = _numpy(x, mean, log_std, log_weight, n, out, *state)
    parts = _parts(len(x), x.shape[1], len(mean), _TASKS_PER_THREAD)
    _run(partial(numba_loops.forward, *arrays, *part) for part in parts)
    _add_logarithm(out, state)
    if top is not None:
        out += top
    return out, state


def sparse_forward(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs (B, J) of neurons that read the inputs x[:, index[j]] only, and a state, as :func:`forward`.

    Args:
        x: (B, K), B >= 1.
        index: (J, m), int64, from 0 to K - 1; unchecked.
        mean, log_std, log_weight: (J, m), J >= 1; all float32 and contiguous, on the CPU.
    """
    out, state = outputs_and_state(x, mean)
    arrays = _numpy(x, index, mean, log_std, log_weight, out, *state)
    blocks = max(torch.get_num_threads(), math.ceil(len(x) / _EXAMPLES_AT_ONCE))
    _run(partial(numba_sparse_loops.sparse_forward, *arrays, *rows) for rows in _cut(len(x), blocks))
    _add_logarithm(out, state)
    return out, state


def sparse_backward(
    grad: Tensor,
    x: Tensor,
    index: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    state: Tensor,
    *,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x (empty if not needed), mean, log_std and log_weight; see :func:`backward`."""
    gx = torch.empty_like(x) if needs_x else None
    parts = _cut(len(x), torch.get_num_threads())
    sums = [x.new_empty(len(parts), *mean.shape) for _ in range(3)]
    arrays = _numpy(grad, x, index, mean, log_std, log_weight, *state, gx)
    tasks = []
    for i, rows in enumerate(parts):
        own = _numpy(*(s[i] for s in sums))
        tasks.append(partial(numba_sparse_loops.sparse_backward, *arrays, *own, *rows, _EXAMPLES_AT_ONCE))
    _run(tasks)
    return (x.new_empty(0) if gx is None else gx), *_of_parameters(log_std, sums, len(parts))


def backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    log_background: Tensor | None,
    state: Tensor,
    *,
    needs_x: bool,
    needs_parameters: bool,
) -> tuple[Tensor, ...]:
    """Gradients of x, mean, log_std, log_weight and log_background; those that are not needed are empty.

    Args:
        grad: gradient with respect to the outputs, (B, J). The other tensors are what :func:`forward` took
            and returned.
        needs_x: whether the gradients of x and log_background are needed.
        needs_parameters: whether the gradients of mean, log_std and log_weight are needed.
    """
    n, _ = below_its_maximum(log_background)
    per_thread = _TASKS_PER_THREAD_WITH_COPIES if needs_x else _TASKS_PER_THREAD
    parts = _parts(len(x), x.shape[1], len(mean), per_thread)
    gx = torch.empty_like(x) if needs_x else None
    gn = torch.empty_like(x) if needs_x and n is not None else None
    # Tasks with separate neurons share the sums. Sums that are not needed get one row per task.
    shared = needs_parameters and _by_neuron(parts, len(x))
    shape = (1 if shared else len(parts), len(mean) if needs_parameters else 1, x.shape[1])
    sums = [x.new_empty(shape) for _ in range(3)]
    arrays = _numpy(grad, x, mean, log_std, log_weight, n, *state)
    _add_up(parts, arrays, gx, gn, [array_of(s) for s in sums])
    parameters: tuple[Tensor | None, ...] = (None, None, None)
    if needs_parameters:
        parameters = _of_parameters(log_std, sums, len(parts))
    return tuple(x.new_empty(0) if g is None else g for g in (gx, *parameters, gn))


def _add_up(
    parts: list[_Part], arrays: list, gx: Tensor | None, gn: Tensor | None, sums: list[np.ndarray]
) -> None:
    """Fill the input gradients and the sums.

    Tasks with separate neurons share the input gradients. All but the first write into copies, which are
    added afterwards, always in the same order. The examples are taken in blocks, so that the copies stay
    small however many threads there are.
    """
    b, k = arrays[1].shape
    copies = len(parts) - 1 if gx is not None and _by_neuron(parts, b) else 0
    block = max(4, min(b, max(_ROOM, b * k) // (copies * k))) if copies else b
    # From base 2 and its scale back to nats and standard deviations.
    outputs = [(gx, 2.0 * math.log(2.0)), (gn, 1.0)]
    for start in range(0, b, block):
        stop = min(b, start + block)
        spare = [None if g is None else g.new_empty(copies, stop - start, k) for g, _ in outputs]
        tasks = []
        for i, (b0, b1, j0, j1) in enumerate(parts):
            rows = max(b0, start), min(b1, stop)
            own = [g[slice(*rows)] if g is not None else None for g, _ in outputs]
            if copies and i > 0:
                own = [None if s is None else s[i - 1] for s in spare]
            own_sums = [s[i % len(s)] for s in sums]
            ranges = (start == 0, *rows, j0, j1)
            tasks.append(partial(numba_loops.backward, *arrays, *_numpy(*own), *own_sums, *ranges))
        _run(tasks)
        for (g, factor), copied in zip(outputs, spare, strict=True):
            if g is not None:
                pair = _numpy(g[start:stop], copied)
                ends = _cut(stop - start, len(parts))
                _run([partial(numba_loops.input_gradients, *pair, factor, *rows) for rows in ends])


def _add_logarithm(out: Tensor, state: Tensor) -> None:
    """Add the logarithm of the sums. PyTorch's would leave threads spinning, which slows the next kernel."""
    whole = array_of(out)
    whole += np.log(array_of(state[1]))


def _of_parameters(log_std: Tensor, sums: list[Tensor], tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of mean, log_std and log_weight, from the sums over examples."""
    arrays = _numpy(log_std, *sums)
    _run(partial(numba_loops.parameter_gradients, *arrays, *part) for part in _cut(len(log_std), tasks))
    return sums[1][0], sums[2][0], sums[0][0]


def _parts(b: int, k: int, j: int, per_thread: int) -> list[_Part]:
    """Cut the outputs into tasks: by neurons, or by examples where neurons are few."""
    threads = torch.get_num_threads()
    tasks = 1 if threads == 1 else max(1, min(threads * per_thread, b * j * k // _ELEMENTS_PER_TASK))
    if j >= tasks:
        return [(0, b, j0, j1) for j0, j1 in _cut(j, tasks)]
    return [(b0, b1, 0, j) for b0, b1 in _cut(b, tasks)]


def _run(tasks: Iterable[Callable[[], None]]) -> None:
    thread_pool.run(tasks, torch.get_num_threads())


def _by_neuron(parts: list[_Part], b: int) -> bool:
    return parts[0][:2] == (0, b)


def _cut(n: int, parts: int) -> list[tuple[int, int]]:
    """Cut range(n) into at most ``parts`` ranges of nearly equal length."""
    parts = min(n, parts)
    return [(n * i // parts, n * (i + 1) // parts) for i in range(parts)]


def _numpy(*tensors: Tensor | None) -> list[np.ndarray | None]:
    return [None if t is None else array_of(t) for t in tensors]


def probe() -> None:
    """Compile the kernel, or load it from the cache, and run it once. Raises whatever goes wrong here."""
    one, out, delta, total = (np.ones((1, 1), dtype=np.float32) for _ in range(4))
    numba_loops.forward(one, one, one, one, None, out, delta, total, 0, 1, 0, 1)
