"""What makes a run repeatable: seeds, deterministic algorithms, and restoring the caller's random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["reproducible", "seed_generators"]


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the CPU and the device in use; ``torch.manual_seed`` would seed the other devices too."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Best effort: cuDNN uses deterministic algorithms, and the caller's random state is restored."""
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        yield
