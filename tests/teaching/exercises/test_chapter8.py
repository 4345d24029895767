"""Answers to chapter 8: an interval by hand, Holm's correction, both headlines."""

import math

import torch
from answers_of import AnswersOfAChapter, stubs_of

# --- right answers ----------------------------------------------------------------------------------


def discoveries(p_values, risk=0.05):
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    found = []
    for rank, k in enumerate(order):
        if p_values[k] > risk / (len(p_values) - rank):
            break
        found.append(k)
    return sorted(found)


def headline(means, halves, wish):
    distance = means - halves if wish == "ahead" else -means - halves
    if distance.max() <= 0:
        return None
    return divmod(distance.argmax().item(), distance.shape[1])


def headline_by_loops(means, halves, wish):
    best, place = 0.0, None
    for row in range(means.shape[0]):
        for column in range(means.shape[1]):
            mean, half = means[row, column].item(), halves[row, column].item()
            distance = mean - half if wish == "ahead" else -mean - half
            if distance > best:
                best, place = distance, [row, column]
    return place


RIGHT = [
    ("8.1", 0.50),
    ("8.1", 4.30 * 0.2 / math.sqrt(3)),
    ("8.1", torch.tensor(0.4965)),
    ("8.2", discoveries),
    ("8.2", lambda p, risk: tuple(discoveries(p, risk))),
    ("8.2", lambda p, risk: torch.tensor(discoveries(p, risk), dtype=torch.int64)),
    ("8.3", headline),
    ("8.3", headline_by_loops),
]


# --- not answered yet -------------------------------------------------------------------------------

STUBS = [*stubs_of(8)]


# --- mistakes and their hints -----------------------------------------------------------------------


def uncorrected(p_values, risk):
    return [k for k, p in enumerate(p_values) if p <= risk]


def bonferroni(p_values, risk):
    return [k for k, p in enumerate(p_values) if p <= risk / len(p_values)] if p_values else []


def without_stopping(p_values, risk):
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    return sorted(k for rank, k in enumerate(order) if p_values[k] <= risk / (len(p_values) - rank))


def as_they_come(p_values, risk):
    found = []
    for rank, p in enumerate(p_values):
        if p > risk / (len(p_values) - rank):
            break
        found.append(rank)
    return found


def by_p_value(p_values, risk):
    return sorted(discoveries(p_values, risk), key=lambda k: p_values[k])


def largest(means, halves, wish):
    return divmod((means if wish == "ahead" else -means).argmax().item(), means.shape[1])


def never_none(means, halves, wish):
    distance = means - halves if wish == "ahead" else -means - halves
    return divmod(distance.argmax().item(), distance.shape[1])


def either_side(means, halves, wish):
    distance = means.abs() - halves
    if distance.max() <= 0:
        return None
    return divmod(distance.argmax().item(), distance.shape[1])


WRONG = [
    ("8.1", 0.3, "This is the mean"),
    ("8.1", 0.2, "not yet of their mean"),
    ("8.1", 0.1155, "quantile is missing"),
    ("8.1", 0.86, "divide by the root of 3"),
    ("8.1", 0.2867, "not by 3"),
    ("8.1", 0.4054, "divides by 3 - 1"),
    ("8.1", 0.2263, "three runs need 4.30"),
    ("8.1", 0.993, "half of it"),
    ("8.1", -0.1965, "the lower end"),
    ("8.1", 0.7965, "the upper end"),
    ("8.1", 5.0, "times 4.30"),
    ("8.2", uncorrected, "corrected for how many"),
    ("8.2", bonferroni, "This is Bonferroni"),
    ("8.2", without_stopping, "Stop at the first"),
    ("8.2", as_they_come, "sort them first"),
    ("8.2", by_p_value, "ascending order"),
    ("8.2", lambda p, risk: discoveries(p), "fixed at 0.05"),
    ("8.2", lambda p, risk: [p[k] for k in discoveries(p, risk)], "Return indices"),
    ("8.2", lambda p, risk: [k + 1 for k in discoveries(p, risk)], "Indices begin at 0"),
    ("8.2", lambda p, risk: 3, "a list of indices"),
    ("8.2", lambda p, risk: list(range(len(p) - 1, -1, -1)), "Sort, compare"),
    ("8.3", largest, "almost touches zero"),
    ("8.3", never_none, "return None"),
    ("8.3", either_side, "the other side"),
    ("8.3", lambda m, h, w: headline(m, h, "behind" if w == "ahead" else "ahead"), "the other side"),
    ("8.3", lambda m, h, w: 3, "a pair"),
    ("8.3", lambda m, h, w: (0.5, 1.0), "a pair of integers"),
    ("8.3", lambda m, h, w: (0, 1), "expected the cell"),
]


class TestChapter8(AnswersOfAChapter):
    right, stubs, wrong = RIGHT, STUBS, WRONG
