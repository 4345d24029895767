"""What two processes do in test_processes.py, each forked from one process that has imported PyTorch.

Each of them writes what it found to a file, and the tests compare.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout

from ugmm_tutorial import data
from ugmm_tutorial.data import Examples, Splits
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.layers.ablations import PerExampleDropoutLayer
from ugmm_tutorial.networks import MLP, UGMMNet
from ugmm_tutorial.training import TrainConfig, loop, processes, train
from ugmm_tutorial.training.run_state import RunState
from ugmm_tutorial.training.shared_steps import SharedStep
from ugmm_tutorial.training.steps import Step

SIZES = (7, 4, 1)  # of three batches: uneven shares, equal ones, and one that is empty
# 105 flowers: four batches of 26, and one flower that makes a batch of its own.
CONFIG = TrainConfig(epochs=4, batch_size=26, learning_rate=1e-2, milestones=(2,), seed=5)


def iris(**options) -> Splits:
    """The flowers in float64."""
    splits = data.iris(validation=15, test=30, **options)
    return replace(splits, **{part: Examples(x.double(), y) for part, (x, y) in _parts(splits)})


def _parts(splits: Splits) -> list[tuple[str, Examples]]:
    return [(part, getattr(splits, part)) for part in splits.sizes]


NETWORKS = {
    "mixtures": lambda: UGMMNet((4, 8, 3), norm="layer", dropout=0.3),
    "inputs dropped": lambda: UGMMNet((4, 8, 3), input_dropout=0.3),
    "linear": lambda: MLP((4, 9, 3), norm="layer", dropout=0.5),
}


def network(name: str = "mixtures", seed: int = 0) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return NETWORKS[name]().double()


def three_steps(name: str, group: processes.Group) -> dict:
    """Masks of mixtures, gradients of each step, parameters after three, losses and right answers."""
    model, x, y = network(name).train(), *iris().train
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    step = Step(model, optimizer) if group.size == 1 else SharedStep(model, optimizer, None, group)
    masks, drawn = [], UGMMLayer.dropped_log_weight
    UGMMLayer.dropped_log_weight = lambda layer: masks.append(weight := drawn(layer)) or weight
    gradients, results = [], []
    try:
        torch.manual_seed(3)
        for index in torch.arange(sum(SIZES)).split(SIZES):
            rows = step.take(index)
            results.append(torch.stack([part.double() for part in step(x[rows], y[rows])]))
            gradients.append([p.grad.clone() for p in model.parameters()])
    finally:
        UGMMLayer.dropped_log_weight = drawn
    return {
        "masks": [mask == -torch.inf for mask in masks],
        "gradients": gradients,
        "parameters": [p.detach() for p in model.parameters()],
        "results": group.total(torch.stack(results)),
        "left as it was": all("forward" not in vars(module) for module in model.modules()),
    }


def trained(checkpoint: Path | None = None, epochs: int = 4, **options) -> dict:
    """A run of train(): its parameters and its measurements."""
    model = network()
    config = replace(CONFIG, epochs=epochs)
    record = train(model, iris(), config, checkpoint=checkpoint, resume=True, progress=False, **options)
    metrics = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in record.metrics]
    return {"parameters": list(model.state_dict().values()), "metrics": metrics}


def steps(group: processes.Group, folder: Path) -> dict:
    return {name: three_steps(name, group) for name in NETWORKS}


def runs(group: processes.Group, folder: Path) -> dict:
    """A run, the same in two parts, and one that goes on from a single process's checkpoint."""
    own = folder / f"files of {group.rank}"
    found = {"whole": trained(own / "whole.pt"), "first part": trained(own / "parts.pt", 2)}
    torch.rand(5)  # the state that counts is in the file
    found["parts"] = trained(own / "parts.pt")
    if group.leads:
        (folder / "alone.pt").rename(own / "alone.pt")
    found["after one process"] = trained(own / "alone.pt")
    found["files"] = sorted(path.name for path in own.glob("*")) if own.exists() else []
    return found


def _error(work) -> tuple[str, str, bool]:
    try:
        work()
    except Exception as error:
        return type(error).__name__, str(error), processes.EVERYWHERE in getattr(error, "__notes__", ())
    return "no error", "", False


class Functional(nn.Linear):
    """A network that draws for every example, where nobody sees it."""

    def forward(self, x):
        return super().forward(dropout(x, 0.5, training=self.training))


class Flat(nn.Sequential):
    """Its dropout gets all numbers of a batch in one dimension."""

    def forward(self, x):
        return self[1](self[0](x.flatten()).reshape(x.shape))


class Endless(nn.Linear):
    """A network without a finite output."""

    def forward(self, x):
        return super().forward(x) * torch.inf


def refusals(group: processes.Group, folder: Path) -> dict:
    def run(model, splits=None, config=CONFIG, **options):
        return _error(lambda: train(model, splits or iris(), config, progress=False, **options))

    def fail_on_the_second():
        if group.rank == 1:
            raise PermissionError(13, "not for this process", "here")

    class UnpicklableError(Exception):
        pass

    def fail():
        raise UnpicklableError("the reason")

    batch_norm = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    planes = nn.Sequential(nn.Dropout1d(0.5), nn.Linear(4, 3)).double()
    taken = folder / "taken.pt"
    taken.touch()
    return {
        "seed": run(network(seed=group.rank)),
        "data": run(network(), iris(seed=group.rank)),
        "config": run(network(), config=TrainConfig(epochs=1, seed=group.rank)),
        "epochs": run(network(), config=TrainConfig(epochs=1 + group.rank)),
        "batch norm": run(batch_norm),
        "masks of planes": run(planes),
        "masks of examples": run(PerExampleDropoutLayer(4, 3, dropout=0.5).double()),
        "no masks of examples": run(PerExampleDropoutLayer(4, 3).double(), config=TrainConfig(epochs=1)),
        "hidden draws": run(Functional(4, 3).double()),
        "other draws": run(network(), after_epoch=lambda metrics: torch.rand(1 + group.rank)),
        "flat dropout": run(Flat(nn.Dropout(0.5), nn.Linear(4, 3).double())),
        "graph": _error(
            lambda: group.each(lambda: loop._check_work(network(), torch.device("cuda"), cuda_graph=True))
        ),
        "taken": run(network(), checkpoint=taken),
        "damaged": run(network(), checkpoint=taken, resume=True),
        "not finite": run(Endless(4, 3).double()),
        "in the second": _error(lambda: group.each(fail_on_the_second)),
        "in the first": _error(lambda: group.first(fail)),
    }


def sharded(group: processes.Group, folder: Path) -> dict:
    """Three steps of a network whose layers are sharded, each process on half of six flowers."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, mesh = network(), init_device_mesh("cpu", (group.size,))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    parts = [type(p).__name__ for p in model.parameters()]
    gradients = three_ordinary_steps(model, group.share(6))
    whole = [p.full_tensor().detach() for p in model.parameters()]
    model[0].unshard()
    shares = model[0].responsibilities(iris().train.x[:6])
    return {"gradients": gradients, "parameters": whole, "kinds": parts, "responsibilities": shares.detach()}


def three_ordinary_steps(model: nn.Module, rows: slice) -> list:
    """Steps on six flowers, or half of them, with dropout; the gradients of the first one."""
    x, y = (part[:6][rows] for part in iris().train)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.manual_seed(3)
    gradients = []
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        gradients += [] if gradients else [p.grad for p in model.parameters()]
    return [getattr(g, "full_tensor", lambda g=g: g)() for g in gradients]


def autocast(group: processes.Group, folder: Path) -> dict:
    """The gradients of a batch in bfloat16, each process on its half, beside those in float32."""
    model, (x, y) = network().float().train(), iris().train
    rows, found = group.share(6), {}
    parallel = nn.parallel.DistributedDataParallel(model)
    for name, enabled in (("float32", False), ("bfloat16", True)):
        torch.manual_seed(3)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            scores = parallel(x[:6][rows].float())
        cross_entropy(scores.float(), y[:6][rows]).backward()
        found[name] = [p.grad.clone() for p in model.parameters()]
    return found


def killed(group: processes.Group, folder: Path) -> dict:
    """The second process dies in the third epoch."""

    def look(metrics):
        if metrics["epoch"] == 2 and group.rank == 1:
            UGMMLayer.forward = lambda layer, x: os.kill(os.getpid(), signal.SIGKILL)

    return {"error": _error(lambda: trained(folder / "killed.pt", after_epoch=look))}


def gone_on(group: processes.Group, folder: Path) -> dict:
    return trained(folder / "killed.pt")


def silent(rank: int, folder: Path) -> dict:
    """The second process does not answer until the first has given up, or it comes too late."""

    def ask():
        with processes.joined(timeout=3.0):
            trained()

    def wait():
        with processes.joined(timeout=3.0):
            deadline = time.monotonic() + 300
            while not (folder / "given up").exists() and time.monotonic() < deadline:
                time.sleep(0.05)

    found = {"error": _error(wait if rank else ask)}
    if rank == 0:
        (folder / "given up").touch()
    return found


def only_here() -> dict[str, str]:
    """Settings with which gloo talks through 127.0.0.1 alone, whatever the machine's name leads to."""
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    return {"GLOO_SOCKET_IFNAME": loopback[0]} if loopback else {}


def _work(rank: int, port: int, work, folder: Path) -> None:
    # After a fork, PyTorch replaces its thread pool at the next call of this function, and two calls at once
    # do it badly. Backward passes begin threads that call it too. So the child does it at once.
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    } | only_here()
    if work is silent:
        found = silent(rank, folder)
    else:
        with processes.joined(timeout=300.0) as group:
            found = work(group, folder)
    torch.save(found, folder / f"{work.__name__} {rank}.pt")


def main(folder: Path) -> None:
    """Fork two processes for each piece of work; print how they ended."""
    torch.set_num_threads(1)
    RunState(network(), iris(), CONFIG, torch.device("cpu"), False)  # the first optimizer imports for seconds
    for work in (steps, runs, refusals, sharded, autocast, killed, gone_on, silent):
        if work is gone_on:
            (folder / "for one process.pt").write_bytes((folder / "killed.pt").read_bytes())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(2):
            children.append(os.fork())
            if children[-1] == 0:
                try:
                    _work(rank, port, work, folder)
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                    os._exit(1)
                os._exit(0)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(work.__name__, *codes, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(Path(sys.argv[1]))
