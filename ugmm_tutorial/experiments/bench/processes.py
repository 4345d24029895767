"""The section on two processes that share the steps of one, for CPUs."""

from __future__ import annotations

import os
import socket
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import torch.distributed as dist

from ugmm_tutorial import kernels
from ugmm_tutorial.experiments.bench.rows import Report, Row
from ugmm_tutorial.experiments.bench.verdicts import Target, at_least, times
from ugmm_tutorial.networks import preset
from ugmm_tutorial.training.processes import joined
from ugmm_tutorial.training.shared_steps import SharedStep
from ugmm_tutorial.training.steps import Step

__all__ = ["processes", "processes_target"]

# A step that takes one core longer than 50 ms, as the target says.
_SHAPE = (1024, 784, 128)
_ALONE, _SHARED, _THREADS = "one process, 1 thread", "two processes, 1 thread each", "one process, 2 threads"
_STEPS = 5  # of one kind before it is the other's turn


def processes(device: str, quick: bool) -> list[Row]:
    """Seconds of a training step of the paper's network: alone, in two processes, with two threads."""
    if device != "cpu" or kernels.unavailable("numba") or not dist.is_available():
        return []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rounds = 1 if quick else 12
    # Forks would share PyTorch's threads.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found, _ = pool.map(_measured, range(2), [port] * 2, [rounds] * 2)
    return [Row("processes", name, *_SHAPE, 1, "step", min(all_), statistics.median(all_), "s")
            for name, all_ in found.items()]  # fmt: skip


def processes_target(report: Report) -> Target:
    """The target for two processes."""
    one, two = (report.value(section="processes", implementation=name) for name in (_ALONE, _SHARED))
    return at_least("two processes against one, batches of 1024", 1.6, times, one, two)


def _measured(rank: int, port: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step in every round, by name. Process 1 only takes part in steps that are shared."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # Gloo asks the network for the machine's name otherwise, and not every machine has one there.
    if loopback := [name for _, name in socket.if_nameindex() if name.startswith("lo")]:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback[0]
    torch.manual_seed(0)
    x, y = torch.rand(_SHAPE[0], _SHAPE[1]), torch.randint(10, _SHAPE[:1])
    with joined(timeout=300.0) as group:
        steps: dict[str, tuple[Step, int]] = {}
        for name, threads in ((_ALONE, 1), (_SHARED, 1), (_THREADS, 2)):
            model = preset("uGMM-NN").train()
            optimizer = torch.optim.Adam(model.parameters(), fused=True)
            alone = Step(model, optimizer)
            step = SharedStep(model, optimizer, None, group) if name == _SHARED else alone
            steps[name] = step, threads
        found: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds + 1):
            for name, (step, threads) in steps.items():
                dist.barrier()  # the other process sleeps in the next one, while this one works alone
                if group.leads or name == _SHARED:
                    torch.set_num_threads(threads)
                    found[name].append(_seconds(step, x, y))
    return {name: all_[1:] for name, all_ in found.items()}  # the first round compiles and fills caches


def _seconds(step: Step, x: torch.Tensor, y: torch.Tensor) -> float:
    start = time.perf_counter()
    for _ in range(_STEPS):
        rows = step.take(torch.arange(len(x)))
        step(x[rows], y[rows])
    return (time.perf_counter() - start) / _STEPS
