"""A few Python threads for kernels that hold no lock: they survive forks and many callers at once.

Numba's own parallel loops would be shorter, but its OpenMP layer does not survive a fork and its workqueue
layer allows one caller at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

__all__ = ["run"]

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def run(tasks: Sequence[Callable[[], None]]) -> None:
    """Run all tasks, the first in the caller's thread, and return when the last has finished.

    How many run at once is the caller's choice: it cuts its work into as many tasks. Tasks must not call
    ``run`` themselves. The first error is raised after all tasks have ended.
    """
    if len(tasks) == 1:
        tasks[0]()
        return
    pool = _threads()
    others = [pool.submit(task) for task in tasks[1:]]
    try:
        tasks[0]()
    finally:
        # The tasks write into the caller's memory: nobody may leave while one of them still runs.
        errors = [error for error in (other.exception() for other in others) if error is not None]
    if errors:
        raise errors[0]


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
