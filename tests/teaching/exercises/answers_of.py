"""Tests of the answers to one chapter's exercises, and what the answers of several chapters use."""

import math

import torch

from ugmm_tutorial.teaching.exercises import check

#: Most chapters have three.
COUNTS = {1: 4, 3: 5, 6: 4, 9: 4}
NUMBERS = [f"{n}.{place}" for n in range(1, 15) for place in range(1, COUNTS.get(n, 3) + 1)]
#: Exercises that ask for a function.
FUNCTIONS = [
    *("1.2", "1.3", "2.3", "3.4", "3.5", "4.2", "4.3", "5.2", "5.3", "6.2", "6.3", "7.2", "7.3"),
    *("8.2", "8.3"),
    *("9.2", "9.3", "9.4", "12.2", "12.3", "13.2", "13.3", "14.2", "14.3"),
]
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def terms(x, mean, std, weight):
    z = (x - mean) / std
    return weight.log() - std.log() - HALF_LOG_2PI - 0.5 * z * z


def raises_not_implemented(*arguments):
    raise NotImplementedError


def stubs_of(chapter):
    """What stands in a chapter's cells before anyone has worked on them."""
    numbers = [number for number in NUMBERS if number.split(".")[0] == str(chapter)]
    functions = [number for number in FUNCTIONS if number in numbers]
    return [
        *((number, stub) for number in numbers for stub in (..., None)),
        *((number, lambda *arguments: None) for number in functions),
        *((number, lambda *arguments: ...) for number in functions if number not in ("2.3", "5.3")),
        *((number, raises_not_implemented) for number in functions),
    ]


class AnswersOfAChapter:
    """The tests of a chapter's answers. Its file has a subclass with these three lists."""

    right, stubs, wrong = (), (), ()

    def pytest_generate_tests(self, metafunc):
        """A test's arguments say which of the lists it goes through."""
        if "phrase" in metafunc.fixturenames:
            metafunc.parametrize(("number", "answer", "phrase"), self.wrong)
        elif "stub" in metafunc.fixturenames:
            metafunc.parametrize(("number", "stub"), self.stubs)
        elif "answer" in metafunc.fixturenames:
            metafunc.parametrize(("number", "answer"), self.right)
        else:
            metafunc.parametrize("number", dict.fromkeys(number for number, _ in self.right))

    def test_right_answers_pass_with_something_worth_knowing(self, number, answer):
        feedback = check(number, answer)
        assert feedback, feedback
        assert str(feedback).startswith(f"Exercise {number}: right. ")
        assert len(feedback.hint) > 40

    def test_answers_are_right_with_float64_as_the_default_and_without_gradients(self, number):
        try:
            torch.set_default_dtype(torch.float64)
            with torch.no_grad():
                for n, answer in self.right:
                    assert n != number or check(n, answer), n
                assert not torch.is_grad_enabled()
            assert torch.get_default_dtype() == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)

    def test_stubs_are_not_answered_yet_and_get_the_first_hint(self, number, stub):
        feedback = check(number, stub)
        assert not feedback
        assert str(feedback).startswith(f"Exercise {number}: not answered yet. ")
        assert feedback.hint == check(number, ...).hint
        assert len(feedback.hint) > 60

    def test_wrong_answers_are_recognised(self, number, answer, phrase):
        feedback = check(number, answer)
        assert not feedback.passed
        assert phrase in feedback.hint
        assert str(feedback).startswith(f"Exercise {number}: not yet. ")
        assert "\n" not in str(feedback)
