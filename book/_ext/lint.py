"""The rules for chapters: ``python book/_ext/lint.py`` prints what breaks them, one line each.

Every rule takes a chapter and returns its findings. Checks that need a running chapter (assertions, the axes
of its figures) happen in the build and in nbval.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import nbformat

from chapters import BOOK, ROOT, Chapter, figure_of
from habits import HABITS
from measured import uncovered, unsaid
from questions import has_choices, is_answered
from symbols import formulas, undefined
from ugmm_tutorial.teaching.claims import VERDICTS


@dataclass(frozen=True)
class Anatomy:
    """What a notebook must have.

    These are its parts, its first and last headings, the least and the largest numbers of words, cells and
    figures, and the least number of cells with assertions.
    """

    parts: tuple[str, ...]
    first: str | None
    last: tuple[str, ...]
    words: tuple[int, int]
    cells: tuple[int, int]
    figures: tuple[int, int]
    asserting: int


CHAPTER = Anatomy(
    parts=(
        "**After this chapter you can**",
        "**You need**",
        "**Run time:**",
        "**Predict, then run.**",
        "eliberate failure",
        "**References.**",
    ),
    first="A picture before any formula",
    last=("Limits, and the paper against this chapter", "Exercises", "Quiz", "Take-aways"),
    words=(2000, 2600),
    cells=(15, 22),
    figures=(5, 8),
    asserting=6,
)
APPENDIX = Anatomy(
    parts=("**You need**", "**Run time:**", "**References.**"),
    first=None,
    last=(),
    words=(150, 2000),
    cells=(1, 15),
    figures=(0, 8),
    asserting=1,
)
LONGEST_CELL, MOST_BYTES = 25, 400_000


def storage(chapter: Chapter) -> list[str]:
    """The notebook is stored without outputs, as nbformat writes it, and its cell ids are words."""
    found = []
    for cell in chapter.code:
        if cell.execution_count is not None or cell.outputs:
            found.append(f"{cell.id}: has outputs, run `make strip`")
    if chapter.path.read_text(encoding="utf-8") != nbformat.writes(chapter.notebook) + "\n":
        found.append("is not stored as nbformat writes it, run `make strip`")
    names = [cell.id for cell in chapter.notebook.cells]
    words = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
    found += [f"{name}: an id is small words with hyphens" for name in names if not words.fullmatch(name)]
    if chapter.path.stat().st_size > MOST_BYTES:
        found.append(f"has more than {MOST_BYTES} bytes")
    return found


def anatomy(chapter: Chapter) -> list[str]:
    """A chapter or appendix has its parts, its first and last headings, goals, assertions, and its size."""
    text, form = chapter.prose, form_of(chapter)
    found = [f"has no {part!r}" for part in form.parts if part not in text]
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    if form.first not in (None, *headings[:1]):
        found.append(f"begins with {form.first!r}; it has {headings}")
    if form.last and headings[-len(form.last) :] != list(form.last):
        found.append(f"ends with {', '.join(form.last)}; it has {headings}")
    goals = re.findall(r"^\d\. ", chapter.notebook.cells[0].source, flags=re.MULTILINE)
    if not chapter.appendix and not 3 <= len(goals) <= 5:
        found.append(f"states three to five goals, not {len(goals)}")
    words = len(re.sub(r"<details>.*?</details>|\$\$.*?\$\$|\$[^$\n]*\$", " ", text, flags=re.DOTALL).split())
    if not form.words[0] <= words <= form.words[1]:
        found.append(f"has {words} words, not {form.words[0]} to {form.words[1]}")
    taught = [c for c in chapter.code if not re.match(r"setup-|exercise-|solution-", c.id)]
    if not form.cells[0] <= len(taught) <= form.cells[1]:
        found.append(f"has {len(taught)} code cells, not {form.cells[0]} to {form.cells[1]}")
    for cell in chapter.code:
        if (length := len(cell.source.splitlines())) > LONGEST_CELL:
            found.append(f"{cell.id}: {length} lines of code, not more than {LONGEST_CELL}")
    if (asserting := sum("assert" in cell.source for cell in taught)) < form.asserting:
        found.append(f"asserts in {asserting} cells, fewer than {form.asserting}")
    return found


def form_of(chapter: Chapter) -> Anatomy:
    """The requirements for a chapter or an appendix."""
    return APPENDIX if chapter.appendix else CHAPTER


def first_cell(chapter: Chapter) -> list[str]:
    """The first code cell installs what is missing, and is the same in every chapter."""
    first, model = chapter.code[0].source, Chapter.all()[0].code[0].source
    if first != model:
        return [f"{chapter.code[0].id}: differs from the first chapter's"]
    return [] if "find_spec" in first else [f"{chapter.code[0].id}: does not look before it installs"]


def figures(chapter: Chapter) -> list[str]:
    """Every figure has its own name, a caption, and an alternative text with substance."""
    drawing = re.compile(r"\bplt\.|\bplotting\.(?!use_style|COLORS)")
    cells = [cell for cell in chapter.code if drawing.search(cell.source)]
    cells = [c for c in cells if not re.match(r"setup-|solution-", c.id)]
    found = []
    fewest, most = form_of(chapter).figures
    if not fewest <= len(cells) <= most:
        found.append(f"has {len(cells)} figures, not {fewest} to {most}")
    elsewhere = {
        figure_of(cell).get("name") for other in Chapter.all() if other.path.stem != chapter.path.stem
        for cell in other.code if figure_of(cell)
    }  # fmt: skip
    for cell in cells:
        figure, alt = figure_of(cell), cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        name, caption = figure.get("name", ""), figure.get("caption", "")
        if not name.startswith("fig-") or name in elsewhere:
            found.append(f"{cell.id}: needs a name of its own that begins with fig-, has {name!r}")
        if len(caption.split()) < 8:
            found.append(f"{cell.id}: needs a caption of a sentence, has {caption!r}")
        if len(alt.split()) < 12:
            found.append(f"{cell.id}: needs an alternative text that says what is to be seen, has {alt!r}")
        elif SequenceMatcher(None, alt, caption).ratio() > 0.8:
            found.append(f"{cell.id}: its alternative text repeats the caption")
    return found


def markup(chapter: Chapter) -> list[str]:
    """No markup in the prose appears raw in Jupyter or Colab."""
    text = re.sub(r"```.*?```|`[^`\n]*`", " ", chapter.prose, flags=re.DOTALL)
    fences = re.findall(r"^(?:```|~~~)\{.*", chapter.prose, flags=re.MULTILINE)
    leaks = fences + re.findall(
        r"^:::.*|\{[a-z:-]+\}(?=`)|^\([\w-]+\)=\s*$|^\{[#.][^}]*\}\s*$|\{%.*?%\}|\{\{.*?\}\}|\[\^\w+\]",
        re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", " ", chapter.prose, flags=re.DOTALL),
        flags=re.MULTILINE,
    )
    leaks += [t for t in re.findall(r"</?([a-zA-Z]\w*)", text) if t not in ("details", "summary")]
    macros = set(re.findall(r"^          (\w+):", (ROOT / "_config.yml").read_text("utf-8"), re.MULTILINE))
    used = {name for formula in formulas(chapter.prose) for name in re.findall(r"\\([A-Za-z]+)", formula)}
    return [f"markup that Jupyter or Colab shows raw: {leak!r}" for leak in leaks] + [
        f"\\{macro} is known to the built book only" for macro in sorted(macros & used)
    ]


def links(chapter: Chapter) -> list[str]:
    """Every link leads to a file of the book or to an address. Pictures come from cells."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", chapter.prose):
        if not re.match(r"https?://|#", target) and not (BOOK / target.partition("#")[0]).exists():
            found.append(f"link to {target}, which is not there")
    found += [
        f"picture {target} from outside" for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", chapter.prose)
    ]
    return found


def claims(chapter: Chapter) -> list[str]:
    """Measured numbers in prose and captions have a claim in code or are given with their source."""
    found, texts = [], [claim.text for claim in chapter.claims]
    everything = chapter.prose + "\n\n" + "\n\n".join(chapter.captions.values())
    for cell in chapter.text:
        given = cell.metadata.get("given", {})
        for words in uncovered(cell.source, [*texts, *given]):
            found.append(f"{cell.id}: no claim covers {words!r}")
        found += [f"{cell.id}: given, but not there: {words!r}" for words in unsaid(cell.source, given)]
        found += [
            f"{cell.id}: {words!r} is given without a source" for words in given if not given[words].strip()
        ]
    for name, caption in chapter.captions.items():
        found += [f"{name}: no claim covers {words!r} in its caption" for words in uncovered(caption, texts)]
    found += [f"claimed, but the text does not say it: {words!r}" for words in unsaid(everything, texts)]
    for claim in chapter.claims:
        if claim.paper is not None and claim.paper not in VERDICTS:
            found.append(f"{claim.cell}: unknown verdict {claim.paper!r}")
        if claim.record is not None:
            path = ROOT / claim.record
            if not path.exists():
                found.append(f"{claim.cell}: record {claim.record} is not there")
            elif path.is_dir() and not any(part.is_file() for part in path.iterdir()):
                found.append(f"{claim.cell}: record {claim.record} is neither a file nor a folder of files")
    return found


def exercises(chapter: Chapter) -> list[str]:
    """A chapter has at least three exercises, each with a checked answer and a solution with a title."""
    found = []
    most = max([3, *(int(c.id.split("-")[1]) for c in chapter.code if c.id.startswith("exercise-"))])
    for n in () if chapter.appendix else range(1, most + 1):
        call = f'check("{chapter.number}.{n}"'
        stub, solution = chapter.cell(f"exercise-{n}-check"), chapter.cell(f"solution-{n}")
        if stub is None or call not in stub.source:
            found.append(f"exercise {n} has no cell exercise-{n}-check with {call}, ...)")
        if solution is None:
            found.append(f"exercise {n} has no cell solution-{n}")
            continue
        if f"assert {call}" not in solution.source:
            found.append(f"solution-{n}: does not assert {call}, ...)")
        if not solution.source.startswith(f"# @title Solution {chapter.number}.{n}"):
            found.append(f"solution-{n}: begins with '# @title Solution {chapter.number}.{n}', its fold")
    return found


def quiz(chapter: Chapter) -> list[str]:
    """A chapter has four quiz questions, with lettered options and an answer that explains."""
    if chapter.appendix:
        return []
    source = chapter.prose.partition("\n## Quiz")[2].partition("\n## ")[0]
    questions = re.split(r"^\*\*\d\.\*\* ", source, flags=re.MULTILINE)[1:]
    found = [] if len(questions) == 4 else [f"the quiz has {len(questions)} questions, not 4"]
    for number, question in enumerate(questions, start=1):
        if not has_choices(question, fewest=3):
            found.append(f"question {number}: needs three or four options in a list, (a) to (d)")
        if not is_answered(question):
            found.append(f"question {number}: needs an answer that names an option and explains it")
    return found


def notation(chapter: Chapter) -> list[str]:
    """Every symbol is on the notation page."""
    page = (BOOK / "notation.md").read_text(encoding="utf-8")
    missing = undefined(chapter.prose, page, chapter.number)
    return [f"{symbol} is used and not defined in notation.md" for symbol in missing]


def verdicts(chapter: Chapter) -> list[str]:
    """Every chapter has a table that compares it with the paper. Each row has a verdict."""
    rows = paper_rows(chapter)
    allowed = {"reproduces", "differs", "goes beyond", "open"}
    found = [] if rows or chapter.appendix else ["has no table of the paper against this chapter"]
    return found + [
        f"verdict {row[-1]!r} is none of {sorted(allowed)}" for row in rows if row[-1] not in allowed
    ]


def paper_rows(chapter: Chapter) -> list[list[str]]:
    """Rows of the table under *Limits, and the paper against this chapter*: paper, ours, verdict."""
    section = chapter.prose.partition(f"\n## {CHAPTER.last[0]}")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    # A bar between letters belongs to a formula. The bars of the table have spaces around them.
    return [
        [part.strip() for part in re.split(r"(?:^|\s)\|(?:\s|$)", line) if part.strip()] for line in lines[2:]
    ]


def references(chapter: Chapter) -> list[str]:
    """Works cited as Author (year) are in the bibliography."""
    entries = (BOOK / "references.bib").read_text(encoding="utf-8").split("\n@")
    names = re.findall(r"([A-Z][\w'é]+)(?: et al\.)? \((\d{4})\)", chapter.prose)
    return [
        f"{name} ({year}) is not in references.bib"
        for name, year in sorted(set(names))
        if not any(name in entry and f"{{{year}}}" in entry for entry in entries)
    ]


RULES: tuple[Callable[[Chapter], list[str]], ...] = (
    storage,
    anatomy,
    first_cell,
    figures,
    markup,
    links,
    claims,
    exercises,
    quiz,
    notation,
    verdicts,
    references,
    *HABITS,
)


def main() -> int:
    """Print every finding. Return 1 if there is one."""
    findings = [
        f"{chapter.path.name}: {rule.__name__}: {finding}"
        for chapter in (map(Chapter, map(Path, sys.argv[1:])) if sys.argv[1:] else Chapter.all())
        for rule in RULES
        for finding in rule(chapter)
    ]
    print("\n".join(findings) or "every chapter keeps the rules")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
