"""The densities that the study ``densities`` compares, all fitted and evaluated in the same way.

A contender is a function (rows, size, seed, options) -> Fitted. ``size`` is its number of components or, for
kernels, its bandwidth. Every contender that can start from k-means starts from one run of scikit-learn's
k-means. All have the same number of EM iterations and the same tolerance. ``min_std`` is the floor of the
standard deviations; scikit-learn instead adds its square to the variances.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ugmm_tutorial.density import Circuit, DiagonalGaussianMixture, SmoothedUGMM, em
from ugmm_tutorial.density.tractable import TractableDensity

__all__ = ["CONTENDERS", "Fitted", "spflow_version"]


# The fused operator needs float32. An EM step on the digits then takes an eighth of the time of float64.
_DTYPE = torch.float32


@dataclass(frozen=True)
class Fitted:
    """A fitted density.

    ``log_prob`` gives log-densities (N,) of rows (N, K). ``impute`` fills the NaN in rows; it is None if the
    model cannot do this.
    """

    log_prob: Callable[[Tensor], Tensor]
    impute: Callable[[Tensor], Tensor] | None


def _ours(model: TractableDensity, rows: Tensor, seed: int, options: dict) -> Fitted:
    rows = rows.to(_DTYPE)
    model.initialise(rows, seed)
    em.fit(model, rows, iterations=options["iterations"], tolerance=options["tolerance"])
    return _asked(model)


def _asked(model: TractableDensity) -> Fitted:
    dtype = next(model.parameters()).dtype

    def log_prob(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.log_prob(x.to(dtype)).double()

    return Fitted(log_prob, lambda x: _filled(x, model.conditional(x.to(dtype)).mean()))


def _filled(x: Tensor, values: Tensor) -> Tensor:
    return torch.where(x.isnan(), values.to(x.dtype), x)


def _smoothed(rows: Tensor, size: int, seed: int, options: dict) -> Fitted:
    floor = options["min_std"]
    return _ours(SmoothedUGMM(rows.shape[1], size, min_std=floor, dtype=_DTYPE), rows, seed, options)


def _product(rows: Tensor, size: int, seed: int, options: dict) -> Fitted:
    model = DiagonalGaussianMixture(rows.shape[1], size, min_std=options["min_std"], dtype=_DTYPE)
    return _ours(model, rows, seed, options)


def _independent(rows: Tensor, size: int, seed: int, options: dict) -> Fitted:
    """One Gaussian for each feature, whatever the size: a baseline that ignores all dependence."""
    return _product(rows, 1, seed, options)


def _circuit(leaf: str) -> Callable[[Tensor, int, int, dict], Fitted]:
    def fit(rows: Tensor, size: int, seed: int, options: dict) -> Fitted:
        model = Circuit(
            rows.shape[1],
            size,
            leaf=leaf,
            depth=options["depth"],
            trees=options["trees"],
            seed=seed,
            min_std=options["min_std"],
            dtype=_DTYPE,
        )
        return _ours(model, rows, seed, options)

    return fit


def _mixture(covariance: str) -> Callable[[Tensor, int, int, dict], Fitted]:
    def fit(rows: Tensor, size: int, seed: int, options: dict) -> Fitted:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(
            size,
            covariance_type=covariance,
            reg_covar=options["min_std"] ** 2,
            max_iter=options["iterations"],
            tol=options["tolerance"],
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(rows.numpy())
        if covariance == "diag":
            return _asked(DiagonalGaussianMixture.from_sklearn(mixture))
        return Fitted(
            lambda x: torch.as_tensor(mixture.score_samples(x.numpy())),
            lambda x: _full_covariance_mean(mixture, x),
        )

    return fit


def _full_covariance_mean(mixture, x: Tensor) -> Tensor:
    """Conditional means of a mixture with full covariances, row by row, from the formula for Gaussians."""
    from scipy.special import softmax
    from scipy.stats import multivariate_normal

    filled = x.numpy().copy()
    for row in filled:
        m = np.isnan(row)
        if not m.any():
            continue
        o = ~m
        logits, means = [], []
        for pi, mean, cov in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True):
            known = cov[np.ix_(o, o)]
            log_density = multivariate_normal.logpdf(row[o], mean[o], known) if o.any() else 0.0
            logits.append(math.log(pi) + float(log_density))
            means.append(mean[m] + cov[np.ix_(m, o)] @ np.linalg.solve(known, row[o] - mean[o]))
        row[m] = softmax(logits) @ np.stack(means)
    return torch.as_tensor(filled)


def _kernels(rows: Tensor, size: float, seed: int, options: dict) -> Fitted:
    from sklearn.neighbors import KernelDensity

    # One leaf holds all rows. With several leaves, scikit-learn's trees return wrong sums in many dimensions,
    # by more than a hundred nats on the digits (its issues 7492, 25799 and 27186, open as we write).
    kernels = KernelDensity(bandwidth=size, leaf_size=len(rows)).fit(rows.numpy())
    # The same density as a mixture with one component for each row, which can give conditional means.
    twin = DiagonalGaussianMixture(rows.shape[1], len(rows), min_std=size / 2, dtype=rows.dtype)
    with torch.no_grad():
        twin.mean.copy_(rows)
        twin.log_std.fill_(math.log(size))
    impute = _asked(twin).impute
    return Fitted(
        lambda x: torch.as_tensor(kernels.score_samples(x.numpy())),
        lambda x: torch.cat([impute(part) for part in x.split(64)]),  # few rows at once, for many components
    )


def _spflow(rows: Tensor, size: int, seed: int, options: dict) -> Fitted:
    """SPFlow's RAT-SPN in float32, with its own random start, its EM without bias correction, and our floor.

    With the bias correction on (the default), its likelihood fell by orders of magnitude in our trials.
    """
    from spflow.learn import expectation_maximization
    from spflow.meta import Scope
    from spflow.modules.leaves import Normal
    from spflow.zoo.rat import RatSPN

    scope, trees = Scope(list(range(rows.shape[1]))), options["trees"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - it shuffles the features with NumPy's global generator
        leaf = Normal(scope=scope, out_channels=size, num_repetitions=trees)
        model = RatSPN(
            [leaf], n_root_nodes=1, n_region_nodes=size, num_repetitions=trees, depth=options["depth"]
        )
    x, before = rows.float(), -math.inf
    for _ in range(options["iterations"]):
        with torch.no_grad():
            leaf.log_scale.clamp_(min=math.log(options["min_std"]))
        now = expectation_maximization(model, x, max_steps=1, bias_correction=False).item()
        if now - before < options["tolerance"]:
            break
        before = now
    with torch.no_grad():
        leaf.log_scale.clamp_(min=math.log(options["min_std"]))

    def log_prob(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.log_likelihood(x.float()).flatten().double()

    return Fitted(log_prob, None)


def spflow_version() -> str | None:
    """The installed version of SPFlow, or None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        import spflow  # noqa: F401

        return version("spflow")
    except (ImportError, PackageNotFoundError):
        return None


CONTENDERS: dict[str, Callable[[Tensor, float, int, dict], Fitted]] = {
    "smoothed uGMM": _smoothed,
    "product twin": _product,
    "circuit, Gaussian leaves": _circuit("gaussian"),
    "circuit, smoothed leaves": _circuit("smoothed"),
    "scikit-learn, diagonal": _mixture("diag"),
    "scikit-learn, full": _mixture("full"),
    "kernels": _kernels,
    "SPFlow, RAT-SPN": _spflow,
    "independent Gaussians": _independent,
}
