"""Which implementation runs: the one place where a backend is chosen, for dense and sparse operators."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress

import torch
from torch import Tensor

from ugmm_tutorial import kernels
from ugmm_tutorial.kernels.arguments import one_of

__all__ = ["BACKENDS", "backend_name", "choose"]

BACKENDS = ("auto", "reference", "numba", "triton")
_BEFORE_02 = {"cpu": "numba", "gpu": "triton"}
# Below this many terms (examples x components) the reference is no slower on a GPU: a guess, until
# ``bench --device cuda --only small`` has run on one. The kernel for CPUs is faster at every size.
_SMALL = 4096
_said: set[str] = set()


def backend_name(name: str) -> str:
    """The checked name of a backend; a name of version 0.1 is translated, with a warning.

    Raises:
        ValueError: there is no such backend.
    """
    if isinstance(name, str) and name in _BEFORE_02:
        new = _BEFORE_02[name]
        warnings.warn(
            f"backend {name!r} is called {new!r} since version 0.2", DeprecationWarning, stacklevel=4
        )
        return new
    one_of("backend", name, BACKENDS)
    return name


def choose(backend: str, x: Tensor, mean: Tensor) -> str:
    """The implementation to run: the requested one, or the one that ``"auto"`` takes for these tensors.

    Args:
        backend: one of :data:`BACKENDS`.
        x: inputs, ``(*, K)``.
        mean: parameters of all components, (J, m).

    Raises:
        ValueError: there is no such backend.
        RuntimeError: the requested backend cannot run here; the message says why.
    """
    backend = backend_name(backend)
    # A traced module runs where this package is not, and so does what ONNX's older exporter writes.
    if backend == "reference" or (backend == "auto" and torch.jit.is_tracing()):
        return "reference"
    fitting = {"cpu": "numba", "cuda": "triton"}.get(x.device.type)
    if backend == "auto":
        # Compiled code serves batches of all sizes, so the size of one must not decide. Unlike Size.numel,
        # math.prod can count a batch whose size torch.export leaves open.
        looks = not (torch.compiler.is_compiling() or fitting == "numba")
        small = looks and math.prod(x.shape[:-1]) * mean.numel() < _SMALL
        return "reference" if small or fitting is None or _do_without(fitting) else fitting
    reason = kernels.unavailable(backend)
    if reason is None and backend != fitting and not (backend == "triton" and kernels.interpreted()):
        reason = f"the tensors are on {x.device}"
    if reason:
        raise RuntimeError(
            f"backend {backend!r} cannot run here: {reason}. Use backend='auto' or 'reference'"
        )
    return backend


def _do_without(backend: str) -> bool:
    """Whether ``"auto"`` has to do without a kernel. The first time, a warning says why."""
    reason = kernels.unavailable(backend)
    if reason and backend not in _said:
        _said.add(backend)
        with suppress(RuntimeWarning):  # where warnings are errors, the answer is still right
            warnings.warn(
                f"backend='auto' takes the reference, which is slower: {reason}", RuntimeWarning, stacklevel=2
            )
    return reason is not None


# A constant for torch.compile, like kernels.unavailable.
_do_without._dynamo_marked_constant = True  # type: ignore[attr-defined]
