"""The networks whose confidence chapter 12 examines, all trained alike from several seeds.

Their checkpoints are in ``$UGMM_SCRATCH_DIR``, by default a cache of the user, so that an interrupted study
can continue. ``train`` refuses a checkpoint that was made with other settings, data or network code.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ugmm_tutorial import data
from ugmm_tutorial.experiments import artifacts
from ugmm_tutorial.experiments.catalogue import find
from ugmm_tutorial.training.loop import train

__all__ = ["FAMILIES", "as_images", "load", "trained"]

_TUNED = {"options": {}, "epochs": 20, "seeds": 5, "dropout": True}

#: Experiments of the catalogue, the changes to them, and whether MC dropout is measured. "ugmm-bare" has no
#: LayerNorm on its outputs, so its logits are its log-densities.
FAMILIES: dict[str, dict] = {
    "ugmm": {"experiment": "tuned-ugmm", **_TUNED},
    "mlp": {"experiment": "tuned-mlp", **_TUNED},
    "mlp-wide": {"experiment": "tuned-mlp-wide", **_TUNED},
    "ugmm-bare": {
        "experiment": "tuned-ugmm",
        "options": {"norm": "layer"},
        "epochs": 20,
        "seeds": 3,
        "dropout": False,
    },
}


def load(name: str) -> data.Splits:
    """The data of that name in the catalogue, with one image in each row."""
    return replace(find("tuned-mlp"), data=name).load_data()


def as_images(rows: Tensor) -> Tensor:
    """Square images (N, 1, H, W) from rows (N, H W)."""
    side = round(rows.shape[1] ** 0.5)
    return rows.reshape(-1, 1, side, side)


def trained(family: dict, splits: data.Splits, seed: int, progress: bool) -> nn.Module:
    """The network of one seed after the last epoch, trained now or taken from its checkpoint."""
    experiment = find(family["experiment"])
    options = experiment.options | family["options"]
    experiment = replace(experiment, options=options)
    config = replace(experiment.config, seed=seed, epochs=family["epochs"], measure=())
    model = experiment.build(seed)
    changed = "-".join(f"{key}-{value}" for key, value in family["options"].items())
    name = "-".join(filter(None, (splits.name, experiment.name, changed, f"{config.epochs}-epochs")))
    path = artifacts.scratch("uncertainty") / f"{name}-seed{seed}.pt"
    train(model, splits, config, checkpoint=path, resume=True, progress=progress)
    return model.eval()
