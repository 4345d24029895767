"""The claims page: numbers in the text, the code behind them, and how well they hold on other machines."""

from __future__ import annotations

import math
import re

from myst_parser.mdit_to_docutils.base import default_slugify
from sphinx.application import Sphinx

import page_runs
import portability
from chapters import Chapter, Claim
from execute import Note
from lint import paper_rows
from margins import Statement
from measured import readable
from ugmm_tutorial.teaching.claims import plain_text, stated_bounds, stated_numbers

MARK = "<!-- claims of every chapter -->"
ELSEWHERE = "<!-- how far the claims hold elsewhere -->"
_VERDICTS = {"reproduces": "reproduces", "differs": "differs from", "beyond": "goes beyond"}
_HEADER = ("The text says", "The cell that checks it", "Number", "Tolerance", "Elsewhere")


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Handle Sphinx's ``source-read``: replace the marks on the page by the tables."""
    if MARK not in source[0]:
        return
    for chapter in Chapter.all():
        app.env.note_dependency(str(chapter.path))
    for file in (portability.REPORT, __file__):
        app.env.note_dependency(str(file))
    report = portability.read()
    measured = portability.statements_of(report)
    notes = page_runs.notes_of(app, app.env) if hasattr(app.env, "mystnb_config") else {}
    chapters = "\n\n".join(tables(chapter, measured) for chapter in Chapter.all())
    source[0] = source[0].replace(MARK, chapters)
    source[0] = source[0].replace(ELSEWHERE, f"{elsewhere(report, measured)}\n\n{here(notes)}")


def elsewhere(report: dict, measured: list[Statement]) -> str:
    """A summary of the report on portability."""
    varying = [s for s in measured if s.varies]
    tests = (
        f" The unit tests that train or compare numbers ran under the {len(report['tests'])} of them that "
        f"concern the machine: {len(report['comparisons'])} of their comparisons vary, with as much room."
        if report["tests"]
        else ""
    )
    names, machine = "; ".join(report["variations"]), report["machine"]
    return (
        f"**Elsewhere.** All chapters were run under {len(report['variations'])} variations that stand for "
        f"other machines: {names}. Of {len(measured)} statements {len(varying)} vary, and each of them "
        f"has a margin of at least {report['needed']:.0f} times its spread.{tests} Measured on: "
        f"{machine['device']}, {machine['system']}, PyTorch {machine['versions']['torch']}."
    )


def here(notes: dict[str, Note]) -> str:
    """The statements that do not hold on the machine that built the page."""
    rows = [
        (f"[{name.removeprefix('book/')}]({name.removeprefix('book/')}.ipynb)", entry["said"], entry["found"])
        for name, note in notes.items()
        for entry in note.notes
    ]
    if not rows:
        return "**Here.** On the machine that built these pages every statement holds."
    return "**Here.** On the machine that built these pages some statements do not hold:\n\n" + _table(
        ("Page", "It says", "This machine finds"), rows
    )


def tables(chapter: Chapter, measured: list[Statement]) -> str:
    """One chapter's section in Markdown: the comparison with the paper, claims, and quoted numbers."""
    parts = [f"## {chapter.title}"]
    rows = paper_rows(chapter)
    if rows:
        parts.append(_table(("The paper", "This chapter", "Verdict"), rows))
    if chapter.claims:
        of_chapter = [s for s in measured if s.chapter == chapter.path.stem]
        parts.append(_table(_HEADER, [_row(chapter, claim, of_chapter) for claim in chapter.claims]))
    if chapter.given:
        parts.append("Quoted or assumed, not measured:")
        parts.append(_table(("Number", "Source"), chapter.given.items()))
    return "\n\n".join(parts)


def _row(chapter: Chapter, claim: Claim, measured: list[Statement]) -> tuple[str, ...]:
    link = f"[{claim.cell}]({chapter.path.name}#{section_of(chapter, claim.cell)})"
    verdict = f" *({_VERDICTS[claim.paper]} the paper)*" if claim.paper else ""
    return (
        _sentence(chapter, claim.text) + verdict,
        f"{link}: `{claim.value}`",
        f"stored: `{claim.record}`" if claim.record else "live",
        tolerance(claim),
        "the same" if claim.record else spread(claim, measured),
    )


def tolerance(claim: Claim) -> str:
    """How far the value may be from the number in the words, in the unit of the words."""
    found = []
    for (_, _, half), bound in zip(stated_numbers(claim.text), stated_bounds(claim.text), strict=True):
        found.append(
            f"± {half if claim.within is None else claim.within:g}" if bound is None else f"at {bound}"
        )
    return ", ".join(dict.fromkeys(found))


def spread(claim: Claim, measured: list[Statement]) -> str:
    """The claim's values over all variations, with their spread and margin."""
    found = [s for s in measured if s.cell == claim.cell and s.text == claim.text]
    if not found:
        return "not measured"
    least = min(found, key=lambda s: s.room)
    if not least.varies:
        return "the same"
    values = f"{least.low:.3g} to {least.high:.3g}"
    if least.factor:
        around, room = math.exp(least.spread), math.exp(least.margin)
        return f"{values}, spread a factor of {around:.2g}, margin one of {room:.2g}"
    return f"{values}, spread {least.spread:.2g}, margin {least.margin:.2g}"


def section_of(chapter: Chapter, cell: str) -> str:
    """The anchor of the last heading above a cell."""
    heading = chapter.title
    for other in chapter.notebook.cells:
        if other.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+)$", other.source, re.MULTILINE) or [heading])[-1]
        if other.id == cell:
            break
    return slug(heading)


def slug(heading: str) -> str:
    """A heading's anchor, as MyST makes it: formulas are ignored."""
    return default_slugify(re.sub(r"\$[^$]*\$", "", heading))


def _sentence(chapter: Chapter, text: str) -> str:
    """The words of a claim in bold, with a part of the sentence around them."""
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
