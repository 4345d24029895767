"""Branch and bound: halve the boxes that may still hold a better point, until none is left.

Every round takes the boxes with the largest bounds, halves each and bounds the halves, all at once. A box
whose bound does not exceed the best value found by more than the tolerance is closed. Besides the interval
bound, the search uses these improvements:

- ``"mean-value"``: f(x) <= f(c) + max_g g (x - c) over the enclosed gradients g, with the point c of the box
  that makes this smallest. Its error falls with the square of the box's size, the interval bound's only with
  the size itself.
- ``"monotone"``: an input along which the gradient has one sign is fixed at the end where the output is
  larger.
- ``"newton"``: Newton's method improves the end points of a gradient ascent before the search starts from
  the best of them.
- ``"smear"``: a box is halved along the input with the largest width times slope instead of the widest one.

Near the maximum many boxes of one size are equally promising (the cluster effect). This makes a small
tolerance expensive, and the mean-value bound worth the cost of its gradients.

Sources: Moore, Kearfott and Cloud (2009), *Introduction to Interval Analysis*; Baumann (1988), *Optimal
centered forms*; Du and Kearfott (1994), *The cluster problem in multivariate global optimization*. Taught in
chapter 11.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from ugmm_tutorial.inference.ascent import root_bound
from ugmm_tutorial.inference.bounds import LayerBounds, output_bounds
from ugmm_tutorial.inference.box_queue import Boxes, BoxQueue
from ugmm_tutorial.inference.derivatives import gradient_bounds
from ugmm_tutorial.inference.problem import Problem
from ugmm_tutorial.inference.result import Answer, Budget

__all__ = ["IMPROVEMENTS", "search"]

#: Improvements that can be switched off, to see what each is worth.
IMPROVEMENTS = ("mean-value", "monotone", "smear", "newton")
# Largest size of a layer's (J, K, boxes) arrays, small enough for a processor's cache.
_AT_ONCE = 1 << 18
_FEWEST = 16


def search(
    problem: Problem,
    start: Answer,
    budget: Budget,
    *,
    tolerance: float,
    improvements: Collection[str] = IMPROVEMENTS,
    max_open: int = 2_000_000,
    boxes_at_once: int | None = None,
) -> Answer:
    """The maximum up to ``tolerance``, or the best certified answer when the budget is spent.

    ``start`` is any point with its value. With more than ``max_open`` open boxes, the search takes those
    nearest to being closed first, so that memory stays bounded; the bound then falls only when they are done.
    At most ``boxes_at_once`` boxes are halved together: 1 is strict best-first search, None takes as many as
    fit into a cache.
    """
    run = _Search(problem, start, tolerance, improvements, boxes_at_once)
    pool = BoxQueue(problem.size)
    ends = problem.low.unsqueeze(1), problem.high.unsqueeze(1)
    bound = torch.tensor([root_bound(problem)], dtype=torch.float64)
    root = Boxes(*ends, bound, run.axis(*ends, ends[1] - ends[0]))
    pool.add(run.still_open(root))
    while len(pool) and not budget.spent(run.nodes + 1):
        crowded = len(pool) > max_open
        count = int(min(run.most, max(_FEWEST, len(pool) // 4), budget.remaining(run.nodes) / 2))
        before = run.value
        pool.add(run.examined(*run.halves(pool.pop(count, best=not crowded))))
        if run.value > before:
            run.closed = max(run.closed, pool.discard_below(run.threshold))
    return Answer(run.x, run.value, max(run.closed, run.value, pool.bound), run.nodes)


class _Search:
    """The best point so far, the largest bound among the boxes that were closed, and the work done."""

    def __init__(
        self,
        problem: Problem,
        start: Answer,
        tolerance: float,
        improvements: Collection[str],
        boxes_at_once: int | None,
    ) -> None:
        self.problem, self.tolerance, self.improvements = problem, tolerance, set(improvements)
        self.x, self.value = start.x, start.value
        self.closed = -math.inf
        self.nodes = 0
        terms = max(layer.mean.shape[0] * layer.mean.shape[1] for layer in problem.layers)
        self.most = boxes_at_once or max(_FEWEST, _AT_ONCE // (2 * terms))

    @property
    def threshold(self) -> float:
        """Boxes with a larger bound stay open. The factor leaves room for rounding of the value itself."""
        return self.value + 0.999 * self.tolerance

    def still_open(self, boxes: Boxes) -> Boxes:
        """The boxes that can be halved and may hold a better point; ``closed`` records the other bounds."""
        keep = (boxes.bound > self.threshold) & (boxes.axis >= 0)
        if not bool(keep.all()):
            self.closed = max(self.closed, float(boxes.bound[~keep].max()))
            boxes = boxes.take(keep.nonzero()[:, 0])
        return boxes

    def halves(self, boxes: Boxes) -> tuple[Tensor, Tensor, Tensor]:
        """Both halves of every box, cut along its axis, each with the bound of the whole box.

        Each discrete value goes to the half in which it lies.
        """
        every = torch.arange(len(boxes.axis))
        a, b = boxes.low[boxes.axis, every], boxes.high[boxes.axis, every]
        end, begin = self._cut(boxes.axis, a, b)
        low, high = boxes.low.clone(), boxes.high.clone()
        high[boxes.axis, every] = end
        low[boxes.axis, every] = begin
        self.nodes += 2 * len(every)
        low, high = torch.cat([boxes.low, low], dim=1), torch.cat([high, boxes.high], dim=1)
        return low, high, boxes.bound.repeat(2)

    def _cut(self, axis: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Where the lower half ends and the upper one begins."""
        end = a + 0.5 * (b - a)
        begin = end.clone()
        for i, values in self.problem.allowed.items():
            cut = torch.searchsorted(values, end, right=True)  # the first value of the upper half
            cut = torch.minimum(cut, torch.searchsorted(values, b))
            end = torch.where(axis == i, values[(cut - 1).clamp(min=0)], end)
            begin = torch.where(axis == i, values[cut.clamp(max=len(values) - 1)], begin)
        return end, begin

    def examined(self, low: Tensor, high: Tensor, inherited: Tensor) -> Boxes:
        """Bound the boxes, look for better points in them, and return those that stay open.

        ``inherited`` bounds still hold: the mean-value bound of a half may be larger than that of the whole.
        """
        layers = output_bounds(self.problem.layers, self.problem.inputs(low), self.problem.inputs(high))
        bound = torch.minimum(layers[-1].out_high[0], inherited)
        unknown = torch.zeros(low.shape[1], dtype=torch.long)
        boxes = self.still_open(Boxes(low, high, bound, unknown))
        if len(boxes.bound) == 0:
            return boxes
        if len(boxes.bound) < low.shape[1]:
            kept = (bound > self.threshold).nonzero()[:, 0]
            layers = [layer.take(kept) for layer in layers]
        return self._refined(boxes, layers)

    def _refined(self, boxes: Boxes, layers: list[LayerBounds]) -> Boxes:
        low, high, bound, smear = boxes.low, boxes.high, boxes.bound, boxes.high - boxes.low
        slope = None
        if self.improvements & {"mean-value", "monotone", "smear"}:
            least, most = gradient_bounds(self.problem.layers, layers)
            slope = least[: self.problem.size], most[: self.problem.size]
        bound = torch.minimum(bound, self._looked_at(low, high, slope))
        if slope is not None and "monotone" in self.improvements:
            high = torch.where(slope[1] <= 0.0, low, high)
            low = torch.where(slope[0] >= 0.0, high, low)
        if slope is not None and "smear" in self.improvements:
            steepest = torch.maximum(slope[0].abs(), slope[1].abs()).clamp(max=1e300)
            smear = steepest * (high - low)
        axis = self.axis(low, high, smear)
        return self.still_open(Boxes(low, high, self._of_the_smallest(low, high, bound, axis), axis))

    def _of_the_smallest(self, low: Tensor, high: Tensor, bound: Tensor, axis: Tensor) -> Tensor:
        """The bounds, recomputed for boxes that became single points when their inputs were fixed."""
        done = (axis < 0).nonzero()[:, 0]
        if len(done) == 0:
            return bound
        low, high = low[:, done], high[:, done]
        self._keep_best(low)
        ends = self.problem.inputs(low), self.problem.inputs(high)
        anew = output_bounds(self.problem.layers, *ends)[-1].out_high[0]
        return bound.index_copy(0, done, torch.minimum(bound[done], anew))

    def _keep_best(self, x: Tensor) -> Tensor:
        """Evaluate points, keep the best of them, and return upper bounds of their values."""
        there = self.problem.inputs(x)
        value = output_bounds(self.problem.layers, there, there)[-1]
        best = int(value.out_low[0].argmax())
        if float(value.out_low[0, best]) > self.value:
            self.x, self.value = x[:, best].clone(), float(value.out_low[0, best])
        return value.out_high[0]

    def _looked_at(self, low: Tensor, high: Tensor, slope: tuple[Tensor, Tensor] | None) -> Tensor:
        """Evaluate one point of each box, keep the best, and return the mean-value bounds (or inf)."""
        if slope is None or "mean-value" not in self.improvements:
            x, slope = self.problem.snapped(low + 0.5 * (high - low)), None
        else:
            x = self._center(low, high, *slope)
        value = self._keep_best(x)
        if slope is None:
            return torch.full_like(value, math.inf)
        rise = (
            torch.maximum(slope[1] * (high - x), slope[0] * (low - x))
            .clamp_(min=0.0)
            .nan_to_num(nan=math.inf)
        )
        # Rounding changes a sum of n products by far less than 2**-40 of its value.
        return value + rise.sum(dim=0) * (1.0 + 2.0**-40)

    def _center(self, low: Tensor, high: Tensor, least: Tensor, most: Tensor) -> Tensor:
        """Baumann's centre: from there the output can rise as much towards one end as towards the other."""
        up, down = most.clamp(min=0.0), (-least).clamp(min=0.0)
        share = (up / (up + down)).nan_to_num(nan=0.5)
        x = torch.minimum(torch.maximum(low + share * (high - low), low), high)
        return self.problem.snapped(x)

    def axis(self, low: Tensor, high: Tensor, smear: Tensor) -> Tensor:
        """Where to halve: along the largest smear among inputs with a number between their ends; else -1."""
        middle = low + 0.5 * (high - low)
        divisible = (low < middle) & (middle < high)
        for i in self.problem.allowed:
            divisible[i] = low[i] < high[i]
        largest, axis = smear.masked_fill(~divisible, -1.0).max(dim=0)
        return axis.masked_fill(largest < 0.0, -1)
