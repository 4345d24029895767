"""Where modules and names of version 0.1 are now: the old ones raise an error that says so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import NoReturn

__all__ = ["MOVED", "RENAMED", "hint", "install", "renamed"]

_PACKAGE = __name__.rpartition(".")[0]

#: New names of modules, both without ``ugmm_tutorial.``.
MOVED = {
    "ablations": "layers.ablations",
    "arguments": "kernels.arguments",
    "bench": "experiments.bench",
    "catalogue": "experiments.catalogue",
    "checkpoints": "training.checkpoints",
    "claims": "teaching.claims",
    "columns": "experiments.text_table",
    "constructions": "approximation.constructions",
    "cost": "experiments.cost",
    "density.conditional": "density.model",
    "density.product": "density.diagonal",
    "evaluation": "training.evaluation",
    "exercises": "teaching.exercises",
    "figure_contract": "teaching.figure_contract",
    "files": "training.files",
    "generative": "training.joint",
    "inference.explanation": "inference.mpe",
    "inference.pool": "inference.box_queue",
    "interactions": "approximation.mixed_differences",
    "interpretation.paths": "interpretation.back_projection",
    "kernels.background": "kernels.shifts",
    "kernels.cpu": "kernels.numba_kernels",
    "kernels.cpu_loops": "kernels.numba_loops",
    "kernels.gpu": "kernels.triton_kernels",
    "kernels.gpu_backward": "kernels.triton_backward",
    "kernels.gpu_elements": "kernels.triton_elements",
    "kernels.gpu_forward": "kernels.triton_forward",
    "kernels.gpu_tiles": "kernels.triton_tiles",
    "kernels.pool": "kernels.thread_pool",
    "leaves": "layers.categorical",
    "masks": "layers.masks",
    "plotting": "teaching.plotting",
    "price": "experiments.cost_table",
    "records": "training.records",
    "sparse": "layers.sparse",
    "steps": "training.steps",
    "stored": "experiments.artifacts",
    "studies": "experiments.studies",
    "threads": "training.threads",
    "train_config": "training.config",
    "tuning": "experiments.tuning",
    "univariate": "approximation.univariate",
    "verdicts": "experiments.replication",
    "viewer": "teaching.viewer",
}


#: New names of classes and functions, by the folder they were imported from and their old names.
RENAMED = {
    "density": {"ProductTwin": "density.DiagonalGaussianMixture"},
    "experiments": {
        "load_data": "experiments.Experiment.load_data",
        "load_model": "experiments.Run.network",
        "run": "experiments.Run.train",
        "stored": "experiments.Run.record",
    },
    "functional": {
        "hard_log_density": "functional.max_log_density",
        "transformed": "functional.under_functorch",
    },
    "layers": {"HardLayer": "layers.MaxLayer"},
    "uncertainty": {"strangeness": "uncertainty.ood_scores"},
}


def renamed(module: str) -> Callable[[str], NoReturn]:
    """A module's ``__getattr__``, which knows its old names.

    ``from module import old`` would swallow the text of an AttributeError, so old names raise ImportError.
    """
    old_names = RENAMED[module.removeprefix(f"{_PACKAGE}.")]

    def look_up(name: str) -> NoReturn:
        if name in old_names:
            raise ImportError(f"since version 0.2 {module}.{name} is {_PACKAGE}.{old_names[name]}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return look_up


def hint(name: str) -> str:
    """What to say of an old name, beginning with a colon, or nothing."""
    new = MOVED.get(name)
    return f": since version 0.2 it is {_PACKAGE}.{new}" if new else ""


def install() -> None:
    """Have the import system ask for old names, after it has looked for the modules that there are."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> None:
        package, _, name = fullname.partition(".")
        if package == _PACKAGE and name in MOVED:
            # Without the argument "name": "from ugmm_tutorial import x" would swallow the message.
            raise ImportError(f"since version 0.2 {fullname} is {_PACKAGE}.{MOVED[name]}: change the import")
