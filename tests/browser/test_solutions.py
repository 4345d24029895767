"""Solutions are closed at first, and open on a click."""

import pytest
from chapters import BOOK, Chapter

from .conftest import SITE

CHAPTERS = sorted(path.stem for path in (SITE / "book").glob("[0-9][0-9]_*.html"))

pytestmark = pytest.mark.skipif(not CHAPTERS, reason="the book is not built: `make book` builds it")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_solutions_open_on_a_click_and_show_code(chapter, scripts, site, new_page):
    page = new_page(scripts=scripts, formulas=False)
    page.goto(f"{site}/book/{chapter}.html")
    solutions = page.locator("details.hide", has_text="# @title Solution")
    written = [c for c in Chapter(BOOK / f"{chapter}.ipynb").code if c.id.startswith("solution-")]
    assert solutions.count() == len(written) >= 3
    for solution in solutions.all():
        code = solution.locator("pre").first
        assert not code.is_visible()
        solution.locator("summary").click()
        assert code.is_visible()
        assert "# @title Solution" in code.inner_text()
