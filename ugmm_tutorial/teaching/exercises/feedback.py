"""The feedback for a reader: whether the answer is right, and one helpful sentence."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNANSWERED", "Feedback"]

#: The beginning of the hint for an exercise that has not been tried.
UNANSWERED = "not answered yet."


@dataclass(frozen=True, repr=False)
class Feedback:
    """The verdict on one answer. It is true if the answer is right.

    Attributes:
        exercise: the number of the exercise, such as ``"1.1"``.
        passed: whether the answer is right.
        hint: what to look at next, or something worth knowing after a right answer.
    """

    exercise: str
    passed: bool
    hint: str

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        verdict = "right. " if self.passed else "not yet. "
        if self.hint.startswith(UNANSWERED):
            verdict = ""  # the hint says so
        return f"Exercise {self.exercise}: {verdict}{self.hint}"

    # A notebook shows the value of a cell's last line by its repr.
    __repr__ = __str__
