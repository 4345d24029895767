"""The fused CPU kernel: tensors in and out, and the work cut into one part per thread.

No (B, J, K) tensor exists: ``cpu_loops`` computes each element where it is needed. Taught in chapter 3.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ugmm_tutorial.kernels import cpu_loops, pool

__all__ = ["backward", "forward"]

# Below this many elements per thread, waking a thread costs more than it saves.
_ELEMENTS_PER_THREAD = 1 << 16
# Room for the input gradients of all threads but the first: this many numbers, or as many as x has.
_ROOM = 1 << 20

_Part = tuple[int, int, int, int]  # examples b0:b1, neurons j0:j1


def forward(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, log_background: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Outputs (B, J) in nats, and what :func:`backward` needs beside the arguments, (2, B, J).

    Args:
        x: (B, K), B >= 1, and log_background (B, K) or None.
        mean, log_std, log_weight: (J, K), J >= 1; all float32 and contiguous, on the CPU.
    """
    n, top = _below_its_maximum(log_background)
    out = x.new_empty(len(x), len(mean))
    state = x.new_empty(2, *out.shape)
    arrays = _numpy(x, mean, log_std, log_weight, n, out, *state)
    pool.run([partial(cpu_loops.forward, *arrays, *part) for part in _parts(*x.shape, len(mean))])
    out += state[1].log()
    if top is not None:
        out += top
    return out, state


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
    """Gradients of x, mean, log_std, log_weight and log_background; empty where they are not needed.

    Args:
        grad: of the outputs, (B, J); the other tensors as they went into and came out of :func:`forward`.
        needs_x: whether those of x and log_background are needed.
        needs_parameters: whether those of mean, log_std and log_weight are needed.
    """
    n, _ = _below_its_maximum(log_background)
    parts = _parts(*x.shape, len(mean))
    gx = torch.zeros_like(x) if needs_x else None
    gn = torch.zeros_like(x) if needs_x and n is not None else None
    # Threads with neurons of their own share the sums. Sums that nobody needs get one row a thread.
    shared = needs_parameters and _by_neuron(parts, len(x))
    shape = (1 if shared else len(parts), len(mean) if needs_parameters else 1, x.shape[1])
    sums = [x.new_zeros(shape) for _ in range(3)]
    _add_up(parts, _numpy(grad, x, mean, log_std, log_weight, n, *state), gx, gn, _numpy(*sums))
    if gx is not None:
        gx *= 2.0 * math.log(2.0)  # from base 2 and its scale back to nats and standard deviations
    parameters = (None, None, None)
    if needs_parameters:
        s0, s1, s2 = (s[0] if shared else s.sum(0) for s in sums)
        arrays = _numpy(log_std, s0, s1, s2)
        pool.run([partial(cpu_loops.finish, *arrays, *bounds) for bounds in _cut(len(mean), len(parts))])
        parameters = (s1, s2, s0)
    return tuple(x.new_empty(0) if g is None else g for g in (gx, *parameters, gn))


def _add_up(
    parts: list[_Part], arrays: list, gx: Tensor | None, gn: Tensor | None, sums: list[np.ndarray]
) -> None:
    """Fill the input gradients and the sums.

    Threads with neurons of their own meet in the input gradients. All but the first write into copies,
    which are added afterwards, in the same order every time; block by block of examples, so that the
    copies stay small however many threads there are.
    """
    b, k = arrays[1].shape
    copied = gx is not None and len(parts) > 1 and _by_neuron(parts, b)
    block = max(4, min(b, max(_ROOM, b * k) // (len(parts) * k))) if copied else b
    for start in range(0, b, block):
        stop = min(b, start + block)
        tasks, copies = [], []
        for i, (b0, b1, j0, j1) in enumerate(parts):
            rows = max(b0, start), min(b1, stop)
            own = [None if g is None else g[slice(*rows)] for g in (gx, gn)]
            if copied and i > 0:
                own = [None if g is None else torch.zeros_like(g) for g in own]
                copies.append(own)
            own_sums = [s[i % len(s)] for s in sums]
            tasks.append(partial(cpu_loops.backward, *arrays, *_numpy(*own), *own_sums, *rows, j0, j1))
        pool.run(tasks)
        for own in copies:
            for whole, copy in zip((gx, gn), own, strict=True):
                if whole is not None:
                    whole[start:stop] += copy


def _below_its_maximum(log_background: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Minus the background in base 2, at most 0, (B, K), and in nats what was taken off, (B, 1)."""
    if log_background is None:
        return None, None
    top = -log_background.amin(dim=1, keepdim=True)
    top = top.masked_fill(top == -math.inf, 0.0)
    return (log_background + top).mul_(-math.log2(math.e)), top


def _parts(b: int, k: int, j: int) -> list[_Part]:
    """Cut the outputs into one part per thread: by neurons, or by examples where neurons are few."""
    threads = max(1, min(torch.get_num_threads(), b * j * k // _ELEMENTS_PER_THREAD))
    if j >= threads:
        return [(0, b, j0, j1) for j0, j1 in _cut(j, threads)]
    return [(b0, b1, 0, j) for b0, b1 in _cut(b, threads)]


def _by_neuron(parts: list[_Part], b: int) -> bool:
    return parts[0][:2] == (0, b)


def _cut(n: int, parts: int) -> list[tuple[int, int]]:
    """Cut range(n) into at most ``parts`` ranges of nearly equal length."""
    parts = min(n, parts)
    return [(n * i // parts, n * (i + 1) // parts) for i in range(parts)]


def _numpy(*tensors: Tensor | None) -> list[np.ndarray | None]:
    return [None if t is None else t.detach().numpy() for t in tensors]
