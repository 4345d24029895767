"""How chapters are stored: without outputs, with stable ids, short cells, and figures that speak."""

import re
from pathlib import Path

import nbformat
import pytest

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = sorted(BOOK.glob("*.ipynb"))
ids = [path.stem for path in CHAPTERS]

pytestmark = pytest.mark.parametrize("path", CHAPTERS, ids=ids)


def read(path):
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path):
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def test_chapter_is_stored_without_outputs_and_as_nbformat_writes_it(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(path):
        assert cell.execution_count is None, f"{cell.id}: run `make strip`"
        assert not cell.outputs, f"{cell.id}: run `make strip`"
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n", "run `make strip`"


def test_cell_ids_are_words_that_stay(path):
    names = [cell.id for cell in read(path).cells]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) for name in names), names


def test_code_cells_are_short(path):
    too_long = {c.id: n for c in code_cells(path) if (n := len(c.source.splitlines())) > 25}
    assert not too_long


def test_first_code_cell_installs_what_is_missing_and_is_the_same_everywhere(path):
    first, reference = code_cells(path)[0], code_cells(CHAPTERS[0])[0]
    assert first.source == reference.source
    assert "find_spec" in first.source


def test_chapter_asserts_and_has_the_parts_every_chapter_has(path):
    assert sum("assert" in cell.source for cell in code_cells(path)) >= 6
    text = prose(path)
    for part in ("After this chapter you can", "Predict, then run", "deliberate failure"):
        assert part in text, part
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings[0] == "A picture before any formula"
    assert headings[-4:] == [
        "Limits, and the paper against this chapter",
        "Exercises",
        "Quiz",
        "Take-aways",
    ]


def test_every_figure_has_a_name_a_caption_and_alt_text_of_substance(path):
    figures = [
        cell for cell in code_cells(path) if re.search(r"plt\.|plotting\.(?!use_style|COLORS)", cell.source)
    ]
    assert len(figures) >= 5
    for cell in figures:
        settings = cell.metadata.get("mystnb", {})
        assert settings.get("figure", {}).get("name", "").startswith("fig-"), cell.id
        assert len(settings["figure"]["caption"]) > 40, cell.id
        assert len(settings.get("image", {}).get("alt", "")) > 60, cell.id


def test_every_exercise_and_quiz_question_has_an_answer(path):
    text = prose(path)
    solved = sum("hide-cell" in cell.metadata.get("tags", []) for cell in code_cells(path))
    assert solved == 2
    assert text.count("<summary>One way to think about it</summary>") == 1
    assert text.count("<summary>Answer</summary>") == 4
    assert text.count("<details>") == text.count("</details>") == 5


def test_prose_uses_no_markup_that_shows_raw_in_jupyter_or_colab(path):
    leaks = re.findall(r"^:::.*|^```\{.*|\{(?:ref|cite|doc|eq|numref|prf:\w+)\}`", prose(path), re.MULTILINE)
    assert not leaks


def test_links_between_pages_resolve(path):
    for target in re.findall(r"\]\(([^)#:]+?)\)", prose(path)):
        assert (BOOK / target).exists(), target
