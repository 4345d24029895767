"""The operator's implementations, and which of the fused ones can run here.

``reference`` is the specification; ``fused`` makes PyTorch operators of ``numba_kernels`` and
``triton_kernels``; ``choice`` decides which implementation runs.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

__all__ = ["interpreted", "unavailable"]

_INSTALLED = {module: find_spec(module) is not None for module in ("numba", "triton")}
# Triton's instructions start with this compute capability, that of the Tesla T4.
_OLDEST_GPU = (7, 5)


def unavailable(backend: str) -> str | None:
    """Return why the fused kernel ``"numba"`` or ``"triton"`` cannot run here, or None if it can."""
    if backend == "triton":
        return _triton_unavailable()
    return None if _INSTALLED["numba"] else "Numba is not installed (pip install numba)"


def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU (``TRITON_INTERPRET=1``): slow, meant for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _triton_unavailable() -> str | None:
    if not _INSTALLED["triton"]:
        return "Triton is not installed (it comes with PyTorch for CUDA on Linux)"
    if interpreted():
        return None
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    if torch.cuda.get_device_capability() < _OLDEST_GPU:
        return f"the CUDA device is older than compute capability {_OLDEST_GPU[0]}.{_OLDEST_GPU[1]}"
    return None
