"""What readers' code may change behind their back, kept: random generators and PyTorch's defaults."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ugmm_tutorial.training.reproducible import seeded

__all__ = ["unchanged"]


@contextmanager
def unchanged() -> Iterator[None]:
    """PyTorch draws from seed 0 within the block; afterwards all global state is as it was before.

    >>> with unchanged():
    ...     torch.set_default_dtype(torch.float64)
    >>> torch.get_default_dtype()
    torch.float32
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    dtype, device, threads = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
    try:
        with seeded(0), torch.enable_grad():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
