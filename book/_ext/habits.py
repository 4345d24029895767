"""The book's habits: code that teaches is open, sentences are short, answers are a click away.

``lint`` runs these rules with its own.
"""

from __future__ import annotations

import re

import nbformat

from chapters import Chapter
from folds import folded, title_of
from measured import MEASURED, readable
from questions import has_choices, is_answered

MOST_VISIBLE, LONGEST_CELL = 120, 20
MOST_IN_A_SENTENCE, MOST_IN_A_PARAGRAPH, LONGEST_SENTENCE = 2, 4, 45

#: Words that make a reader stumble, and what to write instead.
STILTED = {
    "respectively": "a table, or two sentences",
    "give or take": "about",
    "the former": "its name",
    "the latter": "its name",
    "it should be noted": "the note itself",
    "in order to": "to",
    "utilise": "use",
    "utilize": "use",
}

_BEHIND_THE_BOOK = re.compile(r"\bclaim\(|\bplt\.|\bplotting\.(?!use_style|COLORS)")


def folds(chapter: Chapter) -> list[str]:
    """Cells with a title are folded everywhere, and those that draw or claim have one."""
    found = [
        f"{cell.id}: is not folded as its title says, run `make strip`"
        for cell in chapter.code
        if cell.metadata != folded(cell)
    ]
    return found + [
        f"{cell.id}: draws or claims, so it needs a first line such as '# @title Picture: both curves'"
        for cell in chapter.code
        if _BEHIND_THE_BOOK.search(cell.source) and title_of(cell) is None
    ]


def open_code(chapter: Chapter) -> list[str]:
    """Readers see at most 120 lines of code, in cells of at most 20."""
    lines = {cell.id: _lines(cell) for cell in chapter.code if title_of(cell) is None}
    found = [
        f"{name}: {count} open lines of code, not more than {LONGEST_CELL}"
        for name, count in lines.items()
        if count > LONGEST_CELL
    ]
    if (total := sum(lines.values())) > MOST_VISIBLE:
        found.append(f"has {total} open lines of code, not more than {MOST_VISIBLE}")
    return found


def predictions(chapter: Chapter) -> list[str]:
    """A prediction has choices, and its answer is a click away."""
    found = []
    for cell in chapter.text:
        for question in cell.source.split("**Predict, then run.**")[1:]:
            if not has_choices(question, fewest=2):
                found.append(f"{cell.id}: a prediction needs two to four choices in a list, (a) to (d)")
            elif not is_answered(question):
                found.append(f"{cell.id}: a prediction needs a folded answer with its choice and its reason")
    return found


def plain_words(chapter: Chapter) -> list[str]:
    """Few measured numbers in a sentence and a paragraph, no endless sentences, no stilted words."""
    found = []
    for cell in chapter.text:
        for paragraph in _paragraphs(cell.source):
            beginning = f"{cell.id}: {paragraph[:40]!r}"
            if (count := len(MEASURED.findall(paragraph))) > MOST_IN_A_PARAGRAPH:
                found.append(f"{beginning}: {count} measured numbers, put them in a table")
            for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z*(])", paragraph):
                where = f"{cell.id}: {sentence[:40]!r}"
                if (count := len(MEASURED.findall(sentence))) > MOST_IN_A_SENTENCE:
                    found.append(f"{where}: {count} measured numbers in one sentence")
                if (count := len(sentence.split())) > LONGEST_SENTENCE:
                    found.append(f"{where}: {count} words, make it two sentences")
            found += [
                f"{beginning}: {word!r}, write {instead}"
                for word, instead in STILTED.items()
                if re.search(rf"\b{word}\b", paragraph, re.IGNORECASE)
            ]
    return found


def _lines(cell: nbformat.NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def _paragraphs(markdown: str) -> list[str]:
    """The prose of a cell without tables, headings, lists of references and displayed formulas."""
    text = re.sub(r"\$\$.*?\$\$", " ", markdown, flags=re.DOTALL)
    blocks = re.split(r"\n\s*\n|\n(?=- |\d\. )", text)
    kept = [b for b in blocks if not re.match(r"\s*(\||#|\*\*References|</?details|<summary)", b)]
    return [readable(block) for block in kept if block.strip()]


HABITS = (folds, open_code, predictions, plain_words)
