"""How often the label is right on Iris: repeated cross-validation, beside well-known models (chapter 9).

Every model gets the same 50 splits. The intervals follow Nadeau and Bengio (2003), "Inference for the
generalization error": training sets overlap, so the variance over folds is multiplied by 1/n + test/train
instead of 1/n.
"""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import torch
from tqdm import tqdm

from ugmm_tutorial import data
from ugmm_tutorial.experiments.studies.iris_networks import VARIANTS, Variant, build
from ugmm_tutorial.inference import label_posterior
from ugmm_tutorial.training.joint import EnsembleTrainer

__all__ = ["SETTINGS", "baselines", "corrected_interval", "folds", "measure"]

SETTINGS = {
    "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
    "repeats": 10,
    "folds": 5,
    "learning_rate": 1e-3,
}
# A posterior of zero for the true label has an infinite loss. Clip it, as scikit-learn's log_loss does.
_SMALLEST = float(np.finfo(np.float32).eps)


def measure(settings: dict, progress: bool) -> dict:
    """``accuracy`` (a fraction) and ``log_loss`` (nats) of every model, one number for each split.

    Networks also have ``train_accuracy``, the accuracy on the flowers that each was trained on.
    """
    x, y = _flowers()
    splits = folds(y, settings["repeats"], settings["folds"])
    results = {}
    for name in tqdm(settings["variants"], disable=not progress):
        results[name] = _of_networks(VARIANTS[name], x, y, splits, settings["learning_rate"])
    for name, model in baselines().items():
        scored = [model.fit(x[train], y[train]).predict_proba(x[test]) for train, test in splits]
        results[name] = _scores(scored, y, splits)
    return results


def folds(y: np.ndarray, repeats: int, parts: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of training and held-out rows, ``repeats`` times ``parts`` of them, stratified by label."""
    from sklearn.model_selection import RepeatedStratifiedKFold

    splitter = RepeatedStratifiedKFold(n_splits=parts, n_repeats=repeats, random_state=0)
    return list(splitter.split(np.zeros(len(y)), y))


def baselines() -> dict:
    """Models from scikit-learn, by their names in the results."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "lda": LinearDiscriminantAnalysis(),
        "qda": QuadraticDiscriminantAnalysis(),
        "naive-bayes": GaussianNB(),
        "class-mixtures": _ClassMixtures(),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    }


class _ClassMixtures:
    """A mixture of two diagonal Gaussians for each class, by scikit-learn, combined by Bayes' rule."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> _ClassMixtures:
        """Fit a mixture to each class's rows."""
        from sklearn.mixture import GaussianMixture

        self.prior = np.bincount(y) / len(y)
        self.mixtures = [
            GaussianMixture(2, covariance_type="diag", n_init=5, random_state=0).fit(x[y == c])
            for c in range(len(self.prior))
        ]
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """The posterior P(class | x), (N, C)."""
        from scipy.special import softmax

        return softmax(np.stack([m.score_samples(x) for m in self.mixtures], 1) + np.log(self.prior), axis=1)


def corrected_interval(values: list[float], share: float) -> tuple[float, float]:
    """The mean over folds, and the half-width of its 95 % interval after Nadeau and Bengio (2003).

    Args:
        values: one number for each split, at least two.
        share: the number of held-out rows divided by that of training rows.
    """
    from scipy.stats import t

    spread = np.std(values, ddof=1) * math.sqrt(1 / len(values) + share)
    return float(np.mean(values)), float(t.ppf(0.975, len(values) - 1) * spread)


def _of_networks(variant: Variant, x: np.ndarray, y: np.ndarray, splits: list, learning_rate: float) -> dict:
    """One network for each split, all trained side by side."""
    rows = torch.from_numpy(np.stack([train for train, _ in splits]))
    inputs, species = torch.from_numpy(x)[rows], torch.from_numpy(y)
    middle, width = torch.zeros(len(splits), 1, 4), torch.ones(len(splits), 1, 4)
    if variant.standardised:
        middle, width = inputs.mean(dim=1, keepdim=True), inputs.std(dim=1, keepdim=True)
    networks = [build(variant, seed) for seed in range(len(splits))]
    EnsembleTrainer(
        networks,
        (inputs - middle) / width,
        torch.tensor(variant.coding)[species[rows]],
        objective=variant.objective,
        labels=sorted(variant.coding),
        batch_size=variant.batch_size,
        learning_rate=learning_rate,
    ).run(variant.epochs)

    def posteriors(part: int) -> list[np.ndarray]:
        with torch.no_grad():
            return [
                label_posterior(n, (torch.from_numpy(x[split[part]]) - m) / w, variant.coding)
                .double()
                .numpy()
                for n, split, m, w in zip(networks, splits, middle, width, strict=True)
            ]

    on_training = _scores(posteriors(0), y, [(test, train) for train, test in splits])
    return _scores(posteriors(1), y, splits) | {"train_accuracy": on_training["accuracy"]}


def _scores(posteriors: list[np.ndarray], y: np.ndarray, splits: list) -> dict:
    accuracy, log_loss = [], []
    for posterior, (_, test) in zip(posteriors, splits, strict=True):
        truth = posterior[np.arange(len(test)), y[test]]
        accuracy.append(float(np.mean(posterior.argmax(axis=1) == y[test])))
        log_loss.append(float(-np.log(np.maximum(truth, _SMALLEST)).mean()))
    return {"accuracy": accuracy, "log_loss": log_loss}


def _flowers() -> tuple[np.ndarray, np.ndarray]:
    """All 150 flowers: x (150, 4) in centimetres, in float32, and species (150,)."""
    parts = data.iris(test=3)
    x, y = (torch.cat([part[i] for part in (parts.train, parts.test)]).numpy() for i in (0, 1))
    return x, y
