"""UGMMClassifier: a classifier for tables that shrugs off broken and missing features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ugmm_tutorial.estimators.base import NetworkEstimator
from ugmm_tutorial.robustness import Certificate, certify
from ugmm_tutorial.robustness.layer import Box, checked_ends

__all__ = ["UGMMClassifier"]


class UGMMClassifier(ClassifierMixin, NetworkEstimator):
    """A classifier whose first layer is one of mixtures, or whose layers all are.

    Features are scaled by medians and quartiles. A feature far from all that was seen in training leaves the
    sums of the first layer, so that it cannot decide an answer: that is what protects against broken inputs.

    Parameters:
        hidden_layer_sizes: neurons of the hidden layers; the first of them are mixtures.
        mixtures: ``"first"``: an ordinary ReLU network follows the first layer; ``"all"``: every layer is one
            of mixtures.
        norm: ``"layer"`` or ``"batch"``, in a ``"first"`` network. Batch normalisation is affine once
            trained, so that more can be certified.
        input_dropout: probability with which a feature of a row is dropped in training. A broken feature acts
            like a dropped one, so this is what protects most. Where features break, take 0.4. Networks that
            were tuned for broken features lost about two points of accuracy on whole rows.
        init_std: standard deviation of components at the start, in units of the scaled features, in a
            ``"first"`` network. Where features break, take 0.5. From 2 to 4 the network comes closest to an
            MLP on whole rows, and loses a part of its protection.
        min_std: smallest standard deviation of a component, in units of the scaled features.
        learning_rate: Adam's, at the start; it falls to zero along a cosine.
        batch_size: rows in a step.
        max_iter: epochs; None: about 3,000 steps, but 20 to 100 epochs.
        class_weight: None, ``"balanced"``, or weights of the classes by label.
        early_stopping: whether to hold out a part of the rows, and to stop when their accuracy no longer
            grows.
        validation_fraction: the part that is held out.
        n_iter_no_change: for how many epochs accuracy may fail to grow by more than ``tol``.
        tol: see ``n_iter_no_change``.
        allow_nan: whether NaN is a missing feature, whose components are left out; otherwise it is an error.
        warm_start: whether ``fit`` goes on from the network that an earlier ``fit`` left.
        random_state: seed or generator of initial values, batches and masks. PyTorch's and NumPy's global
            generators stay as they are.
        verbose: whether to show a bar with the loss.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``, which takes a GPU where there is one.

    Attributes:
        classes_: the labels, sorted.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
        n_iter_: epochs so far.
        loss_curve_: mean loss of every epoch.
        validation_scores_: accuracy on the held-out rows after every epoch, or None.
        network_: the trained network, from scaled features to scores.
        scale_: the scaling of features.

    Taught in the chapter *When inputs break*.

    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> model = UGMMClassifier(random_state=0).fit(x, y)
    >>> model.predict(x[:2]), model.score(x, y) > 0.9
    (array([0, 0]), True)
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (256, 128),
        *,
        mixtures: str = "first",
        norm: str = "layer",
        input_dropout: float = 0.1,
        init_std: float = 1.0,
        min_std: float = 0.1,
        learning_rate: float = 4e-3,
        batch_size: int = 64,
        max_iter: int | None = None,
        class_weight: dict | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        allow_nan: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
        device: str = "cpu",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.mixtures = mixtures
        self.norm = norm
        self.input_dropout = input_dropout
        self.init_std = init_std
        self.min_std = min_std
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.allow_nan = allow_nan
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on rows ``X`` (N, K) and labels ``y`` (N,).

        Raises:
            ValueError: a setting is out of its range, rows are not finite, or there is only one class.
        """
        anew = not self._continues()
        x, labels = self._checked_rows(X, y, reset=anew)
        check_classification_targets(labels)
        if anew:
            self.classes_ = unique_labels(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"expected y with at least two classes, got only 1 class: {self.classes_[0]!r}")
        weight = self._checked_weight(sample_weight, x)
        if self.class_weight is not None:
            weight = weight * compute_sample_weight(self.class_weight, labels)
        self._train(x, self._numbers(labels), weight, anew=anew, epochs=None, decay=True)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on these rows, at a constant learning rate.

        The first call scales features by its rows, and needs ``classes``, all labels that will ever occur.

        Raises:
            ValueError: as for :meth:`fit`; or the first call has no classes, or a label is not among them.
        """
        anew = not hasattr(self, "network_")
        x, labels = self._checked_rows(X, y, reset=anew)
        check_classification_targets(labels)
        if anew:
            if classes is None:
                raise ValueError(
                    "expected classes, all labels that will occur, at the first call of partial_fit"
                )
            self.classes_ = unique_labels(classes)
        if self.class_weight == "balanced":
            raise ValueError(
                "expected class_weight by label for partial_fit: one part cannot say what is balanced"
            )
        weight = self._checked_weight(sample_weight, x)
        if self.class_weight is not None:
            weight = weight * compute_sample_weight(self.class_weight, labels)
        self._train(x, self._numbers(labels), weight, anew=anew, epochs=1, decay=False)
        return self

    def predict(self, X: ArrayLike) -> NDArray:
        """The most probable label of each row, (N,)."""
        scores = self._predicted(X)
        return self.classes_[scores.argmax(axis=1)]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of the classes, (N, C), in the order of ``classes_``."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logarithms of the probabilities, (N, C). They are finite where probabilities round to 0."""
        return self._predicted(X, lambda scores: torch.log_softmax(scores, dim=1))

    def certify(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        changed: int,
        box: tuple[Any, Any] | None = None,
    ) -> Certificate:
        """Prove where answers stay the same whatever happens to any ``changed`` features.

        Args:
            X: rows (N, K), without NaN.
            y: their labels; by default the classifier's own answers.
            changed: how many features of a row may change, any of them.
            box: the least and the greatest value that a changed feature can take, in the features' own
                units: numbers, or (K,); None for any value at all.

        See :func:`ugmm_tutorial.robustness.certify`.
        """
        check_is_fitted(self)
        rows = self.scale_(self._checked_rows(X).astype(np.float64))
        ends: Box | None = None
        if box is not None:
            low, high = (self.scale_(end.numpy()) for end in checked_ends(box, self.n_features_in_))
            ends = torch.from_numpy(low), torch.from_numpy(high)
        numbers = None if y is None else self._numbers(np.asarray(y))
        return certify(self.network_, torch.from_numpy(rows), numbers, changed=changed, box=ends)

    # --- for the base class ---------------------------------------------------------------------------

    def _numbers(self, labels: NDArray) -> Tensor:
        """Places of labels among the classes."""
        place = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        if (self.classes_[place] != labels).any():
            unknown = sorted(set(labels[self.classes_[place] != labels].tolist()))
            raise ValueError(f"expected labels among {self.classes_.tolist()}, got {unknown}")
        return torch.from_numpy(place)

    def _outputs(self) -> int:
        return len(self.classes_)

    def _row_losses(self, model: nn.ModuleDict, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model["network"](x), y, reduction="none")

    def _score_rows(self, model: nn.ModuleDict, x: Tensor, y: Tensor, weight: Tensor) -> float:
        right = (model["network"](x).argmax(dim=1) == y).to(weight.dtype)
        return float((right * weight).sum() / weight.sum())
