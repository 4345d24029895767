"""A run: one experiment with one seed, its settings, its network and its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import nn

from ugmm_tutorial.experiments import record_checks
from ugmm_tutorial.experiments.experiment import Experiment
from ugmm_tutorial.kernels.kinds import instance
from ugmm_tutorial.training import checkpoints, files, processes, records
from ugmm_tutorial.training.config import TrainConfig
from ugmm_tutorial.training.loop import train

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """One training run of an experiment.

    Args:
        experiment: the experiment (see :func:`~ugmm_tutorial.experiments.find`).
        seed: fixes the initial parameters, the order of the examples and the dropout masks; below 2**32.
        epochs: the number of epochs, if it is not the experiment's own.
        results: folder of the records.

    Raises:
        ValueError: a setting is out of its range.

    >>> run = Run(find("digits-ugmm"), seed=5)
    >>> run.path.as_posix()
    'results/digits-ugmm/seed5.json'
    """

    experiment: Experiment
    seed: int = 0
    epochs: int | None = None
    results: str | Path = "results"

    def __post_init__(self) -> None:
        _ = self.config  # checks the settings

    @cached_property
    def config(self) -> TrainConfig:
        """How it is trained."""
        own = instance("experiment", self.experiment, Experiment).config
        return replace(own, seed=self.seed, epochs=own.epochs if self.epochs is None else self.epochs)

    @property
    def path(self) -> Path:
        """The file of its record, ``results/<experiment>/seed<N>.json``."""
        return Path(self.results, self.experiment.name, f"seed{self.seed}.json")

    @property
    def checkpoint(self) -> Path:
        """The file with its last state. It is beside the record and is not committed."""
        return self.path.with_suffix(".checkpoint.pt")

    def record(self) -> records.Record | None:
        """The record of exactly this run, or None if training is still needed, in whole or in part.

        Raises:
            ValueError: there is a record that this run would destroy. It has more epochs or other settings,
                or it has fewer epochs and no checkpoint to continue from.
            RecordError: the record cannot be read, or contradicts itself.
        """
        record = self._found()
        if record is None or len(record.metrics) == self.config.epochs:
            return record
        if not self.checkpoint.exists():
            raise ValueError(
                f"{self.path} has {len(record.metrics)} of {self.config.epochs} epochs, but "
                f"{self.checkpoint.name} is not there to go on from. Move the record away, or write "
                "elsewhere, to train anew"
            )
        return None

    def train(
        self,
        *,
        device: str = "cpu",
        data_dir: str | Path | None = None,
        progress: bool = True,
        cuda_graph: bool = False,
    ) -> records.Record:
        """Train the network and write its record. An interrupted run continues from its checkpoint.

        A record with this number of epochs is returned unchanged. A shorter one is continued from its
        checkpoint, and its notes are kept. A shorter record is refused if the learning rates depend on the
        number of epochs. In a process group all processes call this, and the first one reads and writes.

        Args:
            device: the device to train on.
            data_dir: the folder with MNIST (see :func:`~ugmm_tutorial.data.mnist`).
            progress: show a bar.
            cuda_graph: see :func:`~ugmm_tutorial.training.train`.

        Raises:
            ValueError, RecordError: a stored record does not fit (see :meth:`record`). It is left unchanged.
            OSError: a file cannot be written. This is tried before anything is loaded.
            TrainingError, CheckpointError, DataError: see :func:`~ugmm_tutorial.training.train` and
                :mod:`ugmm_tutorial.data`.
        """
        group = processes.here()
        done = group.first(self._record_or_room)
        if done is not None:
            return done
        splits = group.each(lambda: self.experiment.load_data(data_dir))
        record = train(
            self.experiment.build(self.seed),
            splits,
            self.config,
            device=device,
            checkpoint=self.checkpoint,
            resume=True,
            progress=progress,
            cuda_graph=cuda_graph,
        )
        return group.first(lambda: self._written(record))

    def _record_or_room(self) -> records.Record | None:
        """The record, or None if training is needed and can write one."""
        record = self.record()
        if record is None:
            files.check_writable(self.path)
        return record

    def _written(self, record: records.Record) -> records.Record:
        earlier = self._found()  # another process may have written one meanwhile, even a longer one
        if earlier is not None and len(earlier.metrics) == self.config.epochs:
            return earlier
        model = record.model | record_checks.description(self.experiment, self.config)["model"]
        notes = () if earlier is None else earlier.notes
        record = replace(record, experiment=self.experiment.name, model=model, notes=notes)
        records.write(record, self.path)
        return record

    def network(self) -> nn.Module:
        """The network of the last checkpoint, on the CPU and in evaluation mode.

        Raises:
            FileNotFoundError: there is no checkpoint.
            CheckpointError: it cannot be read, or holds another network.
        """
        name = self.experiment.name
        if not self.checkpoint.exists():
            raise FileNotFoundError(
                f"{self.checkpoint} is not there: python -m ugmm_tutorial train {name} --seed {self.seed} "
                "makes it"
            )
        state = checkpoints.load(self.checkpoint)
        model = self.experiment.build(self.seed)
        try:
            model.load_state_dict(state["model"])
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            raise checkpoints.CheckpointError(
                f"{self.checkpoint} does not hold the network of {name} ({error}). Nothing was changed; move "
                "it away to train anew"
            ) from error
        return model.eval()

    def check(self, record: records.Record) -> None:
        """Raise if a record does not belong to this run.

        The number of epochs may differ, unless the learning rates depend on it.

        Raises:
            ValueError: it was made with other settings.
            RecordError: it contradicts itself.
        """
        record_checks.check(record, self.experiment, self.config, self.path, self._move)

    def _found(self) -> records.Record | None:
        """The record if there is one. Raise if it has other settings or more epochs."""
        if not self.path.exists():
            return None
        record = records.read(self.path)
        self.check(record)
        if len(record.metrics) > self.config.epochs:
            raise ValueError(
                f"{self.path} has {len(record.metrics)} epochs already, more than the {self.config.epochs} "
                f"asked for. Move {self._files} away, or write elsewhere, to train anew"
            )
        return record

    @property
    def _files(self) -> str:
        """What to move away before training anew. A run would continue from a checkpoint left behind."""
        return f"it and {self.checkpoint.name}" if self.checkpoint.exists() else "it"

    @property
    def _move(self) -> str:
        return f"Move {self._files} away to train anew"
