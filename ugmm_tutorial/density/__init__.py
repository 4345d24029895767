"""Normalised relatives of the uGMM neuron: densities that integrate to one. Taught in chapter 10.

    SmoothedUGMM             every term completed by background densities: the nearest relative
    DiagonalGaussianMixture  the same Gaussians multiplied instead of mixed
    Circuit                  products and sums over leaves of either kind
    TiltedModel              a simple density multiplied by the exponential of an unchanged network

``em.fit`` and ``gradient.fit`` train them.
"""

from typing import TYPE_CHECKING

from ugmm_tutorial import _moved
from ugmm_tutorial.density import em, gradient
from ugmm_tutorial.density.background import Background, GaussianBackground, UniformBackground
from ugmm_tutorial.density.base import ProductBase
from ugmm_tutorial.density.circuit import Circuit
from ugmm_tutorial.density.diagonal import DiagonalGaussianMixture
from ugmm_tutorial.density.model import Conditional, Density
from ugmm_tutorial.density.smoothed import SmoothedUGMM
from ugmm_tutorial.density.tilted import TiltedModel

__all__ = [
    "Background",
    "Circuit",
    "Conditional",
    "Density",
    "DiagonalGaussianMixture",
    "GaussianBackground",
    "ProductBase",
    "SmoothedUGMM",
    "TiltedModel",
    "UniformBackground",
    "em",
    "gradient",
]

if not TYPE_CHECKING:
    __getattr__ = _moved.renamed(__name__)
