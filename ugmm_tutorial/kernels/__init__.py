"""Which fused kernels can run here, and why not. Imports nothing else of the package."""

from __future__ import annotations

__all__ = ["unavailable"]


def unavailable(backend: str) -> str | None:
    """Return why the fused kernel ``"cpu"`` or ``"gpu"`` cannot run here, or None if it can."""
    return f"this release of ugmm_tutorial has no fused {backend.upper()} kernel yet"
