"""Every page of the built book in a browser: wide and narrow, light and dark."""

import functools
import gzip
from urllib.parse import unquote, urlsplit

import pytest
from chromium import SETTLED

from .conftest import SITE
from .inspect_page import barriers, broken_images, broken_mathematics, open_page, sideways_scroll

# The first page at the top only leads to the book's.
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for folder in (SITE, SITE / "book")
    for path in folder.glob("*.html")
    if path != SITE / "index.html"
)

pytestmark = pytest.mark.skipif(not PAGES, reason="the book is not built: `make book` builds it")


TEXT = {".html", ".css", ".js", ".json", ".svg"}


@functools.cache
def transferred(path):
    """Bytes of this file on the wire, where the server compresses text, as web hosts do."""
    file = SITE / path
    if not file.is_file():
        return 0
    return len(gzip.compress(file.read_bytes())) if file.suffix in TEXT else file.stat().st_size


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(name, width, site, new_page):
    """In the theme it is opened with, and in the other that the reader changes to."""
    first, other = ("light", "dark") if width == 1280 else ("dark", "light")
    page = new_page(width=width, theme=first)
    log = open_page(page, f"{site}/{name}", site)
    found = faults(page, first, width)
    page.emulate_media(color_scheme=other)
    page.locator(f'html[data-theme="{other}"]').wait_for()  # the page hears of it a moment later
    page.evaluate(SETTLED)
    found += faults(page, other, width)
    if width == 1280:
        files = {unquote(urlsplit(url).path).lstrip("/") for url in log.requested}
        weight = sum(transferred(path) for path in files)
        if weight > 1.5e6:
            largest = sorted(files, key=transferred)[-3:]
            found.append(f"too heavy: {weight} bytes, above all {largest}")
    assert not log.complaints + found


def faults(page, theme, width):
    """What is wrong with an open page in this theme; only colours can be wrong in one theme alone."""
    shown = page.locator("html").get_attribute("data-theme")
    found = [] if shown == theme else [f"shown in {shown}, not in {theme}"]
    found += broken_images(page) + broken_mathematics(page)
    if width == 375:
        return found + sideways_scroll(page)
    return found + barriers(page, colours_only=theme == "dark")
