"""The networks of the study of certificates: how they are built, trained, certified and attacked."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ugmm_tutorial import MLP, UGMMLayer
from ugmm_tutorial.robustness import attacks, behind, certified_loss, certify
from ugmm_tutorial.robustness.layer import Box
from ugmm_tutorial.robustness.steps import ROUNDING, dot

__all__ = [
    "BOX",
    "Clamp",
    "attacked",
    "build",
    "certified",
    "interval_loss",
    "levels",
    "right",
    "train",
]

BOX = (0.0, 1.0)


class Clamp(nn.Module):
    """Pixels moved into [0, 1]. A changed pixel is then one within [0, 1], whatever its value."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(*BOX)


def build(kind: str, widths: Sequence[int], seed: int) -> nn.Sequential:
    """A network of ``widths``.

    ``"mixtures"``: a UGMMLayer, a LayerNorm without parameters, and linear layers without biases.
    ``"clipped"``: an MLP on clipped pixels.
    """
    torch.manual_seed(seed)
    if kind == "clipped":
        return nn.Sequential(Clamp(), *MLP(widths))
    behind_it: list[nn.Module] = []
    for k, j in itertools.pairwise(widths[1:]):
        behind_it += [nn.Linear(k, j, bias=False), nn.ReLU()]
    first = UGMMLayer(widths[0], widths[1])
    return nn.Sequential(first, nn.LayerNorm(widths[1], elementwise_affine=False), *behind_it[:-1])


# --- training ---------------------------------------------------------------------------------------


def train(network: nn.Sequential, x: Tensor, y: Tensor, setting: dict, how: dict, seed: int) -> None:
    """Adam and a cosine on cross-entropy plus ``setting["weight"]`` times the bound of some rows of a batch.

    Args:
        network: from :func:`build`. It is left in evaluation mode.
        x, y: rows and classes.
        setting: ``learning_rate``, ``weight``, and how many inputs are ``changed`` in the bound.
        how: ``batch``, of which ``bounded`` rows get the bound, and ``epochs``: without the bound, with it.
        seed: of the order of the rows.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=setting["learning_rate"])
    before, after = how["epochs"]
    steps = (before + after) * -(-len(x) // how["batch"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(seed)
    network.train()
    for epoch in range(before + after):
        for rows in torch.randperm(len(x), generator=draw).split(how["batch"]):
            loss = F.cross_entropy(network(x[rows]), y[rows])
            if epoch >= before and setting["weight"]:
                few = rows[: how["bounded"]]
                bound = _bounded_loss(network)
                loss = loss + setting["weight"] * bound(network, x[few], y[few], changed=setting["changed"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def _bounded_loss(network: nn.Sequential) -> Callable[..., Tensor]:
    if isinstance(network[0], Clamp):
        return interval_loss
    return lambda *arguments, changed: certified_loss(*arguments, changed=changed, box=BOX)


def interval_loss(network: nn.Sequential, x: Tensor, y: Tensor, *, changed: int) -> Tensor:
    """Cross-entropy of an MLP on clipped pixels if the worst happens to ``changed`` of them, or more.

    The first layer's ends are exact for each neuron. They go through the other layers as intervals.

    Source: Gowal et al. (2018), *On the Effectiveness of Interval Bound Propagation for Training Verifiably
    Robust Models*.
    """
    _, first, *others = network
    x = x.clamp(*BOX)
    out, moved = first(x), first.weight * x.unsqueeze(1)
    up, down = (
        change.topk(changed, dim=-1).values.sum(dim=-1)
        for change in (first.weight.clamp(min=0.0) - moved, (-first.weight).clamp(min=0.0) + moved)
    )
    low, high = out - down, out + up
    linears = others[1::2]
    for linear in linears[:-1]:
        low, high = _between(linear.weight, linear.bias, low.clamp(min=0.0), high.clamp(min=0.0))
    ahead = _ahead(y, linears[-1].out_features).to(x)
    leads, _ = _between(
        ahead @ linears[-1].weight, ahead @ linears[-1].bias, low.clamp(min=0.0), high.clamp(min=0.0)
    )
    return torch.logsumexp(-leads, dim=1).mean()


def _between(weight: Tensor, bias: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of ``weight``, (m, n) or (B, m, n), times numbers between ``low`` and ``high``, (B, n)."""
    middle = (weight @ (0.5 * (low + high)).unsqueeze(-1)).squeeze(-1) + bias
    half = (weight.abs() @ (0.5 * (high - low)).unsqueeze(-1)).squeeze(-1)
    return middle - half, middle + half


def _ahead(y: Tensor, classes: int) -> Tensor:
    """Rows that give the class's score minus that of each class, itself too: (B, C, C)."""
    every = torch.eye(classes)
    return every[y].unsqueeze(1) - every


# --- certificates -----------------------------------------------------------------------------------


@torch.no_grad()
def right(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The accuracy."""
    return torch.cat([network(part).argmax(dim=1) for part in x.split(500)]).eq(y).double().mean().item()


def certified(network: nn.Sequential, x: Tensor, y: Tensor, *, changed: int, box: Box | None) -> Tensor:
    """Whether the answer is right and stays so whatever ``changed`` inputs are, (B,).

    Clipped pixels make of the whole line a box, so for the MLP ``box`` makes no difference.
    """
    if isinstance(network[0], Clamp):
        return _certified_clipped(network, x, y, changed)
    return certify(network, x, y, changed=changed, box=box).certified


@torch.no_grad()
def _certified_clipped(network: nn.Sequential, x: Tensor, y: Tensor, changed: int) -> Tensor:
    """The same kind of proof as for mixtures: linear bounds, one adversary for all neurons, in float64."""
    _, first, *others = copy.deepcopy(network).double()
    x, steps = x.double().clamp(*BOX), behind.steps_of(others)
    out = first(x)
    size = (first.weight.abs().sum(dim=1) + first.bias.abs()).expand_as(out)

    def at_once(weight: Tensor, constant: Tensor) -> Tensor:
        """Lower bounds (B, P) of ``weight`` times the first layer's outputs, plus ``constant``."""
        slope = weight @ first.weight
        harm = (-slope).clamp(min=0.0) + slope * x.unsqueeze(1)  # what each pixel can take away
        most = harm.topk(changed, dim=-1).values.sum(dim=-1)
        return constant + dot(weight, out) - most - ROUNDING * (constant.abs() + dot(weight.abs(), size))

    every = torch.eye(out.shape[1], dtype=torch.float64).expand(len(x), -1, -1)
    none = torch.zeros_like(out)
    low, high = at_once(every, none), -at_once(-every, none)
    ahead = _ahead(y, others[-1].out_features).double()
    function = behind.backward(steps, behind.ends(steps, low, high, at_once), ahead)
    leads = torch.maximum(at_once(*function), behind.concrete(*function, low, high))
    return leads.scatter(1, y.unsqueeze(1), torch.inf).amin(dim=1) > 0.0


def levels(proven: Callable[[Tensor, int], Tensor], rows: int, counts: Sequence[int]) -> Tensor:
    """For each row, how many of the ascending ``counts`` are proven; found by bisection.

    What is proven of many changed inputs is proven of fewer. Where a proof fails, larger counts are not
    tried, so a share can only be too low.

    Args:
        proven: from indices of rows, (n,), and a count to whether it is proven, (n,).
        rows: how many rows.
        counts: how many inputs change, ascending.
    """
    low, high = torch.zeros(rows, dtype=torch.long), torch.full((rows,), len(counts))
    while (low < high).any():
        middle = (low + high + 1) // 2
        for place in middle[low < high].unique().tolist():
            index = ((low < high) & (middle == place)).nonzero().squeeze(1)
            holds = proven(index, counts[place - 1])
            low[index[holds]], high[index[~holds]] = place, place - 1
    return low


def attacked(
    network: nn.Sequential, x: Tensor, y: Tensor, changed: int, box: Box, how: dict, seed: int
) -> list[int]:
    """Attacks with ``changed`` inputs: how many were made, and how many turned an answer, judged in float64.

    Each row is attacked at random and along gradients, the first ``how["greedy"]`` of them greedily too.
    """
    few, (tries, steps) = how["greedy"], (how["tries"], how["steps"])
    found = [
        attacks.random_attack(network, x, y, changed=changed, box=box, tries=tries, seed=seed),
        attacks.gradient_attack(
            network, x, y, changed=changed, box=box, steps=steps, restarts=1, seed=seed
        ).detach(),
        attacks.greedy_attack(network, x[:few], y[:few], changed=changed, box=box, values=3),
    ]
    network, rows = copy.deepcopy(network).double(), torch.cat(found).double()
    classes = torch.cat([y, y, y[:few]])
    with torch.no_grad():
        leads = [
            attacks.lead(network, *part) for part in zip(rows.split(500), classes.split(500), strict=True)
        ]
    return [len(rows), int((torch.cat(leads) <= 0.0).sum())]
