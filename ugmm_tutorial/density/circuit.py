"""A random tensorised circuit: leaves over few features, then products and sums up to one root.

Every product multiplies densities of disjoint sets of features (it is decomposable), and every sum mixes
densities of the same set (it is smooth). Because of this, marginals, conditionals and draws are exact.

Source: Peharz et al. (2020), Random sum-product networks, with elementwise instead of outer products.
Taught in chapter 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.density.background import Background
from ugmm_tutorial.density.clusters import clusters
from ugmm_tutorial.density.components import Components
from ugmm_tutorial.density.diagonal import GaussianProducts
from ugmm_tutorial.density.smoothed import SmoothedNeurons
from ugmm_tutorial.density.tractable import TractableDensity, draw
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.kernels.kinds import device as checked_device

__all__ = ["LEAVES", "Circuit"]

LEAVES = ("gaussian", "smoothed")


class Circuit(TractableDensity):
    """Random trees of regions, each with S densities, under one root sum.

    A tree halves the features at random, ``depth`` times. A leaf region has S densities over its features. A
    region above multiplies density s of its left half by density s of its right half, for every s. Unless it
    holds all features, it then mixes these S products in S sums. The root mixes the products of all trees.
    With ``depth=0`` it is a mixture of leaves: ``DiagonalGaussianMixture`` or ``SmoothedUGMM``. With Gaussian
    leaves ``depth=1`` is a ``DiagonalGaussianMixture`` too: sums below the root begin with depth 2.

    Args:
        in_features: D, the length of a row.
        num_sums: S, the number of densities in a region.
        leaf: ``"gaussian"`` for products of Gaussians, ``"smoothed"`` for smoothed neurons.
        depth: number of halvings, with 2**depth <= D.
        trees: number of random trees.
        background: as for :class:`SmoothedNeurons`, for smoothed leaves only.
        seed: of the random halvings and of the sums' initial weights.
        min_std: floor of the standard deviations, > 0, in the units of the features.
        device: where the parameters live.
        dtype: float32 or float64.

    Raises:
        TypeError: a size is not an integer, or the dtype is neither float32 nor float64.
        ValueError: a value is out of its range, or the kind of leaf is unknown.

    >>> Circuit(64, num_sums=8, depth=3, trees=2).log_prob(torch.rand(32, 64)).shape
    torch.Size([32])
    """

    def __init__(
        self,
        in_features: int,
        num_sums: int,
        *,
        leaf: str = "gaussian",
        depth: int = 2,
        trees: int = 1,
        background: Background | None = None,
        seed: int = 0,
        min_std: float = 1e-3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check.integer("in_features", in_features, 1)
        self.num_sums = check.integer("num_sums", num_sums, 1)
        self.trees = check.integer("trees", trees, 1)
        self.depth = check.integer("depth", depth, 0)
        if self.depth > math.log2(in_features):
            raise ValueError(
                f"expected 2**depth <= in_features, got depth={depth}, in_features={in_features}"
            )
        check.one_of("leaf", leaf, LEAVES)
        if background is not None and leaf != "smoothed":
            raise ValueError("expected no background for Gaussian leaves: only smoothed leaves have one")
        self.leaf = leaf
        random = torch.Generator().manual_seed(check.seed(seed))
        device = None if device is None else checked_device(device, meta=True)
        options = {"min_std": min_std, "device": device, "dtype": dtype}
        self.leaves = nn.ModuleList()
        for tree in range(self.trees):
            order = torch.randperm(in_features, generator=random)
            for region, scope in enumerate(order.tensor_split(2**depth)):
                index = tree * 2**depth + region
                self.register_buffer(f"_scope{index}", scope.to(device))
                self.leaves.append(_leaf(leaf, scope, self.num_sums, background, options))
        self.sum_logits = nn.ParameterList(self._random_logits(random))

    @property
    def scopes(self) -> Sequence[Tensor]:
        return [getattr(self, f"_scope{index}") for index in range(len(self.leaves))]

    def combine(self, leaf_log_probs: Sequence[Tensor], log_weights: Sequence[Tensor]) -> Tensor:
        products = self._products(leaf_log_probs, log_weights)[-1].flatten(1)
        return torch.logsumexp(products + log_weights[-1], dim=-1)

    def choose(self, leaf_log_probs: Sequence[Tensor], generator: torch.Generator | None) -> Sequence[Tensor]:
        log_weights = self.log_weights()
        *inner, top = self._products(leaf_log_probs, log_weights)
        rows = torch.arange(len(top), device=top.device)
        product = draw(top.flatten(1) + log_weights[-1], generator)
        tree, channel = product // self.num_sums, (product % self.num_sums).unsqueeze(-1)
        for products, log_weight in zip(reversed(inner), reversed(log_weights[:-1]), strict=True):
            # Both halves of a product take its channel, which selects a sum of the level below.
            channel = channel.repeat_interleave(2, dim=-1)
            region = torch.arange(channel.shape[1], device=top.device)
            terms = products[rows, tree] + log_weight[tree.unsqueeze(-1), region, channel]
            channel = draw(terms.flatten(0, 1), generator).reshape(channel.shape)
        channel = channel.repeat_interleave(2, dim=-1) if self.depth else channel
        return [
            torch.where(tree == index // 2**self.depth, channel[:, index % 2**self.depth], -1)
            for index in range(len(self.leaves))
        ]

    def _products(self, leaf_log_probs: Sequence[Tensor], log_weights: Sequence[Tensor]) -> list[Tensor]:
        """Log-densities of the products of every level, from the leaves' parents to the root.

        Each is (B, trees, regions, S); with depth 0 the leaves take the place of products.
        """
        values = torch.stack(list(leaf_log_probs), dim=1).unflatten(1, (self.trees, 2**self.depth))
        if self.depth == 0:
            return [values]
        levels = [_pairs(values)]
        for log_weight in log_weights[:-1]:
            sums = torch.logsumexp(levels[-1].unsqueeze(-2) + log_weight, dim=-1)
            levels.append(_pairs(sums))
        return levels

    def _random_logits(self, random: torch.Generator) -> list[nn.Parameter]:
        """Random logits near those that give product s half of the weight in sum s."""
        like = self._components[0].mean
        shapes = [
            (self.trees, 2**level, self.num_sums, self.num_sums) for level in range(self.depth - 1, 0, -1)
        ]
        logits = [0.1 * torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes]
        for values in logits:
            values += torch.eye(self.num_sums) * torch.tensor(float(max(self.num_sums - 1, 1))).log()
        logits.append(torch.zeros(self.trees * self.num_sums, dtype=torch.float64))
        return [nn.Parameter(values.to(like)) for values in logits]

    @torch.no_grad()
    def _start(self, rows: Tensor, seed: int) -> None:
        shares = []
        for tree in range(self.trees):
            share, mean, std = clusters(rows, self.num_sums, seed + tree)
            shares.append(share / self.trees)
            for index in range(tree * 2**self.depth, (tree + 1) * 2**self.depth):
                scope = self.scopes[index]
                self._components[index].start(mean[:, scope], std[:, scope], rows[:, scope])
        self.sum_logits[-1].copy_(torch.cat(shares).log())


def _pairs(values: Tensor) -> Tensor:
    """Products of neighbouring regions: (B, trees, 2R, S) to (B, trees, R, S), as logarithms."""
    return values.unflatten(2, (-1, 2)).sum(dim=3)


def _leaf(kind: str, scope: Tensor, count: int, background: Background | None, options: dict) -> Components:
    if kind == "gaussian":
        return GaussianProducts(len(scope), count, **options)
    part = None if background is None else background.select(scope)
    return SmoothedNeurons(len(scope), count, background=part, **options)
