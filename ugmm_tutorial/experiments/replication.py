"""A rule that says whether our runs exclude a number of the paper's Table 2.

The interval was chosen before nearly all of our runs: one run of each fully connected row was finished, and
none of a convolutional row. The paper gives one number for each row. It says of its MLP that the accuracy was
stable over epochs 90 to 100 (section 4.3), so we take means over these epochs for all rows. If the paper's
run were one more of ours, its number would fall into the 95 % *prediction* interval of our n runs,

    mean ± t_{n-1} s sqrt(1 + 1/n),

in nineteen cases out of twenty. So our runs **exclude** the paper's number if it lies outside this interval,
widened by half of the last digit that the paper prints. They do **not exclude** it if it lies inside. Runs
that differ much have a wide interval and exclude little, so the interval belongs beside the word. Fewer than
three runs say nothing. The first edition also kept silent when the interval reached farther than half a
point. That hid one row whose number lies outside even a wide interval, so this clause is gone.

All runs are tested on the same 10,000 images. The error from their limited number affects both sides alike
and is left out. The rule does not fix the number of runs; it should have done so.

Imports nothing else of the package but :mod:`~ugmm_tutorial.training.records`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ugmm_tutorial.training.records import Record, mean_and_interval

__all__ = ["WINDOW", "Replication", "judge", "over_window"]

#: First and last epoch of the window that the paper names.
WINDOW = (90, 100)
_FEWEST_RUNS = 3


@dataclass(frozen=True)
class Replication:
    """The paper's number against our runs for one row. Accuracies are fractions.

    Attributes:
        paper: the paper's number.
        mean: mean over our runs.
        half: half-width of the 95 % confidence interval of that mean (NaN for one run).
        reach: half-width of the 95 % prediction interval for one more run, with the paper's rounding added
            (NaN for one run).
        runs: the number of our runs.
        lower: the number of runs that are below the paper's number by more than its rounding.
        higher: the number of runs that are above it by more than its rounding.
    """

    paper: float
    mean: float
    half: float
    reach: float
    runs: int
    lower: int
    higher: int

    @property
    def word(self) -> str:
        """``not excluded``, ``excluded: ours higher`` or ``lower``, or ``too few runs``."""
        if self.runs < _FEWEST_RUNS:
            return "too few runs"
        if abs(self.paper - self.mean) <= self.reach:
            return "not excluded"
        return f"excluded: ours {'higher' if self.mean > self.paper else 'lower'}"

    @property
    def remark(self) -> str:
        """``every run lower`` or ``higher`` if all runs agree, though they do not exclude the number."""
        if self.word != "not excluded" or self.runs not in (self.lower, self.higher):
            return ""
        return f"every run {'lower' if self.lower else 'higher'}"


def over_window(record: Record, metric: str = "test_accuracy") -> float:
    """Mean of a metric over the epochs of ``WINDOW``.

    Raises:
        ValueError: the run is shorter.
    """
    first, last = WINDOW
    if len(record.metrics) < last:
        raise ValueError(f"expected a record of at least {last} epochs, got {len(record.metrics)}")
    return statistics.fmean(record.curve(metric)[first - 1 : last])


def judge(paper: float, accuracies: Sequence[float]) -> Replication:
    """Compare the paper's number with the accuracies of our runs.

    Args:
        paper: a fraction. Its last digit, as a percentage, says how it was rounded. Zeros at the end are
            lost, so 98.1 and 98.10 are the same here.
        accuracies: one fraction for each of our runs.

    Raises:
        ValueError: there are no runs.
    """
    if not accuracies:
        raise ValueError("expected at least one run, got none")
    mean, half = mean_and_interval(accuracies)
    runs = len(accuracies)
    # Both half-widths are multiples of s: sqrt(1/n) for the mean, sqrt(1 + 1/n) for one more run.
    rounding = _rounding(paper)
    reach = half * math.sqrt(runs + 1) + rounding
    lower, higher = (sum(sign * (a - paper) > rounding for a in accuracies) for sign in (-1, 1))
    return Replication(paper, mean, half, reach, runs, lower, higher)


def _rounding(fraction: float) -> float:
    """Half of the last digit of a fraction that is printed as a percentage."""
    digits = f"{100 * fraction:.4f}".rstrip("0").partition(".")[2]
    return 0.5 * 10.0 ** -len(digits) / 100
