"""Sphinx glue of the book: notebook cache, local MathJax, scripts, links, accessible markup.

``page_runs`` executes the chapters before Sphinx reads them. Five modules fill pages: ``claims_page``,
``runs_page``, ``study_page`` (with ``protection_page``), ``happens_page`` and ``licences``. ``chapters``
reads notebooks, and ``lint`` has the rules for them.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.fileutil import copy_asset

import claims_page
import happens_page
import licences
import page_runs
import panels
import runs_page
import study_page

ROOT = Path(__file__).resolve().parents[2]
MATHJAX_BUNDLE = "tex-chtml.js"
MATHJAX_FONTS = Path("output", "chtml", "fonts")

#: Interactive parts in _static, and the markup that shows that a page has one.
INTERACTIVE = {
    "broken": 'class="broken-example"',
    "explorer": 'id="fig-explorer',
    "quiz": '<section id="quiz">',
    "viewer": 'class="submodes"',
}

#: Markup from docutils and MyST-NB that confuses screen readers, and its replacement.
REPAIRS = {
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '<div role="list" class="citation-list">': '<div class="citation-list">',
    ' role="doc-biblioentry"': "",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the parts below with Sphinx."""
    app.connect("config-inited", configure, priority=100)
    app.connect("source-read", claims_page.fill)
    app.connect("source-read", study_page.fill)
    app.connect("source-read", happens_page.fill)
    app.connect("html-page-context", tidy_page)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", drop_icon_script)
    page_runs.connect(app)
    panels.connect(app)
    runs_page.connect(app)
    licences.connect(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def configure(app: Sphinx, config: Config) -> None:
    """Set the options that `_config.yml` cannot know: paths and the repository's address."""
    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache")
    if page_runs.ONLY in os.environ:
        # The other chapters appear as they are stored, without outputs.
        config.nb_execution_excludepatterns = [
            path.name for path in (ROOT / "book").glob("*.*") if not page_runs.is_wanted(path.stem)
        ]
    if mathjax_folder():
        config.mathjax_path = f"mathjax/{MATHJAX_BUNDLE}"
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the theme would show a second search field
    repository = os.environ.get("BOOK_REPOSITORY_URL", "").removesuffix(".git").rstrip("/")
    if repository:
        options |= {
            "repository_url": repository,
            "repository_branch": os.environ.get("BOOK_REPOSITORY_BRANCH", "main"),
            "path_to_docs": "",  # page names begin with book/ already
            "use_repository_button": True,
            "launch_buttons": {"colab_url": "https://colab.research.google.com"},
        }


def mathjax_folder() -> Path | None:
    """The folder in which pip installed MathJax 3, or None. Without it, Sphinx links to a server."""
    try:
        wheel = distribution("sphinx-mathjax-offline")
    except PackageNotFoundError:
        return None
    folder = Path(str(wheel.locate_file("sphinx-mathjax-offline/static/mathjax")))
    return folder if (folder / MATHJAX_BUNDLE).exists() else None


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the one MathJax bundle that pages load, and its fonts, into the site."""
    source = mathjax_folder()
    if exception or source is None or app.builder.format != "html":
        return
    target = Path(app.outdir, "_static", "mathjax")
    copy_asset(str(source / MATHJAX_BUNDLE), str(target))
    copy_asset(str(source / MATHJAX_FONTS), str(target / MATHJAX_FONTS))


def tidy_page(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: object,
) -> None:
    """Remove the scripts of Thebe, which the book does not use, and repair markup."""
    scripts = context["script_files"]
    scripts[:] = [s for s in scripts if "thebe" not in f"{s} {getattr(s, 'attributes', '')}".lower()]
    body = context.get("body") or ""
    for found, replacement in REPAIRS.items():
        body = body.replace(found, replacement)
    if body:
        context["body"] = body


def add_scripts(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: object,
) -> None:
    """Load each interactive part only on the pages that have one."""
    body = context.get("body") or ""
    for name, sign in INTERACTIVE.items():
        if sign in body:
            app.add_js_file(f"{name}.js", loading_method="defer")
            app.add_css_file(f"{name}.css")


def drop_icon_script(app: Sphinx, exception: Exception | None) -> None:
    """Empty the theme's icon script, a third of every page's size. The theme's fonts draw the same icons."""
    script = Path(app.outdir, "_static", "scripts", "fontawesome.js")
    if not exception and script.exists():
        script.write_text("// The icons of this site are drawn by fonts.\n", encoding="utf-8")
