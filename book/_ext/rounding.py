"""Noise of the size of rounding errors, in place of another processor's rounding."""

from __future__ import annotations

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook


def add_noise(seed: int):
    """Change every parameter by about one rounding error before its optimiser's first step.

    Training lets such differences grow, like the differences between processors. Every optimiser gets the
    same noise from a separate generator. Equal runs therefore stay equal, and all other random numbers stay
    unchanged. Returns a handle; its ``remove()`` stops the noise.
    """

    def disturb(optimizer: Optimizer, *_: object) -> None:
        # A continued run has its optimiser's state, and got the noise when it began.
        if optimizer.state or optimizer.__dict__.setdefault("_disturbed", False):
            return
        optimizer.__dict__["_disturbed"] = True
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.mul_((1 + torch.finfo(parameter.dtype).eps * noise).to(parameter))

    return register_optimizer_step_pre_hook(disturb)
