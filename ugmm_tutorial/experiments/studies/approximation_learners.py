"""Four kinds of small networks and one way to train them all. Part of the approximation study.

Each contender has two variants. The variant and the optimiser are chosen on validation data. The KAN comes
from pykan, by the authors of Liu et al. (2025), without its symbolic branch; pykan is not a dependency.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.training.reproducible import seeded

__all__ = [
    "CONTENDERS",
    "OPTIMISERS",
    "VARIANTS",
    "Optimiser",
    "Training",
    "build",
    "parameters",
    "pykan_version",
    "train",
]


@dataclass(frozen=True)
class Optimiser:
    """How a network is trained: by Adam with this learning rate, or by L-BFGS if it is None."""

    learning_rate: float | None = None


#: The choices made on validation data: activations of the MLP, grids of the KAN, LayerNorms of uGMM networks.
VARIANTS: dict[str, dict[str, Any]] = {
    "MLP": {"relu": nn.ReLU, "silu": nn.SiLU},
    "KAN": {"grid 5": 5, "grid 10": 10},
    "uGMM, one layer": {"none": "none", "after": "after"},
    "uGMM, two layers": {"none": "none", "after": "after"},
}
OPTIMISERS = {"adam 0.02": Optimiser(0.02), "lbfgs": Optimiser()}
CONTENDERS = tuple(VARIANTS)
_WIDEST = 200


class Training(NamedTuple):
    """A trained network, its training loss, the seconds of training, and the number of gradients."""

    model: nn.Module
    loss: float
    seconds: float
    evaluations: int


class _KAN(nn.Module):
    """pykan's network at its fastest: no symbolic branch, no stored activations, no checkpoints."""

    def __init__(self, widths: list[int], grid: int, seed: int) -> None:
        super().__init__()
        from kan import KAN

        states = np.random.get_state(), random.getstate()  # noqa: NPY002 - it seeds the global generators
        with torch.random.fork_rng(devices=[]):
            self.net = KAN(
                widths,
                grid=grid,
                k=3,
                seed=seed,
                symbolic_enabled=False,
                save_act=False,
                auto_save=False,
            )
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
        for symbolic in self.net.symbolic_fun:
            symbolic.requires_grad_(False)  # the symbolic branch is off, so its parameters do not count

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    @torch.no_grad()
    def adapt(self, x: Tensor) -> None:
        """Move the grids of the splines to where the activations are, as its authors' training does."""
        self.net.update_grid_from_samples(x)


def _mlp(inputs: int, outputs: int, width: int, bend: type[nn.Module], seed: int, readout: bool) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, width), bend(), nn.Linear(width, width), bend(), nn.Linear(width, outputs)
    )


def _kan(inputs: int, outputs: int, width: int, grid: int, seed: int, readout: bool) -> nn.Module:
    return _KAN([inputs, width, outputs], grid, seed)


def _ugmm(layers: int) -> Callable[..., nn.Module]:
    def make(inputs: int, outputs: int, width: int, norm: str, seed: int, readout: bool) -> nn.Module:
        if not readout:
            widths = (inputs, *[width] * (layers - 1), outputs)
            if norm == "none":
                return UGMMNet(widths)
            # The stored results have a LayerNorm over two outputs. UGMMNet refuses it, because it leaves only
            # their order.
            return nn.Sequential(UGMMNet(widths, norm="layer"), nn.LayerNorm(outputs))
        return nn.Sequential(UGMMNet((inputs, *[width] * layers), norm=norm), nn.Linear(width, outputs))

    return make


_MAKERS: dict[str, Callable[..., nn.Module]] = {
    "MLP": _mlp,
    "KAN": _kan,
    "uGMM, one layer": _ugmm(1),
    "uGMM, two layers": _ugmm(2),
}


def parameters(model: nn.Module) -> int:
    """The number of learnt parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def build(
    contender: str, inputs: int, outputs: int, size: int, variant: str, seed: int, *, readout: bool
) -> nn.Module:
    """The network of this kind whose number of parameters is nearest to ``size``.

    Args:
        contender: a key of :data:`VARIANTS`.
        inputs, outputs: K and the number of outputs.
        size: the wanted number of parameters.
        variant: one of the contender's variants.
        seed: the seed of its initial parameters. The global generator keeps its state.
        readout: whether a linear layer follows the uGMM layers. Without it, the last uGMM layer gives the
            outputs, and the numbers of inputs and outputs fix the size of a single layer.
    """
    make, chosen = _MAKERS[contender], VARIANTS[contender][variant]
    with seeded(seed):
        best, width = None, 3 if chosen == "after" else 1  # LayerNorm takes three numbers or more
        while width <= _WIDEST:
            model = make(inputs, outputs, width, chosen, seed, readout)
            away = abs(parameters(model) - size)
            if best is not None and away >= best[0]:
                break
            best, width = (away, width), width + 1
    with seeded(seed):
        return make(inputs, outputs, best[1], chosen, seed, readout)


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    how: str,
    evaluations: int,
) -> Training:
    """Train on all rows at once. The network keeps its last state.

    Args:
        model: the network; it is changed in place.
        x, y: the rows and their targets.
        loss: a function of the outputs and ``y``.
        how: a key of :data:`OPTIMISERS`. Adam's learning rate falls to zero along a cosine.
        evaluations: the largest number of evaluations of the loss and its gradient.
    """
    begun, counted = time.perf_counter(), 0

    def closure() -> Tensor:
        nonlocal counted
        counted += 1
        optimiser.zero_grad()
        value = loss(model(x), y)
        value.backward()
        return value

    rate = OPTIMISERS[how].learning_rate
    learnt = [p for p in model.parameters() if p.requires_grad]
    adapts = isinstance(model, _KAN)
    if rate is not None:
        optimiser = torch.optim.Adam(learnt, lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, evaluations)
        for step in range(evaluations):
            if adapts and step <= 50 and step % 10 == 0:
                model.adapt(x)
            optimiser.step(closure)
            schedule.step()
    else:
        for part in (20, 20, evaluations - 40):
            if adapts:
                model.adapt(x)
            options = {"max_iter": part, "max_eval": part, "history_size": 20, "tolerance_change": 1e-12}
            optimiser = torch.optim.LBFGS(
                learnt, line_search_fn="strong_wolfe", tolerance_grad=1e-10, **options
            )
            optimiser.step(closure)
    seconds = time.perf_counter() - begun
    with torch.no_grad():
        return Training(model, loss(model(x), y).item(), seconds, counted)


def pykan_version() -> str | None:
    """The installed version of pykan, or None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pykan")
    except PackageNotFoundError:
        return None
