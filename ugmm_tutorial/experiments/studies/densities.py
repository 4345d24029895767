"""Which density fits small tables best: smoothed neurons, their relatives, or models from other packages?

The study uses four data sets from scikit-learn and stratified cross-validation. It measures for every
contender:

- held-out log-likelihood in nats per row, for a model of the features alone;
- imputation: the root mean squared error of conditional means for values that were deleted at random, with
  the same model;
- classification by one model for each class, argmax_c log p(x | c) + log prior.

Features are standardised on the training folds, and likelihoods are those of standardised features.
Differences between contenders are meaningful, but the levels do not carry over to other units. The pixels of
the digits are whole numbers, on which a density can grow without bound. Therefore uniform noise from [0, 1)
is added to each pixel (Theis et al. 2016), and pixels that are the same in all images are left out.

Sizes are chosen on a quarter of each training fold, with one start per size. Every contender has equally many
candidates, except that numbers of components are left out if there are too few rows for them. The model is
then fitted again on the whole fold. Intervals are Student's over folds. They are somewhat too narrow, because
folds share training rows.

With four features (iris) and depth 2, each leaf of a circuit has one feature. A smoothed neuron of one
feature is a Gaussian, so both kinds of circuit are the same there. Our own models run in float32, which the
fused operator needs.

For chapter 10. SPFlow takes part if it is installed; it is not a dependency.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ugmm_tutorial.experiments.studies.density_contenders import CONTENDERS, Fitted, spflow_version
from ugmm_tutorial.training.records import mean_and_interval
from ugmm_tutorial.training.threads import one_thread

__all__ = ["SETTINGS", "measure"]

SETTINGS: dict = {
    "data": ["iris", "wine", "breast_cancer", "digits"],
    "contenders": list(CONTENDERS),
    "folds": 5,
    "sizes": [1, 2, 4, 8, 16, 32],
    "class_sizes": [1, 2, 4, 8],
    "bandwidths": [0.1, 0.2, 0.35, 0.5, 0.7, 1.0],
    "class_bandwidths": [0.2, 0.35, 0.5, 0.8],
    "rows_per_component": 5,
    "missing": 0.3,
    "iterations": 50,
    "tolerance": 1e-3,
    "min_std": 0.1,
    "depth": 2,
    "trees": 1,
    "seed": 0,
}


def measure(settings: dict, progress: bool) -> dict:
    """Run the study: the three measures over folds, for each data set and contender.

    Returns:
        ``{"data": {name: {"rows", "features", "classes", "contenders": {name: ...}}}, "spflow": version}``. A
        contender has ``log_likelihood``, ``accuracy`` and ``imputation_rmse``, each with ``folds``, ``mean``
        and ``half_width`` (95 %), or None if it cannot do this. ``against_twin`` is its log-likelihood minus
        that of the diagonal Gaussian mixture ("product twin" in the results), paired by fold. ``sizes`` and
        ``class_sizes`` are the sizes chosen in each fold, and ``seconds`` is the time. A contender that is
        not installed is None.
    """
    installed = spflow_version()
    results = {}
    for name in settings["data"]:
        x, y = _data(name, settings["seed"])
        each = {}
        for contender in settings["contenders"]:
            if contender.startswith("SPFlow") and installed is None:
                each[contender] = None
                continue
            with one_thread():
                each[contender] = _over_folds(contender, x, y, settings)
            if progress:
                found = {key: each[contender][key] for key in ("log_likelihood", "accuracy")}
                shown = ", ".join(f"{key} {value['mean']:.3f}" for key, value in found.items())
                print(f"{name}, {contender}: {shown}, {each[contender]['seconds']:.0f} s", flush=True)
        _compare(each)
        shape = {"rows": len(x), "features": x.shape[1], "classes": len(y.unique())}
        results[name] = {**shape, "contenders": each}
    return {"data": results, "spflow": installed}


def _data(name: str, seed: int) -> tuple[Tensor, Tensor]:
    """Features (N, K) in float64, and labels (N,)."""
    from sklearn import datasets

    raw = getattr(datasets, f"load_{name}")()
    x, y = np.asarray(raw.data, dtype=np.float64), raw.target
    if name == "digits":
        x = x[:, x.min(axis=0) < x.max(axis=0)]
        x = x + np.random.default_rng(seed).random(x.shape)
    return torch.as_tensor(x), torch.as_tensor(y)


def _over_folds(contender: str, x: Tensor, y: Tensor, settings: dict) -> dict:
    begun = time.perf_counter()
    folds = [_one_fold(contender, *fold, settings) for fold in _folds(x, y, settings)]
    summary: dict = {}
    for key in ("log_likelihood", "imputation_rmse", "accuracy"):
        values = [fold[key] for fold in folds]
        summary[key] = None if None in values else _summary(values)
    for key in ("sizes", "class_sizes"):
        summary[key] = [fold[key] for fold in folds]
    return {**summary, "seconds": time.perf_counter() - begun}


def _folds(x: Tensor, y: Tensor, settings: dict) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, int]]:
    """Standardised training rows and labels, test rows and labels, and the fold's number."""
    from sklearn.model_selection import StratifiedKFold

    split = StratifiedKFold(settings["folds"], shuffle=True, random_state=settings["seed"])
    for number, (train, test) in enumerate(split.split(x.numpy(), y.numpy())):
        mean, std = x[train].mean(dim=0), x[train].std(dim=0, correction=0)
        yield (x[train] - mean) / std, y[train], (x[test] - mean) / std, y[test], number


def _one_fold(
    contender: str, train: Tensor, labels: Tensor, test: Tensor, truth: Tensor, number: int, settings: dict
) -> dict:
    kind = "bandwidths" if contender == "kernels" else "sizes"
    inner, held_out = _inner_split(labels, settings["seed"] + number)

    def fit(rows: Tensor, size: float) -> Fitted:
        return CONTENDERS[contender](rows, size, settings["seed"], settings)

    def score(size: float) -> float:
        return fit(train[inner], size).log_prob(train[held_out]).mean().item()

    size = _best(_allowed(settings, kind, len(inner)), score)
    model = fit(train, size)

    def class_score(size: float) -> float:
        scores = _class_scores(train[inner], labels[inner], train[held_out], size, fit)
        return scores.gather(1, labels[held_out].unsqueeze(1)).mean().item()

    smallest = int(torch.bincount(labels[inner]).min())
    class_size = _best(_allowed(settings, f"class_{kind}", smallest), class_score)
    guess = _class_scores(train, labels, test, class_size, fit).argmax(dim=1)
    return {
        "log_likelihood": model.log_prob(test).mean().item(),
        "imputation_rmse": _imputation_error(model, test, settings, number),
        "accuracy": (guess == truth).double().mean().item(),
        "sizes": size,
        "class_sizes": class_size,
    }


def _inner_split(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of three quarters of the training rows, and of the remaining quarter."""
    from sklearn.model_selection import train_test_split

    parts = train_test_split(
        np.arange(len(labels)), test_size=0.25, stratify=labels.numpy(), random_state=seed
    )
    return torch.as_tensor(parts[0]), torch.as_tensor(parts[1])


def _allowed(settings: dict, kind: str, rows: int) -> list[float]:
    """The candidate sizes. A number of components is allowed only if there are enough rows per component."""
    candidates = settings[kind]
    if kind.endswith("bandwidths"):
        return candidates
    most = max(rows // settings["rows_per_component"], 1)
    return [size for size in candidates if size <= most]


def _best(candidates: list[float], score: Callable[[float], float]) -> float:
    """The candidate with the highest score. A score that is not finite counts as the lowest."""
    scores = {size: score(size) for size in candidates}
    return max(scores, key=lambda size: scores[size] if math.isfinite(scores[size]) else -math.inf)


def _class_scores(
    rows: Tensor, labels: Tensor, test: Tensor, size: float, fit: Callable[[Tensor, float], Fitted]
) -> Tensor:
    """log p(x | c) + log prior, (N, C), with one model for each class."""
    columns = []
    for c in range(int(labels.max()) + 1):
        own = rows[labels == c]
        columns.append(fit(own, size).log_prob(test) + math.log(len(own) / len(rows)))
    return torch.stack(columns, dim=1)


def _imputation_error(model: Fitted, test: Tensor, settings: dict, number: int) -> float | None:
    """RMSE over deleted values, in standard deviations. The same values are deleted for all contenders."""
    if model.impute is None:
        return None
    draw = torch.Generator().manual_seed(settings["seed"] + number)
    deleted = torch.rand(test.shape, generator=draw, dtype=torch.float64) < settings["missing"]
    filled = model.impute(test.masked_fill(deleted, math.nan))
    return (filled - test)[deleted].square().mean().sqrt().item()


def _compare(contenders: dict[str, dict | None]) -> None:
    """Add to each contender, fold by fold, its difference from the diagonal Gaussian mixture."""
    twin = contenders.get("product twin")
    for found in contenders.values():
        if found is None or twin is None:
            continue
        pairs = zip(found["log_likelihood"]["folds"], twin["log_likelihood"]["folds"], strict=True)
        found["against_twin"] = _summary([ours - theirs for ours, theirs in pairs])


def _summary(values: list[float]) -> dict:
    mean, half_width = mean_and_interval(values)
    return {"folds": values, "mean": mean, "half_width": half_width}
