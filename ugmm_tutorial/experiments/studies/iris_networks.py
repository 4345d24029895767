"""The generative networks that chapter 9 compares on Iris: the changes in each, and how to build it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from torch import nn

from ugmm_tutorial.layers.categorical import CategoricalLeafLayer
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.training.reproducible import seeded

__all__ = ["VARIANTS", "Variant", "build"]

SPECIES = 3


@dataclass(frozen=True)
class Variant:
    """The differences from the paper's network and training.

    Attributes:
        title: its name in tables and legends.
        options: of :class:`~ugmm_tutorial.layers.UGMMLayer`, for every layer.
        categorical: whether probabilities (chapter 9) read the label instead of a Gaussian.
        objective: as for :class:`~ugmm_tutorial.training.joint.EnsembleTrainer`.
        coding: the numbers for setosa, versicolor and virginica.
        standardised: whether features have mean 0 and deviation 1 on the training flowers. Otherwise they are
            in centimetres.
        widths: sizes from the input (features and label) to the single output.
        epochs: passes over the training flowers.
        batch_size: the number of flowers in a step.
    """

    title: str
    options: dict = field(default_factory=lambda: {"init": "paper"})
    categorical: bool = False
    objective: str = "joint"
    coding: tuple[int, ...] = (0, 1, 2)
    standardised: bool = False
    widths: tuple[int, ...] = (5, 10, 5, 1)
    epochs: int = 300
    batch_size: int = 16


_FLOOR = {"init": "paper", "min_std": 0.1}
_BOTH = {"init": "paper", "min_std": 0.1, "max_std": 1.0}

VARIANTS: dict[str, Variant] = {
    # Four features and a label, ten and five neurons; the paper leaves the batch size open.
    "paper": Variant("the paper's network"),
    # As in the author's published notebook: other widths, and 3,000 steps over all training flowers.
    "notebook": Variant(
        "its author's notebook", standardised=True, widths=(5, 20, 8, 1), epochs=3000, batch_size=150
    ),
    "setosa-between": Variant("labels 1, 0, 2", coding=(1, 0, 2)),
    "virginica-between": Variant("labels 0, 2, 1", coding=(0, 2, 1)),
    "standardised": Variant("standardised features", standardised=True),
    "unit": Variant("unit start", {"init": "unit"}),
    "floor": Variant("floor 0.1", _FLOOR),
    "floor-ceiling": Variant("floor 0.1, ceiling 1", _BOTH),
    "categorical": Variant("categorical label", categorical=True),
    "conditional": Variant("trained for the label", objective="conditional"),
    "conditional-unit": Variant(
        "for the label, unit start, standardised",
        {"init": "unit"},
        objective="conditional",
        standardised=True,
    ),
    "conditional-categorical": Variant(
        "the same, categorical label",
        {"init": "unit"},
        categorical=True,
        objective="conditional",
        standardised=True,
    ),
}


def build(variant: Variant, seed: int) -> nn.Sequential:
    """One network of a variant. PyTorch's global random state does not change."""
    with seeded(seed):
        if not variant.categorical:
            return UGMMNet(variant.widths, **variant.options)
        inputs, hidden = variant.widths[:2]
        first = CategoricalLeafLayer(inputs, hidden, num_labels=SPECIES, **variant.options)
        rest = itertools.pairwise(variant.widths[1:])
        return nn.Sequential(first, *(UGMMLayer(k, j, **variant.options) for k, j in rest))
