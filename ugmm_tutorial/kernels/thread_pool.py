"""Threads for kernels that release Python's lock, safe with forks and many callers at once.

PyTorch's own threads do the work where they can be asked, see :mod:`~ugmm_tutorial.kernels.openmp`; elsewhere
a few Python threads do. Numba's parallel loops would be shorter, but its OpenMP layer does not survive a fork
and its workqueue layer allows one caller at a time.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from ugmm_tutorial.kernels import openmp

__all__ = ["run"]

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def run(tasks: Iterable[Callable[[], None]], threads: int) -> None:
    """Run all tasks on up to ``threads`` threads, including the caller's, and return when all are done.

    A thread that is free takes the next task, so that nothing waits for one that is busy. Tasks must not call
    ``run`` themselves. After an error no further task starts, and the first error is raised.
    """
    waiting = deque(tasks)
    errors: list[BaseException] = []

    def work() -> None:
        while waiting:
            try:
                task = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                task()
            except BaseException as error:
                waiting.clear()
                errors.append(error)

    threads = min(threads, len(waiting))
    if threads < 2:
        work()
    elif not openmp.run(work, threads):
        _with_helpers(work, threads - 1)
    if errors:
        raise errors[0]


def _with_helpers(work: Callable[[], None], helpers: int) -> None:
    futures = _submit(work, helpers)
    work()
    # Tasks write into the caller's memory, so wait until none of them runs. A helper that has not started has
    # nothing left to do.
    for future in futures:
        if not future.cancel():
            future.exception()


def _submit(work: Callable[[], None], times: int) -> list[Future]:
    """Ask the pool for help. While the interpreter shuts down it refuses, and the caller works alone."""
    helpers: list[Future] = []
    with suppress(RuntimeError):
        for _ in range(times):
            helpers.append(_threads().submit(work))
    return helpers


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            # Threads start when they are first needed; the number is only a limit.
            _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="ugmm")
        return _pool


def _forget() -> None:
    """Forget the pool after a fork: the child inherits the pool but none of its threads."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
