"""Figures of the book: every function draws on ``ax`` (or on new axes) and returns it.

    style        colours, ink, the look of all figures
    schematics   drawings without data
    mixtures     densities, one neuron at one input, contours
    results      curves, reliability, matrices, images

Colours are those of Okabe and Ito, which are safe for colour blindness. Backgrounds are opaque, so that every
figure is readable in a dark notebook. The book's stylesheet turns them round on dark pages.
``figure_contract`` has the rules for figures.
"""

from ugmm_tutorial.teaching.plotting.mixtures import mixture_density, neuron_explorer, response_surface
from ugmm_tutorial.teaching.plotting.results import (
    heat_map,
    image_grid,
    learning_curves,
    reliability_diagram,
    severity_curves,
)
from ugmm_tutorial.teaching.plotting.schematics import broadcast_schematic, fused_schematic, neuron_schematic
from ugmm_tutorial.teaching.plotting.style import COLORS, use_style

__all__ = [
    "COLORS",
    "broadcast_schematic",
    "fused_schematic",
    "heat_map",
    "image_grid",
    "learning_curves",
    "mixture_density",
    "neuron_explorer",
    "neuron_schematic",
    "reliability_diagram",
    "response_surface",
    "severity_curves",
    "use_style",
]
