"""A browser for the built book. Its tests are skipped where Playwright, Chromium or the book is missing."""

import functools
import os
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SITE = Path(__file__).resolve().parents[2] / "_build" / "html"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Nothing but the server below can be reached, so that no test depends on a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def served(folder):
    """The address at which a thread serves this folder."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# Package scope, not session: Playwright's event loop must have ended before other tests start theirs.
@pytest.fixture(scope="package")
def browser():
    """One browser for all tests here."""
    reason = "playwright is missing: install the extra [test]"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    with playwright.sync_playwright() as driver:
        path = found or driver.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("Chromium is missing: install it, or name its program in CHROMIUM")
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
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
    """A function that opens an empty page in the context of that name; pages close after the test."""
    pages = []

    def get(**which):
        pages.append(context(**which).new_page())
        return pages[-1]

    yield get
    for page in pages:
        page.close()
