"""PyTorch's own threads, asked to run a Python function: nothing else can use the processors they hold.

After a parallel operation the threads of GNU's OpenMP spin for many milliseconds, because another one may
follow. A pool of other threads then gets half a processor. So the team that spins is given the work: by
``GOMP_parallel``, the function that compiled parallel loops call, in the library that PyTorch has loaded.
Where there is none, :mod:`~ugmm_tutorial.kernels.thread_pool` has threads of its own.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

__all__ = ["run"]

_LIBRARY = re.compile(r"lib(gomp|iomp5|omp)\b[^/]*\.so[^/]*$")
_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_library: list[Any] = []  # empty: not looked for yet; [None]: there is none


def run(work: Callable[[], None], threads: int) -> bool:
    """Call ``work`` on this thread and the others of a team, up to ``threads``; False if there is no team.

    ``work`` must not raise.
    """
    library = _found()
    # While the interpreter ends, a foreign thread that asks for its lock never returns.
    if library is None or sys.is_finalizing():
        return False
    library.GOMP_parallel(_BODY(lambda _: work()), None, threads, 0)
    return True


def _found() -> Any:
    if not _library:
        _library.append(None)
        with suppress(Exception):  # there are threads of our own, so nothing that goes wrong here matters
            _library[0] = _look()
    return _library[0]


def _look() -> Any:
    """The library that PyTorch's threads come from, or None. Other packages may have loaded one of theirs."""
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    paths = [path for path in sorted(loaded) if _LIBRARY.search(path)]
    own = [path for path in paths if Path(torch.__file__).parent in Path(path).parents]
    for path in own or paths:
        library = ctypes.CDLL(path)
        if own or _follows(library):
            library.GOMP_parallel.argtypes = (_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
            library.GOMP_parallel.restype = None
            return library
    return None


def _follows(library: Any) -> bool:
    """Whether a library has the number of threads that PyTorch is told to use."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        return library.omp_get_max_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def _forget() -> None:
    """In a forked child: OpenMP's threads are gone, and its library would wait for them for ever."""
    _library[:] = [None]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
