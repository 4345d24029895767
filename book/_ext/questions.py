"""Questions with choices, in quizzes and predictions: a list (a) to (d), and an answer in ``<details>``."""

from __future__ import annotations

import re

_OPTION = re.compile(r"^- \(([a-d])\) \S", re.MULTILINE)
_ANSWER = re.compile(
    r"<details>\n<summary>Answer</summary>\n\n\*\*\(([a-d])\)\.?\*\*,?(.+?)\n\n</details>", re.DOTALL
)


def has_choices(question: str, fewest: int) -> bool:
    """Whether the Markdown of a question lists at least so many choices, in order from (a) on."""
    options = _OPTION.findall(question)
    return options == ["a", "b", "c", "d"][: len(options)] and len(options) >= fewest


def is_answered(question: str) -> bool:
    """Whether a folded answer names one of the choices and explains it in eight words or more."""
    answer = _ANSWER.search(question)
    return answer is not None and answer[1] in _OPTION.findall(question) and len(answer[2].split()) >= 8
