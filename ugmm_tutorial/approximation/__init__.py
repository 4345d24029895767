"""What mixtures and networks of mixture neurons can approximate, and how well. Taught in chapter 14.

univariate         mixtures of Gaussians on the line, fitted by quadrature
constructions      networks whose parameters are written down instead of learnt
mixed_differences  how strongly two inputs interact
"""

from ugmm_tutorial.approximation.constructions import bump_network, exponential_layer
from ugmm_tutorial.approximation.mixed_differences import corners, mixed_difference
from ugmm_tutorial.approximation.univariate import (
    Mixture,
    fit,
    kl_divergence,
    l1_distance,
    polish,
    quadrature,
    quantile_start,
    spread_start,
)

__all__ = [
    "Mixture",
    "bump_network",
    "corners",
    "exponential_layer",
    "fit",
    "kl_divergence",
    "l1_distance",
    "mixed_difference",
    "polish",
    "quadrature",
    "quantile_start",
    "spread_start",
]
