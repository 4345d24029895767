"""The state of a training run: all that a checkpoint holds, and whether one belongs to the run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ugmm_tutorial.arrays import array_of
from ugmm_tutorial.data import Splits
from ugmm_tutorial.training import checkpoints, identity, processes, records
from ugmm_tutorial.training.config import TrainConfig, schedule
from ugmm_tutorial.training.reproducible import random_states

__all__ = ["RunState"]


class RunState:
    """A model in training with its optimiser, schedule and random numbers.

    Several processes have equal states; the first one of them reads and writes checkpoints for all.
    """

    def __init__(
        self, model: nn.Module, data: Splits, config: TrainConfig, device: torch.device, cuda_graph: bool
    ) -> None:
        self.group = processes.here()
        self.model = model.to(device)
        self.data, self.config, self.device = data, config, device
        self.cuda_graph = cuda_graph
        # A graph has to read the learning rate from memory, or it would keep the one of its recording.
        rate = torch.tensor(config.learning_rate, device=device) if cuda_graph else config.learning_rate
        # Fused: one pass over each parameter instead of nine.
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=cuda_graph)
        self.scheduler = schedule(self.optimizer, config)
        self.shuffle = torch.Generator().manual_seed(config.seed)
        self.epoch = 0
        self.metrics: list[dict] = []
        self.environment: dict | None = None  # of the last epoch

    @cached_property
    def _here(self) -> dict:
        """The environment of this session, cached: asking git for the commit every epoch would take long."""
        here = records.environment(str(self.device))
        return here | {"processes": self.group.size} if self.group.size > 1 else here

    @cached_property
    def _identity(self) -> dict:
        """What must agree with a checkpoint for it to belong to this run."""
        config = asdict(self.config)
        if not self.config.depends_on_length:
            del config["epochs"]
        return {
            "config": config,
            "data": self.data.describe() | {"checksum": self.data.checksum()},
            "network": identity.describe(self.model),
            "device": self.device.type,
            "cuda_graph": self.cuda_graph,
        }

    def check_same_everywhere(self) -> None:
        """All processes have the same run before them.

        Raises:
            ValueError: they do not.
        """
        if self.group.size > 1:
            mine = {f"the {name}": value for name, value in self._identity.items()}
            tensors = self.model.state_dict().values()
            mine |= {"epochs": self.config.epochs, "initial parameters": _digest(tensors)}
            if (differs := self.group.difference(mine)) is not None:
                raise processes.everywhere(
                    ValueError(
                        f"expected the same data, model and settings in all processes of a run, got "
                        f"{differs}. Give all the same, from the same seeds"
                    )
                )

    def difference_of_draws(self) -> str | None:
        """Where processes have drawn other random numbers, so that the state of one is not that of all."""
        if self.group.size == 1:
            return None
        return self.group.difference({"random state": _digest(random_states(self.device))})

    def save(self, checkpoint: Path) -> None:
        """Write the checkpoint. The first process does so, and the others wait until it is there."""
        self.group.first(lambda: self._save(checkpoint))

    def _save(self, checkpoint: Path) -> None:
        state = {
            "identity": self._identity,
            "epoch": self.epoch,
            "metrics": self.metrics,
            "environment": self.environment,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "shuffle": self.shuffle.get_state(),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self.device) if self._on_cuda else None,
        }
        checkpoints.save(state, checkpoint)

    def load(self, checkpoint: Path) -> None:
        """Restore the state from the checkpoint, if it is there and belongs to this run."""
        state = self.group.first(lambda: self._read(checkpoint) if checkpoint.exists() else None)
        if state is None:
            return
        try:
            self._take_over(state)
        except Exception as error:  # a state made by hand raises errors of many kinds
            raise checkpoints.CheckpointError(
                f"{checkpoint} is not a whole checkpoint of this run ({type(error).__name__}: {error}). "
                "Nothing was changed; move it away to start over"
            ) from error

    def _read(self, checkpoint: Path) -> dict:
        # A graph's learning rate has to be where it was. What goes to other processes goes by way of the CPU.
        where = self.device if self.group.size == 1 else "cpu"
        state = checkpoints.load(checkpoint, device=where)
        checkpoints.expect(state, _STATE, checkpoint)
        wrong = self._foreign(state["identity"])
        if wrong is not None:
            raise checkpoints.CheckpointError(
                f"{checkpoint} {wrong}. Nothing was changed; move it away to start over"
            )
        if state["epoch"] > self.config.epochs:
            raise checkpoints.CheckpointError(
                f"{checkpoint} is at epoch {state['epoch']} already, beyond the "
                f"{self.config.epochs} asked for. Nothing was changed; ask for as many, or move it away"
            )
        return state

    def _foreign(self, theirs: dict) -> str | None:
        """Why a checkpoint with that identity does not belong to this run, or None if it does."""
        if "network" not in theirs:
            return (
                "was written by version 0.1 of this package, which knew a network by how PyTorch printed it: "
                "this version cannot tell whether it is yours, and version 0.1 can go on from it"
            )
        for key, mine in self._identity.items():
            found = theirs.get(key)
            if key != "network":
                differs = None if mine == found else f"{key} {mine}, got {found}"
            elif isinstance(found, dict):
                differs = identity.difference(mine, found)
            else:
                differs = f"the description of a network, got {found}"
            if differs is not None:
                return f"belongs to another run: expected {differs}"
        return None

    def _take_over(self, state: dict) -> None:
        """Restore the state, the model last: until then nothing that the caller owns has changed."""
        lengths = len(state["metrics"]), state["scheduler"]["last_epoch"]
        if lengths != (state["epoch"], state["epoch"]):
            raise ValueError(f"expected metrics and scheduler of {state['epoch']} epochs, got {lengths}")
        mine, theirs = (
            {name: getattr(tensor, "shape", None) for name, tensor in tensors.items()}
            for tensors in (self.model.state_dict(), state["model"])
        )
        if mine != theirs:
            raise ValueError(f"expected a model of {mine}, got {theirs}")
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.shuffle.set_state(state["shuffle"].cpu())
        torch.set_rng_state(state["random"].cpu())
        if self._on_cuda:
            torch.cuda.set_rng_state(state["cuda_random"].cpu(), self.device)
        self.epoch, self.metrics = state["epoch"], list(state["metrics"])
        self.environment = state.get("environment")  # older checkpoints have none
        self.model.load_state_dict(state["model"])

    def record(self) -> records.Record:
        """The record of the run so far."""
        return records.Record(
            config=records.as_json(asdict(self.config)),
            data=self.data.describe(),
            model={
                "network": type(self.model).__name__,
                "parameters": sum(p.numel() for p in self.model.parameters()),
            },
            metrics=tuple(self.metrics),
            seconds=sum(epoch["seconds"] for epoch in self.metrics),
            # The last epoch's, perhaps of an earlier session; this one's if the checkpoint has none.
            environment=self.environment or self._here,
        )

    @property
    def _on_cuda(self) -> bool:
        return self.device.type == "cuda"


# The entries that a checkpoint must have, with their types.
_STATE = {
    "identity": dict,
    "epoch": int,
    "metrics": list,
    "model": dict,
    "optimizer": dict,
    "scheduler": dict,
    "shuffle": Tensor,
    "random": Tensor,
}


def _digest(tensors: Iterable[Tensor]) -> str:
    """A hash of the tensors' bytes."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(array_of(tensor.detach().cpu().contiguous().flatten().view(torch.uint8)).data)
    return digest.hexdigest()
