"""The table of runs: when each chapter last ran and how long it took, and the machine, data and versions."""

from __future__ import annotations

import contextlib
import io
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from execute import Note, note_of

_VERSIONS = (
    "ugmm_tutorial",
    "torch",
    "torchvision",
    "numba",
    "numpy",
    "scikit-learn",
    "matplotlib",
    "ipykernel",
)
_PAGES = "pages_with_runs"


class _Placeholder(nodes.General, nodes.Element):
    """The place for the table, which is filled when every chapter has run."""


class ChapterRuns(SphinxDirective):
    """The directive ``{chapter-runs}``: a table with one row for each executed page."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder, because other pages may not have run yet."""
        NbMetadataCollector.set_doc_data(self.env, self.env.docname, _PAGES, True)
        return [_Placeholder()]


class FillRuns(SphinxPostTransform):
    """Replaces the placeholders by tables."""

    default_priority = 8

    def run(self, **kwargs: object) -> None:
        """Fill a page. Sphinx calls this for each page when all pages are read."""
        for node in list(self.document.findall(_Placeholder)):
            notes = {name: note_of(_cache(self.app), name) for name in sorted(self.env.found_docs)}
            notes = {name: note for name, note in notes.items() if note}
            here = [_paragraphs(note.settings) for note in list(notes.values())[-1:]]
            header = ("Page", "Last run", "Run time", "Commit")
            node.replace_self(
                [table_of(header, _rows(self.env, notes)), *(line for lines in here for line in lines)]
            )


def connect(app: Sphinx) -> None:
    """Register the directive, the transform, and the update of the page after a chapter has run again."""
    app.add_node(_Placeholder)
    app.add_directive("chapter-runs", ChapterRuns)
    app.add_post_transform(FillRuns)
    app.connect("env-updated", lambda app, env: [d for d, kept in _data(env).items() if kept.get(_PAGES)])


def environment() -> dict:
    """The machine, data, versions and commit, as far as they can change what a chapter shows."""
    from ugmm_tutorial.data import images
    from ugmm_tutorial.training.records import environment as made

    here = made("cpu")
    with contextlib.redirect_stdout(io.StringIO()):  # images() prints its provenance
        provenance = images().provenance
    return {
        "device": here["device"],
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "commit": here["commit"],
        "data": provenance,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The installed versions of the packages that chapters use."""
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _short(commit: str | None) -> str:
    if commit is None:
        return "not in a checkout"
    name, changed, _ = commit.partition("-")
    return name[:12] + (", with changes that are not in it" if changed else "")


def _cache(app: Sphinx) -> Path:
    return Path(app.config.nb_execution_cache_path)


def _data(env: BuildEnvironment) -> dict[str, dict]:
    return NbMetadataCollector.get_doc_data(env)


def _rows(env: BuildEnvironment, notes: dict[str, Note]) -> list[tuple[str, ...]]:
    return [
        (
            env.titles[name].astext(),
            note.when.replace("T", " ").removesuffix("+00:00")[:16] + " UTC",
            f"{note.seconds:.0f} s",
            _short(note.commit),
        )
        for name, note in notes.items()
    ]


def _paragraphs(made_on: dict) -> list[nodes.Node]:
    listed = ", ".join(f"{name} {number}" for name, number in made_on["versions"].items())
    lines = (
        f"Machine: {made_on['device']}; {made_on['system']}.",
        f"Images: {made_on['data']}.",
        f"Versions: {listed}.",
    )
    return [nodes.paragraph(line, line) for line in lines]


def table_of(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> nodes.table:
    """A table of plain texts."""
    table, group = nodes.table(classes=["colwidths-auto"]), nodes.tgroup(cols=len(header))
    table += group
    group += [nodes.colspec(colwidth=1) for _ in header]
    head, body = nodes.thead(), nodes.tbody()
    group += [head, body]
    for part, cells in ((head, header), *((body, row) for row in rows)):
        line = nodes.row()
        line += [nodes.entry("", nodes.paragraph(text, text)) for text in cells]
        part += line
    return table
