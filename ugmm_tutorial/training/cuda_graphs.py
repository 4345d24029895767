"""Recording work as a CUDA graph, which launches all of its kernels at once. Taught in chapter 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

__all__ = ["record", "run_aside"]

Result = TypeVar("Result")


def run_aside(work: Callable[[], Result]) -> Result:
    """Run work on its own stream, as PyTorch requires before it can be recorded."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = work()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def record(work: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
    """The graph of the work, and the tensors that each replay writes to. Run it aside three times before."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph, result
