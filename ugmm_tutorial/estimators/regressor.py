"""UGMMRegressor: a regression whose answer is a density, and which lets go of outliers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from torch import Tensor, nn

from ugmm_tutorial.estimators.base import NetworkEstimator
from ugmm_tutorial.estimators.network import ESTIMATES, MixtureHead
from ugmm_tutorial.estimators.scaling import RobustScale
from ugmm_tutorial.kernels.arguments import integer, one_of

__all__ = ["UGMMRegressor"]


class UGMMRegressor(RegressorMixin, NetworkEstimator):
    """A regression for tables: p(y | x) is a mixture of Gaussians whose means are a network's outputs.

    It is trained by the likelihood of the observed y. A y that fits none of the components hardly moves
    anything; a feature far from all that was seen leaves the sums of the first layer.

    All settings that are not explained here are those of
    :class:`~ugmm_tutorial.estimators.UGMMClassifier`.

    Parameters:
        hidden_layer_sizes: neurons of the hidden layers; the first of them are mixtures.
        n_components: Gaussians of p(y | x).
        estimate: what is predicted. ``"mean"``: the expected y. ``"mode"``: the most probable of the
            component means; broken targets hardly move it, however many have the same error.
        early_stopping: whether to hold out a part of the rows and to stop when their likelihood no longer
            grows.

    Attributes:
        n_features_in_, feature_names_in_, n_iter_, loss_curve_, network_, scale_: as for
            :class:`~ugmm_tutorial.estimators.UGMMClassifier`.
        validation_scores_: mean log-likelihood of the held-out rows after every epoch, or None.
        target_scale_: the scaling of y.

    Taught in the chapter *When inputs break*.

    >>> from sklearn.datasets import load_diabetes
    >>> x, y = load_diabetes(return_X_y=True)
    >>> model = UGMMRegressor(max_iter=20, random_state=0).fit(x, y)
    >>> model.predict(x[:2]).shape, model.log_density(x[:2], y[:2]).shape
    ((2,), (2,))
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (128, 64),
        *,
        n_components: int = 8,
        estimate: str = "mean",
        mixtures: str = "first",
        norm: str = "layer",
        input_dropout: float = 0.1,
        init_std: float = 1.0,
        min_std: float = 0.1,
        learning_rate: float = 6e-3,
        batch_size: int = 64,
        max_iter: int | None = None,
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
        self.n_components = n_components
        self.estimate = estimate
        self.mixtures = mixtures
        self.norm = norm
        self.input_dropout = input_dropout
        self.init_std = init_std
        self.min_std = min_std
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
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
        """Train on rows ``X`` (N, K) and targets ``y`` (N,).

        Raises:
            ValueError: a setting is out of its range, or rows or targets are not finite.
        """
        return self._fitted(X, y, sample_weight, anew=not self._continues(), epochs=None, decay=True)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch on these rows, at a constant learning rate. The first call scales by its rows.

        Raises:
            ValueError: as for :meth:`fit`.
        """
        anew = not hasattr(self, "network_")
        return self._fitted(X, y, sample_weight, anew=anew, epochs=1, decay=False)

    def _fitted(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, **how: Any) -> Self:
        one_of("estimate", self.estimate, ESTIMATES)
        integer("n_components", self.n_components, 1)
        x, targets = self._checked_rows(X, y, reset=how["anew"], y_numeric=True)
        targets = targets.astype(np.float64)
        weight = self._checked_weight(sample_weight, x)
        if how["anew"]:
            self.target_scale_ = RobustScale(targets[:, None], weight)
        scaled = torch.from_numpy(self.target_scale_(targets[:, None])[:, 0])
        self._train(x, scaled, weight, **how)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The expected or the most probable y of each row, (N,), as ``estimate`` says."""
        head = self._head
        centre = head.mean if self.estimate == "mean" else head.mode
        found = self._predicted(X, lambda z: centre(z)[:, None])
        return self.target_scale_.back(found)[:, 0]

    def log_density(self, X: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """log p(y | x) of each row in nats, (N,), in the units of y."""
        targets = np.asarray(y, dtype=np.float64).reshape(-1, 1)
        scaled = torch.from_numpy(self.target_scale_(targets)[:, 0])
        means = torch.from_numpy(self._predicted(X))
        with torch.no_grad():
            density = self._head(means, scaled).numpy()
        return density - np.log(self.target_scale_.scale[0])

    # --- for the base class ---------------------------------------------------------------------------

    @property
    def _head(self) -> MixtureHead:
        """The head on the CPU, in float64."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        head = MixtureHead(self.n_components).double()
        head.load_state_dict(self.heads_["head"].state_dict())
        return head

    def _outputs(self) -> int:
        return self.n_components

    def _modules(self) -> dict[str, nn.Module]:
        return {"head": MixtureHead(self.n_components)}

    def _row_losses(self, model: nn.ModuleDict, x: Tensor, y: Tensor) -> Tensor:
        return -model["head"](model["network"](x), y)

    def _score_rows(self, model: nn.ModuleDict, x: Tensor, y: Tensor, weight: Tensor) -> float:
        density = model["head"](model["network"](x), y)
        return float((density * weight).sum() / weight.sum())
