"""The built book, once `make book` has built it: nothing is missing, and nothing comes from elsewhere."""

import functools
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chapters import Chapter
from lint import form_of

SITE = Path(__file__).resolve().parents[2] / "_build" / "html"
PAGES = sorted((SITE / "book").glob("*.html"))

pytestmark = pytest.mark.skipif(not PAGES, reason="the book is not built: `make book` builds it")

LOADS = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class References(HTMLParser):
    """Collects what a page loads, what it links to, its ids, and its images' alternative texts."""

    def __init__(self, page):
        super().__init__()
        self.loaded, self.linked, self.ids, self.alts = [], [], set(), []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        for name, value in attributes:
            if (tag, name) in LOADS and value and values.get("rel") not in ("next", "prev", "canonical"):
                self.loaded.append(value)
        if tag == "a" and values.get("href"):
            self.linked.append(values["href"])
        if tag == "img":
            self.alts.append((values.get("src"), values.get("alt")))


@functools.cache
def references(page):
    """Of a page; the one on the interface alone has a thousand links to itself."""
    return References(page)


@pytest.fixture(scope="module", params=PAGES, ids=lambda page: page.stem)
def page(request):
    return request.param


def local_target(page, reference):
    path = unquote(urlsplit(reference).path)
    return (page.parent / path).resolve() if path else page


def test_a_letter_and_a_full_stop_are_no_item_of_a_list(page):
    """A docstring's "num_components: J." would be item J of a list that has nothing in it."""
    assert not re.search(r'<ol class="(upper|lower)(alpha|roman)', page.read_text(encoding="utf-8"))


def test_page_loads_nothing_from_elsewhere_and_all_of_it_is_there(page):
    for reference in references(page).loaded:
        assert not urlsplit(reference).netloc, f"{page.name} loads {reference}"
        if not reference.startswith("data:"):
            assert local_target(page, reference).is_file(), f"{page.name} loads {reference}"


def test_links_within_the_site_resolve_to_a_page_and_a_place_on_it(page):
    for reference in references(page).linked:
        parts = urlsplit(reference)
        if parts.scheme or parts.netloc:
            continue
        target = local_target(page, reference)
        assert target.exists(), f"{page.name} links to {reference}"
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in references(target).ids, f"{page.name} links to {reference}"


def test_every_image_has_alternative_text(page):
    for source, alt in references(page).alts:
        assert alt, f"{page.name}: {source}"


def test_mathematics_is_rendered_by_this_site(page):
    text = page.read_text(encoding="utf-8")
    if 'class="math' in text:
        assert re.search(r'src="[^"]*_static/mathjax/tex-chtml\.js', text)


def test_chapters_show_their_outputs():
    for page in (p for p in PAGES if p.stem[0].isdigit()):
        text = page.read_text(encoding="utf-8")
        fewest = form_of(Chapter(page)).figures[0]
        assert text.count("<figcaption>") >= fewest, page.name
        assert "Traceback" not in text
        assert 'class="claim-note' not in text, f"{page.name}: a statement does not hold on this machine"


def test_site_is_small_and_starts_at_the_index():
    size = sum(file.stat().st_size for file in SITE.rglob("*") if file.is_file())
    assert size < 30e6
    assert "book/index.html" in (SITE / "index.html").read_text(encoding="utf-8")
