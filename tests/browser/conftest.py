"""A browser for the built book. Its tests are skipped where Playwright, Chromium or the book is missing."""

from pathlib import Path

import pytest
from chromium import BrowserMissingError, launch, served

SITE = Path(__file__).resolve().parents[2] / "_build" / "html"


# Package scope, not session: Playwright's event loop must have ended before other tests start theirs.
@pytest.fixture(scope="package")
def browser():
    """One browser for all tests here."""
    reason = "playwright is missing: install the extra [test]"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    with playwright.sync_playwright() as driver:
        try:
            browser = launch(driver)
        except BrowserMissingError as error:
            pytest.skip(str(error))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def context(browser):
    """A function that gives the one context for a window's width and a theme (and scripts on or off)."""
    contexts = {}

    def get(width=1280, theme="light", scripts=True):
        key = width, theme, scripts
        if key not in contexts:
            contexts[key] = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=theme,
                java_script_enabled=scripts,
                has_touch=width < 700,
            )
            contexts[key].set_default_timeout(10_000)
        return contexts[key]

    yield get
    for one in contexts.values():
        one.close()


@pytest.fixture(scope="package")
def site():
    """The address of the built book."""
    if not (SITE / "index.html").exists():
        pytest.skip("the book is not built: `make book` builds it")
    with served(SITE) as address:
        yield address


@pytest.fixture
def new_page(context):
    """A function that opens an empty page in the context of that name; pages close after the test.

    Without ``formulas`` a page is there in half the time.
    """
    pages = []

    def get(formulas=True, **which):
        pages.append(context(**which).new_page())
        if not formulas:
            pages[-1].route("**/tex-chtml.js*", lambda route: route.abort())
        return pages[-1]

    yield get
    for page in pages:
        page.close()
