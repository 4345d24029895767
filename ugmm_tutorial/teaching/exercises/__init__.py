"""Checks for the book's exercises: ``check("1.1", answer)`` says whether an answer is right, and if not, why.

Answers are numbers, functions or classes, as each exercise says. Hints recognise common mistakes.
"""

from __future__ import annotations

import importlib

from ugmm_tutorial.teaching.exercises.answers import NotYet, Unanswered
from ugmm_tutorial.teaching.exercises.feedback import UNANSWERED, Feedback
from ugmm_tutorial.teaching.exercises.state import unchanged

__all__ = ["Feedback", "check"]

_CHAPTERS = [importlib.import_module(f"{__name__}.chapter{number}") for number in range(1, 15)]
_EXERCISES = {number: exercise for chapter in _CHAPTERS for number, exercise in chapter.EXERCISES.items()}


def check(exercise: str, answer: object) -> Feedback:
    """Check an answer to one of the book's exercises.

    The same answer always gets the same feedback. An answer that fails to run, or that has an unexpected
    type, gets a hint instead of an exception; only Ctrl-C gets through. Random generators, of Python and
    NumPy too, and PyTorch's defaults do not change.

    Args:
        exercise: its number, from the chapter and the place in it, such as ``"1.1"``.
        answer: what the exercise asks for. ``...`` and None count as not answered yet. So does a function
            that returns one of these, unless it is meant to work in place.

    Raises:
        ValueError: there is no such exercise.
    """
    number = str(exercise)
    if number not in _EXERCISES:
        raise ValueError(f"unknown exercise {number!r}: expected one of {', '.join(_EXERCISES)}")
    checker, first_hint = _EXERCISES[number]
    try:
        if answer is None or answer is ...:
            raise Unanswered
        # The reader's code may draw random numbers. They are always the same, and not the notebook's.
        with unchanged():
            return Feedback(number, True, checker(answer))
    except Unanswered:
        return Feedback(number, False, f"{UNANSWERED} {first_hint}")
    except NotYet as hint:
        return Feedback(number, False, str(hint))
    except (Exception, SystemExit, GeneratorExit) as error:
        # Checkers guard every use of the answer that they foresee. This handles all other errors.
        return Feedback(number, False, f"Checking it raised {type(error).__name__}. {first_hint}")
