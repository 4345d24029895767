"""One step of training in several processes, which all make the same update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ugmm_tutorial.layers.ablations import PerExampleDropoutLayer
from ugmm_tutorial.training.processes import Group, answered, everywhere
from ugmm_tutorial.training.reproducible import random_states, reproducible
from ugmm_tutorial.training.steps import Step

__all__ = ["SharedStep", "check_shareable"]


class SharedStep(Step):
    """A step in which each process works on its share of the batch.

    Losses and gradients are those of one process with the whole batch, up to rounding, and so are the
    dropout masks: all processes draw from equal generators, and they draw the same.

    Args:
        model: as for :class:`Step`, the same in all processes.
        optimizer: as for :class:`Step`.
        check: as for :class:`Step`.
        group: the processes.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, check: Callable[[int], None] | None, group: Group
    ) -> None:
        super().__init__(model, optimizer, check)
        self.group = group
        with answered():
            self._parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
        self._size, self._share = 0, slice(0, 0)
        self._draws_checked = False

    def take(self, index: Tensor) -> Tensor:
        self._size, self._share = len(index), self.group.share(len(index))
        # A process without a share computes the first example, with weight zero: all have to call the model,
        # and not every model takes an empty batch.
        return index[self._rows]

    @property
    def _rows(self) -> slice:
        return self._share if self._share.stop > self._share.start else slice(0, 1)

    def _learn(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """This share's part of the mean loss, and its number of right answers."""
        if not self._draws_checked:
            _check_draws(self.model, x)
            self._draws_checked = True
        with answered(), _masks_of_whole_batches(self.model, self._rows, self._size):
            scores = self._scores(self._parallel, x)
            counts = min(self._share.stop - self._share.start, 1)
            loss = cross_entropy(scores, y, reduction="sum") * (counts / self._size)
            # The processes' gradients are averaged, but these are parts of a sum.
            (loss * self.group.size).backward()
        self.optimizer.step()
        return loss.detach(), (scores.detach().argmax(dim=1) == y).sum() * counts


def check_shareable(model: nn.Module) -> None:
    """Several processes can compute what one would.

    Raises:
        ValueError: a module draws or measures something for its own share of a batch alone.
    """
    for name, module in model.named_modules():
        why = None
        if isinstance(module, _BatchNorm):
            why = "takes means over the share of a batch that a process has"
        elif isinstance(module, PerExampleDropoutLayer) and module.dropout + module.input_dropout > 0.0:
            why = "draws a mask for every example, which each process would have to draw for all of them"
        elif isinstance(module, _DropoutNd) and type(module) is not nn.Dropout and module.p > 0.0:
            why = "draws masks for the share of a batch that a process has"
        if why is not None:
            raise ValueError(
                f"expected a model that several processes can train, got a {type(module).__name__} "
                f"({name!r}), which {why}: train it in one process"
            )


@torch.no_grad()
def _check_draws(model: nn.Module, x: Tensor) -> None:
    """The model draws as many random numbers for one example as for two, so that shares draw alike.

    Raises:
        ValueError: it draws some for every example. All processes raise it.
    """
    states = []
    for rows in (1, 2):
        with reproducible(x.device), _masks_of_whole_batches(model, slice(0, rows), 2):
            model(x[:1].expand(rows, *x.shape[1:]))
            states.append(random_states(x.device))
    if not all(map(torch.equal, *states)):
        raise everywhere(
            ValueError(
                "expected a model that several processes can train, got one that draws random numbers for "
                "every example: use nn.Dropout, whose masks are those of one process, or train in one process"
            )
        )


@contextmanager
def _masks_of_whole_batches(model: nn.Module, rows: slice, size: int) -> Iterator[None]:
    """Within the block, ``nn.Dropout`` draws for a whole batch of that size and uses these rows of it."""
    modules = [module for module in model.modules() if type(module) is nn.Dropout and module.training]
    for module in modules:
        module.forward = partial(_dropped, module.p, rows, size)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _dropped(p: float, rows: slice, size: int, x: Tensor) -> Tensor:
    if len(x) != rows.stop - rows.start:
        raise everywhere(
            ValueError(
                f"expected nn.Dropout to get a tensor whose first dimension is the batch, "
                f"{rows.stop - rows.start} examples here, got shape {tuple(x.shape)}: train in one process"
            )
        )
    return x * dropout(torch.ones((size, *x.shape[1:]), dtype=x.dtype, device=x.device), p)[rows]
