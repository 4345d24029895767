"""The operator's implementations, and which of the fused ones can run here.

``reference`` is the specification; ``fused`` makes PyTorch operators of ``numba_kernels`` and
``triton_kernels``; ``eager`` calls the former directly, where code runs step by step; ``choice`` decides
which implementation runs.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from importlib.util import find_spec
from typing import Any

import torch

__all__ = ["interpreted", "unavailable"]

# What importing a kernel led to: None, or why it cannot run.
_tried: dict[str, str | None] = {}
_lock = threading.RLock()
_held: list[Any] = []
_pow = math.pow
# Triton's instructions start with this compute capability, that of the Tesla T4.
_OLDEST_GPU = (7, 5)


def unavailable(backend: str) -> str | None:
    """Return why the fused kernel ``"numba"`` or ``"triton"`` cannot run here, or None if it can.

    What is installed is imported, and Numba's kernel runs once.
    """
    with _lock:  # an import that one thread has begun must not look broken to another
        if backend == "triton":
            return _triton_unavailable()
        if "numba" not in _tried:
            # While torch.export traces, it puts another function here, which Numba would refuse to learn.
            replaced, math.pow = math.pow, _pow
            try:
                _tried["numba"] = _numba_unavailable()
            finally:
                math.pow = replaced
        return _tried["numba"]


# torch.compile takes the answer as a constant. torch.compiler.assume_constant_result does the same, but would
# import all of the compiler with this package.
unavailable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU (``TRITON_INTERPRET=1``): slow, meant for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _numba_unavailable() -> str | None:
    if find_spec("numba") is None:
        return "Numba is not installed (pip install numba)"
    try:
        import numba

        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return "NUMBA_DISABLE_JIT is set, so its loops would run in Python"
        from ugmm_tutorial.kernels import numba_kernels

        numba_kernels.probe()
    except Exception as error:  # an installation can fail in any way
        return f"Numba is installed but does not work here ({type(error).__name__}: {error})"
    return None


def _triton_unavailable() -> str | None:
    if find_spec("triton") is None:
        return "Triton is not installed (it comes with PyTorch for CUDA on Linux)"
    if not interpreted():
        if not torch.cuda.is_available():
            return "PyTorch finds no CUDA device"
        if torch.cuda.get_device_capability() < _OLDEST_GPU:
            oldest = ".".join(map(str, _OLDEST_GPU))
            return f"the CUDA device is older than compute capability {oldest}"
    if "triton" not in _tried:
        _tried["triton"] = _triton_import()
    return _tried["triton"]


def _triton_import() -> str | None:
    try:
        from ugmm_tutorial.kernels import triton_kernels  # noqa: F401
    except Exception as error:
        return f"Triton is installed but does not work here ({type(error).__name__}: {error})"
    return None


def _before_fork() -> None:
    """Wait until no other thread imports or compiles a kernel: a child would wait for it for ever."""
    compiler = sys.modules.get("numba.core.compiler_lock")
    # In this order, which is also that of a thread that compiles while it looks what can run.
    for lock in (_lock, getattr(compiler, "global_compiler_lock", None)):
        if lock is not None:
            lock.acquire()
            _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
