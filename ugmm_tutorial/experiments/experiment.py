"""What an experiment is: a network, its data, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ugmm_tutorial import data, networks
from ugmm_tutorial.training.config import TrainConfig
from ugmm_tutorial.training.reproducible import seeded

__all__ = ["SOURCES", "Experiment", "Source"]


@dataclass(frozen=True)
class Source:
    """A data set as an experiment uses it.

    Attributes:
        name: its name in :func:`ugmm_tutorial.data.load`.
        sizes: the number of examples in each part.
        options: further arguments of ``load``.
    """

    name: str
    sizes: dict[str, int]
    options: dict = field(default_factory=dict)


#: The data sets of experiments. The paper names no validation set for its final runs, so these train on all
#: 60,000 images.
SOURCES = {
    "mnist": Source("mnist", {"train": 60_000, "validation": 0, "test": 10_000}, {"validation": 0}),
    "mnist-split": Source("mnist", {"train": 55_000, "validation": 5_000, "test": 10_000}),
    "digits": Source("digits", {"train": 1257, "validation": 180, "test": 360}),
}


@dataclass(frozen=True)
class Experiment:
    """One network, its data and its training.

    Attributes:
        name: in kebab-case; also the name of the folder with its records.
        preset: the network, named as in the paper's Table 2.
        config: how it is trained.
        data: a key of ``SOURCES``. ``"mnist"`` trains on all 60,000 images, ``"mnist-split"`` sets the last
            5,000 aside for validation, and ``"digits"`` takes scikit-learn's digits.
        options: changes to the preset.
        group: a key of :data:`ugmm_tutorial.experiments.GROUPS`, or None.
        label: the row's name in a table, if it differs from the preset's.
        paper_accuracy: the accuracy that the paper reports, as a fraction; None if it reports none.
        recorded: ``options`` under their earlier names, if they were renamed after the records were made.
    """

    name: str
    preset: str
    config: TrainConfig
    data: str = "mnist"
    options: dict = field(default_factory=dict)
    group: str | None = None
    label: str | None = None
    paper_accuracy: float | None = None
    recorded: dict | None = None

    @property
    def title(self) -> str:
        """The row's name in a table."""
        return self.label or self.preset

    @property
    def metric(self) -> str:
        """The accuracy that counts: on the test images if that is measured, else on the validation images."""
        return "test_accuracy" if "test" in self.config.measure else "validation_accuracy"

    @property
    def source(self) -> Source:
        """Its data set."""
        return SOURCES[self.data]

    def load_data(self, data_dir: str | Path | None = None) -> data.Splits:
        """Its data, in the shape that its network takes: images for a ConvNet, rows for the others.

        Args:
            data_dir: the folder with MNIST (see :func:`ugmm_tutorial.data.mnist`).

        Raises:
            DataError: see :mod:`ugmm_tutorial.data`.
        """
        root = {"root": data_dir} if self.source.name == "mnist" else {}
        splits = data.load(self.source.name, **root, **self.source.options)
        network, _ = networks.PRESETS[self.preset]
        return splits if issubclass(network, networks.ConvNet) else splits.flatten()

    def build(self, seed: int | None = None) -> nn.Module:
        """A fresh network.

        It is drawn from PyTorch's global random state, or from ``seed``, which leaves that state alone.
        """
        if seed is None:
            return networks.preset(self.preset, **self.options)
        with seeded(seed):
            return self.build()
