"""Attempts to turn a network's answer by changing m inputs: tests of certificates, and of how tight they are.

Each returns the inputs of the worst attempt. No attempt can succeed on a certified example, up to the
rounding of a network in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.robustness.layer import Box, checked_box
from ugmm_tutorial.training.evaluation import class_scores

__all__ = ["gradient_attack", "greedy_attack", "lead", "random_attack"]

_AT_ONCE = 2**22  # numbers in a batch of attempts


@torch.no_grad()
def greedy_attack(
    network: nn.Module, x: Tensor, y: Tensor, *, changed: int, box: Box, values: int = 5
) -> Tensor:
    """Change one input after the other, each time the input and the value that harm most.

    Args:
        network: ``(B, K)`` to scores ``(B, C)``, in evaluation mode.
        x: inputs, (B, K), of the dtype of the network.
        y: their classes, (B,).
        changed: m, how many inputs to change.
        box: the least and the greatest value of a changed input.
        values: how many values are tried, at least 2, evenly spaced over the box.

    Returns:
        The inputs after the attack, (B, K).

    Raises:
        ValueError: ``changed`` is out of range, a label is no class, there is no box or an empty one, or
            ``values`` is below 2.

    >>> from ugmm_tutorial import UGMMNet
    >>> x, y = torch.zeros(2, 6), torch.tensor([0, 1])
    >>> attempt = greedy_attack(UGMMNet([6, 8, 3]), x, y, changed=2, box=(-1, 1))
    >>> (attempt != x).sum(dim=1) <= 2
    tensor([True, True])
    """
    y, low, high = _checked(network, x, y, changed, box)
    values = check.integer("values", values, 2)  # at least the ends of the box
    part = torch.linspace(0.0, 1.0, values, dtype=x.dtype)
    tried = torch.lerp(low, high, part.unsqueeze(1))  # (values, K)
    found = x.clone()
    for row, label in zip(found, y, strict=True):
        free = torch.ones(x.shape[1], dtype=torch.bool)
        for _ in range(changed):
            index = free.nonzero().squeeze(1)
            attempts = row.repeat(values, len(index), 1)
            attempts[:, torch.arange(len(index)), index] = tried[:, index]
            attempts = attempts.flatten(0, 1)
            leads = _leads(network, attempts, label)
            worst = int(leads.argmin())
            if leads[worst] >= lead(network, row[None], label[None])[0]:
                break
            row.copy_(attempts[worst])
            free[index[worst % len(index)]] = False
    return found


@torch.no_grad()
def random_attack(
    network: nn.Module, x: Tensor, y: Tensor, *, changed: int, box: Box, tries: int = 100, seed: int = 0
) -> Tensor:
    """Random inputs at random values or at the ends of the box; the worst of all tries.

    Args:
        network, x, y, changed, box: as for :func:`greedy_attack`.
        tries: how many attempts are made for every example.
        seed: of the draws.

    Returns, Raises:
        as for :func:`greedy_attack`.

    >>> x, y = torch.zeros(2, 6), torch.tensor([0, 1])
    >>> attempt = random_attack(nn.Linear(6, 3), x, y, changed=2, box=(-1, 1))
    >>> (attempt != x).sum(dim=1) <= 2
    tensor([True, True])
    """
    y, low, high = _checked(network, x, y, changed, box)
    tries, draw = check.integer("tries", tries, 1), torch.Generator().manual_seed(check.seed(seed))
    found = x.clone()
    for row, label in zip(found, y, strict=True):
        place = torch.rand(tries, x.shape[1], generator=draw).topk(changed, dim=1).indices
        part = torch.rand(tries, changed, generator=draw, dtype=x.dtype)
        ends = torch.rand(tries, 1, generator=draw) < 0.5
        part = torch.where(ends, part.round(), part)
        attempts = row.repeat(tries, 1).scatter(1, place, torch.lerp(low[place], high[place], part))
        leads = _leads(network, attempts, label)
        if leads.min() < lead(network, row[None], label[None])[0]:
            row.copy_(attempts[leads.argmin()])
    return found


def gradient_attack(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    changed: int,
    box: Box,
    steps: int = 40,
    restarts: int = 3,
    seed: int = 0,
) -> Tensor:
    """Descend on the values of m inputs at a time, then keep the m that had moved the lead most.

    Every restart begins with all inputs at random places between their own value and the box, and goes
    down the gradient of the lead. The m inputs whose movement lowers it most, to first order, are kept; the
    descent then continues on these alone.

    Args:
        network, x, y, changed, box: as for :func:`greedy_attack`.
        steps: how many steps each descent has.
        restarts: how many descents there are, each from other random places.
        seed: of these places.

    Returns, Raises:
        as for :func:`greedy_attack`.

    >>> x, y = torch.zeros(2, 6), torch.tensor([0, 1])
    >>> attempt = gradient_attack(nn.Linear(6, 3), x, y, changed=2, box=(-1, 1))
    >>> (attempt != x).sum(dim=1) <= 2
    tensor([True, True])
    """
    y, low, high = _checked(network, x, y, changed, box)
    steps, restarts = check.integer("steps", steps, 0), check.integer("restarts", restarts, 1)
    draw = torch.Generator().manual_seed(check.seed(seed))
    best, least = x.clone(), lead(network, x, y).detach()
    for _ in range(restarts):
        start = torch.lerp(low, high, torch.rand(x.shape, generator=draw, dtype=x.dtype))
        gradient = _gradient(network, torch.lerp(x, start, 0.1), y)
        gain = torch.maximum(gradient * (x - low), gradient * (x - high))  # to first order
        kept = torch.zeros_like(x, dtype=torch.bool)
        kept.scatter_(1, gain.topk(changed, dim=1).indices, True)
        moving = torch.where(kept, start, x)
        for step in range(steps):
            width = (high - low) * 0.25 * (1.0 - step / steps)
            moving = torch.where(kept, moving - width * _gradient(network, moving, y).sign(), x)
            moving = torch.where(kept, torch.maximum(torch.minimum(moving, high), low), x)
            now = lead(network, moving, y).detach()
            worse = now < least
            best[worse], least[worse] = moving[worse], now[worse]
    return best


def lead(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The score of the class minus the greatest of the others, (B,); wrong answers have none above 0.

    Args:
        network: ``(B, K)`` to scores ``(B, C)``.
        x: inputs, (B, K).
        y: their classes, (B,), int64.

    >>> lead(nn.Identity(), torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([1.])
    """
    scores = network(x)
    own = scores.gather(1, y.unsqueeze(1))
    others = scores.scatter(1, y.unsqueeze(1), -torch.inf).amax(dim=1)
    return own.squeeze(1) - others


def _gradient(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(lead(network, x, y).sum(), x)
    return gradient


def _leads(network: nn.Module, attempts: Tensor, label: Tensor) -> Tensor:
    """The lead of one class for many attempts, in parts."""
    rows = max(1, _AT_ONCE // attempts.shape[1])
    return torch.cat([lead(network, part, label.expand(len(part))) for part in attempts.split(rows)])


def _checked(
    network: nn.Module, x: Tensor, y: Tensor, changed: int, box: Box
) -> tuple[Tensor, Tensor, Tensor]:
    """The classes and the box's ends, after a look at all arguments; the network checks the rest of ``x``."""
    check.module("network", network)
    if check.numbers_in("x", x).dim() != 2:
        raise ValueError(f"expected x of shape (B, K), got {tuple(x.shape)}")
    with torch.no_grad():
        y = check.labels("y", y, len(x), class_scores(network, x).shape[1])
    check.integer("changed", changed, 0, x.shape[1])
    ends = checked_box(box, x.shape[1])
    if ends is None:
        raise ValueError("expected a box to take values from, got None")
    return y, ends[0].to(x.dtype), ends[1].to(x.dtype)
