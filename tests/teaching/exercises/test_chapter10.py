"""Answers to chapter 10: an integral over a box, smoothed neurons with gaps, a density for half-moons."""

import math

import pytest
import torch
from answers_of import HALF_LOG_2PI, AnswersOfAChapter, stubs_of

from ugmm_tutorial.density import DiagonalGaussianMixture, em
from ugmm_tutorial.teaching.exercises.chapter10 import half_moons

# --- right answers ----------------------------------------------------------------------------------


def gap_terms(x, mean, log_std, log_weight, log_background):
    z = (x.nan_to_num().unsqueeze(1) - mean) / log_std.exp()
    own = log_weight - 0.5 * z.square() - log_std - HALF_LOG_2PI
    return own - log_background.nan_to_num().unsqueeze(1)


def with_gaps(x, mean, log_std, log_weight, log_background, left_out=0.0):
    terms = gap_terms(x, mean, log_std, log_weight, log_background)
    terms = torch.where(x.isnan().unsqueeze(1), log_weight + left_out, terms)
    return log_background.nansum(dim=1, keepdim=True) + terms.logsumexp(dim=2)


def with_gaps_input_by_input(x, mean, log_std, log_weight, log_background):
    """Densities, multiplied and added one by one."""
    std, w, b = log_std.exp(), log_weight.exp(), log_background.exp()
    total = torch.zeros(len(x), len(mean), dtype=x.dtype)
    for k in range(x.shape[1]):
        term = w[:, k].expand_as(total).clone()
        for i in range(x.shape[1]):
            if i == k:
                density = (
                    torch.distributions.Normal(mean[:, k], std[:, k])
                    .log_prob(x[:, k : k + 1].nan_to_num())
                    .exp()
                )
            else:
                density = b[:, i : i + 1].expand_as(total)
            term = torch.where(x[:, i : i + 1].isnan(), term, term * density)
        total = total + term
    return total.log()


def fit_moons(x, components=12):
    model = DiagonalGaussianMixture(2, components, min_std=0.1).to(x.dtype).initialise(x, seed=0)
    em.fit(model, x, iterations=100)
    return model


RIGHT = [
    ("10.1", 400),
    ("10.1", 20.0**2),
    ("10.2", with_gaps),
    ("10.2", with_gaps_input_by_input),
    ("10.3", fit_moons),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(10)


# --- wrong answers ----------------------------------------------------------------------------------


def without_ratio(x, mean, log_std, log_weight, log_background):
    terms = gap_terms(x, mean, log_std, log_weight, torch.zeros_like(x))
    terms = torch.where(x.isnan().unsqueeze(1), log_weight, terms)
    return log_background.nansum(dim=1, keepdim=True) + terms.logsumexp(dim=2)


def renormalised(x, mean, log_std, log_weight, log_background, left_out=-1e4):
    out = with_gaps(x, mean, log_std, log_weight, log_background, left_out)
    kept = (~x.isnan()).to(x.dtype) @ log_weight.exp().T
    return out - kept.log()


def twice(model):
    """Not normalised any more."""
    log_prob = model.log_prob
    model.log_prob = lambda x: log_prob(x) + math.log(2.0)
    return model


WRONG = [
    # 10.1
    ("10.1", 20, "not in one"),
    ("10.1", 8000, "not to the side of the box"),
    ("10.1", 1200, "the weights sum to one"),
    ("10.1", 100, "The side of the box is 20"),
    ("10.1", 1, "which this is not"),
    ("10.1", 50, "Integrate one term"),
    ("10.1", "infinite", "Expected one number"),
    # 10.2
    ("10.2", lambda x, m, s, w, b: with_gaps(x, m, s, w, b) - b.nansum(1, keepdim=True), "missing in front"),
    ("10.2", without_ratio, "subtract log bg_k there"),
    ("10.2", lambda *a: with_gaps(*a, left_out=-1e4), "A missing input's term is not gone"),
    ("10.2", lambda *a: with_gaps(*a, left_out=-math.inf), "A missing input's term is not gone"),
    ("10.2", renormalised, "need no new sum of one"),
    ("10.2", lambda *a: renormalised(*a, left_out=-math.inf), "need no new sum of one"),
    ("10.2", lambda x, m, s, w, b: with_gaps(x.nan_to_num(), m, s, w, b.nan_to_num()), "Zero in place"),
    ("10.2", lambda *a: with_gaps(*a).exp(), "take the logarithm"),
    ("10.2", lambda *a: 2 * with_gaps(*a), "Go through one row"),
    ("10.2", lambda x, m, s, w, b: with_gaps(x, m, s, w, b) + x.sum(1, keepdim=True), "Some are NaN"),
    ("10.2", lambda *a: with_gaps(*a).sum(1), "neurons are not mixed here"),
    ("10.2", lambda x, *a: x.nan_to_num(), "not for each input"),
    ("10.2", 1.0, "Expected the function smoothed_log_prob"),
    # 10.3
    ("10.3", lambda x: fit_moons(x, 1), "at least -1.25 are asked for"),
    ("10.3", lambda x: twice(fit_moons(x)), "it integrates to 2"),
    ("10.3", lambda x: 1.0, "Expected a density with a method log_prob"),
    ("10.3", lambda x: DiagonalGaussianMixture(3, 2).double(), "Your code raised ValueError"),
    ("10.3", -1.2, "Expected the function fit"),
]


class TestChapter10(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG


def test_a_single_gaussian_reaches_what_exercise_3_says():
    points, held_out = half_moons()
    gaussian = torch.distributions.Normal(points.mean(dim=0), points.std(dim=0))
    assert gaussian.log_prob(held_out).sum(dim=-1).mean().item() == pytest.approx(-2.0, abs=0.05)
