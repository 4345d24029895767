"""Normalised relatives of the uGMM neuron: densities that integrate to one. Taught in chapter 9.

    SmoothedUGMM   every term completed by background densities: the nearest relative
    ProductTwin    the same Gaussians multiplied: the diagonal Gaussian mixture
    Circuit        either of them as leaves, under products and sums
    TiltedModel    an unchanged network as the tilt of a simple density

``em.fit`` and ``gradient.fit`` train them.
"""

from ugmm_tutorial.density import em, gradient
from ugmm_tutorial.density.background import Background, GaussianBackground, UniformBackground
from ugmm_tutorial.density.base import ProductBase
from ugmm_tutorial.density.circuit import Circuit
from ugmm_tutorial.density.model import Conditional, Density
from ugmm_tutorial.density.product import ProductTwin
from ugmm_tutorial.density.smoothed import SmoothedUGMM
from ugmm_tutorial.density.tilted import TiltedModel

__all__ = [
    "Background",
    "Circuit",
    "Conditional",
    "Density",
    "GaussianBackground",
    "ProductBase",
    "ProductTwin",
    "SmoothedUGMM",
    "TiltedModel",
    "UniformBackground",
    "em",
    "gradient",
]
