"""Answers to chapter 6: how many images, sure when right, a fair contest, the best of many."""

import math

import torch
from answers_of import AnswersOfAChapter, stubs_of

# --- right answers ----------------------------------------------------------------------------------


def confidence(outputs, labels):
    sure, said = outputs.softmax(dim=1).max(dim=1)
    right = said == labels
    tenth = sure.topk(len(labels) // 10).indices
    return sure[right].mean(), sure[~right].mean(), right[tenth].float().mean()


def judge(right_a, right_b, z=1.96):
    only_a, only_b = (right_a & ~right_b).sum().item(), (right_b & ~right_a).sum().item()
    if abs(only_a - only_b) <= z * math.sqrt(only_a + only_b):
        return "undecided"
    return "A" if only_a > only_b else "B"


def sign_test(right_a, right_b):
    only_a, only_b = (right_a & ~right_b).sum().item(), (right_b & ~right_a).sum().item()
    n, few = only_a + only_b, min(only_a, only_b)
    chance = 2 * sum(
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2))
        for i in range(few + 1)
    )
    return "undecided" if chance > 0.05 else "A" if only_a > only_b else "B"


def bootstrap(right_a, right_b):
    """Draws from the global generator, as a reader's may."""
    differing = right_a.float()[right_a != right_b]
    if len(differing) == 0:
        return "undecided"
    means = differing[torch.randint(len(differing), (300, len(differing)))].mean(dim=1) - 0.5
    low, high = means.quantile(0.025), means.quantile(0.975)
    return "A" if low > 0 else "B" if high < 0 else "undecided"


RIGHT = [
    ("6.1", 78_400),
    ("6.1", torch.tensor(78_400)),
    ("6.2", confidence),
    ("6.2", lambda outputs, labels: torch.stack(confidence(outputs, labels))),
    ("6.3", judge),
    ("6.3", lambda a, b: judge(a, b, z=2.58)),
    ("6.3", sign_test),
    ("6.3", bootstrap),
    ("6.4", 0.96),
    ("6.4", torch.tensor(0.9644)),
]


# --- not answered yet -------------------------------------------------------------------------------


STUBS = [*stubs_of(6), ("6.2", lambda outputs, labels: (None, None, None))]


# --- wrong answers ----------------------------------------------------------------------------------


def confidence_with(order=(0, 1, 2), scale=1, sure=None, said_sure=None, tenth=None, third=None):
    """The right three numbers with one thing changed."""

    def wrong(outputs, labels):
        belief, right = outputs.softmax(dim=1), outputs.argmax(dim=1) == labels
        used = belief.amax(dim=1) if sure is None else sure(outputs)
        on_wrong = used if said_sure is None else said_sure(belief, labels)
        chosen = belief.amax(dim=1).argsort(descending=True)
        chosen = chosen[: len(labels) // 10] if tenth is None else chosen[tenth(len(labels) // 10)]
        share = right[chosen].double().mean() if third is None else third(right[chosen].double(), right)
        values = used[right].mean(), on_wrong[~right].mean(), share
        return tuple(scale * values[place] for place in order)

    return wrong


def averaged(which):
    def wrong(outputs, labels):
        values = list(confidence(outputs, labels))
        values[which] = outputs.softmax(dim=1).amax(dim=1).mean()
        return values

    return wrong


def larger_mean(a, b):
    difference = (a.sum() - b.sum()).item()
    return "A" if difference > 0 else "B" if difference < 0 else "undecided"


def unpaired(a, b):
    p, q, n = a.double().mean().item(), b.double().mean().item(), len(a)
    if abs(p - q) <= 1.96 * math.sqrt((p * (1 - p) + q * (1 - q)) / n):
        return "undecided"
    return "A" if p > q else "B"


def by_margin(margin):
    """Decides from a margin on, in images or as a fraction."""

    def wrong(a, b):
        size = 1 if margin >= 1 else len(a)
        difference = (a.sum() - b.sum()).item() / size
        return "A" if difference >= margin else "B" if difference <= -margin else "undecided"

    return wrong


def only_ever_a(a, b):
    return "A" if judge(a, b) == "A" else "undecided"


def swapped_names(a, b):
    return {"A": "B", "B": "A"}.get(judge(a, b), "undecided")


def first_when_nearly_equal(a, b):
    """Not symmetric, but only where the difference is small."""
    return "A" if judge(a, b) == "undecided" and 0 < (a ^ b).sum() < 70 and a.sum() > b.sum() else judge(a, b)


def zero_division(a, b):
    only_a, only_b = (a & ~b).sum().item(), (b & ~a).sum().item()
    return judge(a, b) if abs(only_a - only_b) / math.sqrt(only_a + only_b) > 0 else "undecided"


WRONG = [
    # 6.1
    ("6.1", 7.84, "what is 0.05 points as a fraction"),
    ("6.1", 39.2, "the error must be squared"),
    ("6.1", 280, "its square root"),
    ("6.1", 313_600, "for half of the standard error"),
    ("6.1", 19_600, "for twice the standard error"),
    ("6.4", 0.036, "that none of them is lucky"),
    ("6.4", 3.25, "expected number of lucky epochs"),
    ("6.4", 0.05, "for one epoch"),
    ("6.4", 0.95, "the log has 65"),
    ("6.4", 1.0, "not all of them are lucky"),
    ("6.4", 0.1221, "exactly one of them"),
    ("6.4", 96.44, "give a fraction"),
    ("6.4", 0.5, "with which all 65"),
    ("6.1", 4e6, "a (1 - a) is missing"),
    ("6.1", 3.92e6, "The factor 1 - a is missing"),
    ("6.1", 80_000, "The factor a is missing"),
    ("6.1", 10_000, "MNIST's 10,000 images"),
    ("6.1", 784, "how many points are one"),
    ("6.1", 7840, "how many points are one"),
    ("6.1", 123, "solve it for n"),
    ("6.1", "many", "Expected one number"),
    # 6.2
    ("6.2", confidence_with(order=(1, 0, 2)), "the wrong way round"),
    ("6.2", confidence_with(scale=100), "per cent"),
    ("6.2", confidence_with(sure=lambda o: o.amax(1)), "a softmax is missing"),
    ("6.2", confidence_with(sure=lambda o: o.softmax(0).amax(1)), "runs over the images"),
    ("6.2", confidence_with(sure=lambda o: o.exp().amax(1)), "division by their sum"),
    ("6.2", confidence_with(sure=lambda o: o.log_softmax(1).amax(1)), "logarithms of probabilities"),
    ("6.2", averaged(0), "The first number averages"),
    ("6.2", averaged(1), "The second number averages"),
    ("6.2", confidence_with(sure=lambda o: o.softmax(1).amin(1)), "The first number should be"),
    (
        "6.2",
        confidence_with(said_sure=lambda p, labels: p.gather(1, labels[:, None])[:, 0]),
        "took the probability of the label",
    ),
    ("6.2", confidence_with(said_sure=lambda p, labels: p.amin(1)), "The second number should be"),
    ("6.2", confidence_with(third=lambda chosen, right: right.double().mean()), "accuracy on all images"),
    ("6.2", confidence_with(tenth=lambda n: slice(-n, None)), "least sure of"),
    ("6.2", confidence_with(tenth=lambda n: slice(0, -n)), "nine tenths"),
    ("6.2", confidence_with(third=lambda chosen, right: 1 - chosen.mean()), "share of wrong answers"),
    ("6.2", confidence_with(third=lambda chosen, right: chosen.sum()), "a number of images"),
    ("6.2", confidence_with(tenth=lambda n: slice(0, n // 2)), "The third number should be"),
    ("6.2", confidence_with(order=(0, 1)), "Expected three numbers: confidence when right"),
    ("6.2", lambda o, y: dict(zip("abc", confidence(o, y), strict=True)), "a value of type dict"),
    ("6.2", (0.9, 0.5, 1.0), "Expected the function confidence"),
    # 6.3
    ("6.3", larger_mean, "one of two equally good networks better"),
    ("6.3", lambda a, b: judge(a, b, z=1.0), "one of two equally good networks better"),
    ("6.3", by_margin(0.01), "one of two equally good networks better"),
    ("6.3", unpaired, "that the images are the same"),
    ("6.3", by_margin(0.0149), "a fixed margin does not fit"),
    ("6.3", by_margin(15), "525 that only A got right"),
    ("6.3", lambda a, b: "undecided", "never decides anything"),
    ("6.3", lambda a, b: "A", "Swapping the networks"),
    ("6.3", only_ever_a, "Swapping the networks"),
    ("6.3", first_when_nearly_equal, "also where the difference is small"),
    (
        "6.3",
        swapped_names,
        "of 80 images that only A got right, and 10 that only B did, your rule makes a lead",
    ),
    ("6.3", lambda a, b: "B" if torch.equal(a, b) else judge(a, b), "but yours says B"),
    ("6.3", zero_division, "ZeroDivisionError"),
    ("6.3", lambda a, b: "a", "Expected one of 'A', 'B', 'undecided', got str 'a'"),
    ("6.3", lambda a, b: True, "got bool True"),
    ("6.3", "A", "Expected the function judge"),
]


class TestChapter6(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
