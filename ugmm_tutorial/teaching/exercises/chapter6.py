"""Exercises of chapter 6, MNIST."""

from __future__ import annotations

import torch
from torch import Tensor

from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    as_numbers,
    call,
    close,
    compare,
    draw,
    power_of_ten,
    shown,
)

__all__ = ["EXERCISES", "best_of_many", "confidence", "images_needed", "judge"]


# --- 6.1 --------------------------------------------------------------------------------------------


def images_needed(answer: object) -> str:
    """6.1: the number of test images for a standard error of 0.05 points at an accuracy of 98 %."""
    value, error = as_number(answer), 0.05 / 100
    variance = 0.98 * 0.02
    right = variance / error**2
    mistakes = {
        "A point is a hundredth: what is 0.05 points as a fraction?": variance / 0.05**2,
        "Solve for n: the error must be squared.": variance / error,
        "Solve for n: this is its square root.": right**0.5,
        "This is the number for half of the standard error.": 4 * right,
        "This is the number for twice the standard error.": right / 4,
        "This would hold if an accuracy had variance 1: a (1 - a) is missing.": 1 / error**2,
        "The factor 1 - a is missing.": 0.98 / error**2,
        "The factor a is missing.": 0.02 / error**2,
        "MNIST's 10,000 images give 0.14 points.": 10_000.0,
    }
    otherwise = "Set the standard error of this chapter equal to 0.05 points, and solve it for n."
    if value > 0 and power_of_ten(value, right, rtol=2e-3):
        otherwise = "The digits are right, the power of ten is not: how many points are one?"
    compare(value, right, mistakes, otherwise, rtol=2e-3, atol=0.0)
    return "Almost eight test sets of MNIST: half the error costs four times the images."


# --- 6.2 --------------------------------------------------------------------------------------------


def confidence(answer: object) -> str:
    """6.2: mean confidence of right and of wrong answers, and the share of right ones in the surest tenth."""
    function = as_function(answer, "confidence(outputs, labels)")
    outputs, labels = _answers_of_a_network()
    wanted = "three numbers: confidence when right, confidence when wrong, share"
    first, second, third = as_numbers(call(function, outputs, labels), wanted, count=3)

    belief = outputs.softmax(dim=1)
    sure, said = belief.max(dim=1)
    right = said == labels
    tenth = len(labels) // 10
    ranked = right[sure.argsort()].double()
    if_right, if_wrong = sure[right].mean(), sure[~right].mean()
    share, overall = ranked[-tenth:].mean(), ranked.mean()

    if close(first, if_wrong) and close(second, if_right):
        raise NotYet("The first two are the wrong way round: first the right answers.")
    if close(first, 100 * if_right):
        raise NotYet("These are per cent: give fractions.")
    compare(
        first,
        if_right,
        {
            "Confidence is a probability, and these are raw outputs: a softmax is missing.": (
                outputs.amax(dim=1)[right].mean()
            ),
            "The softmax runs over the images: it should run over the classes.": (
                outputs.softmax(dim=0).amax(dim=1)[right].mean()
            ),
            "Exponentials of outputs sum to one only after division by their sum.": (
                outputs.exp().amax(dim=1)[right].mean()
            ),
            "These are logarithms of probabilities.": sure[right].log().mean(),
            "The first number averages over all images, right or wrong.": sure.mean(),
        },
        "The first number should be the mean of the largest probability, over images that it got right.",
    )
    compare(
        second,
        if_wrong,
        {
            "On wrong answers you took the probability of the label, not of what the network said.": (
                belief.gather(1, labels[:, None])[:, 0][~right].mean()
            ),
            "The second number averages over all images, right or wrong.": sure.mean(),
        },
        "The second number should be the mean of the largest probability, over images that it got wrong.",
    )
    compare(
        third,
        share,
        {
            "The third number is the accuracy on all images: only the surest tenth is asked for.": overall,
            "This is the tenth that it is least sure of.": ranked[:tenth].mean(),
            "This is the share of wrong answers.": 1 - share,
            "This is a number of images: divide by how many the tenth has.": share * tenth,
            "These are the surest nine tenths: check the threshold.": ranked[tenth:].mean(),
        },
        "The third number should be the share of right answers among the tenth with the largest confidence.",
        rtol=1e-5,
        atol=1e-5,
    )
    return "Confidence is useful if it is higher when right; whether it is calibrated is another matter."


def _answers_of_a_network() -> tuple[Tensor, Tensor]:
    """Outputs for 400 images, most of them right. Ten of the wrong answers are confident."""
    labels = torch.randint(10, (400,), generator=torch.Generator().manual_seed(0))
    outputs = 1.5 * draw(400, 10, seed=1)
    outputs[torch.arange(400), labels] += 2.5
    outputs[torch.arange(10), (labels[:10] + 1) % 10] += 12.0
    return outputs - 3.0 * draw(400, 1, seed=2).abs(), labels


# --- 6.3 --------------------------------------------------------------------------------------------

_VERDICTS = ("A", "B", "undecided")
_DRAWS = 200


def judge(answer: object) -> str:
    """6.3: a rule that decides which of two networks is better, from their answers to the same images."""
    function = as_function(answer, "judge(right_a, right_b)")
    _check_clear_difference(function)
    _check_identical(function)
    _check_equal_networks(function)
    _check_paired_difference(function)
    _check_large_test_sets(function)
    return "Only images on which they differ speak, and a rule older than the result cannot be fitted to it."


def _verdict(function, right_a: Tensor, right_b: Tensor) -> str:
    said = call(function, right_a, right_b)
    if not isinstance(said, str) or said not in _VERDICTS:
        raise NotYet(f"Expected one of {', '.join(map(repr, _VERDICTS))}, got {shown(said)}.")
    return said


def _images(both: int, only_a: int, only_b: int, neither: int) -> tuple[Tensor, Tensor]:
    """Which of the images each network got right, in random order."""
    counts = torch.tensor([both, only_a, only_b, neither])
    kinds = torch.repeat_interleave(torch.arange(4), counts)
    kinds = kinds[torch.randperm(len(kinds), generator=torch.Generator().manual_seed(0))]
    return (kinds == 0) | (kinds == 1), (kinds == 0) | (kinds == 2)


def _check_clear_difference(function) -> None:
    a, b = _images(both=880, only_a=80, only_b=10, neither=30)
    said = _verdict(function, a, b), _verdict(function, b, a)
    case = "80 images that only A got right, and 10 that only B did"
    if said == ("B", "A"):
        raise NotYet(f"The names are the wrong way round: of {case}, your rule makes a lead of B.")
    if said == ("undecided", "undecided"):
        raise NotYet(f"Your rule stays undecided even with {case}, of 1,000: it never decides anything.")
    if said != ("A", "B"):
        raise NotYet(
            f"Swapping the networks must swap the verdict: with {case} it is {said[0]!r}, and "
            f"{said[1]!r} when they are swapped."
        )


def _check_identical(function) -> None:
    same, _ = _images(both=950, only_a=0, only_b=0, neither=50)
    if (said := _verdict(function, same, same)) != "undecided":
        raise NotYet(
            f"Two networks that are right on the very same images are not told apart, but yours says {said}."
        )


def _check_equal_networks(function) -> None:
    """Check networks that are equally good on every image.

    Images differ in difficulty, so the answers of both networks are correlated.
    """
    generator = torch.Generator().manual_seed(0)
    decided = 0
    for number in range(_DRAWS):
        chance = torch.sigmoid(10.0 + 6.0 * torch.randn(1000, generator=generator, dtype=torch.float64))
        a, b = (torch.rand(2, 1000, generator=generator, dtype=torch.float64) < chance).unbind()
        said = _verdict(function, a, b)
        decided += said != "undecided"
        mirrored = {"A": "B", "B": "A"}.get(said, said)
        if number < 20 and _verdict(function, b, a) != mirrored:
            raise NotYet("Swapping the networks must swap the verdict, also where the difference is small.")
    if decided > _DRAWS // 10:
        raise NotYet(
            f"In {decided} of {_DRAWS} draws your rule calls one of two equally good networks better: how "
            "large a difference does chance alone make?"
        )


def _check_paired_difference(function) -> None:
    """Check a case that 17 images decide. On separate test sets, 95.5 % against 94.0 % would be chance."""
    a, b = _images(both=939, only_a=16, only_b=1, neither=44)
    if (_verdict(function, a, b), _verdict(function, b, a)) != ("A", "B"):
        raise NotYet(
            "A clear case is missed: 16 images only A got right, 1 only B, and 983 on which they agree. Do "
            "those on which they agree say anything? Your rule seems not to use that the images are the same."
        )


def _check_large_test_sets(function) -> None:
    a, b = _images(both=18_500, only_a=300, only_b=150, neither=1_050)
    if _verdict(function, a, b) != "A":
        raise NotYet(
            "On 20,000 images, 300 that only A got right and 150 that only B did are no chance, though the "
            "difference is below one point: a fixed margin does not fit all test sets."
        )
    a, b = _images(both=18_000, only_a=525, only_b=475, neither=1_000)
    if _verdict(function, a, b) != "undecided":
        raise NotYet(
            "On 20,000 images, 525 that only A got right and 475 that only B did are well within chance: the "
            "margin must grow with the number of images on which they differ."
        )


# --- 6.4 --------------------------------------------------------------------------------------------


def best_of_many(answer: object) -> str:
    """6.4: the probability that at least one of 65 epochs is lucky, if each is with probability 0.05."""
    value = as_number(answer)
    right = 1 - 0.95**65
    mistakes = {
        "This is the probability that none of them is lucky.": 0.95**65,
        "This is the expected number of lucky epochs, not a probability.": 65 * 0.05,
        "This is the probability for one epoch.": 0.05,
        "This is the probability that one epoch is ordinary: the log has 65.": 0.95,
        "This is the probability that not all of them are lucky.": 1 - 0.05**65,
        "This is the probability that exactly one of them is lucky.": 65 * 0.05 * 0.95**64,
        "The log has 65 epochs, not 100.": 1 - 0.95**100,
        "This is in per cent: give a fraction.": 100 * right,
    }
    otherwise = "With which probability is one epoch ordinary, and with which all 65 of them?"
    compare(value, right, mistakes, otherwise, rtol=0.0, atol=6e-3)
    return "The best epoch of a log is nearly always a lucky one: ask for the last, or for a mean of several."


EXERCISES = {
    "6.1": Exercise(images_needed, "The standard error of an accuracy a on n images is sqrt(a (1 - a) / n)."),
    "6.2": Exercise(
        confidence, "`outputs.softmax(dim=1).max(dim=1)` gives the confidence, and what the network says."
    ),
    "6.3": Exercise(
        judge,
        "Count the images that only A got right, and those that only B did: if the networks are equally "
        "good, how far apart may the two numbers be?",
    ),
    "6.4": Exercise(best_of_many, "The probability of at least one is one minus that of none."),
}
