"""Noise of the size of a rounding error, which stands for another processor's rounding."""

from __future__ import annotations

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook


def add_noise(seed: int):
    """Change every parameter by about one rounding error before its optimiser's first step.

    Training lets such differences grow, as it does with those between processors. The same noise for every
    optimiser, from a generator of its own: runs that are the same stay so, and all other random numbers
    stay what they were. Returns a handle; its ``remove()`` ends it.
    """

    def disturb(optimizer: Optimizer, *_: object) -> None:
        # A run that is continued brings its state along and was disturbed when it began.
        if optimizer.state or optimizer.__dict__.setdefault("_disturbed", False):
            return
        optimizer.__dict__["_disturbed"] = True
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.mul_((1 + torch.finfo(parameter.dtype).eps * noise).to(parameter))

    return register_optimizer_step_pre_hook(disturb)
