"""The learners of the study of broken inputs: how each is fitted with a setting, and the settings there are.

Every learner gets the same number of random settings. A learner that knows no missing values gets medians.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ugmm_tutorial.estimators.scaling import RobustScale
from ugmm_tutorial.experiments.studies import broken_networks as networks

__all__ = ["LEARNERS", "Fitted", "Learner", "settings_of"]

#: From rows in their own units, perhaps with NaN, to classes.
Fitted = Callable[[NDArray], NDArray]
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Learner:
    """A learner of the study.

    Attributes:
        fit: from training rows, classes, the number of classes, a setting, the epochs of networks and a seed
            to a fitted function.
        space: the values of each setting, from which random ones are drawn.
        default: a setting that nobody searched for; None if it takes no part untuned.
        knows_the_fault: whether it is trained with the fault that it is tested on.
        bounded: whether it is an ordinary network on bounded features.
    """

    fit: Callable[[NDArray, NDArray, int, dict, int, int], Fitted]
    space: dict[str, tuple]
    default: dict | None = None
    knows_the_fault: bool = False
    bounded: bool = False


def settings_of(learner: Learner, count: int, seed: int) -> list[dict]:
    """Random settings, the same for every table and split of this seed: a Latin hypercube.

    Each value of a setting comes equally often, up to one, and the settings are paired at random.
    """
    draw = np.random.default_rng(seed)
    columns = {}
    for name, values in learner.space.items():
        rounds = [draw.permutation(len(values)) for _ in range(math.ceil(count / len(values)))]
        chosen = draw.permutation(np.concatenate(rounds)[:count])
        columns[name] = [values[place] for place in chosen]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


# --- networks ---------------------------------------------------------------------------------------


def _network(
    build: Callable, *, keeps_nan: bool = False, augmentation: str = "nothing", gap: float = 0.0
) -> Callable[..., Fitted]:
    """How to fit a network; ``gap`` stands for a missing feature, in scaled units. 0 is the median."""

    def fit(x: NDArray, y: NDArray, classes: int, setting: dict, epochs: int, seed: int) -> Fitted:
        scale = RobustScale(x)
        rows, labels = torch.from_numpy(scale(x)).float(), torch.from_numpy(y)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = networks.train(
                build(rows, classes, setting), rows, labels, epochs=epochs, augmentation=augmentation,
                rate=setting.get("rate", 0.0), learning_rate=setting["learning_rate"],
                weight_decay=setting.get("weight_decay", 0.0),
            )  # fmt: skip

        @torch.no_grad()
        def predict(new: NDArray) -> NDArray:
            scaled = torch.from_numpy(scale(new)).float()
            if not keeps_nan:
                scaled = scaled.nan_to_num(nan=gap)
            return torch.cat([model(part).argmax(dim=1) for part in scaled.split(_ROWS_AT_ONCE)]).numpy()

        return predict

    return fit


def _mlp(encoding: str, **how: Any) -> Callable[..., Fitted]:
    return _network(lambda rows, classes, setting: networks.mlp(rows, classes, setting, encoding), **how)


_MIXTURES = {
    "learning_rate": (2e-3, 4e-3, 8e-3),
    "input_dropout": (0.0, 0.1, 0.2, 0.4),
}
_ORDINARY = {
    "learning_rate": (5e-4, 1e-3, 2e-3, 4e-3),
    "dropout": (0.0, 0.1, 0.2, 0.3, 0.5),
    "weight_decay": (0.0, 1e-4, 1e-3, 1e-2, 1e-1),
    "widths": ((128, 64), (256, 128), (512, 256)),
}
#: Feature dropout, for learners that are also searched without it.
_DROPPED = {"rate": (0.0, 0.1, 0.2, 0.4)}
_KAN = {
    "learning_rate": (5e-4, 1e-3, 2e-3, 4e-3),
    "weight_decay": (0.0, 1e-4, 1e-3, 1e-2, 1e-1),
    "hidden": (16, 32, 64),
}


# --- other learners ---------------------------------------------------------------------------------


def _scikit(make: Callable[[dict, int], Any], *, keeps_nan: bool = False) -> Callable[..., Fitted]:
    def fit(x: NDArray, y: NDArray, classes: int, setting: dict, epochs: int, seed: int) -> Fitted:
        scale = RobustScale(x)
        model = make(setting, seed).fit(scale(x), y)

        def predict(new: NDArray) -> NDArray:
            scaled = scale(new)
            return model.predict(scaled if keeps_nan else np.nan_to_num(scaled, nan=0.0))

        return predict

    return fit


def _forest(setting: dict, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(200, random_state=seed, n_jobs=1, **setting)


def _boosting(setting: dict, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed, early_stopping=False, **setting)


def _logistic(setting: dict, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000, **setting)


def _neighbours(setting: dict, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(**setting)


def _naive_bayes(x: NDArray, y: NDArray, classes: int, setting: dict, epochs: int, seed: int) -> Fitted:
    """Gaussian naive Bayes; a missing feature has no factor, which is exact."""
    from sklearn.naive_bayes import GaussianNB

    scale = RobustScale(x)
    model = GaussianNB(**setting).fit(scale(x), y)

    def predict(new: NDArray) -> NDArray:
        distance = (scale(new)[:, None, :] - model.theta_) ** 2 / model.var_
        terms = -0.5 * (distance + np.log(model.var_))
        return (np.log(model.class_prior_) + np.nansum(terms, axis=2)).argmax(axis=1)

    return predict


_TREES = {
    "learning_rate": (0.03, 0.06, 0.1, 0.2),
    "max_leaf_nodes": (7, 15, 31),
    "l2_regularization": (0.0, 1.0, 10.0),
    "max_iter": (60, 120),
}

#: The learners, by the names in the tables of the study.
LEARNERS: dict[str, Learner] = {
    "uGMM": Learner(
        _network(networks.ugmm, keeps_nan=True),
        _MIXTURES | {"widths": ((128, 64), (256, 64), (256, 128))},
        default={"learning_rate": 4e-3, "input_dropout": 0.1, "widths": (128, 64)},
    ),
    "hybrid": Learner(
        _network(networks.hybrid, keeps_nan=True),
        _MIXTURES | {"init_std": (0.5, 1.0, 2.0, 4.0), "widths": ((128, 64), (256, 128), (512, 256))},
        default={
            "learning_rate": 4e-3,
            "input_dropout": 0.1,
            "init_std": 1.0,
            "widths": (256, 128),
        },
    ),
    "MLP": Learner(_mlp("plain"), _ORDINARY),
    "MLP, clipped": Learner(_mlp("clipped"), _ORDINARY),
    "MLP, outliers replaced": Learner(_mlp("detected", augmentation="feature dropout"), _ORDINARY | _DROPPED),
    "MLP, feature dropout": Learner(
        _mlp("plain", augmentation="feature dropout"), _ORDINARY | {"rate": (0.1, 0.2, 0.4)}
    ),
    "MLP, trained with faults": Learner(
        _mlp("plain", augmentation="faults"), _ORDINARY | {"rate": (0.1, 0.2, 0.4)}, knows_the_fault=True
    ),
    "MLP on Gaussians": Learner(
        _mlp("Gaussians", augmentation="features far away", gap=networks.FAR),
        _ORDINARY | _DROPPED,
        bounded=True,
    ),
    "MLP on piecewise linear": Learner(
        _mlp("piecewise linear", augmentation="feature dropout"), _ORDINARY | _DROPPED, bounded=True
    ),
    "FastKAN": Learner(
        _network(
            lambda rows, classes, setting: networks.FastKAN(rows, setting["hidden"], classes),
            augmentation="features far away",
            gap=networks.FAR,
        ),
        _KAN | _DROPPED,
        bounded=True,
    ),
    "forest": Learner(
        _scikit(_forest, keeps_nan=True),
        {"max_features": ("sqrt", 0.3, 0.6), "min_samples_leaf": (1, 2, 5), "criterion": ("gini", "entropy")},
    ),
    "boosting": Learner(_scikit(_boosting, keeps_nan=True), _TREES),
    "logistic regression": Learner(_scikit(_logistic), {"C": tuple(10.0**power for power in range(-4, 5))}),
    "neighbours": Learner(
        _scikit(_neighbours),
        {"n_neighbors": (1, 3, 5, 9, 15, 25), "weights": ("uniform", "distance"), "p": (1, 2)},
    ),
    "naive Bayes": Learner(_naive_bayes, {"var_smoothing": tuple(10.0**power for power in range(-12, 0))}),
}
