"""Proofs that an answer stays the same whatever happens to any m inputs.

Taught in the chapter *When inputs break*.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ugmm_tutorial.arrays import whole_numbers
from ugmm_tutorial.kernels.arguments import integer, labels, module
from ugmm_tutorial.layers import UGMMLayer
from ugmm_tutorial.robustness import behind
from ugmm_tutorial.robustness.layer import (
    Box,
    Terms,
    arguments,
    in_parts,
    worst_case_bounds,
)
from ugmm_tutorial.robustness.shared import Cells, worst_case_sum
from ugmm_tutorial.robustness.steps import ROUNDING, Affine, Normalised, Step, dot, without_division

__all__ = ["Certificate", "certify"]

# Where the logarithm is touched from above: at the clean sum, and farther on the way to the greatest sum.
_TANGENTS = (0.0, 0.1, 0.4)
# Cells of every input, for the lead and for what hidden units get.
_CELLS = (12, 4)
# A margin below this proves nothing: products that underflow may have been lost.
_LEAST = 1e-200


@dataclass(frozen=True)
class Certificate:
    """What is proven of B examples.

    Attributes:
        margin: lower bounds, (B,), on the score of the class minus that of every other class, whatever the
            changed inputs are. Positive: no change can turn the answer to another class.
        clean: the same at the inputs as they are, (B,), in float64.
        changed: how many inputs may change.
    """

    margin: Tensor
    clean: Tensor
    changed: int

    @property
    def certified(self) -> Tensor:
        """Whether the answer is right and proven to stay so, (B,)."""
        return self.margin > 0.0

    @property
    def right(self) -> Tensor:
        """Whether the answer is right at the inputs as they are, (B,)."""
        return self.clean > 0.0


@torch.no_grad()
def certify(
    network: nn.Module, x: Tensor, y: Tensor | None = None, *, changed: int, box: Box | None = None
) -> Certificate:
    """Prove, where possible, that no change of any ``changed`` inputs alters the network's answers.

    The proof needs one pass and no randomness. It holds for the network's parameters as real numbers: bounds
    are computed in float64 and moved outward. Where there is none, a harmful change may or may not exist. A
    changed input may also keep its own value, where that is outside of the box.

    Args:
        network: a stack whose first module is a :class:`~ugmm_tutorial.UGMMLayer`, and behind it more of
            them, ``nn.Linear``, ``nn.ReLU``, ``nn.LayerNorm`` or ``nn.BatchNorm1d``. It is taken in
            evaluation mode: without dropout, and with running statistics.
        x: inputs, (B, K), finite.
        y: their classes, (B,); by default the network's own answers.
        changed: m, how many inputs may change, any m of them, 0 to K.
        box: the least and the greatest value of a changed input; None stands for the whole line.

    Raises:
        TypeError: the network has another first module, a module whose bounds are not known, or forward
            hooks.
        ValueError: shapes do not fit, there is only one class, an input is not finite, ``changed`` is out of
            range, or the box is empty.

    >>> from ugmm_tutorial import UGMMNet
    >>> found = certify(UGMMNet([6, 8, 3]), torch.rand(5, 6), changed=0)
    >>> found.certified.all(), torch.allclose(found.margin, found.clean)
    (tensor(True), True)
    """
    first, steps = _parts(module("network", network))
    steps, divided = without_division(steps)
    layer, rows, box_ends = arguments(first, x, box)
    changed = integer("changed", changed, 0, rows.shape[1])
    y, clean = _leads_now(network, x, y)
    cells, coarse = (Cells.of(layer, box_ends, count) for count in _CELLS)
    found = []
    for index in in_parts(layer, torch.arange(len(rows))):
        low, high = worst_case_bounds(first, rows[index], changed, box=box)
        terms = Terms.of(layer, rows[index], box_ends)
        found.append(_Problem(steps, divided, cells, coarse, terms, low, high, y[index], changed).margin())
    margin = torch.minimum(torch.cat(found), clean).nan_to_num(-math.inf, neginf=-math.inf)
    return Certificate(margin, clean, changed)


@dataclass(frozen=True)
class _Problem:
    """B examples, the ends (B, J) of the first layer's outputs, and what follows it."""

    steps: Sequence[Step]
    divided: tuple[int, Normalised] | None  # a LayerNorm whose division was left out, and its place
    cells: Cells
    coarse_cells: Cells  # for ends of what hidden units get, of which there are many
    terms: Terms
    low: Tensor
    high: Tensor
    classes: Tensor
    changed: int

    def margin(self) -> Tensor:
        """Lower bounds (B,) of the margin under all changes."""
        at_once = self._at_once if self.changed else None
        weight, constant, scale = self._linear(behind.ends(self.steps, self.low, self.high, at_once))
        best = behind.concrete(weight, constant, self.low, self.high)
        unchanged = constant + dot(weight, torch.logsumexp(self.terms.clean, dim=-1))
        attempts = [(self.coarse_cells, _TANGENTS[0]), *((self.cells, tangent) for tangent in _TANGENTS)]
        for cells, tangent in attempts:  # from quick to careful
            left = (best.amin(dim=1) <= 0.0) & (unchanged.amin(dim=1) > 0.0)
            if not left.any() or self.changed == 0:
                break
            found = self._worst(cells, weight[left], constant[left], tangent, left)
            best[left] = torch.maximum(best[left], found)
        best = torch.where(best > 0.0, best / scale[1], best / scale[0])
        least = best.nan_to_num(-math.inf, posinf=-math.inf, neginf=-math.inf).amin(dim=1)
        return torch.where(least.abs() < _LEAST, -_LEAST, least)

    def _at_once(self, weight: Tensor, constant: Tensor) -> Tensor:
        every = torch.ones(len(weight), dtype=torch.bool)
        return self._worst(self.coarse_cells, weight, constant, _TANGENTS[0], every)

    def _worst(self, cells: Cells, weight: Tensor, constant: Tensor, tangent: float, rows: Tensor) -> Tensor:
        """Lower bounds (b, P) of linear functions of some examples' outputs, with one adversary for all."""
        low, high, terms = self.low[rows], self.high[rows], self.terms.take(rows)
        unchanged = constant + dot(weight, torch.logsumexp(terms.clean, dim=-1))
        slack = ROUNDING * (constant.abs() + dot(weight.abs(), 1.0 + torch.maximum(low.abs(), high.abs())))
        moved = worst_case_sum(cells, terms, low, high, weight, self.changed, tangent)
        bounded = low.isfinite().all(dim=1, keepdim=True)
        return torch.where(bounded, unchanged - slack + moved, -math.inf).nan_to_num(
            nan=-math.inf, neginf=-math.inf
        )

    def _linear(self, ends: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Weights (B, C - 1, J) and constants of linear lower bounds of the class's lead over the others.

        The lead is divided by a positive number between the two last values, (B, 1) each. This is how a
        LayerNorm acts before the last linear module, or before modules that a positive number passes
        through: its division cannot change who leads.
        """
        steps = self.steps
        outputs = steps[-1].outer(*ends[-1])[0].shape[1] if steps else self.low.shape[1]
        weight = _leads(self.classes, outputs)
        if self.divided is not None:
            place, left_out = self.divided
            return *behind.backward(steps, ends, weight), left_out.scale(*ends[place])
        one = torch.ones(len(weight), 1, dtype=weight.dtype)
        if len(steps) < 2 or not (isinstance(steps[-1], Affine) and isinstance(steps[-2], Normalised)):
            return *behind.backward(steps, ends, weight), (one, one)
        norm = steps[-2]
        weight, constant = steps[-1].lower(weight, *ends[-1])
        constant = constant + weight @ norm.shift
        least, most = norm.scale(*ends[-2])
        weight = weight * norm.gain
        weight = weight - weight.mean(dim=2, keepdim=True)
        constant = torch.where(constant > 0.0, constant * least, constant * most)
        weight, more = behind.backward(steps[:-2], ends[:-2], weight)
        return weight, constant + more, (least, most)


def _leads(classes: Tensor, count: int) -> Tensor:
    """For each example, the rows that give its class's score minus each other class's, (B, C - 1, C)."""
    every = torch.eye(count, dtype=torch.float64)
    others = torch.stack([torch.cat([every[:c], every[c + 1 :]]) for c in range(count)])
    return every[classes].unsqueeze(1) - others[classes]


def _parts(network: nn.Module) -> tuple[UGMMLayer, list[Step]]:
    """The first layer and the steps behind it."""
    modules = behind.flat(network)
    if not modules or not isinstance(modules[0], UGMMLayer) or type(modules[0]) not in behind.MIXTURES:
        first = type(modules[0]).__name__ if modules else "nothing"
        raise TypeError(
            f"expected network to be a stack whose first module is a UGMMLayer, got {first}: without it a "
            "single input can move an output without limit"
        )
    behind.plain(modules[0])
    return modules[0], behind.steps_of(modules[1:])


def _leads_now(network: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """The classes (B,), checked, or the network's answers; and their lead over the others at ``x``."""
    network = copy.deepcopy(network).to("cpu", torch.float64).eval()
    scores = network(x.detach().to("cpu", torch.float64))
    if x.dim() != 2 or scores.shape[-1] < 2:
        raise ValueError(
            f"expected x of shape (B, K) and two outputs or more, got {tuple(x.shape)} and {scores.shape[-1]}"
        )
    count = scores.shape[1]
    y = scores.argmax(dim=1) if y is None else y
    y = y if isinstance(y, Tensor) else torch.from_numpy(whole_numbers("y", y))
    y = labels("y", y, len(x), count).cpu()
    return y, (_leads(y, count) @ scores.unsqueeze(-1)).squeeze(-1).amin(dim=1)
