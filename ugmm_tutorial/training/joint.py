"""Training on features and label together: the paper's generative setting, for many networks at once.

Taught in chapter 9. Networks with a few dozen parameters spend their time on calls, not on arithmetic, so
repeated cross-validation trains all its networks side by side, as one batch of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from ugmm_tutorial.data import with_every_label, with_labels
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.kernels.kinds import learning_rate as checked_rate
from ugmm_tutorial.layers.categorical import CategoricalLeafLayer
from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.training.reproducible import seeded

__all__ = ["OBJECTIVES", "EnsembleTrainer", "train_generative"]

OBJECTIVES = ("joint", "conditional")


class EnsembleTrainer:
    """Trains networks of one architecture side by side, each on its own examples, with Adam.

    ``"joint"`` maximises the mean output over (features, label), as the paper does. ``"conditional"``
    maximises the mean of ``log softmax over labels`` at the true label, which is bounded by zero.

    If ``labels`` is given, the training of a network does not depend on the other networks.

    Args:
        networks: M networks from ``(*, K + 1)`` to ``(*, 1)``, equal except for their parameters.
        x: features, (M, N, K): ``x[m]`` for network m.
        y: labels as the numbers that the networks read, (M, N).
        objective: one of :data:`OBJECTIVES`.
        labels: every number that is a label; by default those in ``y``, over all networks.
        batch_size: examples per step.
        learning_rate: Adam's.
        seed: fixes the order of the examples, a different one for each network.

    Raises:
        ValueError: there are no networks, one has no parameters, shapes do not fit, x or y is not finite,
            ``y`` has a number that is not in ``labels``, a categorical leaf does not know a label,
            ``batch_size`` is below one, or the objective is unknown.

    >>> networks, x, y = [UGMMNet([5, 1]) for _ in range(3)], torch.rand(3, 20, 4), torch.zeros(3, 20)
    >>> EnsembleTrainer(networks, x, y).run(epochs=2).shape
    torch.Size([3])
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        x: Tensor,
        y: Tensor,
        *,
        objective: str = "joint",
        labels: Sequence[float] | None = None,
        batch_size: int = 16,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        check.one_of("objective", objective, OBJECTIVES)
        if not isinstance(networks, Sequence | nn.ModuleList) or isinstance(networks, str):
            raise TypeError(f"expected networks to be a sequence of modules, got {check.shown(networks)}")
        for network in networks:
            check.module("every one of networks", network, trained=True)
        if not networks:
            raise ValueError("expected networks, at least one, got none")
        if check.numbers_in("x", x, finite=False).dim() != 3 or len(x) != len(networks):
            raise ValueError(f"expected x (M, N, K) for M = {len(networks)} networks, got {tuple(x.shape)}")
        self.inputs = with_labels(x, y)
        if not self.inputs.isfinite().all():
            raise ValueError("expected x and y, features and labels, that are finite")
        present = self.inputs[..., -1].unique()
        known = present.tolist() if labels is None else check.reals("labels", labels)
        self.labels = torch.tensor(known, dtype=x.dtype)
        if not torch.isin(present, self.labels).all():
            raise ValueError(f"expected labels among {self.labels.tolist()}, got {present.tolist()}")
        batch_size, seed = check.integer("batch_size", batch_size, 1), check.seed(seed)
        learning_rate = checked_rate(learning_rate)
        for leaf in (m for network in networks for m in network.modules()):
            if isinstance(leaf, CategoricalLeafLayer):  # within vmap it cannot check them itself
                leaf.check_labels(self.labels)
        self.networks, self.objective, self.batch_size = list(networks), objective, batch_size
        self.epoch = 0
        self._parameters, self._buffers = stack_module_state(self.networks)
        self._optimizer = torch.optim.Adam(self._parameters.values(), lr=learning_rate, fused=True)
        self._orders = [torch.Generator().manual_seed(seed + m) for m in range(len(x))]
        self._losses = vmap(self._loss)

    def run(self, epochs: int) -> Tensor:
        """Train for some epochs and write the parameters back; return the last epoch's mean losses, (M,)."""
        losses = torch.full((len(self.networks),), torch.nan)
        for _ in range(check.integer("epochs", epochs, 0)):
            losses = self._run_epoch()
            self.epoch += 1
        with torch.no_grad():
            for m, network in enumerate(self.networks):
                for name, parameter in network.named_parameters():
                    parameter.copy_(self._parameters[name][m])
        return losses

    def _run_epoch(self) -> Tensor:
        count = self.inputs.shape[1]
        orders = torch.stack([torch.randperm(count, generator=g) for g in self._orders])
        shuffled = self.inputs.take_along_dim(orders.unsqueeze(-1), dim=1)
        total = torch.zeros(len(self.networks), dtype=self.inputs.dtype)
        for batch in shuffled.split(self.batch_size, dim=1):
            losses = self._losses(self._parameters, self._buffers, batch)
            self._optimizer.zero_grad()
            # Each loss depends only on the parameters of its own network, so their sum gives every gradient.
            losses.sum().backward()
            self._optimizer.step()
            total += losses.detach() * batch.shape[1]
        return total / count

    def _loss(self, parameters: dict, buffers: dict, batch: Tensor) -> Tensor:
        """The loss of one network, a number, on a batch (B, K + 1)."""

        def root(inputs: Tensor) -> Tensor:
            return functional_call(self.networks[0], (parameters, buffers), (inputs,)).squeeze(-1)

        if self.objective == "joint":
            return -root(batch).mean()
        scores = root(with_every_label(batch[:, :-1], self.labels))
        true = (batch[:, -1:] == self.labels).to(scores.dtype)
        return -(torch.log_softmax(scores, dim=-1) * true).sum(dim=-1).mean()


def train_generative(
    widths: list[int],
    rows: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    init: str,
    seed: int,
) -> UGMMNet:
    """Train one network with one output to give rows (N, K) high scores, as in the paper's section 4.2.1.

    For one network, an ordinary loop takes a fifth of the time of :class:`EnsembleTrainer`, whose calls cost
    the same for one network as for many.

    Args:
        widths: sizes from K to 1.
        rows: features and perhaps a label, float32.
        epochs: passes over the rows.
        learning_rate: Adam's.
        batch_size: rows per step.
        init: initial values of the layers, ``"unit"`` or ``"paper"``.
        seed: fixes the initial values and the order of the rows.

    >>> options = {"epochs": 2, "learning_rate": 0.01, "batch_size": 8, "init": "unit", "seed": 0}
    >>> train_generative([5, 1], torch.rand(20, 5), **options)(torch.rand(7, 5)).shape
    torch.Size([7, 1])
    """
    epochs, batch_size = check.integer("epochs", epochs, 0), check.integer("batch_size", batch_size, 1)
    learning_rate = checked_rate(learning_rate)
    check.numbers_in("rows", rows, dim=2)
    seed = check.seed(seed)
    with seeded(seed):
        model = UGMMNet(widths, init=init)
    shuffle = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for index in torch.randperm(len(rows), generator=shuffle).split(batch_size):
            optimizer.zero_grad()
            (-model(rows[index]).mean()).backward()
            optimizer.step()
    return model.eval()
