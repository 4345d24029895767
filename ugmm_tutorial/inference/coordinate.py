"""Coordinate ascent with an exact step: one input at a time moves to its best value. Taught in chapter 11."""

from __future__ import annotations

from ugmm_tutorial.inference.ascent import best_of, root_bound
from ugmm_tutorial.inference.branch_and_bound import search
from ugmm_tutorial.inference.problem import Problem
from ugmm_tutorial.inference.result import Answer, Budget

__all__ = ["coordinate_ascent"]


def coordinate_ascent(
    problem: Problem, budget: Budget, *, starts: int, seed: int, tolerance: float, sweeps: int = 20
) -> Answer:
    """Maximise over one input after the other until no input gains more than ``tolerance`` in a sweep.

    With all inputs but x_i fixed, a first-layer neuron is log(A_j + w_ji N(x_i)). The problem then has one
    dimension, but the layers above may give it many local maxima. A branch and bound in this one dimension
    solves it globally, up to a hundredth of the tolerance. The result is optimal along every single axis, but
    it need not be a local maximum, let alone a global one. Its bound is the interval bound of the whole box.

    The start is the best of ``starts`` random points. The ascent ends after ``sweeps`` sweeps at the latest,
    because it makes little progress along a narrow oblique ridge.
    """
    x, value = best_of(problem, problem.sample(starts, seed))
    nodes = starts
    for _ in range(sweeps):
        before = value
        for i in range(problem.size):
            if budget.spent(nodes):
                break
            start = Answer(x[i : i + 1], value, value, 0)
            left = Budget(
                budget.time_left, None if budget.node_limit is None else int(budget.remaining(nodes))
            )
            found = search(problem.along(i, x), start, left, tolerance=0.01 * tolerance)
            nodes += found.nodes
            if found.value > value:
                x = x.clone()
                x[i] = found.x[0]
                # The whole problem rounds this point's value differently.
                value = max(value, best_of(problem, x.unsqueeze(1))[1])
        if budget.spent(nodes) or value - before <= tolerance:
            break
    return Answer(x, value, root_bound(problem), nodes)
