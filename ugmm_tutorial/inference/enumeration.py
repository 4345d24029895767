"""Discrete queries: evaluate every combination of the allowed values. Taught in chapter 11."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.inference.ascent import best_of, root_bound
from ugmm_tutorial.inference.bounds import output_bounds
from ugmm_tutorial.inference.problem import Problem
from ugmm_tutorial.inference.result import Answer, Budget

__all__ = ["enumerate_all"]

_AT_ONCE = 1 << 13


def enumerate_all(problem: Problem, budget: Budget) -> Answer:
    """The best of all combinations: exact, up to the rounding that the bound includes.

    If the budget runs out first, the bound is the interval bound of the whole box, which covers the rest.

    Raises:
        ValueError: a query input is not discrete.
    """
    continuous = [i for i in range(problem.size) if i not in problem.allowed]
    if continuous:
        raise ValueError(
            f"expected every query input to be discrete for method='enumerate', but positions {continuous} "
            "of the query are continuous: give their values in discrete, or use method='branch_and_bound'"
        )
    values = [problem.allowed[i] for i in range(problem.size)]
    total = math.prod(len(v) for v in values)
    x, value, bound, nodes = problem.low, -math.inf, -math.inf, 0
    while nodes < total and not (nodes and budget.spent(nodes)):
        count = int(min(_AT_ONCE, total - nodes, max(1, budget.remaining(nodes))))
        points = _combinations(values, nodes, count)
        there = problem.inputs(points)
        bound = max(bound, float(output_bounds(problem.layers, there, there)[-1].out_high.max()))
        found, reached = best_of(problem, points)
        if reached > value:
            x, value = found, reached
        nodes += count
    return Answer(x, value, bound if nodes == total else max(bound, root_bound(problem)), nodes)


def _combinations(values: list[Tensor], first: int, count: int) -> Tensor:
    """``count`` combinations from number ``first`` on, (n, count); the last value changes fastest."""
    number = torch.arange(first, first + count)
    rows = []
    for v in reversed(values):
        rows.append(v[number % len(v)])
        number = number // len(v)
    return torch.stack(rows[::-1])
