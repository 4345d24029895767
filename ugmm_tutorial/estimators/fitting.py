"""Training of the estimators' networks: Adam, a cosine, weights of examples, early stopping."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ugmm_tutorial.training.progress import bar as progress_bar

__all__ = ["Stopping", "epochs_for", "fit_network"]

# Without a number of epochs: about this many steps, but neither fewer nor more epochs than these.
_STEPS, _LEAST, _MOST = 3000, 20, 100


@dataclass
class Stopping:
    """When training ends early: no better score on held-out rows for a while. The best network is kept."""

    score: Callable[[], float]
    patience: int
    tolerance: float
    scores: list[float] = field(default_factory=list)
    best: tuple[float, dict] | None = None

    def ends(self, model: nn.Module) -> bool:
        """Score the network after an epoch; whether to end."""
        self.scores.append(self.score())
        if self.best is None or self.scores[-1] > self.best[0]:
            self.best = self.scores[-1], copy.deepcopy(model.state_dict())
        if len(self.scores) <= self.patience:
            return False
        before = max(self.scores[: -self.patience])
        return max(self.scores[-self.patience :]) <= before + self.tolerance


def epochs_for(rows: int, batch_size: int) -> int:
    """How many epochs a table of this length is trained for, if nobody says."""
    return min(_MOST, max(_LEAST, math.ceil(_STEPS / math.ceil(rows / batch_size))))


def fit_network(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    weight: Tensor,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    decay: bool = True,
    stopping: Stopping | None = None,
    progress: bool = False,
    seed: int = 0,
) -> Iterator[float]:
    """Train, and yield the mean loss of every epoch.

    Args:
        model: trained in place; dropout masks come from the global random state, batches from a generator of
            their own, so that masks do not depend on the number of rows.
        loss: from the indices of a batch to the losses of its rows.
        weight: of each row. A batch's loss is the mean of its rows' losses times their weights, which are
            scaled to a mean of one. So in a single batch weight two is the same as two copies.
        epochs: how many.
        batch_size: rows in a step; the last step of an epoch may have fewer.
        learning_rate: Adam's, at the start.
        decay: whether it falls to zero along a cosine.
        stopping: when to end early.
        progress: whether to show a bar.
        seed: of the batches.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    steps = epochs * math.ceil(len(weight) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step, steps) / steps)) if decay else 1.0
    )
    weight = weight / weight.mean()
    shuffle = torch.Generator().manual_seed(seed)
    # Batch normalisation cannot learn from a batch of one.
    alone = any(isinstance(module, nn.BatchNorm1d) for module in model.modules())
    bar = progress_bar(range(epochs), disable=not progress)
    for _ in bar:
        model.train()
        total = torch.zeros((), dtype=weight.dtype, device=weight.device)
        for batch in torch.randperm(len(weight), generator=shuffle).to(weight.device).split(int(batch_size)):
            if alone and len(batch) == 1:
                continue
            optimizer.zero_grad(set_to_none=True)
            mean = (loss(batch) * weight[batch]).mean()
            mean.backward()
            optimizer.step()
            schedule.step()
            total += mean.detach() * len(batch)
        model.eval()
        value = (total / len(weight)).item()
        bar.set_postfix_str(f"loss {value:.4f}")
        yield value
        if stopping is not None and stopping.ends(model):
            break
    if stopping is not None and stopping.best is not None:
        model.load_state_dict(stopping.best[1])
