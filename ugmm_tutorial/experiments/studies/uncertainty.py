"""Does a uGMM network know what it does not know? Beside two MLPs, ensembles and MC dropout (chapter 12).

The networks are the best of three equal searches, and a uGMM network without LayerNorm on its outputs. They
are trained again without the last 5,000 training images, on which the temperatures are fitted. The networks
then see the test images unchanged and corrupted, and outliers that belong to no class. Three kinds of
predictions are judged:

- single networks: the mean over seeds with its 95 % interval (Student's t);
- an ensemble: the mean of the probabilities of all seeds;
- MC dropout: the mean over passes, again over seeds, and only at the middle severity to save time.

An out-of-distribution score is judged in two ways: by its AUROC against every set of outliers (scores should
be higher for outliers, and 0.5 is guessing), and by how well it tells wrong answers from right ones. Two
densities serve for comparison: a diagonal Gaussian mixture of the pixels, as in chapter 10, and Gaussians
around the class means of each network's last hidden features.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ugmm_tutorial import data
from ugmm_tutorial.experiments.studies.uncertainty_networks import FAMILIES, as_images, load, trained
from ugmm_tutorial.experiments.studies.uncertainty_summary import over_seeds, rounded
from ugmm_tutorial.uncertainty import (
    CORRUPTIONS,
    ClassGaussians,
    accuracy,
    atypicality,
    auroc,
    brier_score,
    calibrated_ece,
    corrupt,
    entropy,
    fit_temperature,
    logits,
    mc_dropout,
    mutual_information,
    negative_log_likelihood,
    ood_scores,
    outliers,
    penultimate,
    reliability,
)

__all__ = ["SETTINGS", "measure"]

SETTINGS = {
    "families": FAMILIES,
    "data": "mnist-split",
    "bins": 15,
    "severities": {kind: list(amounts) for kind, amounts in CORRUPTIONS.items()},
    "outliers": 2000,
    "passes": 10,
    "density": {"components": 50, "min_std": 0.1, "rows": 10000},
}
_MIDDLE = 3
_TEST = ("test", 0)  # the test images as a kind of corruption, unchanged
_DIGITS = 5  # significant digits in the file
# Log-densities, or scores in their place. They are also judged on both sides, and kept as histograms.
_LEVELS = ("energy", "root logsumexp", "layer 1")


class _Sets(NamedTuple):
    """Rows of pixels: images by kind and severity of corruption, outliers by name, test images in both."""

    shifted: dict[tuple[str, int], Tensor]
    outliers: dict[str, Tensor]
    validation: data.Examples
    labels: Tensor


def measure(settings: dict, progress: bool) -> dict:
    """The results of each family's networks, their ensemble and MC dropout, and the AUROC of the density."""
    splits = load(settings["data"])
    sets = _sets(splits, settings)
    results: dict = {"families": {}, "density": _pixel_density(splits, sets, settings)}
    for name, family in settings["families"].items():
        seeds = tqdm(range(family["seeds"]), desc=name, disable=not progress)
        networks = [trained(family, splits, seed, progress=False) for seed in seeds]
        results["families"][name] = _family(networks, splits, sets, settings, family["dropout"])
    return rounded(results, _DIGITS)


def _sets(splits: data.Splits, settings: dict) -> _Sets:
    images = as_images(splits.test.x)
    shifted = {_TEST: images} | {
        (kind, severity): corrupt(images, kind, severity)
        for kind, amounts in settings["severities"].items()
        for severity in range(1, len(amounts) + 1)
    }
    digits = None if splits.name == "digits" else torch.cat([p.x for p in _parts(data.digits())])
    unlike = {"test": images} | outliers(images[: settings["outliers"]], other=digits)
    return _Sets(
        {corruption: x.flatten(1) for corruption, x in shifted.items()},
        {name: x.flatten(1) for name, x in unlike.items()},
        splits.validation,
        splits.test.y,
    )


def _parts(splits: data.Splits) -> Sequence[data.Examples]:
    return splits.train, splits.validation, splits.test


def _family(
    networks: list[nn.Module], splits: data.Splits, sets: _Sets, settings: dict, dropout: bool
) -> dict:
    bins = settings["bins"]
    held_out = [logits(n, sets.validation.x) for n in networks]
    said = [{corruption: logits(n, x) for corruption, x in sets.shifted.items()} for n in networks]
    scored = [_ood_scores(n, splits, sets.outliers) for n in networks]
    single = [
        _judged(v, s, sets, bins) | _told_apart(scores, s[_TEST], sets.labels)
        for v, s, scores in zip(held_out, said, scored, strict=True)
    ]
    found = {
        "single": over_seeds(single),
        "reliability": _diagrams(said, sets.labels, [s["temperature"] for s in single], bins),
        "histograms": _histograms(scored[0]),
        "ensemble": _ensemble(networks, held_out, said, scored, sets, bins),
    }
    if dropout:
        found["mc_dropout"] = over_seeds([_thinned(n, sets, settings) for n in networks])
    return found


# --- probabilities ----------------------------------------------------------------------------------


def _judged(held_out: Tensor, said: dict[tuple[str, int], Tensor], sets: _Sets, bins: int) -> dict:
    """Metrics on the test images, and by kind and severity of corruption. Severity 0 is the test images.

    ``held_out`` and ``said`` are logits or log-probabilities.
    """
    temperature = fit_temperature(held_out, sets.validation.y)
    before = {corruption: _metrics(z, sets.labels, bins) for corruption, z in said.items()}
    after = {corruption: _metrics(z / temperature, sets.labels, bins) for corruption, z in said.items()}
    severities = {kind: [_TEST, *(c for c in said if c[0] == kind)] for kind, _ in said if kind != _TEST[0]}
    return {
        "temperature": temperature,
        "test": before[_TEST],
        "test_scaled": after[_TEST],
        "calibrated_ece": float(calibrated_ece(torch.softmax(said[_TEST], 1), bins=bins).mean()),
        "corrupted": {
            kind: {key: [before[c][key] for c in corruptions] for key in before[_TEST]}
            | {f"{key}_scaled": [after[c][key] for c in corruptions] for key in ("nll", "ece")}
            for kind, corruptions in severities.items()
        },
    }


def _metrics(z: Tensor, labels: Tensor, bins: int) -> dict:
    p = torch.softmax(z, dim=1)
    binned = reliability(p, labels, bins=bins)
    return {
        "accuracy": accuracy(p, labels),
        "nll": negative_log_likelihood(p, labels),
        "brier": brier_score(p, labels),
        "ece": binned.ece,
        "overconfidence": binned.overconfidence,
    }


def _diagrams(said: list[dict], labels: Tensor, temperatures: list[float], bins: int) -> dict:
    """Reliability over the answers of all seeds, on the test images and at the middle severities."""
    shown = {"test": _TEST} | {f"{kind} {_MIDDLE}": (kind, _MIDDLE) for kind, n in said[0] if n == _MIDDLE}
    many = labels.repeat(len(said))

    def binned(corruption: tuple[str, int], divisors: Sequence[float]) -> dict:
        p = torch.cat([torch.softmax(s[corruption] / t, dim=1) for s, t in zip(said, divisors, strict=True)])
        return vars(reliability(p, many, bins=bins))

    ones = [1.0] * len(said)
    return {name: {"before": binned(c, ones), "after": binned(c, temperatures)} for name, c in shown.items()}


# --- scores -----------------------------------------------------------------------------------------


def _ood_scores(network: nn.Module, splits: data.Splits, outliers: dict[str, Tensor]) -> dict:
    """Out-of-distribution scores by set and name.

    They include the score of Gaussians around the class means of the last features. Log-densities give two
    scores: how low they are, and how far they are from what is usual on the validation images.
    """
    gaussians = ClassGaussians(penultimate(network, splits.train.x), splits.train.y)
    usual = ood_scores(network, splits.validation.x)
    found = {}
    for name, x in outliers.items():
        scores = ood_scores(network, x)
        unusual = {
            f"{key}, to either side": atypicality(scores[key], usual[key]) for key in _LEVELS if key in usual
        }
        found[name] = {key: score.numpy() for key, score in (scores | unusual).items()}
        found[name]["class Gaussians"] = gaussians.score(penultimate(network, x))
    return found


def _told_apart(scores: dict, z: Tensor, labels: Tensor) -> dict:
    """AUROC of each score: for outliers against the test images, and for wrong against right answers."""
    inside = scores["test"]
    wrong = (z.argmax(dim=1) != labels).numpy()
    against = {
        name: {key: auroc(inside[key], score) for key, score in found.items()}
        for name, found in scores.items()
        if name != "test"
    }
    errors = {key: auroc(score[~wrong], score[wrong]) for key, score in inside.items()} if wrong.any() else {}
    return {"auroc": against, "errors": errors}


def _histograms(scores: dict) -> dict:
    """Histograms of some scores of one network, over the test images and over every set of outliers."""
    found = {}
    for key in (key for key in _LEVELS if key in scores["test"]):
        edges = np.histogram_bin_edges(np.concatenate([s[key] for s in scores.values()]), bins=30)
        share = {name: np.histogram(s[key], edges)[0] / len(s[key]) for name, s in scores.items()}
        found[key] = {"edges": edges, "share": share}
    return found


def _pixel_density(splits: data.Splits, sets: _Sets, settings: dict) -> dict:
    """AUROC of a diagonal Gaussian mixture of the pixels, fitted to training images of all classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    options = settings["density"]
    mixture = GaussianMixture(
        options["components"], covariance_type="diag", reg_covar=options["min_std"] ** 2, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(splits.train.x[: options["rows"]].double().numpy())

    def score(rows: Tensor) -> Tensor:
        return -torch.from_numpy(mixture.score_samples(rows.double().numpy()))

    scores, usual = {name: score(x) for name, x in sets.outliers.items()}, score(sets.validation.x)
    inside = scores.pop("test")
    either = atypicality(inside, usual)
    return {
        name: {
            "pixel density": auroc(inside, s),
            "pixel density, to either side": auroc(either, atypicality(s, usual)),
        }
        for name, s in scores.items()
    }


# --- several opinions -------------------------------------------------------------------------------


def _ensemble(
    networks: list[nn.Module], held_out: list[Tensor], said: list[dict], scored: list[dict], sets: _Sets,
    bins: int,
) -> dict:  # fmt: skip
    mean = {c: _log_mean(torch.stack([torch.softmax(s[c], 1) for s in said])) for c in said[0]}
    validation = _log_mean(torch.stack([torch.softmax(z, 1) for z in held_out]))
    scores = {}
    for name, x in sets.outliers.items():
        members = torch.stack([torch.softmax(logits(n, x), dim=1) for n in networks])
        # Softmax scores are computed from the mean probabilities; all other scores are averaged over seeds.
        averaged = {key: np.mean([s[name][key] for s in scored], axis=0) for key in scored[0][name]}
        scores[name] = averaged | _softmax_scores(members)
    return _judged(validation, mean, sets, bins) | _told_apart(scores, mean[_TEST], sets.labels)


def _thinned(network: nn.Module, sets: _Sets, settings: dict) -> dict:
    """MC dropout of one network."""

    def members(x: Tensor) -> Tensor:
        return mc_dropout(network, x, passes=settings["passes"])

    test = members(sets.shifted[_TEST])
    said = {_TEST: _log_mean(test)} | {
        (kind, n): _log_mean(members(x)) for (kind, n), x in sets.shifted.items() if n == _MIDDLE
    }
    scores = {"test": _softmax_scores(test)} | {
        name: _softmax_scores(members(x)) for name, x in sets.outliers.items() if name != "test"
    }
    judged = _judged(_log_mean(members(sets.validation.x)), said, sets, settings["bins"])
    return judged | _told_apart(scores, said[_TEST], sets.labels)


def _softmax_scores(members: Tensor) -> dict[str, np.ndarray]:
    p = members.mean(dim=0)
    return {
        "max softmax": (1.0 - p.amax(dim=1)).numpy(),
        "entropy": entropy(p).numpy(),
        "mutual information": mutual_information(members).numpy(),
    }


def _log_mean(members: Tensor) -> Tensor:
    """The logarithm of the mean probabilities. These are logits whose softmax is the mean."""
    return members.mean(dim=0).clamp(min=torch.finfo(members.dtype).tiny).log()
