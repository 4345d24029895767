"""The rules find what they are for: a chapter is broken in one way at a time, and the rule must tell."""

import re
import shutil
from functools import partial

import nbclient
import nbformat
import pytest
from chapters import Chapter
from lint import RULES, main
from measured import uncovered
from symbols import symbols, undefined

SOUND = Chapter.all()[0]
RULE = {rule.__name__: rule for rule in RULES}


@pytest.fixture
def broken(tmp_path):
    """A copy of the first chapter, changed by a function of its notebook."""

    def copy(change):
        notebook = nbformat.from_dict(SOUND.notebook.copy())
        notebook = nbformat.reads(nbformat.writes(notebook), as_version=4)
        change(notebook)
        path = tmp_path / SOUND.path.name
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        return Chapter(path)

    return copy


def cell(notebook, name):
    return next(c for c in notebook.cells if c.id == name)


def replace(name, old, new):
    def change(notebook):
        target = cell(notebook, name)
        assert old in target.source
        target.source = target.source.replace(old, new)

    return change


def delete(name):
    return lambda notebook: notebook.cells.remove(cell(notebook, name))


def metadata(name, **values):
    return lambda notebook: cell(notebook, name).metadata.update(values)


def with_output(notebook):
    cell(notebook, "mixture-code").outputs = [nbformat.v4.new_output("stream", text="left over")]


def add_lines(notebook):
    cell(notebook, "neuron-code").source += "\npass" * 20


def add_to(notebook, name, lines):
    cell(notebook, name).source += "\npass" * lines


def add_record(notebook, record="results/none"):
    cell(notebook, "iris-assert").source += f'\nclaim("about 96 %", centimetres[1], record="{record}")'


def no_goals(notebook):
    title = cell(notebook, "title")
    title.source = re.sub(r"^\d\. ", "", title.source, flags=re.MULTILINE)


FIGURE = {"figure": {"name": "fig-surface", "caption": SOUND.captions["fig-surface"]}}
BREAKING = {
    "wrong number in prose": ("claims", replace("iris-read", "about 94 %", "about 95 %"), "no claim covers"),
    "claim without its sentence": ("claims", replace("iris-read", "about 94 %", "most"), "does not say it"),
    "unclaimed ratio": (
        "claims",
        replace("surface-read", "The product", "Twice or 3.5 times the"),
        "3.5 times",
    ),
    "unclaimed ratio in words": (
        "claims",
        replace("surface-read", "The product", "It is ten times"),
        "ten times",
    ),
    "number in a caption": (
        "claims",
        metadata("fig-surface", mystnb=FIGURE | {"figure": {"caption": "About 12 % of all"}}),
        "12 %",
    ),
    "given without a source": ("claims", metadata("surface", given={"both means": " "}), "without a source"),
    "given and not there": ("claims", metadata("surface", given={"17 %": "nowhere"}), "'17 %'"),
    "record that is not there": ("claims", add_record, "results/none is not there"),
    "record that is everything": (
        "claims",
        partial(add_record, record=".github"),
        ".github is neither a file nor a folder of files",
    ),
    "record in a variable": (
        "claims",
        replace(
            "iris-assert",
            'claim("about 96 %", centimetres[1])',
            'claim("about 96 %", centimetres[1], record=r)',
        ),
        "record r is not there",
    ),
    "missing alternative text": ("figures", metadata("fig-surface", mystnb=FIGURE), "alternative text"),
    "alternative text that repeats": (
        "figures",
        metadata("fig-surface", mystnb=FIGURE | {"image": {"alt": SOUND.captions["fig-surface"]}}),
        "repeats the caption",
    ),
    "missing caption": ("figures", metadata("fig-surface", mystnb={"figure": {"name": "fig-a"}}), "caption"),
    "figure without a name": ("figures", metadata("fig-surface", mystnb={}), "name of its own"),
    "dead link": ("links", replace("take-aways", "02_batched_layer.ipynb", "02_gone.ipynb"), "02_gone.ipynb"),
    "picture from outside": (
        "links",
        replace("surface", "**Predict", "![x](https://a.b/c.png) **Predict"),
        "a.b",
    ),
    "directive": ("markup", replace("surface", "**Predict", "```{note}\nx\n```\n**Predict"), "{note}"),
    "role": ("markup", replace("surface", "**Predict", "{ref}`fig-surface` **Predict"), "{ref}"),
    "colon fence": ("markup", replace("surface", "**Predict", ":::note\n**Predict"), ":::note"),
    "raw HTML": ("markup", replace("surface", "**Predict", "<div>x</div> **Predict"), "'div'"),
    "macro of the built book": ("markup", replace("surface", "**Predict", "$\\lse$ **Predict"), "lse"),
    "undefined symbol": ("notation", replace("surface", "**Predict", "$\\Xi$ **Predict"), "\\Xi"),
    "stub without its check": ("exercises", delete("exercise-1-check"), "exercise-1-check"),
    "no solution": ("exercises", delete("solution-2"), "solution-2"),
    "solution that asserts nothing": (
        "exercises",
        replace("solution-1", "assert check", "check"),
        "does not assert",
    ),
    "fold without a name": ("folds", metadata("solution-1", mystnb={}), "run `make strip`"),
    "solution not folded": ("folds", metadata("solution-1", cellView="code"), "run `make strip`"),
    "solution without a title": ("exercises", replace("solution-1", "# @title", "#"), "its fold"),
    "open picture": ("folds", replace("fig-neuron", "# @title", "#"), "draws or claims"),
    "open claim": (
        "folds",
        lambda n: setattr(cell(n, "iris"), "source", 'claim("about 94 %", 0.94)'),
        "iris: draws or claims",
    ),
    "long open cell": ("open_code", add_lines, "open lines of code, not more than 20"),
    "too much open code": (
        "open_code",
        lambda n: [
            add_to(n, name, 12) for name in ("iris", "mixture-code", "neuron-code", "underflow-fails")
        ],
        "not more than 120",
    ),
    "prediction without choices": (
        "predictions",
        replace("surface", "- (b) in a cross", "- in a cross"),
        "choices",
    ),
    "prediction without an answer": ("predictions", replace("surface", "**(b).**", "(b)"), "its reason"),
    "numbers in a chain": (
        "plain_words",
        replace("iris-read", "The second row", "It was 1 %, 2 % and 3 % then. The second row"),
        "3 measured numbers in one sentence",
    ),
    "a paragraph of numbers": (
        "plain_words",
        replace("iris-read", "The second row", "1 % and 2 %. It was 3 % and 4 %. It is 5 %. The second row"),
        "put them in a table",
    ),
    "an endless sentence": (
        "plain_words",
        replace("surface", "Take two", "word " * 45 + "two"),
        "two sentences",
    ),
    "a stilted word": (
        "plain_words",
        replace("surface", "equal weights", "a and b respectively"),
        "a table, or",
    ),
    "too many words": ("anatomy", replace("surface", "Take two", "Word. " * 700 + "Take two"), "2600"),
    "quiz without explanation": (
        "quiz",
        lambda n: setattr(
            cell(n, "quiz"),
            "source",
            re.sub(r"\*\*\(b\)\.\*\*[^\n]+", "**(b).**", cell(n, "quiz").source, count=1),
        ),
        "explains",
    ),
    "quiz answer that is no option": ("quiz", replace("quiz", "**(b).**", "**(d).**"), "names an option"),
    "quiz of three": ("quiz", replace("quiz", "**4.**", "Four."), "3 questions"),
    "no goals": ("anatomy", no_goals, "three to five goals"),
    "long cell": ("anatomy", add_lines, "neuron-code"),
    "no prediction": ("anatomy", lambda n: [replace_all(n, "**Predict, then run.**", "Guess.")], "Predict"),
    "sections in disorder": ("anatomy", replace("take-aways", "## Take-aways", "## End"), "ends with"),
    "another first cell": ("first_cell", replace("setup-install", "PyTorch", "Torch"), "differs"),
    "stored outputs": ("storage", with_output, "make strip"),
    "id that is no word": ("storage", lambda n: cell(n, "surface").update(id="Cell_7"), "small words"),
    "no verdict": ("verdicts", replace("iris-read", "| reproduces |", "| perhaps |"), "perhaps"),
    "unknown work": ("references", replace("take-aways", "Bishop (2006)", "Nobody (1999)"), "Nobody (1999)"),
}


def replace_all(notebook, old, new):
    for c in notebook.cells:
        c.source = c.source.replace(old, new)


def test_an_unchanged_copy_breaks_nothing(broken):
    chapter = broken(lambda notebook: None)
    assert {rule.__name__: rule(chapter) for rule in RULES} == {name: [] for name in RULE}


@pytest.mark.parametrize("name", BREAKING)
def test_rule_finds(name, broken):
    rule, change, message = BREAKING[name]
    findings = RULE[rule](broken(change))
    assert any(message in finding for finding in findings), findings


def test_every_rule_is_seen_to_fail():
    assert {rule for rule, _, _ in BREAKING.values()} == set(RULE)


def test_command_prints_findings_and_fails(broken, monkeypatch, capsys):
    chapter = broken(BREAKING["dead link"][1])
    monkeypatch.setattr("sys.argv", ["lint.py", str(chapter.path)])
    assert main() == 1
    assert "links: link to 02_gone.ipynb" in capsys.readouterr().out
    shutil.copy(SOUND.path, chapter.path)
    assert main() == 0


def execute(chapter, cells):
    notebook = nbformat.v4.new_notebook(cells=[chapter.cell(name) for name in cells])
    notebook.metadata["kernelspec"] = chapter.notebook.metadata.kernelspec
    nbclient.NotebookClient(notebook, timeout=600).execute()


@pytest.mark.slow
def test_a_solution_that_fails_its_check_stops_the_notebook(broken):
    chapter = broken(lambda n: cell(n, "solution-1").update(source='assert check("1.1", -1.0)'))
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="AssertionError"):
        execute(chapter, ["setup-imports", "solution-1"])


@pytest.mark.slow
def test_a_claim_that_the_code_does_not_bear_out_stops_the_notebook(broken):
    def change(notebook):
        replace("iris-read", "about 94 %", "about 97 %")(notebook)
        replace("iris-assert", "about 94 %", "about 97 %")(notebook)

    chapter = broken(change)
    assert RULE["claims"](chapter) == []
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="the text says 'about 97 %'"):
        execute(chapter, ["setup-imports", "iris", "iris-assert"])


@pytest.mark.parametrize(
    "text",
    [
        "98.3 %",
        "12 ms",
        "4 times",
        "ten times",
        "3 to 5 minutes",
        "2.3 nats",
        r"$98\,\%$",
        "51 MB",
        "10-fold",
        "Two points",
        "-1.53 nats",
        "$-0.3$ points",
    ],
)
def test_measured_numbers_are_seen(text):
    assert uncovered(f"It takes {text}, or so.", ())
    assert not uncovered(f"It takes {text}, or so.", [text])


@pytest.mark.parametrize("text", ["8 × 8 digits", "chapter 3", "`12 ms`", "60,000 images", "784-128-64-10"])
def test_other_numbers_are_not(text):
    assert not uncovered(f"These are {text} here.", ())


def test_symbols_are_read_from_formulas():
    found = symbols(
        r"\frac{\partial}{\partial \mu_{jk}} \log \mathrm{softmax}_k(x) \mathbf{x} \mathcal{N} e^{-1}"
    )
    assert found == {"\\mu", "j", "k", "softmax", "x", "\\mathbf x", "\\mathcal N", "e"}
    table = "| Symbol | Meaning |\n|---|---|\n| $x$ | input |\n\nChapter 2:\n\n| $q$ | there |\n|---|---|\n"
    assert undefined("$x + q$ in `$code$`", table, chapter=1) == ["q"]
    assert undefined("$x + q$", table, chapter=2) == []


# --- appendices -------------------------------------------------------------------------------------

APPENDIX = next(chapter for chapter in Chapter.all() if chapter.appendix)


@pytest.fixture
def broken_appendix(tmp_path):
    """A copy of an appendix, changed by a function of its notebook."""

    def copy(change):
        notebook = nbformat.reads(nbformat.writes(APPENDIX.notebook), as_version=4)
        change(notebook)
        path = tmp_path / APPENDIX.path.name
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        return Chapter(path)

    return copy


def test_an_appendix_stands_behind_all_chapters_and_needs_no_exercises(broken_appendix):
    assert not SOUND.appendix
    assert APPENDIX.number > max(chapter.number for chapter in Chapter.all() if not chapter.appendix)
    chapter = broken_appendix(lambda notebook: None)
    assert {rule.__name__: rule(chapter) for rule in RULES} == {name: [] for name in RULE}


@pytest.mark.parametrize(
    ("rule", "change", "message"),
    [
        ("anatomy", replace("price-read", "**References.**", "Sources:"), "has no '**References.**'"),
        ("anatomy", lambda n: replace_all(n, "**You need**", "Needed"), "has no '**You need**'"),
        ("anatomy", lambda n: n.cells.__delitem__(slice(2, -1)), "asserts in 0 cells"),
        ("anatomy", lambda n: n.cells.__delitem__(slice(3, -1)), "code cells, not 1 to 15"),
        ("claims", replace("masks-read", "about 28 for 32", "about 29 for 32 times"), "no claim covers"),
    ],
)
def test_rules_hold_for_an_appendix_too(rule, change, message, broken_appendix):
    findings = RULE[rule](broken_appendix(change))
    assert any(message in finding for finding in findings), findings
