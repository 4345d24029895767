"""The fused CPU kernel: tensors in and out, and the work cut into tasks for threads.

No (B, J, K) tensor exists: the loops compute each element where it is needed. ``numba_loops`` has those for
wide layers, ``numba_columns`` those for narrow and sparse ones. Taught in chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ugmm_tutorial.kernels import numba_columns, numba_left_out, numba_loops, numba_parameters, thread_pool
from ugmm_tutorial.kernels.shifts import below_its_maximum
from ugmm_tutorial.kernels.transform import PLAIN, Transform

__all__ = ["backward", "forward", "names_inputs", "penalties", "probe"]

# Below this many elements per task, handing it over costs more than it saves.
_ELEMENTS_PER_TASK = 1 << 16
# There are more tasks than threads, so that a delayed thread does not delay the others. But tasks that share
# gradients each need a copy of them.
_TASKS_PER_THREAD = 4
_TASKS_PER_THREAD_WITH_COPIES = 2
# Room for these copies: this many numbers, or as many as x has if that is more.
_ROOM = 1 << 20
# From this many components on, vectors along them are as good as full.
_WIDE = 512
# Fewer examples than this do not fill vectors of examples.
_MANY = 8
# A task of a narrow layer has at least so many examples, which share what is prepared for a neuron.
_EXAMPLES_PER_TASK = 64
_TWO_LN2 = 2.0 * math.log(2.0)  # from base 2 and its scale back to nats and standard deviations

_Part = tuple[int, int, int, int]  # examples b0:b1, neurons j0:j1


def forward(
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    weight: Tensor,
    log_background: Tensor | None = None,
    *,
    index: Tensor | None = None,
    transform: Transform = PLAIN,
    keeps_state: bool = True,
) -> tuple[Tensor, Tensor]:
    """Outputs (B, J) in nats, and a state (2, B, J) that :func:`backward` needs besides the arguments.

    Where outputs are divided, the state is (3, B, J).

    Args:
        x: (B, K), B >= 1; log_background is (B, K) or None.
        mean, log_std, weight: (J, m), J >= 1; all float32 and contiguous, on the CPU.
        index: (J, m), int64, from 0 to K - 1, unchecked: the inputs that neurons read, without a background.
            None: all of them, and m = K.
        transform: what makes log_std and log-weights of the parameters.
        keeps_state: whether there is a state; else it is empty.
    """
    n, top = below_its_maximum(log_background)
    out, keeps_state = x.new_empty((len(x), len(mean))), keeps_state or transform.divides
    state = out.new_empty((2 + transform.divides, *out.shape) if keeps_state else 0)
    work = _Work(x, mean, index)
    rows = _Rows(x, transform)
    if rows.present is not None and transform.divides:
        share = _shares(weight, transform)
        one, other = (share, rows.present) if work.narrow else (rows.present, share)
        torch.mm(one, other.T, out=state[2].view(len(one), len(other)))
    before = (*_addresses(rows.x, index, mean, log_std, weight), _address(transform.penalty) or 0)
    addresses = (
        *before,
        _address(n),
        *rows.addresses,
        out.data_ptr(),
        state.data_ptr() if keeps_state else 0,
    )
    settings = (work.sizes, *transform.numbers, *rows.settings)
    parts = _parts(work, _TASKS_PER_THREAD)
    _run([partial(work.loops.forward, *addresses, *settings, *part) for part in parts])
    if top is not None:
        out += top
    return out, state


def backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    weight: Tensor,
    log_background: Tensor | None,
    state: Tensor,
    *,
    needs_x: bool,
    needs_parameters: bool,
    index: Tensor | None = None,
    transform: Transform = PLAIN,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, mean, log_std, weight and log_background; None for those that are not needed.

    Args:
        grad: gradient with respect to the outputs, (B, J). The other tensors are what :func:`forward` took
            and returned.
        needs_x: whether the gradients of x and log_background are needed.
        needs_parameters: whether the gradients of mean, log_std and weight are needed.
    """
    n, _ = below_its_maximum(log_background)
    work = _Work(x, mean, index)
    parts = _parts(work, _TASKS_PER_THREAD_WITH_COPIES if needs_x else _TASKS_PER_THREAD)
    gx = torch.empty_like(x) if needs_x else None
    gn = torch.empty_like(x) if needs_x and n is not None else None
    parameters = (log_std, weight, transform.penalty)
    rows, over = _Rows(x, transform), None
    if transform.divides and rows.present is not None:
        if work.narrow:
            over = torch.empty(work.sizes[1::-1])
            rows.settings = (0, over.data_ptr())
        else:  # which has few outputs for its terms
            over, rows.settings = torch.where(state[2] > 0.0, grad / state[2], 0.0), (0, None)
    fixed = _Fixed(
        (*_addresses(grad, rows.x, index, mean, log_std, weight), _address(transform.penalty) or 0),
        (_address(n), *rows.addresses, state.data_ptr()),
        (work.sizes, *transform.numbers, *rows.settings),
    )
    sums = _sums(work, parts, mean, needs_parameters)
    _add_up(work, parts, fixed, gx, gn, sums, needs_parameters)
    if needs_parameters and sums.others is not None:
        _gather(work, parts, parameters, sums, transform)
    # How the weight that is left depends on the logits.
    if needs_parameters and over is not None and rows.present is not None:
        taken = (over if work.narrow else over.T) @ rows.present
        share = _shares(weight, transform)  # held while the kernel reads it
        numba_parameters.divisors(*_addresses(share, taken, sums.r), *mean.shape)
    if gx is not None and transform.missing:
        gx.masked_fill_(x.isnan(), 0.0)  # also where gradients are NaN
    return (gx, sums.rt, sums.rtt, sums.r, gn) if needs_parameters else (gx, None, None, None, gn)


def penalties(draws: Tensor, logits: Tensor, threshold: int) -> Tensor:
    """What dropout adds to the logits, (J, m): -inf where a draw, int16, is below the threshold, else 0.

    A neuron that would lose all components of positive weight keeps its heaviest one.
    """
    penalty = torch.empty_like(logits, memory_format=torch.contiguous_format)
    draws, logits = draws.contiguous(), logits.detach().contiguous()
    given = (*_addresses(draws, logits), threshold, penalty.data_ptr(), *logits.shape)
    parts = max(1, min(torch.get_num_threads(), logits.numel() // _ELEMENTS_PER_TASK))
    _run([partial(numba_parameters.penalties, *given, *rows) for rows in _cut(len(logits), parts)])
    return penalty


def names_inputs(index: Tensor, inputs: int) -> bool:
    """Whether all numbers of an int64 tensor are from 0 to ``inputs - 1``."""
    index = index.contiguous()
    return numba_left_out.within(index.data_ptr(), index.numel(), inputs)


class _Work:
    """How large the work is, and the loops that suit it."""

    def __init__(self, x: Tensor, mean: Tensor, index: Tensor | None) -> None:
        (b, k), (j, m) = x.shape, mean.shape
        self.sizes = (b, j, k, m)
        narrow = index is not None or (m < _WIDE and b >= _MANY)
        self.loops: ModuleType = numba_columns if narrow else numba_loops
        self.narrow = narrow


class _Rows:
    """What tells the loops which components leave the sum of an example; see ``numba_loops``."""

    def __init__(self, x: Tensor, transform: Transform) -> None:
        masks = transform.masks
        self.x, self.present = x, None
        if transform.missing:
            self.x, self.present = torch.empty_like(x), torch.empty_like(x)
            numba_left_out.apart(*_addresses(x, self.x, self.present), x.numel())
        tables = (None, None) if masks is None else (masks.examples, masks.neurons)
        self.addresses = (True if transform.missing else None, *_addresses(*tables))
        self.settings = (0 if masks is None else masks.threshold, 1 if transform.divides else None)


class _Sums(NamedTuple):
    """Sums of r, r t and r t * t over examples: of the first task, and (tasks, 3, J, m) of the others.

    Where they are not needed, every task has one row, (1, m), of which nothing is read.
    """

    r: Tensor
    rt: Tensor
    rtt: Tensor
    others: Tensor | None

    def addresses(self, task: int) -> tuple[int, int, int]:
        if task == 0 or self.others is None:
            return self.r.data_ptr(), self.rt.data_ptr(), self.rtt.data_ptr()
        first, step = self.others.data_ptr(), 4 * self.r.numel()
        first += 3 * step * (task - 1)
        return first, first + step, first + 2 * step


class _Fixed(NamedTuple):
    """Arguments of the backward loops that all tasks share, in their order around those that differ."""

    before: tuple
    state: tuple
    settings: tuple


def _sums(work: _Work, parts: list[_Part], mean: Tensor, needed: bool) -> _Sums:
    """Unfilled. Tasks with separate neurons share the sums."""
    like = mean if needed else mean[:1]
    shared = needed and _by_neuron(work, parts)
    others = None if shared or len(parts) == 1 else mean.new_empty((len(parts) - 1, 3, *like.shape))
    r, rt, rtt = (torch.empty_like(like) for _ in range(3))
    return _Sums(r, rt, rtt, others)


def _add_up(
    work: _Work,
    parts: list[_Part],
    fixed: _Fixed,
    gx: Tensor | None,
    gn: Tensor | None,
    sums: _Sums,
    needs_parameters: bool,
) -> None:
    """Fill the input gradients and the sums.

    Tasks with separate neurons share the input gradients. All but the first write into copies, which are
    added afterwards, always in the same order. The examples are taken in blocks, so that the copies stay
    small however many threads there are.
    """
    b, _, k, _ = work.sizes
    copies = len(parts) - 1 if gx is not None and _by_neuron(work, parts) else 0
    block = max(4, min(b, max(_ROOM, b * k) // (copies * k))) if copies else b
    for start in range(0, b, block):
        stop = min(b, start + block)
        spare = [g.new_empty(copies, stop - start, k) if copies and g is not None else None for g in (gx, gn)]
        tasks = []
        for i, (b0, b1, j0, j1) in enumerate(parts):
            rows = max(b0, start), min(b1, stop)
            own = [_row(g, rows[0]) for g in (gx, gn)]
            if copies and i > 0:
                own = [_row(s, i - 1) for s in spare]
            last = needs_parameters and sums.others is None and stop == b
            flags = (needs_parameters, start == 0, last, copies == 0)
            given = (*fixed.before, *fixed.state, *own, *sums.addresses(i), *fixed.settings, *flags)
            tasks.append(partial(work.loops.backward, *given, *rows, j0, j1))
        _run(tasks)
        if copies:
            ends = _cut(stop - start, len(parts))
            for g, copied, factor in zip((gx, gn), spare, (_TWO_LN2, 1.0), strict=True):
                if g is not None and copied is not None:
                    given = (_row(g, start), copied.data_ptr(), copies, stop - start, k, np.float32(factor))
                    _run([partial(numba_loops.input_gradients, *given, *rows) for rows in ends])


def _gather(
    work: _Work,
    parts: list[_Part],
    parameters: tuple[Tensor, Tensor, Tensor | None],
    sums: _Sums,
    transform: Transform,
) -> None:
    """Add the sums of all tasks, and make gradients of them."""
    _, j, _, m = work.sizes
    log_std, weight, penalty = (_address(p) or 0 for p in parameters)
    others = sums.others
    given = (log_std, weight, penalty, *sums.addresses(0), _address(others), len(parts) - 1, j, m)
    tasks = _cut(j, len(parts))
    _run([partial(numba_parameters.gradients, *given, *transform.numbers, *rows) for rows in tasks])


def _shares(weight: Tensor, transform: Transform) -> Tensor:
    """Weights (J, K) of the components that dropout keeps; they sum to one."""
    return torch.softmax(weight if transform.penalty is None else weight + transform.penalty, dim=-1)


def _parts(work: _Work, per_thread: int) -> list[_Part]:
    """Cut the outputs into tasks: by examples where a layer is narrow or neurons are few, else by neurons."""
    threads, (b, j, _, m) = torch.get_num_threads(), work.sizes
    if work.narrow:  # every task turns its inputs round, so more of them cost more
        per_thread = 1
    tasks = 1 if threads == 1 else max(1, min(threads * per_thread, b * j * m // _ELEMENTS_PER_TASK))
    if j < tasks or (work.narrow and b >= tasks * _EXAMPLES_PER_TASK):
        return [(b0, b1, 0, j) for b0, b1 in _cut(b, tasks)]
    return [(0, b, j0, j1) for j0, j1 in _cut(j, tasks)]


def _run(tasks: Iterable[Callable[[], None]]) -> None:
    thread_pool.run(tasks, torch.get_num_threads())


def _by_neuron(work: _Work, parts: list[_Part]) -> bool:
    return parts[0][:2] == (0, work.sizes[0])


def _cut(n: int, parts: int) -> list[tuple[int, int]]:
    """Cut range(n) into at most ``parts`` ranges of nearly equal length."""
    parts = min(n, parts)
    return [(n * i // parts, n * (i + 1) // parts) for i in range(parts)]


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _addresses(*tensors: Tensor | None) -> tuple[int | None, ...]:
    return tuple(None if t is None else t.data_ptr() for t in tensors)


def _row(tensor: Tensor | None, row: int) -> int | None:
    """The address of a row of a contiguous tensor."""
    return None if tensor is None else tensor.data_ptr() + 4 * row * tensor.stride(0)


def probe() -> None:
    """Compile the smallest kernel, or load it from the cache, and run it. Raises whatever goes wrong here.

    It uses no tensor: while PyTorch exports, there are none. The other kernels wait until they are needed.
    """
    number = np.zeros(1, np.int64)
    if not numba_left_out.within(number.ctypes.data, 1, 1):
        raise RuntimeError("expected a compiled kernel to find 0 below 1")
