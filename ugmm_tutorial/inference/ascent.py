"""Gradient ascent from many starts at once, and the exact answer for one layer. Taught in chapter 11."""

from __future__ import annotations

import torch
from torch import Tensor

from ugmm_tutorial.inference.bounds import output_bounds
from ugmm_tutorial.inference.network import evaluate
from ugmm_tutorial.inference.problem import Problem
from ugmm_tutorial.inference.result import Answer, Budget

__all__ = ["ascend", "best_of", "climb", "one_layer_optimum", "root_bound"]

_FIRST_STEP = 0.05  # of the box's diagonal
_AFTER_GAIN, _AFTER_LOSS = 1.5, 0.5


def ascend(problem: Problem, budget: Budget, *, starts: int, steps: int, seed: int) -> Answer:
    """Climb from random points; every climb has its own step, longer after a gain and shorter after a loss.

    A step goes along the gradient in units of the box's sides and is projected into the box. Discrete inputs
    keep the values they started with. The bound is the interval bound of the whole box: climbing does not
    tighten it.
    """
    x, done = climb(problem, budget, starts=starts, steps=steps, seed=seed)
    x, value = best_of(problem, x)
    return Answer(x, value, root_bound(problem), (done + 1) * starts)


def climb(problem: Problem, budget: Budget, *, starts: int, steps: int, seed: int) -> tuple[Tensor, int]:
    """The end points of the climbs, (n, starts), best first, and the number of steps taken."""
    width = (problem.high - problem.low).unsqueeze(1)
    width[list(problem.allowed)] = 0.0
    x = problem.sample(starts, seed)
    value, gradient = _value_and_gradient(problem, x)
    step = torch.full((1, starts), _FIRST_STEP, dtype=torch.float64)
    done = 0
    while done < steps and not budget.spent((done + 1) * starts):
        direction = gradient * width
        direction = direction / direction.norm(dim=0, keepdim=True).clamp(min=1e-300)
        there = problem.clipped(x + step * direction * width)
        there_value, there_gradient = _value_and_gradient(problem, there)
        better = there_value > value
        x, gradient = torch.where(better, there, x), torch.where(better, there_gradient, gradient)
        value = torch.where(better, there_value, value)
        step = step * torch.where(better, _AFTER_GAIN, _AFTER_LOSS)
        done += 1
    return x[:, value.argsort(descending=True)], done


def best_of(problem: Problem, x: Tensor) -> tuple[Tensor, float]:
    """The best of the points (n, B), and a value that the network certainly reaches there, after rounding."""
    there = problem.inputs(x)
    sure = output_bounds(problem.layers, there, there)[-1].out_low[0]
    best = int(sure.argmax())
    return x[:, best].clone(), float(sure[best])


def root_bound(problem: Problem) -> float:
    """The interval bound of the whole box."""
    low, high = (problem.inputs(a.unsqueeze(1)) for a in (problem.low, problem.high))
    return float(output_bounds(problem.layers, low, high)[-1].out_high)


def one_layer_optimum(problem: Problem) -> Answer:
    """The exact maximum of a network with a single layer.

    Each term of the sum reads only one input, so each input has its own best value: the mean of its
    component, or the nearest point of the box (for a discrete input, the nearest allowed value).
    """
    (layer,) = problem.layers
    x = problem.snapped(problem.clipped(layer.mean[0, : problem.size]))
    best, value = best_of(problem, x)
    there = problem.inputs(x)
    return Answer(best, value, float(output_bounds([layer], there, there)[-1].out_high), 1)


def _value_and_gradient(problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = evaluate(problem.layers, problem.inputs(x))[0]
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient.nan_to_num()
