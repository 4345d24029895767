"""A few Python threads for kernels that hold no lock: they survive forks and many callers at once.

Numba's own parallel loops would be shorter, but its OpenMP layer does not survive a fork and its workqueue
layer allows one caller at a time.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

__all__ = ["run"]

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def run(tasks: Iterable[Callable[[], None]], threads: int) -> None:
    """Run all tasks on up to ``threads`` threads, the caller's among them, and return when all are done.

    Whoever is free takes the next task: after one of its parallel loops PyTorch keeps its threads spinning
    for milliseconds, and a processor that is busy with that should not be waited for. Tasks must not call
    ``run`` themselves. After an error no further task is begun; the first error is raised.
    """
    waiting = deque(tasks)

    def work() -> None:
        while waiting:
            try:
                task = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                task()
            except BaseException:
                waiting.clear()
                raise

    helpers = _submit(work, min(threads, len(waiting)) - 1)
    errors = []
    try:
        work()
    finally:
        # Tasks write into the caller's memory: nobody may leave while one of them runs. A helper that has not
        # begun has nothing left to do.
        errors = [helper.exception() for helper in helpers if not helper.cancel()]
    for error in errors:
        if error is not None:
            raise error


def _submit(work: Callable[[], None], times: int) -> list[Future]:
    """Ask the pool to help; nobody comes while the interpreter shuts down, and the caller works alone."""
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
    """A forked process inherits the pool, but none of its threads: it starts its own."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
