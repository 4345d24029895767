"""The tilted model: a simple density and a constant turn an unchanged network into a density.

    p(x, c) = q(x, c) exp(root([x, c])) / Z,    Z = E_q[exp(root)]

exp(root) alone has no finite integral. Under a floor s on the last layer's standard deviations it is
bounded, exp(root) <= sum_k w_k / (std_k sqrt(2 pi)) <= 1 / (s sqrt(2 pi)), because a Gaussian never exceeds
its peak. So Z is finite, and rejection sampling from q is exact. Taught in chapter 10.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from ugmm_tutorial.density.base import ProductBase
from ugmm_tutorial.density.model import Density
from ugmm_tutorial.density.rejection import complete
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.kernels.kinds import instance
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI
from ugmm_tutorial.layers.dense import UGMMLayer

__all__ = ["LogNormalizer", "TiltedModel", "log_upper_bound"]


class LogNormalizer(NamedTuple):
    """An estimate of log Z and its standard error from independent scramblings, in nats.

    The mean of exp(root) over points is unbiased for Z, so its logarithm is biased low (Jensen), by about
    half the square of the standard error.
    """

    value: Tensor
    standard_error: Tensor


class TiltedModel(Density):
    """p(x, c) = q(x, c) exp(root([x, c])) / Z. Rows are [x, c], or x without labels.

    Z is estimated by quasi-Monte-Carlo (scrambled Sobol points) over the features, with an exact sum over the
    label. A missing label is marginalised exactly. Missing features are marginalised on the same points, with
    an error that grows with their number. ``sample`` and ``conditional(x).sample`` are exact, by rejection.

    Args:
        root: the network, (B, D) to (B, 1), in nats; without dropout, or in evaluation mode.
        base: the density q.
        num_points: points in each scrambling, a power of 2.
        scramblings: independent sets of points, at least 2.
        seed: of the scramblings.
        log_bound: an upper bound of root's output. None takes that of :func:`log_upper_bound`.
        max_proposals: the most proposals that one call of ``sample`` may draw.

    Attributes:
        acceptance: share of the proposals that the last draw accepted; None before the first.

    Raises:
        TypeError: root and base have different dtypes, or a size is not an integer.
        ValueError: root does not map (B, D) to (B, 1), its bound is unknown, or a value is out of its range.

    >>> from ugmm_tutorial.density import GaussianBackground
    >>> TiltedModel(UGMMLayer(2, 1), ProductBase(GaussianBackground.fit(torch.rand(9, 2)))).sample(5).shape
    torch.Size([5, 2])
    """

    _uniform: Tensor

    def __init__(
        self,
        root: nn.Module,
        base: ProductBase,
        *,
        num_points: int = 1024,
        scramblings: int = 8,
        seed: int = 0,
        log_bound: float | None = None,
        max_proposals: int = 10_000_000,
    ) -> None:
        super().__init__()
        self.root, self.base = check.module("root", root), instance("base", base, ProductBase)
        check.module("base", base)
        self.in_features = base.in_features
        self.given_bound = None if log_bound is None else check.real("log_bound", log_bound)
        self.max_proposals = check.integer("max_proposals", max_proposals, 1)
        self.acceptance: float | None = None
        check.integer("num_points", num_points, 1)
        if num_points & (num_points - 1):
            raise ValueError(f"expected num_points to be a power of 2, got {num_points}")
        if check.integer("scramblings", scramblings, 1) < 2:
            raise ValueError("expected at least 2 scramblings, to tell their error")
        seed = check.seed(seed)
        self._check_root()
        points = [_sobol(base.features.in_features, num_points, seed + n) for n in range(scramblings)]
        device = base.features.mean.device
        self.register_buffer("_uniform", torch.cat(points).to(device), persistent=False)
        self.scramblings = int(scramblings)
        self._known: tuple[tuple, Tensor] | None = None

    @property
    def log_bound(self) -> float:
        """An upper bound of root's output, in nats."""
        return log_upper_bound(self.root) if self.given_bound is None else float(self.given_bound)

    def log_normalizer(self) -> LogNormalizer:
        """log Z and its standard error, estimated now; differentiable."""
        points = self._points()
        tilt = self._log_tilt(points, points.new_full((len(points),), torch.nan))
        each = torch.logsumexp(tilt.unflatten(0, (self.scramblings, -1)), dim=-1)
        each = each - math.log(len(points) / self.scramblings)
        value = torch.logsumexp(each, dim=0) - math.log(self.scramblings)
        relative = torch.exp(each.detach() - value.detach())
        return LogNormalizer(value, relative.std() / math.sqrt(self.scramblings))

    def expected_acceptance(self) -> float:
        """Expected share of the proposals that ``sample`` accepts: Z over exp(log_bound)."""
        return math.exp(min(self._log_z().item() - self.log_bound, 0.0))

    def label_log_posterior(self, x: Tensor) -> Tensor:
        """log p(c | known features), ``(*, D)`` to ``(*, C)``; the label in ``x`` is ignored.

        It is exact if all features are known, because Z cancels.

        Raises:
            ValueError: the base has no labels; otherwise as :meth:`log_prob`.
        """
        if len(self.base.labels) == 0:
            raise ValueError("expected a base with labels: this one has none")
        each = []
        for label in self.base.labels:
            labelled = x.clone()
            labelled[..., -1] = label
            each.append(self.log_prob(labelled))
        return torch.log_softmax(torch.stack(each, dim=-1), dim=-1)

    def _log_prob(self, rows: Tensor) -> Tensor:
        features, label = self._split(rows)
        known = torch.where(features.isnan(), self.base.features.mean, features)
        log_base = self.base.features.log_prob(known).masked_fill(features.isnan(), 0.0).sum(dim=-1)
        return log_base + self._log_expected_tilt(features, label) - self._log_z()

    def _complete(self, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        if rows.isnan().all() and len(rows) > self.max_proposals * self.expected_acceptance():
            raise RuntimeError(
                f"rejection sampling would accept about {self.expected_acceptance():.2g} of the proposals: "
                f"{len(rows)} draws take more than max_proposals = {self.max_proposals}. Raise it, draw "
                "fewer, or choose a base nearer to the model"
            )
        rows, self.acceptance = complete(
            self.base, self.root, self.log_bound, rows, max_proposals=self.max_proposals, generator=generator
        )
        return rows

    def _expected(self, rows: Tensor) -> Tensor:
        points = self._points()
        each = []
        for row in rows:
            features, label = self._split(row.unsqueeze(0))
            filled = torch.where(features.isnan(), points, features)
            weight = torch.softmax(self._log_tilt(filled, label.expand(len(filled))), dim=0)
            each.append(weight @ filled)
        expected = torch.stack(each) if each else rows[:, : points.shape[1]]
        if len(self.base.labels) == 0:
            return expected
        mean_label = self.label_log_posterior(rows).exp() @ self.base.labels
        return torch.cat([expected, mean_label.unsqueeze(-1)], dim=-1)

    def _log_expected_tilt(self, features: Tensor, label: Tensor) -> Tensor:
        """log E[exp(root)] over the missing values, (B,), times the probability of a known label."""
        complete_rows = ~features.isnan().any(dim=-1)
        out = features.new_zeros(len(features))
        if complete_rows.any():
            exact = self._log_tilt(features[complete_rows], label[complete_rows])
            out = out.masked_scatter(complete_rows, exact)
        if complete_rows.all():
            return out
        points = self._points()
        for index in (~complete_rows).nonzero().squeeze(-1):
            filled = torch.where(features[index].isnan(), points, features[index])
            tilt = self._log_tilt(filled, label[index].expand(len(filled)))
            value = torch.logsumexp(tilt, dim=0) - math.log(len(points))
            out = out.index_put((index,), value)
        return out

    def _log_tilt(self, features: Tensor, label: Tensor) -> Tensor:
        """root at complete features (N, K), (N,); with labels, lse_c of log q(c) + root over possible c."""
        labels = self.base.labels
        if len(labels) == 0:
            return self.root(features).squeeze(-1)
        wide = features.unsqueeze(1).expand(-1, len(labels), -1)
        rows = torch.cat([wide, labels.expand(len(features), -1).unsqueeze(-1)], dim=-1)
        tilt = self.root(rows.flatten(0, 1)).reshape(len(features), len(labels)) + self.base.log_probability
        excluded = ~label.isnan().unsqueeze(-1) & (label.unsqueeze(-1) != labels)
        return torch.logsumexp(tilt.masked_fill(excluded, -torch.inf), dim=-1)

    def _log_z(self) -> Tensor:
        parameters = [*self.root.parameters(), *self.buffers()]
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            return self.log_normalizer().value
        now = tuple((p.data_ptr(), p._version) for p in parameters)
        if self._known is None or self._known[0] != now:
            self._known = (now, self.log_normalizer().value.detach())
        return self._known[1]

    def _points(self) -> Tensor:
        return self.base.features.quantile(self._uniform).to(self._like().dtype)

    def _like(self) -> Tensor:
        return self.base.features.mean

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, K) and labels (B,), NaN where there are none."""
        count = self.base.features.in_features
        label = rows[:, count] if len(self.base.labels) else rows.new_full((len(rows),), torch.nan)
        return rows[:, :count], label

    def _rows(self, x: Tensor, name: str = "x") -> Tensor:
        rows = super()._rows(x, name)
        if len(self.base.labels):
            label = rows[:, -1]
            if not (label.isnan() | torch.isin(label, self.base.labels)).all():
                raise ValueError(
                    f"expected labels among {self.base.labels.tolist()}, or NaN, in the last column"
                )
        return rows

    def _check_root(self) -> None:
        dtypes = {p.dtype for p in self.root.parameters()} | {self._like().dtype}
        if len(dtypes) > 1:
            raise TypeError(f"expected root and base of one dtype, got {', '.join(map(str, dtypes))}")
        trial = self.base.sample(2, torch.Generator(self._like().device).manual_seed(0))
        with torch.no_grad():
            shape = tuple(self.root(trial).shape)
        if shape != (2, 1):
            raise ValueError(f"expected root to map (2, {self.in_features}) to (2, 1), got {shape}")
        if math.isnan(self.log_bound):
            raise ValueError("expected log_bound to be a number, got NaN")


def log_upper_bound(root: nn.Module) -> float:
    """An upper bound of a network's output from its last layer: log sum_k w_k / (std_k sqrt(2 pi)).

    root reaches it where every input of that layer is at its mean. It never exceeds -log(min_std sqrt(2 pi)).

    Raises:
        ValueError: root does not end in a uGMM layer with one output, or that layer drops components.
    """
    last = root
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    if not isinstance(last, UGMMLayer) or last.out_features != 1:
        raise ValueError("expected root to end in a UGMMLayer with one output; for others, give log_bound")
    if last.training and last.dropout:
        raise ValueError("expected no dropout in root's last layer: call root.eval()")
    with torch.no_grad():
        peaks = last.log_weight.double() - last.std.double().log() - HALF_LOG_2PI
        return torch.logsumexp(peaks, dim=-1).item()


def _sobol(dimensions: int, count: int, seed: int) -> Tensor:
    """Scrambled Sobol points in the open unit cube, (count, dimensions), float64."""
    points = SobolEngine(dimensions, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    # They are multiples of 2^-30 and include zero, where a Gaussian's quantile is not finite.
    return points + 2.0**-31
