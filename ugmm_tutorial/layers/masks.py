"""Which components dropout removes, as a number to add to each log-weight: 0 keeps, -inf drops.

Adding costs a fifth of what selecting by a mask costs, forward and backward. Taught in chapters 3 and 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial import kernels
from ugmm_tutorial.kernels import eager
from ugmm_tutorial.kernels.transform import Masks

__all__ = ["dropout_penalty", "input_penalty", "masks_of_examples", "written_out"]

_LEVELS = 1 << 16


@torch.no_grad()
def dropout_penalty(logits: Tensor, p: float) -> Tensor:
    """0 for components that stay, -inf for those that are dropped: a tensor like ``logits``, (J, K).

    Each component is dropped with probability ``p``, in steps of 2**-16. A row that would keep no
    component of positive weight keeps its heaviest one.

    Args:
        logits: unnormalised log-weights; -inf marks a component that has no weight anyway.
        p: from 0 to 1.
    """
    # A draw from -32768 to 32767 below the threshold drops the component. Half a step avoids 0 times inf.
    threshold = round(p * _LEVELS) - _LEVELS // 2
    draws = _draws(logits)
    if eager.ordinary() and eager.plain(logits) and kernels.unavailable("numba") is None:
        from ugmm_tutorial.kernels import numba_kernels  # Numba takes long to import

        return numba_kernels.penalties(draws, logits, threshold)
    # Float32 holds every draw exactly; half precision would round some to the threshold.
    penalty = (draws.float() - (threshold - 0.5)).mul_(math.inf).clamp_(max=0.0).to(logits.dtype)
    return _keeping_heaviest(logits, penalty)


@torch.no_grad()
def input_penalty(logits: Tensor, p: float) -> Tensor:
    """The same for inputs: each is dropped with probability ``p`` for all neurons at once.

    >>> input_penalty(torch.zeros(1000, 4), 0.5).unique(dim=0).shape  # all neurons have the same mask
    torch.Size([1, 4])
    """
    dropped = torch.rand(logits.shape[1], device=logits.device) < p
    penalty = torch.zeros_like(logits).masked_fill_(dropped, -math.inf)
    return _keeping_heaviest(logits, penalty)


@torch.no_grad()
def masks_of_examples(examples: int, logits: Tensor, p: float, *, of_inputs: bool = False) -> Masks:
    """A mask for every example, drawn at once: words, whose products decide.

    For a component, the draws of all examples are independent of each other, and so are those of components
    that read other inputs. Any two draws are as good as independent.

    Args:
        examples: how many.
        logits: of the components, (J, K).
        p: probability with which a component is dropped, in steps of 2**-16.
        of_inputs: whether inputs are dropped instead, for all neurons at once.
    """
    neurons, inputs = logits.shape
    words = _words(examples + (0 if of_inputs else neurons), inputs, logits.device)
    if of_inputs:
        odd = torch.ones(logits.shape, dtype=torch.int32, device=logits.device)
    else:
        odd = words[examples:] | 1  # times a number that is not odd, some products would never occur
    threshold = (round(p * _LEVELS) - _LEVELS // 2) * _LEVELS - 1
    return Masks(words[:examples], odd, max(threshold, -(1 << 31)))


@torch.no_grad()
def written_out(masks: Masks, logits: Tensor) -> Tensor:
    """What these masks add to the log-weights, (B, J, K), as :func:`dropout_penalty` for each example."""
    draws = masks.examples.to(torch.int64).unsqueeze(-2) * masks.neurons.to(torch.int64)
    dropped = draws.to(torch.int32) <= masks.threshold
    return _keeping_heaviest(
        logits, torch.zeros_like(dropped, dtype=logits.dtype).masked_fill_(dropped, -math.inf)
    )


def _keeping_heaviest(logits: Tensor, penalty: Tensor) -> Tensor:
    lost = (logits + penalty).amax(dim=-1, keepdim=True) == -math.inf
    heaviest = logits.argmax(dim=-1, keepdim=True).expand_as(lost)
    return penalty.scatter_(-1, heaviest, penalty.gather(-1, heaviest).masked_fill(lost, 0.0))


def _words(rows: int, columns: int, device: torch.device) -> Tensor:
    """Uniform random int32 of this shape: two per int64."""
    range_, size = torch.iinfo(torch.int64), rows * columns
    drawn = torch.randint(range_.min, range_.max, ((size + 1) // 2,), device=device)
    return drawn.view(torch.int32)[:size].view(rows, columns)


def _draws(like: Tensor) -> Tensor:
    """Uniform random int16 of the shape of ``like``: four per int64, in a third of the time of floats."""
    range_ = torch.iinfo(torch.int64)
    words = torch.randint(range_.min, range_.max, (math.ceil(like.numel() / 4),), device=like.device)
    return words.view(torch.int16)[: like.numel()].view(like.shape)
