"""What makes a run repeatable: seeds, deterministic algorithms, and restoring the caller's random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["random_states", "reproducible", "seed_generators", "seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed on the CPU within the block. Afterwards the random state is what it was.

    ``torch.manual_seed`` would seed GPUs too, whose states ``fork_rng`` does not restore here.

    >>> with seeded(0):
    ...     first = torch.rand(3)
    >>> with seeded(0):
    ...     first.equal(torch.rand(3))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the CPU and the device in use; ``torch.manual_seed`` would seed the other devices too."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def random_states(device: torch.device) -> list[Tensor]:
    """The states of the generators of the CPU and of the device in use."""
    gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *gpu]


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Best effort: cuDNN uses deterministic algorithms, and the caller's random state is restored."""
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        yield
