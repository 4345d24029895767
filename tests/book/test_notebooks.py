"""Every chapter keeps every rule of the book (book/_ext/lint.py), and the reference pages theirs."""

import re

import pytest
import yaml
from chapters import BOOK, ROOT, Chapter, claims_of
from lint import RULES
from measured import uncovered, unsaid

CHAPTERS = Chapter.all()
PAGES = sorted(BOOK.glob("*.md"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.path.stem)
def test_chapter_keeps_the_rule(chapter, rule):
    assert rule(chapter) == []


def test_every_chapter_is_found():
    assert [c.path.stem for c in CHAPTERS] == sorted(path.stem for path in BOOK.glob("*.ipynb"))
    assert len(CHAPTERS) >= 4


def test_every_page_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])}
    assert listed == {f"book/{path.stem}" for path in (*PAGES, *BOOK.glob("*.ipynb"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_numbers_on_a_page_are_claimed_in_its_own_cells(page):
    text = page.read_text(encoding="utf-8")
    cells = re.findall(r"```\{code-cell\}[^\n]*\n(?:---\n.*?\n---\n)?(.*?)```", text, re.DOTALL)
    claimed = [claim.text for cell in cells for claim in claims_of(cell, page.stem)]
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    assert "# " in body
    assert uncovered(body, claimed) == []
    assert unsaid(text, claimed) == []


def test_glossary_terms_are_used_in_the_chapter_they_name():
    text = (BOOK / "glossary.md").read_text(encoding="utf-8")
    body = re.search(r"```\{glossary\}\n(.*?)```", text, re.DOTALL)[1]
    entries = re.findall(r"^(\S.*)\n((?:  .*\n)+)", body, re.MULTILINE)
    assert [term for term, _ in entries] == sorted((term for term, _ in entries), key=str.casefold)
    prose = {chapter.number: chapter.prose.casefold() for chapter in CHAPTERS if not chapter.appendix}
    for term, definition in entries:
        number = int(re.search(r"\[(\d+)\]\s*$", definition)[1])
        stem = re.sub(r"(y|ing)$", "", term.casefold())  # plurals and other forms
        assert stem in prose[number], f"{term} is not in chapter {number}"


def test_every_work_in_the_bibliography_can_be_found():
    entries = (BOOK / "references.bib").read_text(encoding="utf-8").split("\n@")
    lacking = [e.split(",")[0] for e in entries if not re.search(r"^  (doi|isbn|url) = ", e, re.MULTILINE)]
    assert lacking == ["misc{discussion2025"], "only the discussion has no identifier"
