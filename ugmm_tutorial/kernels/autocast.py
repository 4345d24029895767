"""Whether PyTorch's autocast, which computes in half precision where it can, is on."""

from __future__ import annotations

import torch

__all__ = ["autocasts"]


def autocasts(device_type: str) -> bool:
    """Whether autocast is on for this type of device."""
    return _has_autocast(device_type) and torch.is_autocast_enabled(device_type)


@torch.compiler.assume_constant_result  # PyTorch's compiler before 2.9 cannot look into it
def _has_autocast(device_type: str) -> bool:
    """Whether there is autocast: of the device meta, for example, asking whether it is on would raise."""
    return torch.amp.is_autocast_available(device_type)
