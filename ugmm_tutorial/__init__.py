"""The companion package of the uGMM-NN book: networks of univariate Gaussian mixture neurons."""

from ugmm_tutorial.evaluation import evaluate
from ugmm_tutorial.functional import responsibilities, ugmm_log_density
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.networks import MLP, ConvNet, UGMMNet, preset
from ugmm_tutorial.records import Record
from ugmm_tutorial.training import TrainConfig, train

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "ConvNet",
    "Record",
    "TrainConfig",
    "UGMMLayer",
    "UGMMNet",
    "evaluate",
    "preset",
    "responsibilities",
    "train",
    "ugmm_log_density",
]
