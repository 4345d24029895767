"""The data of the page *Break a measurement*: two small trained networks, and tumours they have not seen.

``python book/_ext/broken_example.py`` trains both within seconds and writes ``book/broken_example.json``,
which is committed. ``book/_static/broken.js`` computes with it, and tests compare that with the package.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

from ugmm_tutorial import MLP, UGMMLayer
from ugmm_tutorial.data.splits import Examples, stratified
from ugmm_tutorial.estimators.scaling import RobustScale
from ugmm_tutorial.experiments.studies.broken_networks import train

PATH = Path(__file__).resolve().parents[1] / "broken_example.json"
NEURONS, TEST_ROWS, MIN_STD = 16, 171, 0.1
#: The same for both networks: Adam with a cosine, in batches of 64.
TRAINING = {"epochs": 100, "learning_rate": 1e-2, "weight_decay": 1e-2}


def untrained() -> dict[str, nn.Sequential]:
    """The two networks, from 30 scaled measurements to two scores."""
    entrance = UGMMLayer(30, NEURONS, min_std=MIN_STD, missing="renormalize", input_dropout=0.2)
    return {
        "mixtures": nn.Sequential(entrance, nn.Linear(NEURONS, 2)),
        "mlp": MLP([30, NEURONS, 2], norm="layer"),
    }


def split() -> tuple[Examples, Examples]:
    """Training and test tumours in their own units, float64."""
    found = load_breast_cancer()
    rows = torch.from_numpy(found.data), torch.from_numpy(found.target)
    in_train, _, in_test = stratified(*rows, validation=0, test=TEST_ROWS, seed=0)
    return in_train, in_test


def trained(**training: float) -> dict:
    """The content of the file, after this training."""
    in_train, in_test = split()
    names = load_breast_cancer()
    scale = RobustScale(in_train.x.numpy())
    content = {
        "classes": names.target_names.tolist(),
        "features": names.feature_names.tolist(),
        "min_std": MIN_STD,
        "center": _digits(scale.center),
        "scale": _digits(scale.scale),
        "std": _digits(in_train.x.numpy().std(axis=0)),
    }
    x = scaled(content, in_train.x).float()
    torch.manual_seed(0)
    for name, network in untrained().items():
        state = train(network, x, in_train.y, **training).state_dict()
        content[name] = {key: _digits(value.double().numpy()) for key, value in state.items()}
    return content | {"rows": in_test.x.tolist(), "y": in_test.y.tolist()}


def networks(content: dict) -> dict[str, nn.Sequential]:
    """The trained networks of the file, float64."""
    found = untrained()
    for name, network in found.items():
        state = {key: torch.tensor(value, dtype=torch.float64) for key, value in content[name].items()}
        network.double().load_state_dict(state)
        network.eval()
    return found


def scaled(content: dict, x: Tensor) -> Tensor:
    """What the networks read, for measurements in their own units. NaN, a missing one, stays NaN."""
    center, scale = (torch.tensor(content[name], dtype=torch.float64) for name in ("center", "scale"))
    return (x - center) / scale


def write(content: dict, path: Path = PATH) -> None:
    """One line for each entry, so that a change can be read."""
    entries = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    path.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")


def _digits(values: np.ndarray) -> list:
    """Five significant digits. These numbers are the network, for the page and for the package."""
    return np.vectorize(lambda value: float(f"{value:.5g}"))(values).tolist()


if __name__ == "__main__":
    write(trained(**TRAINING))
