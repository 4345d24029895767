"""What a trained network looks at: which components answer, which do not, and which it can do without.

The package goes from responsibilities (``responsible``) to pixels (``back_projection``), to neurons that do
nothing (``health``), to what deleting a component changes (``identity``), and to smaller networks
(``importance``, ``pruning``, ``deletion``).

Taught in chapter 12.
"""

from ugmm_tutorial.interpretation.back_projection import back_project
from ugmm_tutorial.interpretation.deletion import deletion_curve, deletion_curve_by_example
from ugmm_tutorial.interpretation.health import LayerHealth, health
from ugmm_tutorial.interpretation.identity import change_by_deletion
from ugmm_tutorial.interpretation.importance import IMPORTANCES, importance
from ugmm_tutorial.interpretation.pruning import prune
from ugmm_tutorial.interpretation.responsible import (
    LayerStatistics,
    mean_responsibilities,
    responsibilities,
    statistics,
    submodes,
)

__all__ = [
    "IMPORTANCES",
    "LayerHealth",
    "LayerStatistics",
    "back_project",
    "change_by_deletion",
    "deletion_curve",
    "deletion_curve_by_example",
    "health",
    "importance",
    "mean_responsibilities",
    "prune",
    "responsibilities",
    "statistics",
    "submodes",
]
