"""Newton's method from many points at once, to finish what gradient ascent leaves undone on narrow ridges.

Let r be the responsibilities, tau_jk = -(z_k - mean_jk) / std_jk**2 the slope of a term and a_jk = 1 /
std_jk**2. A neuron has the gradient v_jk = r_jk tau_jk and the Hessian diag(r (tau**2 - a)) - v v'. In the
chain rule for second derivatives, v_j times the Jacobian of its inputs is row j of the next layer's Jacobian,
so that

    H = sum_z (d_z - adjoint_z) grad z grad z',   d_k = sum_j adjoint_j r_jk (tau_jk**2 - a_jk)

where z runs over the inputs, the hidden units and the output. adjoint_z is the output's derivative with
respect to unit z (0 for an input); d_z is 0 for the output. None of it needs to be exact: no bound uses it.

Source: Nocedal and Wright (2006), *Numerical Optimization*, chapters 3 and 4. Taught in chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ugmm_tutorial.inference.ascent import best_of
from ugmm_tutorial.inference.network import Layer, evaluate
from ugmm_tutorial.inference.problem import Problem
from ugmm_tutorial.inference.result import Answer, Budget

__all__ = ["polish", "second_order"]

_FIRST_DAMPING = 1e-3
_AFTER_GAIN, _AFTER_LOSS = 0.2, 4.0


def polish(problem: Problem, x: Tensor, budget: Budget, *, steps: int) -> Answer:
    """Take damped Newton steps from points (n, B), projected into the box, and return the best end point.

    Steps are measured in units of the box's sides. In directions where the output is not concave, a step goes
    uphill as far as it would if the curvature had the opposite sign. An input at an end of the box stays
    there if its gradient points out of the box.
    """
    width = (problem.high - problem.low).unsqueeze(1)
    width[list(problem.allowed)] = 0.0
    damping = torch.full((x.shape[1], 1), _FIRST_DAMPING, dtype=torch.float64)
    value, done = evaluate(problem.layers, problem.inputs(x))[0], 0
    while done < steps and not budget.spent():
        _, gradient, hessian = second_order(problem.layers, problem.inputs(x), problem.size)
        gradient = gradient * width
        outward = ((x <= problem.low.unsqueeze(1)) & (gradient < 0)) | (
            (x >= problem.high.unsqueeze(1)) & (gradient > 0)
        )
        free = torch.where(outward, 0.0, width)
        there = problem.clipped(x + _newton_step(gradient * ~outward, hessian, free, damping) * free)
        there_value = evaluate(problem.layers, problem.inputs(there))[0]
        better = there_value > value
        x, value = torch.where(better, there, x), torch.where(better, there_value, value)
        damping = (damping.T * torch.where(better, _AFTER_GAIN, _AFTER_LOSS)).T.clamp(1e-12, 1e12)
        done += 1
    x, sure = best_of(problem, x)
    return Answer(x, sure, float("inf"), 0)


def _newton_step(gradient: Tensor, hessian: Tensor, width: Tensor, damping: Tensor) -> Tensor:
    """The gradient, scaled by ``width``, divided by the absolute value of the scaled Hessian, (n, B)."""
    scaled = (hessian * width.unsqueeze(0) * width.unsqueeze(1)).permute(2, 0, 1)
    usable = scaled.isfinite().all(dim=-1).all(dim=-1)
    curvature, axes = torch.linalg.eigh(torch.where(usable[:, None, None], scaled, 0.0))
    along = (axes.mT @ gradient.nan_to_num().T.unsqueeze(-1)).squeeze(-1)
    return (axes @ (along / (curvature.abs() + damping)).unsqueeze(-1)).squeeze(-1).T


def second_order(layers: Sequence[Layer], x: Tensor, inputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Value (B,), gradient (n, B) and Hessian (n, n, B) in the first ``inputs`` inputs, at points (K, B)."""
    jacobian = torch.eye(len(x), inputs, dtype=torch.float64).unsqueeze(-1).expand(-1, -1, x.shape[1])
    trace = []
    for layer in layers:
        distance = (x.unsqueeze(0) - layer.mean) * layer.inverse_std
        terms = layer.log_peak - 0.5 * distance * distance
        x = torch.logsumexp(terms, dim=1)
        share, slope = torch.exp(terms - x.unsqueeze(1)), -distance * layer.inverse_std
        trace.append((jacobian, share * slope, share * (slope * slope - layer.inverse_std**2)))
        jacobian = torch.einsum("jkb,knb->jnb", share * slope, jacobian)
    gradient = jacobian[0]
    hessian = -gradient.unsqueeze(0) * gradient.unsqueeze(1)
    adjoint = torch.ones_like(x)
    for place, (jacobian, product, bend) in reversed(list(enumerate(trace))):
        factor = (adjoint.unsqueeze(1) * bend).sum(dim=0)
        adjoint = (adjoint.unsqueeze(1) * product).sum(dim=0)
        if place > 0:
            factor = factor - adjoint
        hessian = hessian + torch.einsum("kb,knb,kmb->nmb", factor, jacobian, jacobian)
    return x[0], gradient, hessian
