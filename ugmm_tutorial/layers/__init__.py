"""Layers of mixture neurons, all of one family, from inputs ``(*, K)`` to outputs ``(*, J)``.

    dense        UGMMLayer, where every neuron reads every input
    sparse       SparseUGMMLayer, where every neuron reads a few inputs
    categorical  CategoricalLeafLayer, whose last input is a label
    ablations    layers that each lack one thing, for comparison
    masks        which components dropout removes

Chapters 2 and 4 teach the dense layer; chapters 8, 9 and 12 teach the others.
"""

from typing import TYPE_CHECKING

from ugmm_tutorial import _moved
from ugmm_tutorial.layers.ablations import (
    LAYERS,
    FrozenStdLayer,
    MaxLayer,
    PerExampleDropoutLayer,
    TiedStdLayer,
    UniformWeightLayer,
)
from ugmm_tutorial.layers.categorical import CategoricalLeafLayer
from ugmm_tutorial.layers.dense import DROPOUT_MODES, INITS, MixtureLayer, UGMMLayer
from ugmm_tutorial.layers.limits import lower_bound
from ugmm_tutorial.layers.sparse import SparseUGMMLayer, sparse_log_density

__all__ = [
    "DROPOUT_MODES",
    "INITS",
    "LAYERS",
    "CategoricalLeafLayer",
    "FrozenStdLayer",
    "MaxLayer",
    "MixtureLayer",
    "PerExampleDropoutLayer",
    "SparseUGMMLayer",
    "TiedStdLayer",
    "UGMMLayer",
    "UniformWeightLayer",
    "lower_bound",
    "sparse_log_density",
]

if not TYPE_CHECKING:
    __getattr__ = _moved.renamed(__name__)
