"""Most probable explanation: the inputs that a network scores highest, with a certificate.

The paper leaves this problem open. The score is a network's output, which is not a normalised density
(chapter 1), so "most probable" means "scored highest within the box". Max-product, which replaces every sum
by its largest term, does not solve it: a deeper neuron wants inputs near its means, not large ones.

Taught in chapter 11.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from ugmm_tutorial.inference.ascent import ascend, best_of, climb, one_layer_optimum
from ugmm_tutorial.inference.branch_and_bound import IMPROVEMENTS, search
from ugmm_tutorial.inference.coordinate import coordinate_ascent
from ugmm_tutorial.inference.enumeration import enumerate_all
from ugmm_tutorial.inference.newton import polish
from ugmm_tutorial.inference.problem import Problem, pose
from ugmm_tutorial.inference.result import Answer, Budget, MPEResult
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.training.threads import one_thread

__all__ = ["METHODS", "mpe"]

# Before a branch and bound, Newton's method polishes this many climbs, with this many steps.
_POLISHED, _POLISHING_STEPS = 32, 30
METHODS = ("branch_and_bound", "ascent", "coordinate", "enumerate")


def mpe(
    model: nn.Module,
    evidence: Mapping[int, float],
    query: Sequence[int],
    box: Sequence[tuple[float, float] | None],
    method: str = "branch_and_bound",
    tolerance: float = 1e-6,
    *,
    output: int = 0,
    time_limit: float | None = None,
    node_limit: int | None = None,
    discrete: Mapping[int, Sequence[float]] | None = None,
    seed: int = 0,
    starts: int = 256,
    steps: int = 100,
    improvements: Collection[str] = IMPROVEMENTS,
    boxes_at_once: int | None = None,
) -> MPEResult:
    """Maximise one output of a uGMM network over some of its inputs, given the others.

    Args:
        model: a :class:`~ugmm_tutorial.networks.UGMMNet` without LayerNorm, or one layer. Dropout is off.
        evidence: observed inputs, index to value.
        query: indices of the inputs to maximise over. Every input is either evidence or query.
        box: (low, high) of each query input, in the order of ``query``, in the units of the input; None for
            a discrete one. Without a box the maximum may lie at infinity.
        method: ``"branch_and_bound"`` ends with a gap of at most ``tolerance``; its time is exponential
            in the number of continuous query inputs. ``"ascent"``, gradient ascent from many starts, and
            ``"coordinate"``, exact ascent along one input at a time, are fast but have only the interval
            bound of the whole box. ``"enumerate"`` tries all combinations of discrete inputs and is exact.
        tolerance: largest gap, in nats, > 0. Rounding limits it: 1e-9 is within reach, 1e-13 is not.
        output: which output to maximise.
        time_limit: seconds after which the best point so far is returned, with its bound. The clock is
            checked between steps, so the call may take a little longer.
        node_limit: the same for the number of nodes.
        discrete: allowed values of discrete query inputs, index to list of values.
        seed: of the random starts. PyTorch's global random state is not touched.
        starts: how many random points to begin with.
        steps: of gradient ascent from each start, for ``"ascent"`` and before a branch and bound.
        improvements: of the branch and bound, a subset of
            :data:`~ugmm_tutorial.inference.IMPROVEMENTS`; leave some out to see what each is worth.
        boxes_at_once: the most boxes to halve and bound together. 1 is strict best-first search, with the
            fewest boxes; None takes as many as fit into a processor's cache.

    Returns:
        The best point found, its value, and an upper bound that holds for the whole box.

    Raises:
        TypeError: the model holds other modules than uGMM layers (a LayerNorm couples all inputs), or its
            parameters are neither float32 nor float64.
        ValueError: an input is not in exactly one of evidence and query, a value is not finite, a box is
            empty, or an option is out of its range.

    Note:
        PyTorch runs on one thread during the call, which is fastest for such small arrays.

    Source: the paper's section on future work names the problem; chapter 11 teaches the methods.

    >>> from ugmm_tutorial import UGMMNet
    >>> mpe(UGMMNet([2, 3, 1]), evidence={0: 0.5}, query=[1], box=[(-3.0, 3.0)]).certified
    True
    """
    _check_options(
        method, tolerance, time_limit, node_limit, seed, starts, steps, improvements, boxes_at_once
    )
    budget = Budget(time_limit, node_limit)
    problem = pose(model, evidence, query, box, output, discrete)
    with torch.no_grad(), one_thread():
        if method == "enumerate":
            answer = enumerate_all(problem, budget)
        elif method == "ascent":
            answer = ascend(problem, budget, starts=starts, steps=steps, seed=seed)
        elif method == "coordinate":
            answer = coordinate_ascent(problem, budget, starts=starts, seed=seed, tolerance=tolerance)
        elif len(problem.layers) == 1:
            answer = one_layer_optimum(problem)
        else:
            start = _first_point(problem, time_limit, improvements, starts=starts, steps=steps, seed=seed)
            answer = search(
                problem,
                start,
                budget,
                tolerance=tolerance,
                improvements=improvements,
                boxes_at_once=boxes_at_once,
            )
    point = _full_point(evidence, query, answer.x)
    value = _value(model, point, output)
    bound = max(answer.upper_bound, value)
    return MPEResult(point, value, bound, bound - value <= tolerance, answer.nodes, budget.seconds, method)


def _first_point(
    problem: Problem, time_limit: float | None, improvements: Collection[str], **climbing: int
) -> Answer:
    """The start of a branch and bound, found in at most a fifth of the time."""
    budget = Budget(None if time_limit is None else 0.2 * time_limit)
    x, _ = climb(problem, budget, **climbing)
    if "newton" in improvements:
        return polish(problem, x[:, :_POLISHED], budget, steps=_POLISHING_STEPS)
    return Answer(*best_of(problem, x[:, :1]), math.inf, 0)


def _full_point(evidence: Mapping[int, float], query: Sequence[int], x: Tensor) -> Tensor:
    point = torch.empty(len(evidence) + len(x), dtype=torch.float64)
    for k, value in evidence.items():
        point[k] = float(value)  # an integer may be too large for a tensor
    point[list(query)] = x
    return point


def _value(model: nn.Module, point: Tensor, output: int) -> float:
    """The model's own output, in float64 and without dropout."""
    exact = copy.deepcopy(model).to("cpu", torch.float64).eval()
    with torch.no_grad():
        return float(exact(point.unsqueeze(0))[0, output])


def _check_options(
    method: str,
    tolerance: float,
    time_limit: float | None,
    node_limit: int | None,
    seed: int,
    starts: int,
    steps: int,
    improvements: Collection[str],
    boxes_at_once: int | None,
) -> None:
    check.one_of("method", method, METHODS)
    check.number("tolerance", tolerance, above=0.0)
    if time_limit is not None:
        check.number("time_limit", time_limit, 0.0, math.inf)
    for name, value, low in (("node_limit", node_limit, 0), ("boxes_at_once", boxes_at_once, 1)):
        if value is not None:
            check.integer(name, value, low)
    for name, value, low in (("starts", starts, 1), ("steps", steps, 0)):
        check.integer(name, value, low)
    check.seed(seed)
    if not isinstance(improvements, list | tuple | set | frozenset):
        raise TypeError(
            f"expected improvements as a list, tuple or set of names, got {check.shown(improvements)}"
        )
    unknown = [name for name in improvements if not isinstance(name, str) or name not in IMPROVEMENTS]
    if unknown:
        raise ValueError(f"unknown improvements {unknown}: expected a choice of {', '.join(IMPROVEMENTS)}")
