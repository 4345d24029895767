"""Maximum likelihood by gradient ascent: Adam on minibatches, for every density of the package.

For a tilted model, each step estimates Z anew on the same quasi-Monte-Carlo points and differentiates the
estimate. It therefore maximises the likelihood under the estimated log Z. Taught in chapter 10.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ugmm_tutorial.density.model import Density
from ugmm_tutorial.kernels.arguments import integer
from ugmm_tutorial.kernels.arguments import seed as checked_seed
from ugmm_tutorial.kernels.kinds import instance
from ugmm_tutorial.kernels.kinds import learning_rate as checked_rate

__all__ = ["fit"]


def fit(
    model: Density,
    x: Tensor,
    *,
    epochs: int = 100,
    learning_rate: float = 0.01,
    batch_size: int = 256,
    seed: int = 0,
) -> list[float]:
    """Maximise the likelihood of the rows ``x`` (N, D) by Adam, from ``model`` as it is; NaN is missing.

    Args:
        model: any density; its parameters are trained, its backgrounds are not.
        epochs: passes over the rows.
        learning_rate: Adam's, > 0.
        batch_size: rows in a step.
        seed: of the order of the rows.

    Returns:
        Mean log-likelihood in nats per row of every epoch, measured while training.

    Raises:
        TypeError, ValueError: the data do not fit the model, or an option is out of its range.
        FloatingPointError: the likelihood of a batch is not finite.

    >>> from ugmm_tutorial.density import DiagonalGaussianMixture
    >>> torch.tensor(fit(DiagonalGaussianMixture(2, 3), torch.full((64, 2), 9.0), epochs=4)).diff() > 0
    tensor([True, True, True])
    """
    instance("model", model, Density)
    epochs, batch_size = integer("epochs", epochs, 1), integer("batch_size", batch_size, 1)
    learning_rate = checked_rate(learning_rate)
    rows = model._data(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    order = torch.Generator().manual_seed(checked_seed(seed))
    return [_epoch(model, rows, optimizer, batch_size, order) for _ in range(epochs)]


def _epoch(
    model: Density,
    rows: Tensor,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    order: torch.Generator,
) -> float:
    total = 0.0
    for indices in torch.randperm(len(rows), generator=order).split(batch_size):
        log_likelihood = model.log_prob(rows[indices.to(rows.device)]).mean()
        if not log_likelihood.isfinite():
            raise FloatingPointError(
                f"the mean log-likelihood of a batch is {log_likelihood.item()}: lower the learning rate, "
                "or look for rows of density zero"
            )
        optimizer.zero_grad()
        (-log_likelihood).backward()
        optimizer.step()
        total += log_likelihood.item() * len(indices)
    return total / len(rows)
