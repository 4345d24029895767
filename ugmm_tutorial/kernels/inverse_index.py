"""Which components read each input: what an index (J, m) says, turned round without waiting for its device.

The gradient of an input is a sum over the components that read it. In this order one program adds them up, so
bits repeat without atomics. Sorting costs more than a small layer, and an index hardly ever changes. So what
is found out about one is kept as long as it lives and is not written to, but never while a CUDA graph is
recorded, which would repeat an old answer. As for autograd, writing to ``index.data`` goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Readers", "once", "readers"]

_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class Readers(NamedTuple):
    """The components that read each input, one input after the other, in the order of their numbers.

    Attributes:
        components: their numbers, from 0 to J m - 1, (J m,).
        neurons: to which neurons they belong, (J m,).
        starts: where those of each input begin, and where the last one's end, (K + 1,).
    """

    components: Tensor
    neurons: Tensor
    starts: Tensor


def readers(index: Tensor, inputs: int) -> Readers:
    """Of an index (J, m) from 0 to ``inputs - 1``: four of PyTorch's operations, when they are first needed.

    >>> readers(torch.tensor([[2, 0], [2, 2]]), 4)[::2]
    (tensor([1, 0, 2, 3]), tensor([0, 1, 1, 4, 4]))
    """

    def found() -> Readers:
        places, components = torch.sort(index.reshape(-1), stable=True)
        neurons = components.div(index.shape[1], rounding_mode="floor")
        # Unlike bincount, this need not know the largest number before it begins.
        starts = torch.searchsorted(places, torch.arange(inputs + 1, device=index.device))
        return Readers(components, neurons, starts)

    return once("readers", index, inputs, found)


def once(name: str, index: Tensor, inputs: int, find: Callable[[], Any]) -> Any:
    """``find()``, or what it found before for the same index, on the same stream."""
    stream = 0
    if index.is_cuda:
        if torch.cuda.is_current_stream_capturing():
            return find()
        stream = torch.cuda.current_stream(index.device).cuda_stream
    if index.is_inference():  # nothing counts how often it is written to
        return find()
    now = index._version, index.data_ptr(), inputs, stream
    known = _known.setdefault(index, {})
    before = known.get(name)
    if before is None or before[0] != now:
        before = known[name] = now, find()
    return before[1]
