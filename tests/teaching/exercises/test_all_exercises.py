"""The checks of the book's exercises: all answers together, answers that misbehave, and Feedback itself."""

import ast
import importlib
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from answers_of import FUNCTIONS, NUMBERS
from test_chapter2 import TiedStd
from test_chapter3 import with_background
from test_chapter6 import bootstrap
from torch import nn

from ugmm_tutorial.teaching import exercises
from ugmm_tutorial.teaching.exercises import Feedback, check

FOLDER = Path(exercises.__file__).parent
CHAPTERS = [importlib.import_module(f"test_chapter{chapter}") for chapter in range(1, 15)]
RIGHT = [case for chapter in CHAPTERS for case in chapter.RIGHT]
WRONG = [case for chapter in CHAPTERS for case in chapter.WRONG]


# --- all chapters -----------------------------------------------------------------------------------


def test_every_exercise_has_a_right_answer_here():
    assert {number for number, _ in RIGHT} == set(NUMBERS)
    assert list(exercises._EXERCISES) == NUMBERS


def test_first_hints_differ():
    assert len({check(number, ...).hint for number in NUMBERS}) == len(NUMBERS)


def test_hints_give_no_solution_away():
    for number, solution in (
        ("1.1", "1.38"),
        ("3.1", "0.4"),
        ("4.1", "0.403"),
        ("5.1", "0.92"),
        ("5.1", "0.93"),
        ("6.1", "78,4"),
        ("6.1", "784"),
        ("12.1", "2.3"),
    ):
        hints = [
            check(n, answer).hint for n, answer, _ in WRONG if n == number and not isinstance(answer, str)
        ]
        assert not [hint for hint in hints if solution in hint]


# --- answers that misbehave -------------------------------------------------------------------------


class Awkward:
    """Raises at every turn."""

    def __getattr__(self, name):
        raise OSError("no such thing")

    def __len__(self):
        raise OSError("no length")

    def __repr__(self):
        raise OSError("no text")

    def __call__(self, *arguments):
        raise KeyError("no\nway")


class BrokenText(Exception):
    def __str__(self):
        raise OSError


def raises_an_error_without_text(*arguments):
    raise BrokenText


# From Python 3.13 on, PyTorch's question whether an object has an attribute tells of what the object raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", NUMBERS)
def test_no_answer_makes_check_raise(number):
    for answer in (
        "",
        "abc",
        b"1",
        [],
        {},
        object(),
        Awkward(),
        nn.Linear,
        torch.zeros(3, 0),
        print,
        math.sin,
        raises_an_error_without_text,
        10**400,
        np.array(["a"]),
        [[1], [2, "b"]],
        type,
        nn.Module,
    ):
        feedback = check(number, answer)
        assert isinstance(feedback, Feedback)
        assert not feedback


@pytest.mark.parametrize("number", FUNCTIONS)
def test_an_exception_in_a_function_is_named_on_one_line(number):
    hint = check(number, Awkward()).hint
    assert hint == "Your code raised KeyError: 'no\\nway'. Try it alone, on a few numbers."

    def lines(*arguments):
        raise ValueError("first\nsecond " + 1000 * "x")

    hint = check(number, lines).hint
    assert "ValueError: first second x" in hint
    assert len(hint) < 300
    assert "Has the cell that defines it been run?" in check(number, lambda *a: undefined).hint  # noqa: F821


def test_what_no_checker_foresees_still_gets_the_first_hint():
    hint = check("1.2", raises_an_error_without_text).hint
    assert hint.startswith("Checking it raised OSError. ")
    assert hint.endswith(check("1.2", ...).hint.removeprefix("not answered yet. "))


def test_functions_may_change_their_arguments():
    """They get copies, so what they do to one cannot turn up in the next comparison."""

    def destructive(x, mean, log_std, log_weight, log_background):
        out = with_background(x, mean, log_std, log_weight, log_background)
        for argument in (x, mean, log_std, log_weight, log_background):
            argument.fill_(math.nan)
        return out

    assert check("3.4", destructive)


# --- the rest of the notebook -----------------------------------------------------------------------


def test_check_leaves_answers_random_state_and_defaults_as_they_are():
    answer = torch.tensor([1.0, -1.0], requires_grad=True)
    before, torch_state = answer.detach().clone(), torch.random.get_rng_state()
    for number, given in (*RIGHT, *((n, a) for n, a, _ in WRONG[::7]), ("2.1", answer)):
        check(number, given)
        assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert torch.equal(answer.detach(), before)
    assert answer.grad is None
    assert answer.requires_grad
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_feedback_does_not_depend_on_the_random_state():
    """Not even for an answer that draws numbers itself, which always get the same ones."""

    def random_verdict(a, b):
        return "A" if torch.rand(()) < 0.5 else "undecided"

    def random_numbers(outputs, labels):
        seen.append(torch.rand(3))
        return seen[-1]

    seen = []
    for number, answer in (
        ("6.3", random_verdict),
        ("6.3", bootstrap),
        ("6.2", random_numbers),
        ("2.2", TiedStd),
    ):
        feedbacks = set()
        for seed in range(4):
            torch.manual_seed(seed)
            feedbacks.add(check(number, answer))
        assert len(feedbacks) == 1
    assert all(torch.equal(numbers, seen[0]) for numbers in seen)


# --- check and Feedback themselves ------------------------------------------------------------------


def test_unknown_numbers_are_errors_that_list_what_there_is():
    with pytest.raises(ValueError, match=r"unknown exercise '0\.1'.*1\.1, 1\.2.*10\.3.*12\.3"):
        check("0.1", 1)
    assert check(1.1, 1.3836)  # a number instead of a string is no harm


def test_feedback_is_a_frozen_verdict_that_reads_as_a_line():
    right, wrong = Feedback("1.1", True, "Well."), Feedback("1.1", False, "Look again.")
    assert right
    assert not wrong
    assert str(right) == repr(right) == "Exercise 1.1: right. Well."
    assert str(wrong) == repr(wrong) == "Exercise 1.1: not yet. Look again."
    unanswered = Feedback("1.1", False, f"{exercises.UNANSWERED} Begin.")
    assert repr(unanswered) == "Exercise 1.1: not answered yet. Begin."
    with pytest.raises(AttributeError):
        right.passed = False


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_every_public_definition_of_the_folder_is_exported_and_documented(name):
    module = importlib.import_module(f"ugmm_tutorial.teaching.exercises.{name}".removesuffix(".__init__"))
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    public = {
        node.name: node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
    assert set(public) <= set(module.__all__)
    assert [n for n, node in public.items() if not ast.get_docstring(node)] == []
    assert [n for n in module.__all__ if not hasattr(module, n)] == []


def leaves(*arguments):
    raise SystemExit(3)


def stops(*arguments):
    raise GeneratorExit


@pytest.mark.parametrize("answer", [leaves, stops])
def test_an_answer_that_wants_to_end_the_program_gets_a_hint(answer):
    assert (
        f"Your code raised {'SystemExit' if answer is leaves else 'GeneratorExit'}"
        in check("1.2", answer).hint
    )


def test_ctrl_c_gets_through():
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("1.2", interrupted)


def test_an_answer_changes_no_global_state():
    def careless(*arguments):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(1 + torch.get_num_threads())
        torch.set_default_device("meta")
        return arguments[0]

    def state():
        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            torch.get_rng_state().tolist(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.get_default_device(),
        )

    before = state()
    check("1.2", careless)
    assert state() == before
