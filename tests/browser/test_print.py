"""On paper: all of a chapter's text, nothing cut off, black on white; and the whole book as one PDF."""

import re
import subprocess
import sys
import unicodedata

import pytest
from chapters import ROOT, Chapter
from chromium import SETTLED
from folds import title_of
from pdf import pages

from .conftest import SITE

pypdf = pytest.importorskip("pypdf")
pytestmark = pytest.mark.skipif(not (SITE / "book").exists(), reason="the book is not built: `make book`")


def bare(text):
    """Without white space, ligatures and curly quotes: lines and letters are set differently on paper."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).replace("’", "'")


@pytest.fixture(scope="module")
def book(tmp_path_factory, browser):
    """What the command for the PDF says, and the PDF that it writes, read."""
    target = tmp_path_factory.mktemp("paper") / "new" / "book.pdf"
    # A process of its own: Playwright's driver of the other tests is running in this one.
    command = [sys.executable, ROOT / "book" / "_ext" / "pdf.py", target]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return said.replace(str(target), "FILE").strip(), pypdf.PdfReader(target)


def starts(document):
    """The number of the sheet on which each page of the site begins."""
    return [document.get_destination_page_number(item) for item in document.outline]


@pytest.fixture
def paper(book):
    """A function that gives the text of a printed chapter."""

    def get(name):
        document = book[1]
        first = dict(zip(pages(), starts(document), strict=True))[f"book/{name}"]
        behind = next((start for start in starts(document) if start > first), len(document.pages))
        sheets = document.pages[first:behind]
        return bare("".join(sheet.extract_text(extraction_mode="layout") for sheet in sheets))

    return get


@pytest.mark.parametrize("chapter", Chapter.all(), ids=lambda chapter: chapter.path.stem)
def test_chapter_is_on_paper_from_title_to_references(chapter, paper):
    text = paper(chapter.path.stem)
    headings = re.findall(r"^#+ ([^$\n]+)$", chapter.prose, re.MULTILINE)
    assert [h for h in headings if bare(h) not in text] == []
    visible = [cell.source for cell in chapter.code if title_of(cell) is None]  # folds stay closed on paper
    longest = sorted((line for source in visible for line in source.splitlines()), key=len)[-8:]
    assert [line for line in longest if bare(line) not in text] == [], "code is cut off at the margin"
    assert "Hide solution" not in text


def test_controls_that_need_a_finger_are_not_printed(site, new_page):
    page = new_page()
    page.goto(f"{site}/book/explorer.html")
    assert page.locator(".ne-controls").is_visible()
    page.emulate_media(media="print")
    assert not page.locator(".ne-controls").is_visible()
    assert page.locator(".ne-picture").is_visible()


def test_dark_theme_is_printed_light_and_comes_back(site, new_page):
    page = new_page(theme="dark")
    page.goto(f"{site}/book/01_one_neuron.html")
    page.evaluate(SETTLED)
    seen = page.evaluate(
        """() => ["beforeprint", "afterprint"].map((name) => {
            dispatchEvent(new Event(name));
            return document.documentElement.dataset.theme;
        })"""
    )
    assert seen == ["light", "dark"]


def test_whole_book_is_one_pdf_with_a_bookmark_for_each_page(book):
    said, document = book
    assert said == f"FILE: {len(document.pages)} pages"
    begun = starts(document)
    assert len(begun) == len(pages())
    assert begun == sorted(set(begun))
    for item, start in zip(document.outline, begun, strict=True):
        assert bare(item.title) in bare(document.pages[start].extract_text())
