"""Several processes that train one model together, as ``torchrun`` starts them.

Every process, called a rank, has the whole model and computes a part of each batch. Imports nothing else of
the package.
"""

from __future__ import annotations

import datetime
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["EVERYWHERE", "Group", "LostWorkerError", "answered", "everywhere", "here", "joined", "started"]

Result = TypeVar("Result")
Failure = TypeVar("Failure", bound=Exception)

#: The note on an error that all processes of a group raise, so that one of them is enough to tell it.
EVERYWHERE = "All processes of this run raised this error"


class LostWorkerError(RuntimeError):
    """Another process of the group has ended, or has not answered in time."""


@dataclass(frozen=True)
class Group:
    """The processes that train one model together. A process alone is a group of one.

    Args:
        rank: the number of this process, from 0 on.
        size: how many there are.

    >>> [Group(rank, 3).share(7) for rank in range(3)]
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and shows messages."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's part of ``count`` examples, consecutive ones; parts differ by one at most."""
        start, stop = (-(-rank * count // self.size) for rank in (self.rank, self.rank + 1))
        return slice(start, stop)

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes of tensors of one shape, in float64."""
        values = values.double()
        if self.size > 1:
            with answered():
                dist.all_reduce(values)
        return values

    def first(self, work: Callable[[], Result]) -> Result:
        """Let rank 0 do some work, while the others wait. All return its result, or raise its error."""
        if self.size == 1:
            return work()
        outcome: list[Any] = [_tried(work) if self.leads else None]
        with answered():
            dist.broadcast_object_list(outcome, src=0)
        return _result(outcome[0])

    def each(self, work: Callable[[], Result]) -> Result:
        """Let every process do the work and return its own result. If one fails, all raise its error."""
        if self.size == 1:
            return work()
        mine = _tried(work)
        errors: list[Any] = [None] * self.size
        with answered():
            dist.all_gather_object(errors, mine[1])
        for error in filter(None, errors):
            _result((None, error))
        return _result(mine)

    def difference(self, mine: dict[str, Any]) -> str | None:
        """Where values differ that have to be the same in all processes, or None. All get the same answer."""
        every: list[Any] = [mine] * self.size
        if self.size > 1:
            with answered():
                dist.all_gather_object(every, mine)
        for rank, theirs in enumerate(every):
            for name, value in every[0].items():
                if theirs[name] != value:
                    return f"{name}: {value} in process 0, {theirs[name]} in process {rank}"
        return None


def here() -> Group:
    """The group of this process: PyTorch's default process group, if there is one.

    >>> here()
    Group(rank=0, size=1)
    """
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    return Group()


def started() -> Group:
    """The group that ``torchrun`` meant this process for, whether or not it has joined it.

    >>> started().size
    1
    """
    return Group(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


@contextmanager
def joined(timeout: float = 600.0) -> Iterator[Group]:
    """Join the processes that ``torchrun`` started; :func:`~ugmm_tutorial.training.train` uses all of them.

    Without ``torchrun``, the group is this process alone. CPUs talk through gloo, GPUs through NCCL. The n-th
    process of a machine takes its n-th GPU.

    Args:
        timeout: seconds after which a process that does not answer counts as lost.

    Raises:
        LostWorkerError: another process did not come, or left.

    >>> with joined() as group:
    ...     group.size
    1
    """
    if started().size == 1 or here().size > 1:
        yield here()
        return
    gpus = torch.cuda.device_count()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local < gpus:
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    with answered():
        dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout))
    try:
        yield here()
    finally:
        dist.destroy_process_group()


@contextmanager
def answered() -> Iterator[None]:
    """Say plainly that another process is lost, where PyTorch's error tells of sockets.

    Raises:
        LostWorkerError: one did not answer within the block.

    >>> with answered():
    ...     raise RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer")
    Traceback (most recent call last):
    ugmm_tutorial.training.processes.LostWorkerError: another process of this run has ended or does not ...
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        why = str(error).partition("\n")[0]
        raise LostWorkerError(f"another process of this run has ended or does not answer ({why})") from error


def everywhere(error: Failure) -> Failure:
    """Note on an error that all processes raise it, and return it.

    >>> everywhere(ValueError("no")).__notes__ == [EVERYWHERE]
    True
    """
    error.add_note(EVERYWHERE)
    return error


def _tried(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """The result of the work and its error, one of them None; other processes get what can be pickled."""
    try:
        return work(), None
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return None, RuntimeError(f"{type(error).__name__}: {error}")
        return None, error


def _result(outcome: tuple[Any, Exception | None]) -> Any:
    result, error = outcome
    if error is not None:
        raise everywhere(error)
    return result
