"""What a reader gets back: whether the answer is right, and one sentence that helps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNANSWERED", "Feedback"]

#: How the hint of an exercise begins that has not been tried.
UNANSWERED = "not answered yet."


@dataclass(frozen=True, repr=False)
class Feedback:
    """The verdict on one answer; true if it is right.

    Attributes:
        exercise: its number, such as ``"1.1"``.
        passed: whether the answer is right.
        hint: what to look at next; after a right answer, something worth knowing.
    """

    exercise: str
    passed: bool
    hint: str

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        verdict = "right. " if self.passed else "not yet. "
        if self.hint.startswith(UNANSWERED):
            verdict = ""  # the hint says it
        return f"Exercise {self.exercise}: {verdict}{self.hint}"

    # A notebook shows the value of a cell's last line by its repr.
    __repr__ = __str__
