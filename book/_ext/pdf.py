"""The built book as one PDF: ``python book/_ext/pdf.py [FILE]``, pages in reading order, with bookmarks."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import yaml

from chapters import ROOT
from chromium import SETTLED, BrowserMissingError, launch, served

SITE = ROOT / "_build" / "html"
PAPER = {"format": "A4", "print_background": True, "prefer_css_page_size": True}  # margins: print.css
#: Pages that are useful only on a screen, to be clicked or read beside code.
_LEFT_OUT = ("book/api", "book/broken_example", "book/explorer")


def pages() -> list[str]:
    """Names of the printed pages, in the order of ``_toc.yml``."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    names = [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]
    return [name for name in names if name not in _LEFT_OUT]


def printed(browser, address: str, name: str) -> tuple[str, bytes]:
    """The title of one page, and the page as a PDF."""
    page = browser.new_page(color_scheme="light")
    try:
        page.goto(f"{address}/{name}.html", wait_until="load")
        page.evaluate(SETTLED)
        title = page.locator(".bd-article h1").first.inner_text().rstrip("#").strip()
        return title, page.pdf(**PAPER)
    finally:
        page.close()


def write(target: Path) -> int:
    """Print all pages into one file, and return its number of sheets.

    Raises:
        FileNotFoundError: the book is not built.
        BrowserMissingError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter

    if not (SITE / "index.html").exists():
        raise FileNotFoundError("the book is not built: `make book` builds it")
    whole = PdfWriter()
    with sync_playwright() as driver, served(SITE) as address:
        browser = launch(driver)
        for name in pages():
            title, part = printed(browser, address, name)
            start = len(whole.pages)
            whole.append(PdfReader(io.BytesIO(part)), import_outline=False)
            whole.add_outline_item(title, start)
        browser.close()
    whole.add_metadata({"/Title": "The uGMM-NN book"})
    target.parent.mkdir(parents=True, exist_ok=True)
    whole.write(target)
    return len(whole.pages)


def main() -> int:
    """Run the command. Return 1 and print a sentence if something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "_build" / "ugmm-nn-book.pdf")
    target = parser.parse_args().file
    try:
        sheets = write(target)
    except (FileNotFoundError, BrowserMissingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {sheets} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
