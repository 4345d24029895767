"""How to train, as data, and the learning rates of the epochs that follow from it.

Taught in chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

import torch

from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.kernels.kinds import instance
from ugmm_tutorial.kernels.kinds import learning_rate as checked_rate

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
        TypeError: a rate is not a number.
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
        whole = {name: check.integer(name, getattr(self, name), 1) for name in ("epochs", "batch_size")}
        for name, value in {**whole, "seed": check.seed(self.seed)}.items():
            object.__setattr__(self, name, value)  # NumPy's would not go into a record
        checked_rate(self.learning_rate)
        check.one_of("scheduler", self.scheduler, SCHEDULERS)
        milestones = check.integers("milestones", self.milestones, 1, kind="growing integers from 1 or more")
        if milestones != sorted(set(milestones)):
            raise ValueError(
                f"expected milestones to be growing integers from 1 or more, got {self.milestones}"
            )
        if not 0.0 < check.real("gamma", self.gamma) <= 1.0:
            raise ValueError(f"expected gamma in (0, 1], got {self.gamma}")
        parts = self.measure if isinstance(self.measure, Sequence | Set) else [None]
        if not all(isinstance(part, str) and part in ("validation", "test") for part in parts):
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
    instance("optimizer", optimizer, torch.optim.Optimizer, "a torch.optim.Optimizer")
    instance("config", config, TrainConfig)
    if config.scheduler == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs)
    milestones = list(config.milestones) if config.scheduler == "multistep" else []
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=config.gamma)


def learning_rates(config: TrainConfig) -> list[float]:
    """The learning rate of each epoch, without an optimiser: that of :func:`schedule` up to rounding.

    >>> learning_rates(TrainConfig(epochs=3, learning_rate=1.0, milestones=(2,), gamma=0.5))
    [1.0, 1.0, 0.5]
    """
    instance("config", config, TrainConfig)
    if config.scheduler == "cosine":
        factors = [(1 + math.cos(math.pi * n / config.epochs)) / 2 for n in range(config.epochs)]
    else:
        falls = config.milestones if config.scheduler == "multistep" else ()
        factors = [config.gamma ** sum(n >= fall for fall in falls) for n in range(config.epochs)]
    return [config.learning_rate * factor for factor in factors]
