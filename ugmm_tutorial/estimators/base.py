"""What the classifier and the regressor share: settings, checks, scaling, training, pickles."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor, nn

from ugmm_tutorial.arrays import as_array
from ugmm_tutorial.estimators.fitting import Stopping, epochs_for, fit_network
from ugmm_tutorial.estimators.network import MIXTURES, network
from ugmm_tutorial.estimators.scaling import RobustScale
from ugmm_tutorial.hybrid import NORMS
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.kernels.kinds import FASTEST
from ugmm_tutorial.kernels.kinds import device as checked_device

__all__ = ["NetworkEstimator"]

# Tables with fewer numbers train in float64: at that size the fused float32 kernels gain nothing.
_SMALL = 10_000
_ROWS_AT_ONCE = 8192


class NetworkEstimator(BaseEstimator):
    """A network behind scikit-learn's interface. Subclasses say what its outputs and its loss are."""

    hidden_layer_sizes: Sequence[int]
    mixtures: str
    norm: str
    input_dropout: float
    init_std: float
    min_std: float
    learning_rate: float
    batch_size: int
    max_iter: int | None
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    allow_nan: bool
    warm_start: bool
    random_state: Any
    verbose: bool
    device: str

    network_: nn.Module
    scale_: RobustScale
    n_features_in_: int
    n_iter_: int
    loss_curve_: list[float]

    # --- what a subclass defines --------------------------------------------------------------------

    def _outputs(self) -> int:
        """How many outputs the network has."""
        raise NotImplementedError

    def _modules(self) -> dict[str, nn.Module]:
        """Further modules to train."""
        return {}

    def _row_losses(self, model: nn.ModuleDict, x: Tensor, y: Tensor) -> Tensor:
        """The loss of every row."""
        raise NotImplementedError

    def _score_rows(self, model: nn.ModuleDict, x: Tensor, y: Tensor, weight: Tensor) -> float:
        """A score of held-out rows; greater is better."""
        raise NotImplementedError

    # --- fitting ------------------------------------------------------------------------------------

    def _train(
        self, x: NDArray, y: Tensor, weight: NDArray, *, anew: bool, epochs: int | None, decay: bool
    ) -> None:
        """Train on checked rows and targets; ``anew`` from a fresh scale and network."""
        self._check_settings()
        if not (weight > 0).any():
            raise ValueError("expected a sample_weight above 0 for at least one row, got none")
        # Rows of weight 0 count for nothing, as if they were not there.
        x, y, weight = x[weight > 0], y[torch.from_numpy(weight > 0)], weight[weight > 0]
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        device = self._device()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            if anew:
                self.scale_ = RobustScale(x, weight)
                self._build(torch.float64 if x.size <= _SMALL else torch.float32, device)
                self.loss_curve_, self.validation_scores_ = [], None
            model = nn.ModuleDict({"network": self.network_, **self.heads_})
            dtype = next(self.network_.parameters()).dtype
            rows = torch.from_numpy(self.scale_(x)).to(device, dtype)
            targets, weights = y.to(device), torch.from_numpy(weight).to(device, dtype)
            targets = targets.to(dtype) if targets.is_floating_point() else targets
            train, stopping = self._held_out(model, rows, targets, weights, seed)
            curve = fit_network(
                model,
                lambda batch: self._row_losses(model, rows[train[batch]], targets[train[batch]]),
                weights[train],
                epochs=epochs or self.max_iter or epochs_for(len(train), self.batch_size),
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                decay=decay,
                stopping=stopping,
                progress=bool(self.verbose),
                seed=seed,
            )
            for loss in curve:
                if not np.isfinite(loss):
                    raise ValueError(f"training diverged, the loss is {loss}: take a smaller learning_rate")
                self.loss_curve_.append(loss)
        if stopping is not None:
            self.validation_scores_ = (self.validation_scores_ or []) + stopping.scores
        self.n_iter_ = len(self.loss_curve_)
        model.eval()

    def _build(self, dtype: torch.dtype, device: torch.device) -> None:
        self.network_ = network(
            (self.n_features_in_, *self.hidden_layer_sizes, self._outputs()),
            mixtures=self.mixtures,
            norm=self.norm,
            input_dropout=self.input_dropout,
            init_std=self.init_std,
            min_std=self.min_std,
            missing="renormalize" if self.allow_nan else "error",
            device=device,
            dtype=dtype,
        )
        self.heads_ = {name: module.to(device, dtype) for name, module in self._modules().items()}

    def _held_out(
        self, model: nn.ModuleDict, rows: Tensor, targets: Tensor, weights: Tensor, seed: int
    ) -> tuple[Tensor, Stopping | None]:
        """Indices of the rows to train on, and the rule for stopping early."""
        every = torch.arange(len(rows), device=rows.device)
        if not self.early_stopping:
            return every, None
        count = max(1, round(self.validation_fraction * len(rows)))
        if count == len(rows):
            raise ValueError(f"expected rows left to train on beside those held out, got {len(rows)} rows")
        stratify = None
        if not targets.is_floating_point():  # the same share of every class, where there are enough rows
            sizes = targets.bincount()
            least = min(count, len(rows) - count)
            if int(sizes[sizes > 0].min()) >= 2 and least >= int((sizes > 0).sum()):
                stratify = targets.cpu().numpy()
        parts = train_test_split(np.arange(len(rows)), test_size=count, random_state=seed, stratify=stratify)
        train, held = (every[torch.from_numpy(part).to(rows.device)] for part in parts)

        def score() -> float:
            with torch.no_grad():
                return self._score_rows(model, rows[held], targets[held], weights[held])

        return train, Stopping(score, self.n_iter_no_change, self.tol)

    def _device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return checked_device(self.device)

    # --- predicting ---------------------------------------------------------------------------------

    @torch.no_grad()
    def _predicted(self, X: ArrayLike, of: Callable[[Tensor], Tensor] = lambda z: z) -> NDArray:
        """A function of the network's outputs, float64, for checked and scaled rows."""
        check_is_fitted(self)
        x = self._checked_rows(X)
        parameter = next(self.network_.parameters())
        rows = torch.from_numpy(self.scale_(x)).to(parameter.dtype)
        parts = [
            of(self.network_(part.to(parameter.device)).double()).cpu() for part in rows.split(_ROWS_AT_ONCE)
        ]
        return torch.cat(parts).numpy()

    def _checked_rows(self, X: ArrayLike, y: Any = "no_validation", **options: Any) -> Any:
        """Rows, float64 or float32, as own copies; with ``y`` also the targets."""
        finite = "allow-nan" if self.allow_nan else True
        types = [np.float64, np.float32]
        options = {"reset": False} | options
        X, y = as_array("X", X), as_array("y", y)
        return validate_data(self, X, y, dtype=types, ensure_all_finite=finite, copy=True, **options)

    @staticmethod
    def _checked_weight(sample_weight: ArrayLike | None, x: NDArray) -> NDArray:
        return _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)

    # --- settings -----------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        """Refuse settings that no network can be trained with."""
        check.integers("hidden_layer_sizes", self.hidden_layer_sizes, 1, kind="positive integers")
        for name, allowed in (("mixtures", MIXTURES), ("norm", NORMS)):
            check.one_of(name, getattr(self, name), allowed)
        counts = ("batch_size", "n_iter_no_change", *(["max_iter"] if self.max_iter is not None else []))
        for name in counts:
            check.integer(name, getattr(self, name), 1)
        positive = (("learning_rate", FASTEST), ("init_std", np.inf), ("validation_fraction", 1.0))
        for name, highest in positive:
            check.number(name, getattr(self, name), above=0.0, below=highest)
        check.number("tol", self.tol, -np.inf)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.allow_nan
        return tags

    def __getstate__(self) -> dict:
        """A pickle holds its network on the CPU, so it can be loaded where there is no GPU."""
        state = dict(super().__getstate__())
        for name in ("network_", "heads_"):
            if name in state:
                state[name] = copy.deepcopy(state[name])
                modules = [state[name]] if name == "network_" else state[name].values()
                for module in modules:
                    module.cpu()
        return state

    def _continues(self) -> bool:
        """Whether ``warm_start`` goes on from the network that is there."""
        return bool(self.warm_start) and hasattr(self, "network_")
