"""How to train, as data, and the learning rates of the epochs that follow from it.

Taught in chapter 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ugmm_tutorial.kernels.arguments import one_of

__all__ = ["SCHEDULERS", "TrainConfig", "learning_rates", "schedule"]

SCHEDULERS = ("multistep", "constant", "cosine")


@dataclass(frozen=True)
class TrainConfig:
    """How to train: with cross-entropy and Adam, at PyTorch's defaults except for the learning rate.

    Args:
        epochs: passes over the training part, at least 1.
        batch_size: examples per step; the last batch of an epoch may be smaller.
        learning_rate: Adam's, > 0.
        scheduler: ``"multistep"`` multiplies the learning rate by ``gamma`` after each epoch in
            ``milestones``; ``"constant"`` leaves it; ``"cosine"`` lowers it after each epoch along half a
            cosine, which reaches zero after the last one.
        seed: fixes the order of the examples and the dropout masks. It must be below 2**32, because PyTorch's
            generator on the CPU uses only 32 bits.
        measure: which parts are evaluated after every epoch; empty ones are skipped.

    Raises:
        ValueError: a value is out of its range, or the scheduler is unknown.

    >>> TrainConfig(epochs=20, scheduler="cosine").depends_on_length
    True
    """

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    scheduler: str = "multistep"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    seed: int = 0
    measure: tuple[str, ...] = ("validation", "test")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"expected {name} to be an integer >= 1, got {value!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise ValueError(f"expected seed to be an integer >= 0 and below 2**32, got {self.seed!r}")
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"expected learning_rate > 0 and finite, got {self.learning_rate}")
        one_of("scheduler", self.scheduler, SCHEDULERS)
        integers = all(isinstance(m, int) and not isinstance(m, bool) for m in self.milestones)
        if not integers or list(self.milestones) != sorted({m for m in self.milestones if m >= 1}):
            raise ValueError(
                f"expected milestones to be growing integers from 1 or more, got {self.milestones}"
            )
        if not 0.0 < self.gamma <= 1.0:
            raise ValueError(f"expected gamma in (0, 1], got {self.gamma}")
        if not set(self.measure) <= {"validation", "test"}:
            raise ValueError(f"expected measure to name validation or test, got {self.measure}")

    @property
    def depends_on_length(self) -> bool:
        """Whether learning rates depend on the number of epochs, so that a run cannot be extended."""
        return self.scheduler == "cosine"


def schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """PyTorch's scheduler for these settings, which changes the learning rate after each epoch.

    >>> optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    >>> type(schedule(optimizer, TrainConfig(scheduler="cosine"))).__name__
    'CosineAnnealingLR'
    """
    if config.scheduler == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs)
    milestones = list(config.milestones) if config.scheduler == "multistep" else []
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=config.gamma)


def learning_rates(config: TrainConfig) -> list[float]:
    """The learning rate of each epoch, without an optimiser: that of :func:`schedule` up to rounding.

    >>> learning_rates(TrainConfig(epochs=3, learning_rate=1.0, milestones=(2,), gamma=0.5))
    [1.0, 1.0, 0.5]
    """
    if config.scheduler == "cosine":
        factors = [(1 + math.cos(math.pi * n / config.epochs)) / 2 for n in range(config.epochs)]
    else:
        falls = config.milestones if config.scheduler == "multistep" else ()
        factors = [config.gamma ** sum(n >= fall for fall in falls) for n in range(config.epochs)]
    return [config.learning_rate * factor for factor in factors]
