"""The companion package of the uGMM-NN book: networks of univariate Gaussian mixture neurons.

>>> import torch
>>> import ugmm_tutorial as ug
>>> net = ug.UGMMNet([784, 128, 10], norm="layer")
>>> net(torch.rand(32, 784)).shape
torch.Size([32, 10])

The library's folders, ``ug.density`` for example, are loaded when they are first named, so that importing the
package takes little longer than importing PyTorch. The library imports neither ``experiments``, the
laboratory, nor ``teaching``, the classroom.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from ugmm_tutorial import _moved
from ugmm_tutorial.functional import responsibilities, ugmm_log_density
from ugmm_tutorial.hybrid import HybridNet
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.networks import MLP, ConvNet, UGMMNet, preset
from ugmm_tutorial.training import Record, TrainConfig, evaluate, train

if TYPE_CHECKING:
    from ugmm_tutorial import (
        approximation,
        data,
        density,
        estimators,
        experiments,
        functional,
        inference,
        interpretation,
        layers,
        networks,
        robustness,
        teaching,
        training,
        uncertainty,
    )

__version__ = "0.2.0"

__all__ = [
    "MLP",
    "ConvNet",
    "HybridNet",
    "Record",
    "TrainConfig",
    "UGMMLayer",
    "UGMMNet",
    "__version__",
    "approximation",
    "data",
    "density",
    "estimators",
    "evaluate",
    "experiments",
    "functional",
    "inference",
    "interpretation",
    "layers",
    "networks",
    "preset",
    "responsibilities",
    "robustness",
    "teaching",
    "train",
    "training",
    "ugmm_log_density",
    "uncertainty",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_moved.hint(name)}")


def __dir__() -> list[str]:
    return __all__


_moved.install()
