"""Exercises of chapter 10: an integral over a box, smoothed neurons with missing inputs, and half-moons."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.kernels.reference import HALF_LOG_2PI
from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    as_tensor,
    call,
    close,
    compare,
    draw,
    shown,
)

__all__ = ["EXERCISES", "box_integral", "half_moons", "moon_density", "with_gaps"]


# --- 10.1 --------------------------------------------------------------------------------------------


def box_integral(answer: object) -> str:
    """10.1: the integral of a neuron's exponential over a cube of side 20, for three inputs."""
    mistakes = {
        "A term is constant in both inputs that it does not read, not in one.": 20.0,
        "A term's own input integrates to its mass, one, and not to the side of the box.": 8000.0,
        "The three terms are weighted, and the weights sum to one.": 1200.0,
        "The side of the box is 20, from -10 to 10.": 100.0,
        "That would hold for a density of the vector, which this is not.": 1.0,
    }
    otherwise = "Integrate one term: its own Gaussian over its input, then the box in the other two."
    compare(as_number(answer), 400.0, mistakes, otherwise, rtol=1e-3, atol=0.0)
    return "For K inputs it is the side to the power of K - 1."


# --- 10.2 --------------------------------------------------------------------------------------------


def with_gaps(answer: object) -> str:
    """10.2: log-densities of smoothed neurons when some inputs are missing."""
    function = as_function(answer, "smoothed_log_prob(x, mean, log_std, log_weight, log_background)")
    x, mean, log_std = draw(6, 4, seed=0), draw(3, 4, seed=1), 0.3 * draw(3, 4, seed=2)
    log_weight = draw(3, 4, seed=3).log_softmax(dim=-1)
    missing = torch.tensor(
        [[c == "x" for c in row] for row in ("....", "x...", ".xx.", "...x", "xxx.", "xxxx")]
    )
    log_background = -0.5 * (x / 1.5).square() - math.log(1.5) - HALF_LOG_2PI
    x, log_background = (t.masked_fill(missing, math.nan) for t in (x, log_background))
    arguments = x, mean, log_std, log_weight, log_background
    hints = {
        (6, 3, 4): "Sum over the components, inside the logarithm.",
        (6,): "One log-density for each neuron: neurons are not mixed here.",
        (6, 4): "One log-density for each neuron, not for each input.",
    }
    got = call(function, *(t.clone() for t in arguments))
    right = _with_gaps(*arguments)
    mistakes = _gap_mistakes(arguments, right)
    if isinstance(got, Tensor) and got.shape == (6, 3) and not got[-1].isfinite().all():
        # Dropping or renormalising terms leaves nothing in the last row, where all inputs are missing.
        for hint, wrong in mistakes.items():
            if close(got[:-1], wrong[:-1]):
                raise NotYet(hint)
    if isinstance(got, Tensor) and got.shape == (6, 3) and got.isnan().any():
        raise NotYet("Some are NaN: replace missing values before computing with them, then take them out.")
    got = as_tensor(got, (6, 3), "(B, J)", hints)
    right = _with_gaps(*arguments)
    compare(
        got, right, _gap_mistakes(arguments, right), "Go through one row without gaps, then one with a gap."
    )
    return "Everything missing: log 1 = 0. Marginals of this model cost no more than the joint density."


def _with_gaps(
    x: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    log_background: Tensor,
    *,
    dropped: bool = False,
    own: bool = True,
    base: bool = True,
    ratio: bool = True,
) -> Tensor:
    """The right answer. Changing a flag makes a common mistake."""
    missing = x.isnan()
    z = (x.nan_to_num().unsqueeze(1) - mean) / log_std.exp()
    terms = -0.5 * z.square() - log_std - HALF_LOG_2PI
    b = log_background.masked_fill(missing, 0.0)
    terms = terms - b.unsqueeze(1) if ratio else terms
    # A row whose terms are all dropped would be -inf. A finite number replaces it, so that it is comparable.
    filling = -1e4 if dropped else 0.0
    terms = terms.masked_fill(missing.unsqueeze(1), filling) if own else terms
    total = torch.logsumexp(log_weight + terms, dim=-1)
    return total + b.sum(dim=-1, keepdim=True) if base else total


def _gap_mistakes(arguments: tuple[Tensor, ...], right: Tensor) -> dict[str, Tensor]:
    x, mean, log_std, log_weight, log_background = arguments
    filled = torch.where(x.isnan(), 0.0, x), mean, log_std, log_weight
    seen = ~x.isnan()
    renormalised = _with_gaps(*arguments, dropped=True) - torch.log(
        (seen.unsqueeze(1) * log_weight.exp()).sum(dim=-1).clamp(min=1e-300)
    )
    return {
        "The background of the inputs that are there, summed, is missing in front.": _with_gaps(
            *arguments, base=False
        ),
        "The background has to leave the term that reads its input: subtract log bg_k there.": _with_gaps(
            *arguments, ratio=False
        ),
        "A missing input's term is not gone: its Gaussian integrates to one, its weight stays.": _with_gaps(
            *arguments, dropped=True
        ),
        "The weights left need no new sum of one: a missing input's term keeps its weight.": renormalised,
        "Zero in place of what is missing is a value like any other: integrate instead.": _with_gaps(
            *filled, log_background.nan_to_num()
        ),
        "These are densities: take the logarithm.": right.exp(),
    }


# --- 10.3 --------------------------------------------------------------------------------------------

_LEAST = -1.25


def half_moons() -> tuple[Tensor, Tensor]:
    """Points on two noisy half-moons, from scikit-learn: (300, 2) to fit and (300, 2) to test."""
    from sklearn.datasets import make_moons

    points = torch.from_numpy(make_moons(600, noise=0.1, random_state=0)[0])
    return points[:300], points[300:]


def moon_density(answer: object) -> str:
    """10.3: a density that the reader fits to two half-moons."""
    function = as_function(answer, "fit(x)")
    points, held_out = half_moons()
    model = call(function, points.clone())
    if not hasattr(model, "log_prob"):
        raise NotYet(f"Expected a density with a method log_prob, got {shown(model)}.")
    side = 0.02
    ticks = torch.arange(-3.0, 4.0, side, dtype=torch.float64) + side / 2
    with torch.no_grad():
        total = (
            sum(
                as_tensor(call(model.log_prob, part), (len(part),), "(N,)", {}).exp().sum().item()
                for part in torch.cartesian_prod(ticks, ticks).split(20_000)
            )
            * side**2
        )
        reached = as_tensor(call(model.log_prob, held_out), (300,), "(N,)", {}).mean().item()
    if not 0.97 < total < 1.03:
        raise NotYet(f"Over the square from -3 to 4 it integrates to {total:.3g}: a density has one.")
    if reached < _LEAST:
        raise NotYet(
            f"{reached:.2f} nats on points that it has not seen: at least {_LEAST} are asked for. Is it "
            "flexible enough for two bent clouds, and not so flexible that it remembers points?"
        )
    return f"{reached:.2f} nats on points that it has not seen, and an integral of {total:.3f}."


EXERCISES = {
    "10.1": Exercise(box_integral, "Begin with one term over the box: which of its three integrals is one?"),
    "10.2": Exercise(
        with_gaps, "Begin without gaps: sum of log b, plus the logsumexp of weights times ratios."
    ),
    "10.3": Exercise(
        moon_density,
        "Begin with DiagonalGaussianMixture(2, 4).to(x.dtype).initialise(x) and em.fit, both from `density`.",
    ),
}
