"""How fast this CPU would be if it computed nothing but exponentials."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from numba import njit

from ugmm_tutorial.kernels import thread_pool
from ugmm_tutorial.kernels.numba_elements import FAST, LOWEST, exp2, power_of_fraction, power_of_two

__all__ = ["exponentials", "exponentials_by_integers", "terms"]

_TASKS = 4  # per thread, as in the kernel
_ELEMENTS = 1024  # 4 KiB: even four such arrays fit into the first-level cache


@njit(nogil=True, fastmath=FAST)
def _powers(y, repeats):
    total = np.float32(0.0)
    for i in range(repeats):
        # The argument changes each time; otherwise the compiler would compute the sum only once.
        step = np.float32(i) * np.float32(1e-3)
        for k in range(y.shape[0]):
            total += exp2(y[k] - step)
    return total


@njit(nogil=True, fastmath=FAST)
def _powers_by_integers(y, repeats):
    total = np.float32(0.0)
    for i in range(repeats):
        step = np.float32(i) * np.float32(1e-3)
        for k in range(y.shape[0]):
            e = max(y[k] - step, LOWEST)
            n = np.float32(math.floor(e))
            total += power_of_fraction(e - n) * power_of_two(n)
    return total


@njit(nogil=True, fastmath=FAST)
def _terms(x, mean, s, c, repeats):
    total = np.float32(0.0)
    for i in range(repeats):
        step = np.float32(i) * np.float32(1e-3)
        for k in range(x.shape[0]):
            t = (x[k] - mean[k]) * s[k]
            total += exp2(c[k] - t * t - step)
    return total


def exponentials(count: int) -> None:
    """Compute at least ``count`` powers of two on all threads. The exponents are in the first-level cache."""
    _on_all_threads(partial(_powers, _exponents()), count)


def exponentials_by_integers(count: int) -> None:
    """Like :func:`exponentials`, in the obvious way: with ``math.floor``, which gives an int64 in Numba."""
    _on_all_threads(partial(_powers_by_integers, _exponents()), count)


def terms(count: int) -> None:
    """Compute at least ``count`` whole terms of the sum: subtract, scale, square, power of two.

    Their arguments are in the first-level cache.
    """
    generator = np.random.default_rng(0)
    x, mean, s, c = (generator.random(_ELEMENTS, dtype=np.float32) for _ in range(4))
    _on_all_threads(partial(_terms, x, mean, s, -c), count)


def _exponents() -> np.ndarray:
    return -20.0 * np.random.default_rng(0).random(_ELEMENTS, dtype=np.float32)


def _on_all_threads(loop, count: int) -> None:
    threads = torch.get_num_threads()
    thread_pool.run(
        [partial(loop, -(-count // (_ELEMENTS * threads * _TASKS)))] * (threads * _TASKS), threads
    )
