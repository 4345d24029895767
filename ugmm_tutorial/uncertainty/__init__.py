"""Does a network know what it does not know? Calibration, shifted images, out-of-distribution scores.

    metrics          NLL, Brier, calibration error with bins of equal mass, AUROC
    temperature      one number that makes a network less, or more, confident
    outputs          logits, probabilities, the log-densities of uGMM layers
    scores           out-of-distribution scores, entropy and mutual information
    members          deep ensembles and MC dropout
    shifts           corrupted images, and images of no class
    class_gaussians  a density of a network's features, to compare with

Taught in chapter 12.
"""

from typing import TYPE_CHECKING

from ugmm_tutorial import _moved
from ugmm_tutorial.uncertainty.class_gaussians import ClassGaussians
from ugmm_tutorial.uncertainty.members import ensemble, mc_dropout
from ugmm_tutorial.uncertainty.metrics import (
    Reliability,
    accuracy,
    auroc,
    brier_score,
    calibrated_ece,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from ugmm_tutorial.uncertainty.outputs import layer_log_densities, logits, penultimate, probabilities
from ugmm_tutorial.uncertainty.scores import (
    atypicality,
    entropy,
    mutual_information,
    ood_scores,
)
from ugmm_tutorial.uncertainty.shifts import CORRUPTIONS, corrupt, outliers
from ugmm_tutorial.uncertainty.temperature import fit_temperature

__all__ = [
    "CORRUPTIONS",
    "ClassGaussians",
    "Reliability",
    "accuracy",
    "atypicality",
    "auroc",
    "brier_score",
    "calibrated_ece",
    "corrupt",
    "ensemble",
    "entropy",
    "expected_calibration_error",
    "fit_temperature",
    "layer_log_densities",
    "logits",
    "mc_dropout",
    "mutual_information",
    "negative_log_likelihood",
    "ood_scores",
    "outliers",
    "penultimate",
    "probabilities",
    "reliability",
]

if not TYPE_CHECKING:
    __getattr__ = _moved.renamed(__name__)
