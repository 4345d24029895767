"""The base of a tilted model: independent features and an optional label. Taught in chapter 10."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.density.background import Background
from ugmm_tutorial.kernels.arguments import numbers_in, reals
from ugmm_tutorial.kernels.kinds import instance

__all__ = ["ProductBase"]


class ProductBase(nn.Module):
    """q: independent features and, if there are labels, an independent label in the last column.

    Args:
        features: the densities of the features.
        labels: the values that the label can take, (C,), or None for no label.
        probabilities: of the labels, (C,), summing to one; None makes them equal.

    Raises:
        ValueError: shapes differ, labels repeat, or probabilities are not positive numbers with sum one.

    >>> from ugmm_tutorial.density import GaussianBackground
    >>> ProductBase(GaussianBackground(torch.zeros(4), torch.ones(4)), labels=[0, 1, 2]).sample(8).shape
    torch.Size([8, 5])
    """

    labels: Tensor
    log_probability: Tensor

    def __init__(
        self,
        features: Background,
        labels: Sequence[float] | None = None,
        probabilities: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.features = instance("features", features, Background)
        like = numbers_in("the means of features", features.mean)
        values = like.new_tensor([] if labels is None else reals("labels", labels))
        if labels is not None and (
            len(values) == 0 or not values.isfinite().all() or len(values.unique()) < len(values)
        ):
            raise ValueError(
                f"expected labels, finite numbers that differ from one another, got {list(labels)}"
            )
        share = torch.ones_like(values) / max(len(values), 1)
        if probabilities is not None:
            share = like.new_tensor(reals("probabilities", probabilities))
        if share.shape != values.shape:
            raise ValueError(
                f"expected probabilities, one probability for each label, got {len(share)} for {len(values)}"
            )
        if len(share) and not ((share > 0.0).all() and abs(share.sum().item() - 1.0) < 1e-4):
            raise ValueError(f"expected positive probabilities that sum to one, got {share.tolist()}")
        self.register_buffer("labels", values)
        self.register_buffer("log_probability", (share / share.sum()).log())

    @property
    def in_features(self) -> int:
        """Length of a row: the features, and one more for a label."""
        return self.features.in_features + (len(self.labels) > 0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws, (n, D)."""
        x = self.features.sample(n, generator)
        if len(self.labels) == 0:
            return x
        share = self.log_probability.exp().expand(max(n, 1), -1)
        label = torch.multinomial(share, 1, generator=generator)[:n]
        return torch.cat([x, self.labels[label]], dim=-1)
