"""Quizzes: radio buttons with scripts, a list and <details> without, formulas whole in either case."""

import pytest

from .conftest import SITE
from .inspect_page import broken_mathematics

CHAPTERS = sorted(path.stem for path in (SITE / "book").glob("[0-9][0-9]_*.html"))
MATHJAX_DONE = "window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => true)"

pytestmark = pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` builds it")


@pytest.fixture
def quiz(site, new_page):
    """A function that opens a chapter and gives its quiz."""

    def get(chapter, **which):
        page = new_page(**which)
        page.goto(f"{site}/book/{chapter}.html")
        return page.locator("section#quiz")

    return get


def question(quiz, number):
    return quiz.locator("fieldset").nth(number - 1)


def test_wrong_and_right_choice_are_told_explained_and_counted(quiz):
    quiz = quiz("01_one_neuron")
    score = quiz.locator(".quiz-score")
    assert score.inner_text() == "0 of 4 right, 4 still to answer."
    first = question(quiz, 1)
    assert first.get_by_role("radio").count() == 3
    assert not first.locator("details p").first.is_visible()

    first.get_by_label("(a)").check()
    assert first.get_by_role("status").inner_text() == "✗ Not right: the answer is (b)."
    assert first.locator("details p").first.is_visible()
    assert score.inner_text() == "0 of 4 right, 3 still to answer."

    first.get_by_label("(b)").check()
    assert first.get_by_role("status").inner_text() == "✓ Right."
    assert score.inner_text() == "1 of 4 right, 3 still to answer."


def test_quiz_is_answered_with_the_keyboard(quiz):
    quiz = quiz("01_one_neuron")
    second = question(quiz, 2)
    second.get_by_label("(a)").focus()
    second.page.keyboard.press("Space")
    assert second.get_by_role("status").inner_text() == "✓ Right."
    second.page.keyboard.press("ArrowDown")
    assert second.get_by_label("(b)").is_checked()
    assert second.get_by_role("status").inner_text() == "✗ Not right: the answer is (a)."


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_question_of_every_chapter_has_one_right_answer(chapter, quiz):
    quiz = quiz(chapter, formulas=False)
    assert quiz.locator("fieldset").count() == quiz.locator("details").count() == 4
    for fieldset in quiz.locator("fieldset").all():
        verdicts = []
        for radio in fieldset.get_by_role("radio").all():
            radio.check()
            verdicts.append(fieldset.get_by_role("status").inner_text())
        right = verdicts.index("✓ Right.")
        assert verdicts.count("✓ Right.") == 1
        assert len(verdicts) >= 3
        fieldset.get_by_role("radio").nth(right).check()
    assert quiz.locator(".quiz-score").inner_text() == "4 of 4 right."


def predictions(quiz, chapter, **which):
    return quiz(chapter, **which).page.locator("article fieldset.quiz-question:not(#quiz fieldset)")


def test_prediction_is_answered_like_a_question_and_counts_nowhere(quiz):
    first = predictions(quiz, "01_one_neuron").first
    assert first.inner_text().startswith("Predict, then run.")
    assert not first.locator("details p").first.is_visible()
    first.get_by_label("(c)").check()
    assert first.get_by_role("status").inner_text() == "✗ Not right: the answer is (b)."
    assert first.locator("details p").first.is_visible()
    assert first.page.locator(".quiz-score").inner_text() == "0 of 4 right, 4 still to answer."


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_prediction_of_every_chapter_can_be_answered(chapter, quiz):
    found = predictions(quiz, chapter, formulas=False)
    asked = found.page.locator("article p > strong", has_text="Predict, then run.").count()
    assert found.count() == asked
    for fieldset in found.all():
        verdicts = []
        for radio in fieldset.get_by_role("radio").all():
            radio.check()
            verdicts.append(fieldset.get_by_role("status").inner_text())
        assert verdicts.count("✓ Right.") == 1


@pytest.mark.parametrize("late", ["quiz.js", "tex-chtml.js"])
def test_formulas_are_rendered_whichever_script_comes_first(late, site, new_page):
    page = new_page()
    url = f"{site}/book/01_one_neuron.html"
    page.route(f"**/{late}*", lambda route: route.abort())
    page.goto(url)
    source = page.locator(f'script[src*="{late}"]').get_attribute("src")
    if late == "quiz.js":
        page.wait_for_function(MATHJAX_DONE)
    assert page.locator("#quiz fieldset").count() == (0 if late == "quiz.js" else 4)
    page.unroute(f"**/{late}*")
    page.add_script_tag(url=page.evaluate("source => new URL(source, location).href", source))
    page.wait_for_function(MATHJAX_DONE)
    assert page.locator("#quiz fieldset label .math mjx-container").count() >= 3
    assert not broken_mathematics(page)


def test_without_scripts_options_are_a_list_and_answers_open_on_a_click(quiz):
    quiz = quiz("01_one_neuron", scripts=False)
    assert quiz.locator("fieldset, input").count() == 0
    assert quiz.locator("ul > li").first.inner_text().startswith("(a)")
    explanation = quiz.locator("details p").first
    assert not explanation.is_visible()
    quiz.locator("summary").first.click()
    assert explanation.is_visible()
