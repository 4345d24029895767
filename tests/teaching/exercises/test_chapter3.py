"""Answers to chapter 3: who waits, where a bound fails, a background, exponents by matrix products."""

import math

import torch
from answers_of import HALF_LOG_2PI, AnswersOfAChapter, stubs_of

LOG2E = math.log2(math.e)


# --- right answers ----------------------------------------------------------------------------------


def with_background(x, mean, log_std, log_weight, log_background):
    z = (x.unsqueeze(1) - mean) * torch.exp(-log_std)
    bracket = log_weight - log_std - HALF_LOG_2PI - 0.5 * z * z
    return torch.logsumexp(bracket - log_background.unsqueeze(1), dim=-1)


def multiplied_out(x, mean, std):
    alpha = -0.5 / std**2
    x = x.unsqueeze(1)
    return alpha * x**2 - 2 * alpha * mean * x + alpha * mean**2


def by_matrix_product(x, mean, std):
    powers = torch.stack((x**2, x, torch.ones_like(x)), dim=-1)  # (B, K, 3)
    alpha = -0.5 / std**2
    factors = torch.stack((alpha, -2 * alpha * mean, alpha * mean**2), dim=-1)  # (J, K, 3)
    return (powers.transpose(0, 1) @ factors.permute(1, 2, 0)).permute(1, 2, 0)


RIGHT = [
    ("3.1", 0.4),
    ("3.1", 2 / 5),
    ("3.2", 8.89),
    ("3.2", math.sqrt(114 * math.log(2))),
    ("3.3", 32),
    ("3.3", torch.tensor(31.0)),
    ("3.4", with_background),
    ("3.5", multiplied_out),
    ("3.5", by_matrix_product),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = stubs_of(3)


# --- wrong answers ----------------------------------------------------------------------------------


def background_with(after=lambda out, background: out, **changed):
    """The operator on a changed background, and its output changed."""
    subtracted = changed.get("background", lambda b: b)

    def wrong(x, mean, log_std, log_weight, log_background):
        out = with_background(x, mean, log_std, log_weight, subtracted(log_background))
        return after(out, log_background)

    return wrong


def naive_background(x, mean, log_std, log_weight, log_background):
    z = (x.unsqueeze(1) - mean) * torch.exp(-log_std)
    bracket = log_weight - log_std - HALF_LOG_2PI - 0.5 * z * z - log_background.unsqueeze(1)
    return (bracket.exp().sum(dim=-1) + 1e-30).log()


def naive_background_of_zero(*arguments):
    return with_background(*arguments).exp().log()


def subtract_first(x, mean, std):
    return -((x.unsqueeze(1) - mean) ** 2) / (2 * std**2)


def squared_later(x, mean, std):
    s = 1 / std
    return -0.5 * (x.unsqueeze(1) * s - mean * s) ** 2


def exponents_with(squared=(1.0, 1.0, 1.0), over=lambda std: 2 * std**2):
    """Multiplied out, with the three products scaled by ``squared``."""

    def wrong(x, mean, std):
        x = x.unsqueeze(1)
        a, b, c = squared
        return -(a * x**2 - 2 * b * x * mean + c * mean**2) / over(std)

    return wrong


WRONG = [
    # 3.1
    ("3.1", 2.5, "upside down"),
    ("3.1", 1.2e10, "the height of the roof"),
    ("3.1", 3e10, "the steepness of the slope"),
    ("3.1", 3.6e20, "This is a product"),
    ("3.1", 1.8e10, "This is a difference"),
    ("3.1", 1.6, "not in float32 numbers"),
    ("3.1", 0.1, "divided by four"),
    ("3.1", 40, "the power of ten is not"),
    ("3.1", 4e-9, "the power of ten is not"),
    ("3.1", -3, "where are they equal"),
    ("3.1", "0.4", "Expected one number"),
    # 3.2
    ("3.2", 8.33, "the sum is 128 times"),
    ("3.2", 7.72, "makes the sum larger"),
    ("3.2", 79.02, "the square of the distance"),
    ("3.2", 6.29, "is the one half missing"),
    ("3.2", 10.68, "is the ln 2 missing"),
    ("3.2", 12.82, "not its inverse"),
    ("3.2", 14.37, "leaves float32"),
    ("3.2", 5.0, "take logarithms"),
    ("3.2", 8.9, "two decimals"),
    ("3.2", "far", "Expected one number"),
    # 3.3
    ("3.3", 17, "twice as wide"),
    ("3.3", 34, "Not so far out"),
    ("3.3", 24, "finite still"),
    ("3.3", 31.5, "A whole distance"),
    ("3.3", (31, 32), "Expected one number"),
    # 3.4
    ("3.4", background_with(background=lambda b: -b), "The background is added"),
    ("3.4", background_with(background=lambda b: 0 * b), "no effect"),
    ("3.4", background_with(background=lambda b: b / LOG2E), "too small by a factor"),
    ("3.4", background_with(background=lambda b: b * LOG2E), "too large by a factor"),
    ("3.4", background_with(background=torch.exp), "a logarithm already"),
    (
        "3.4",
        background_with(lambda out, b: out - b.sum(1, keepdim=True), background=torch.zeros_like),
        "its sum is taken off",
    ),
    (
        "3.4",
        background_with(lambda out, b: out - b.mean(1, keepdim=True), background=torch.zeros_like),
        "its mean is taken off",
    ),
    (
        "3.4",
        background_with(lambda out, b: out - b.logsumexp(1, keepdim=True), background=torch.zeros_like),
        "it has one of its own",
    ),
    ("3.4", background_with(lambda out, b: out * LOG2E), "in base 2"),
    ("3.4", background_with(lambda out, b: out + 1), "is a term less log(background) what is summed"),
    ("3.4", background_with(lambda out, b: out.T), "stack along the other axis"),
    ("3.4", background_with(lambda out, b: b), "These are inputs, not neurons"),
    (
        "3.4",
        background_with(lambda out, b: out.unsqueeze(-1).expand(5, 4, 3)),
        "one value for each component",
    ),
    ("3.4", naive_background, "wrong where all terms are tiny"),
    ("3.4", naive_background_of_zero, "NaN or infinite"),
    ("3.4", lambda x, mean, *_: x - mean, "Is an unsqueeze missing"),
    ("3.4", lambda x, mean, *_: x @ mean, "Is a transpose missing"),
    ("3.4", 0.0, "Expected the function with_background"),
    # 3.5
    ("3.5", subtract_first, "this subtracts first"),
    ("3.5", lambda x, m, s: multiplied_out(x.double(), m.double(), s.double()), "or computes in float64"),
    ("3.5", squared_later, "squares it after that"),
    ("3.5", exponents_with((1, -1, 1)), "wrong sign"),
    ("3.5", exponents_with((1, 1, 0)), "The term without x is missing"),
    ("3.5", exponents_with((1, 0, 1)), "The term with x is missing"),
    ("3.5", exponents_with((1, 0.5, 1)), "The factor two"),
    ("3.5", exponents_with((2, 2, 2)), "The factor one half"),
    ("3.5", exponents_with((-1, -1, -1)), "turn the sign"),
    ("3.5", exponents_with(over=lambda std: 2 * std), "where its square belongs"),
    ("3.5", exponents_with((0, 1, 1)), "multiply the square out once more"),
    ("3.5", lambda *a: multiplied_out(*a).exp(), "the exponential already"),
    ("3.5", lambda *a: multiplied_out(*a).transpose(1, 2), "move the last axis"),
    ("3.5", lambda *a: multiplied_out(*a).transpose(0, 1), "The examples come first"),
    ("3.5", lambda *a: multiplied_out(*a).permute(2, 0, 1), "move the first axis"),
    ("3.5", lambda *a: multiplied_out(*a).sum(-1), "Nothing is summed over the inputs"),
    ("3.5", lambda x, m, s: x @ m.T.float(), "with dtype=x.dtype"),
    ("3.5", "alpha", "Expected the function exponents"),
]


class TestChapter3(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
