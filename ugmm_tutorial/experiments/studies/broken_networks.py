"""The networks of the study of broken inputs, on features scaled by medians and quartiles; their training."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ugmm_tutorial import MLP, HybridNet, UGMMNet

__all__ = [
    "AUGMENTATIONS",
    "BATCH_SIZE",
    "ENCODINGS",
    "FAR",
    "Clipped",
    "Detected",
    "FastKAN",
    "Gaussians",
    "PiecewiseLinear",
    "Plain",
    "hybrid",
    "mlp",
    "train",
    "ugmm",
]

BATCH_SIZE = 64
_CENTRES = 8
_ENTRANCE: dict = {"min_std": 0.1, "missing": "renormalize"}
#: So far away, in scaled units, that no Gaussian feels it.
FAR = 1e6


class Clipped(nn.Module):
    """Features moved into the range of the training rows, without the extreme half per cent at each end."""

    low: Tensor
    high: Tensor

    def __init__(self, train: Tensor) -> None:
        super().__init__()
        ends = torch.quantile(train, torch.tensor([0.005, 0.995]), dim=0)
        self.register_buffer("low", ends[0])
        self.register_buffer("high", ends[1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(x, self.high), self.low)


class Detected(Clipped):
    """Features outside of that range replaced by the median, which is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where((x < self.low) | (x > self.high), 0.0, x)


class Gaussians(nn.Module):
    """Eight Gaussian bumps for each feature, at quantiles, as wide as the mean distance of neighbours."""

    centre: Tensor
    inverse: Tensor

    def __init__(self, train: Tensor) -> None:
        super().__init__()
        centre = torch.quantile(train, torch.linspace(0.02, 0.98, _CENTRES), dim=0).T  # (K, 8)
        width = ((centre[:, -1:] - centre[:, :1]) / (_CENTRES - 1)).clamp(min=1e-3)
        self.register_buffer("centre", centre.contiguous())
        self.register_buffer("inverse", 1.0 / width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((x.unsqueeze(-1) - self.centre) * self.inverse).square()).flatten(-2)


class PiecewiseLinear(nn.Module):
    """How far a feature is through each of eight bins between quantiles, from 0 to 1.

    Source: Gorishniy, Rubachev and Babenko (2022), *On Embeddings for Numerical Features in Tabular Deep
    Learning*, with the first and the last bin bounded too.
    """

    low: Tensor
    inverse: Tensor

    def __init__(self, train: Tensor) -> None:
        super().__init__()
        edges = torch.quantile(train, torch.linspace(0.0, 1.0, _CENTRES + 1), dim=0).T
        self.register_buffer("low", edges[:, :-1].contiguous())
        self.register_buffer("inverse", 1.0 / (edges[:, 1:] - edges[:, :-1]).clamp(min=1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return ((x.unsqueeze(-1) - self.low) * self.inverse).clamp(0.0, 1.0).flatten(-2)


class Plain(nn.Module):
    """Features as they are."""

    def __init__(self, train: Tensor) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


#: What stands before an MLP, by name.
ENCODINGS: dict[str, type[nn.Module]] = {
    "plain": Plain,
    "clipped": Clipped,
    "detected": Detected,
    "Gaussians": Gaussians,
    "piecewise linear": PiecewiseLinear,
}


class FastKAN(nn.Module):
    """Layers of Gaussian bumps with linear weights between them, and no linear branch.

    Source: Li (2024), *Kolmogorov-Arnold Networks are Radial Basis Function Networks*, without the LayerNorm
    on the inputs, through which one broken feature would reach all others.
    """

    def __init__(self, train: Tensor, hidden: int, classes: int) -> None:
        super().__init__()
        self.first = Gaussians(train)
        self.mix = nn.Linear(train.shape[1] * _CENTRES, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.register_buffer("centre", torch.linspace(-2.0, 2.0, _CENTRES))
        self.out = nn.Linear(hidden * _CENTRES, classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.mix(self.first(x)))
        bumps = torch.exp(-((hidden.unsqueeze(-1) - self.centre) * (_CENTRES - 1) / 4.0).square())
        return self.out(bumps.flatten(-2))


def mlp(train: Tensor, classes: int, setting: dict, encoding: str) -> nn.Module:
    """An encoding, then linear layers with LayerNorm, ReLU and dropout."""
    encode = ENCODINGS[encoding](train)
    inputs = encode(train[:1]).shape[-1]
    widths = (inputs, *setting["widths"], classes)
    drops = (*[setting["dropout"]] * (len(widths) - 2), 0.0)
    return nn.Sequential(encode, MLP(widths, norm="layer", dropout=drops))


def ugmm(train: Tensor, classes: int, setting: dict) -> nn.Module:
    """Mixtures in every layer."""
    widths = (train.shape[1], *setting["widths"], classes)
    return UGMMNet(widths, norm="layer", input_dropout=setting["input_dropout"], **_ENTRANCE)


def hybrid(train: Tensor, classes: int, setting: dict) -> nn.Module:
    """Mixtures in the first layer, an ordinary network behind it."""
    options = {name: setting[name] for name in ("dropout", "input_dropout", "init_std") if name in setting}
    return HybridNet([train.shape[1], *setting["widths"], classes], **options, **_ENTRANCE)


def _nothing(x: Tensor, rate: float) -> Tensor:
    return x


def _features_dropped(x: Tensor, rate: float) -> Tensor:
    """Features replaced by the median."""
    return x.masked_fill(torch.rand_like(x) < rate, 0.0)


def _features_far_away(x: Tensor, rate: float) -> Tensor:
    """Features moved to where all Gaussians are 0."""
    return x.masked_fill(torch.rand_like(x) < rate, FAR)


def _faults(x: Tensor, rate: float) -> Tensor:
    """The very fault of the test: gross noise in a part of the features, another part for every row."""
    mark = torch.rand_like(x) < 2.0 * rate * torch.rand(len(x), 1)
    return torch.where(mark, 10.0 * torch.randn_like(x), x)


#: What training does to a batch, by name.
AUGMENTATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "nothing": _nothing,
    "feature dropout": _features_dropped,
    "features far away": _features_far_away,
    "faults": _faults,
}


def train(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    augmentation: str = "nothing",
    rate: float = 0.0,
) -> nn.Module:
    """Adam with decoupled weight decay, whose learning rate falls to zero along a cosine."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(x) / BATCH_SIZE))
    change = AUGMENTATIONS[augmentation]
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(change(x[batch], rate)), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()
