"""The page of claims: what the text states in numbers, the code behind it, and how it stands to the paper."""

from __future__ import annotations

import re

from myst_parser.mdit_to_docutils.base import default_slugify
from sphinx.application import Sphinx

from chapters import Chapter
from lint import paper_rows
from measured import readable
from ugmm_tutorial.claims import plain_text

MARK = "<!-- claims of every chapter -->"
_VERDICTS = {"reproduces": "reproduces", "differs": "differs", "beyond": "goes beyond", None: "—"}


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Sphinx's ``source-read``: put the tables where the page has its mark."""
    if MARK in source[0]:
        for chapter in Chapter.all():
            app.env.note_dependency(str(chapter.path))
        source[0] = source[0].replace(MARK, "\n\n".join(map(tables, Chapter.all())))


def tables(chapter: Chapter) -> str:
    """One chapter's section in Markdown: the comparison with the paper, claims, and quoted numbers."""
    name = chapter.path.name
    parts = [f"## {chapter.title}"]
    rows = paper_rows(chapter)
    if rows:
        parts.append(_table(("The paper", "This chapter", "Verdict"), rows))
    if chapter.claims:
        rows = [
            (
                _sentence(chapter, claim.text),
                f"`{claim.value}`",
                f"[{claim.cell}]({name}#{section_of(chapter, claim.cell)})",
                f"`{claim.record}`" if claim.record else "computed there",
                _VERDICTS[claim.paper],
            )
            for claim in chapter.claims
        ]
        parts.append(
            _table(("The text says", "The code asserts", "Cell", "Record", "Against the paper"), rows)
        )
    if chapter.given:
        parts.append("Quoted or assumed, not measured:")
        parts.append(_table(("Number", "Source"), chapter.given.items()))
    return "\n\n".join(parts)


def section_of(chapter: Chapter, cell: str) -> str:
    """The anchor on the page nearest before a cell: the last section heading above it."""
    heading = chapter.title
    for other in chapter.notebook.cells:
        if other.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)$", other.source, re.MULTILINE) or [heading])[-1]
        if other.id == cell:
            break
    return slug(heading)


def slug(heading: str) -> str:
    """A heading's anchor, as MyST makes it: formulas count for nothing."""
    return default_slugify(re.sub(r"\$[^$]*\$", "", heading))


def _sentence(chapter: Chapter, text: str) -> str:
    """The words of a claim in bold, with some of the sentence around them."""
    prose, words = readable(chapter.prose), plain_text(text)
    place = prose.find(words)
    before, after = prose[:place][-70:], prose[place + len(words) :][:50]
    before = re.split(r"[.:|] ", before)[-1]
    after = re.split(r"[.;:|](?: |$)", after)[0]
    around = (
        before if before in prose[:70] else "… " + before.partition(" ")[2],
        words,
        after.rpartition(" ")[0],
    )
    lead, said, rest = (re.sub(r"\\(\w+)", r"\1", part) for part in around)
    return f"{lead}**{said}**{' ' if rest and not rest.startswith((',', ' ')) else ''}{rest} …"


def _table(header: tuple[str, ...], rows) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(str(c).replace("\n", " ").replace("|", "\\|") for c in r) + " |" for r in lines
    )
