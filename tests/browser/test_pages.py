"""Every page of the built book in a browser: wide and narrow, light and dark."""

import functools
import gzip
from urllib.parse import unquote, urlsplit

import pytest

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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(name, width, theme, site, new_page):
    page = new_page(width=width, theme=theme)
    log = open_page(page, f"{site}/{name}", site)
    assert page.locator("html").get_attribute("data-theme") == theme
    found = log.complaints + broken_images(page) + broken_mathematics(page)
    if width == 375:
        found += sideways_scroll(page)
    else:
        found += barriers(page)
        files = {unquote(urlsplit(url).path).lstrip("/") for url in log.requested}
        weight = sum(transferred(path) for path in files)
        if weight > 1.5e6:
            largest = sorted(files, key=transferred)[-3:]
            found.append(f"too heavy: {weight} bytes, above all {largest}")
    assert not found
