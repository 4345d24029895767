"""What first-layer neurons depend on: how an answer changes when one input is replaced by its training mean.

Layers are dense mixture layers or linear ones: J neurons that read K inputs each. Responsibilities count
inputs that never change, because these have a share of every answer. The measures here ask what happens to
an answer when one input is replaced by its mean, so that such inputs count nothing. For chapter 12.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ugmm_tutorial.interpretation import statistics

__all__ = [
    "change_variances",
    "dependence",
    "effective_number",
    "inputs_holding",
    "replacement_changes",
    "training_means",
]

# Numbers in a block of changes (b, J, K), in float64.
_BLOCK = 1 << 20


def training_means(x: Tensor) -> Tensor:
    """The mean of every input over the examples, (N, K) to (K,), in float64.

    >>> training_means(torch.tensor([[0.0, 1.0], [1.0, 1.0]])).tolist()
    [0.5, 1.0]
    """
    return x.mean(dim=0, dtype=torch.float64)


def replacement_changes(layer: nn.Module, x: Tensor, means: Tensor) -> Tensor:
    """Output at ``x`` minus output with one input at its mean, for every input and neuron, (B, J, K).

    For a linear neuron that is ``w_jk (x_k - mean_k)``. For a mixture neuron it is, in nats,
    ``-log(1 - r_jk(x) + f_jk(mean_k) / f_j(x))``, where r_jk are responsibilities, f_jk the terms under the
    logarithm and f_j their sum.

    Args:
        layer: a linear layer, or a dense mixture layer without dropout.
        x: inputs, (B, K).
        means: what replaces them, (K,), in the same dtype.

    >>> layer = nn.Linear(2, 1)
    >>> replacement_changes(layer, torch.ones(3, 2), torch.ones(2)).abs().max().item()
    0.0
    """
    if isinstance(layer, nn.Linear):
        return (x - means).unsqueeze(-2) * layer.weight
    terms = layer.component_log_densities(x)
    share = terms.softmax(dim=-1)
    # One minus a share near one would lose digits. Only the largest can be near one: its rest is summed.
    top = share.argmax(dim=-1, keepdim=True)
    rest = share.scatter(-1, top, 0.0).sum(dim=-1, keepdim=True)
    others = (1.0 - share).scatter(-1, top, rest)
    replaced = layer.component_log_densities(means) - terms.logsumexp(dim=-1, keepdim=True)
    return -torch.logaddexp(others.log(), replaced)


@torch.no_grad()
def change_variances(layer: nn.Module, x: Tensor, means: Tensor) -> Tensor:
    """Variance over the examples of what replacing an input by its mean changes, (J, K), in float64.

    Args: as for :func:`replacement_changes`, with N examples and any dtype; blocks are computed in float64.
    """
    layer, means = copy.deepcopy(layer).double(), means.double()
    count, mean = 0, torch.zeros((), dtype=torch.float64)
    squares = torch.zeros_like(mean)  # of the distances from the mean so far
    rows = max(1, _BLOCK // (layer.in_features * layer.out_features))
    for some in x.split(rows):
        change = replacement_changes(layer, some.double(), means)
        own = change.mean(dim=0)
        weight = len(some) / (count + len(some))
        # A difference of sums of squares would lose digits where an answer changes by much, but evenly.
        squares = squares + (change - own).square().sum(dim=0) + count * weight * (own - mean).square()
        mean, count = mean + weight * (own - mean), count + len(some)
    return squares / count


def effective_number(values: Tensor) -> Tensor:
    """exp(entropy) of non-negative values (..., K), normalised over K: K if all are equal, 1 if one is alone.

    Where all values are 0 it is 0: nothing is depended on.

    >>> effective_number(torch.tensor([[2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])).tolist()
    [2.0, 0.0]
    """
    total = values.sum(dim=-1, keepdim=True)
    number = torch.special.entr(values / total).sum(dim=-1).exp()
    return number.masked_fill(total.squeeze(-1) == 0.0, 0.0)


def inputs_holding(values: Tensor, share: float) -> Tensor:
    """How many of the largest values (..., K) it takes to have this share of their sum; 0 if all are 0.

    >>> inputs_holding(torch.tensor([5.0, 1.0, 4.0]), 0.9).item()
    2
    """
    running = values.sort(dim=-1, descending=True).values.cumsum(dim=-1)
    total = running[..., -1:]
    # Sums of the same numbers in another order differ in their last digits.
    short = running < share * total * (1.0 - 1e-12)
    return (short.sum(dim=-1) + 1).masked_fill(total.squeeze(-1) == 0.0, 0)


def dependence(layer: nn.Module, x: Tensor, means: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Orders of a layer's connections, (J, K) each, and how many inputs its neurons depend on.

    Args:
        layer: a linear layer or a dense mixture layer.
        x: training examples, (N, K).
        means: means of the inputs over all training examples, (K,).

    Returns:
        orders: by ``"variance"`` of the change and by ``"weight"`` (its size, if it is linear); for mixtures
            also by mean ``"responsibility"`` and by ``"largest responsibility"``.
        numbers: means over the neurons. ``effective`` is the effective number of inputs by variance, beside
            its extremes; ``ninety`` how many inputs hold nine tenths of the variances' sum; ``pixels`` the
            effective number of the inputs' own variances, which a linear neuron of equal weights has. For
            mixtures also the effective number of the mean responsibilities (``responsibility``), that of a
            single example's, on average (``responsibility_by_example``), and the responsibility of inputs
            that never change in these examples (``constant``).
    """
    variance = change_variances(layer, x, means)
    effective = effective_number(variance)
    numbers = {
        "effective": effective.mean().item(),
        "effective_smallest": effective.min().item(),
        "effective_largest": effective.max().item(),
        "ninety": inputs_holding(variance, 0.9).double().mean().item(),
        "pixels": effective_number(x.double().var(dim=0)).item(),
    }
    if isinstance(layer, nn.Linear):
        return {"variance": variance, "weight": layer.weight.detach().abs()}, numbers
    more_orders, more_numbers = _of_responsibilities(layer, x)
    return {"variance": variance, "weight": layer.mix_weight.detach()} | more_orders, numbers | more_numbers


def _of_responsibilities(layer: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Orders and numbers of a mixture layer that rest on its responsibilities, as in :func:`dependence`."""
    (found,) = statistics(layer, x)
    constant = (x == x[0]).all(dim=0)
    numbers = {
        "responsibility": effective_number(found.mean).mean().item(),
        "responsibility_by_example": found.effective.mean().item(),
        "constant": found.mean[:, constant].sum(dim=1).mean().item(),
    }
    return {"responsibility": found.mean, "largest responsibility": found.largest}, numbers
