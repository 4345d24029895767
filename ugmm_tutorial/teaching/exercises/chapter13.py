"""Exercises of chapter 13: how high an output can get, the worst fall, and a detector of broken entries."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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

__all__ = ["EXERCISES", "detect", "highest", "lowest"]


# --- 13.1 -------------------------------------------------------------------------------------------


def highest(answer: object) -> str:
    """13.1: the highest output if an input of responsibility 0.3 breaks, whose term is at most 0.03."""
    out, share, peak = -3.0, 0.3, 0.03
    total = math.exp(out)
    right = math.log((1 - share) * total + peak)
    mistakes = {
        "This is the sum under the logarithm; an output is its logarithm.": (1 - share) * total + peak,
        "This is the change of the output: add it to what the output was.": right - out,
        "Its old part leaves the sum before the new one comes.": math.log(total + peak),
        "This is how low it can get, when nothing comes back.": out + math.log(1 - share),
        "The share of 0.3 is what leaves, and 0.7 is what stays.": math.log(share * total + peak),
        "Terms are added before the logarithm is taken.": out + math.log(1 - share) + peak,
        "This is a logarithm to base 10; nats have base e.": right / math.log(10),
    }
    otherwise = (
        "Write down the sum before the break, take out its share of 0.3, and add what can come at most."
    )
    compare(as_number(answer), right, mistakes, otherwise, rtol=0.0, atol=6e-3)
    return (
        "The output rises by a quarter of a nat at most, whatever the input says: that is bounded influence."
    )


# --- 13.2 -------------------------------------------------------------------------------------------


def lowest(answer: object) -> str:
    """13.2: the lowest outputs when, for each, the worst m inputs leave the sum."""
    function = as_function(answer, "lowest(terms, m)")
    for shape, m, seed in (((4, 3, 7), 2, 0), ((1, 2, 5), 0, 1), ((2, 5, 6), 5, 2)):
        terms = 2.0 * draw(*shape, seed=seed) - 3.0
        _check_lowest(_outputs(function, terms, m), terms, m)
    far = draw(3, 2, 5, seed=3) - 2000.0  # exponentials underflow
    if not close(_outputs(function, far, 2), _lowest(far, 2)):
        raise NotYet("Right for usual terms, and not for terms of -2000 nats: stay with logarithms.")
    return "With every input changed the bound is minus infinity: some part of the row has to stay sound."


def _lowest(terms: Tensor, m: int) -> Tensor:
    return terms.sort(dim=-1).values[..., : terms.shape[-1] - m].logsumexp(dim=-1)


def _outputs(function, terms: Tensor, m: int) -> Tensor:
    b, j, k = terms.shape
    hints = {
        (b, k): "One output for each neuron: put the inputs together, not the neurons.",
        (j, k): "One output for each example and neuron: put the inputs together.",
        (b, j, k): "These are terms: an output is the logarithm of their sum.",
        (b, j, k - m): "These are the terms that stay: an output is the logarithm of their sum.",
    }
    return as_tensor(call(function, terms, m), (b, j), "(B, J)", hints)


def _check_lowest(value: Tensor, terms: Tensor, m: int) -> None:
    count = terms.shape[-1]
    ordered = terms.sort(dim=-1).values
    out = terms.logsumexp(dim=-1)
    # The inputs that harm the first output, or all outputs together, for every output.
    total = terms.logsumexp(dim=1, keepdim=True)
    shared = total.argsort(dim=-1)[..., : count - m].expand(-1, terms.shape[1], -1)
    mistakes = {
        "Nothing has left the sum yet.": out,
        "These are the smallest falls: which terms does a sum miss most?": ordered[..., m:].logsumexp(dim=-1),
        "These are the terms that leave. What stays?": ordered[..., count - m :].logsumexp(dim=-1)
        if m
        else out + 1.0,
        "You leave out one more than m.": ordered[..., : max(count - m - 1, 1)].logsumexp(dim=-1),
        "You leave out one input less than m.": ordered[..., : count - m + 1].logsumexp(dim=-1),
        "Here each output on its own meets its worst inputs; yours are the same for all neurons.": (
            terms.gather(-1, shared).logsumexp(dim=-1)
        ),
        "Terms add before the logarithm: this is their sum in nats.": ordered[..., : count - m].sum(dim=-1),
    }
    otherwise = "Try K = 3 and m = 1 with paper: which of three terms do you take out, and what is left?"
    compare(value, _lowest(terms, m), mistakes, otherwise)


# --- 13.3 -------------------------------------------------------------------------------------------

_FOUND, _ACCUSED = 0.8, 0.03
_UNITS = torch.tensor([1.0, 250.0, 0.004, 30.0, 1.0, 7e4], dtype=torch.float64)


def detect(answer: object) -> str:
    """13.3: which entries are broken, from training rows of which a tenth of the entries are broken too."""
    function = as_function(answer, "detect(train, x)")
    train, _ = _table(500, 0.1, seed=0)
    x, broken = _table(400, 0.3, seed=1)
    said = _verdict(function, train, x)
    if not torch.equal(_verdict(function, train, x[:1]), said[:1]):
        raise NotYet("The verdict on a row changes with the rows beside it: judge by the training rows only.")
    found, accused = (float(said[which].double().mean()) for which in (broken, ~broken))
    if found < 0.2 and accused > 0.5:
        raise NotYet("The wrong way round: True is for entries that are broken.")
    if accused > _ACCUSED:
        columns = said.masked_fill(broken, False).double().mean(dim=0)
        raise NotYet(
            f"It accuses {accused:.0%} of the sound entries, most of them in column {int(columns.argmax())}. "
            "Is the limit too narrow, or is that column skewed? Columns have their own units and forms."
        )
    if found < _FOUND:
        raise NotYet(
            f"It finds {found:.0%} of the broken entries. The training rows hold some too, and these widen "
            "whatever is measured with means and standard deviations."
        )
    return (
        f"It finds {found:.0%} and accuses {accused:.0%} wrongly. Mixtures need no detector: what is far "
        "away leaves the sum."
    )


def _table(rows: int, part: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of six columns, (rows, 6), and which entries are broken: moved by ten to twenty deviations."""
    z = draw(rows, 6, seed=seed)
    one, two = z[:, 4].abs(), draw(rows, seed=seed + 50)
    clean = torch.stack(
        [z[:, 0], torch.exp(0.5 * z[:, 1]), torch.special.ndtr(z[:, 2]), z[:, 3].sign() * 2 + 0.5 * two, one,
         z[:, 5] - 40.0], dim=1,
    )  # fmt: skip
    chance = torch.rand(rows, 6, generator=torch.Generator().manual_seed(seed + 100), dtype=torch.float64)
    size = 15.0 + 5.0 * torch.sin(1e3 * chance)
    side = draw(rows, 6, seed=seed + 150).sign()
    hit = chance < part
    return torch.where(hit, clean + side * size * clean.std(dim=0), clean) * _UNITS, hit


def _verdict(function, train: Tensor, x: Tensor) -> Tensor:
    said = call(function, train, x)
    if not isinstance(said, Tensor):
        try:
            said = torch.as_tensor(said)
        except Exception:
            raise NotYet(
                f"Expected booleans of shape (B, K) = {tuple(x.shape)}, got {shown(said)}."
            ) from None
    hints = {
        (len(x),): "One verdict for every entry, not for every row.",
        (x.shape[1],): "One verdict for every entry, not for every column.",
        tuple(train.shape): "These are verdicts on the training rows: x is asked for.",
    }
    as_tensor(said.double(), tuple(x.shape), "(B, K)", hints)
    if said.dtype != torch.bool:
        raise NotYet("Expected booleans, and these are numbers: from where on do you call an entry broken?")
    return said


# --- all --------------------------------------------------------------------------------------------

EXERCISES = {
    "13.1": Exercise(
        highest, "The output is the logarithm of a sum. How large is the sum, and what stays of it?"
    ),
    "13.2": Exercise(
        lowest, "An input that moves far away takes its term out of the sum. Which terms weigh most?"
    ),
    "13.3": Exercise(detect, "Begin with one column: from which values on would you not believe a number?"),
}
