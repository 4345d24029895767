"""Questions to ask a trained network: which label fits the features, which inputs score highest.

``label_posterior`` is taught in chapter 9, ``mpe`` and its interval bounds in chapter 11.
"""

from ugmm_tutorial.inference.bounds import interval_bounds
from ugmm_tutorial.inference.branch_and_bound import IMPROVEMENTS
from ugmm_tutorial.inference.labels import label_posterior, label_scores
from ugmm_tutorial.inference.mpe import METHODS, mpe
from ugmm_tutorial.inference.result import MPEResult

__all__ = [
    "IMPROVEMENTS",
    "METHODS",
    "MPEResult",
    "interval_bounds",
    "label_posterior",
    "label_scores",
    "mpe",
]
