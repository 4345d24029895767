"""Launch buttons lead to the repository that the environment names, and are absent where it names none."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from chapters import ROOT, Chapter

CHAPTER = Chapter.all()[0].path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A function that builds one chapter, without running it, with the book's own settings."""

    def build(**variables):
        folder = tmp_path_factory.mktemp("site")
        config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        config["execute"]["execute_notebooks"] = "off"
        config["sphinx"]["local_extensions"] = {"ugmm_book": str(ROOT / "book" / "_ext")}
        for key in ("html_logo", "html_css_files", "html_js_files", "html_static_path"):
            del config["sphinx"]["config"][key]
        del config["html"], config["bibtex_bibfiles"]
        (folder / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/{CHAPTER.stem}\n", encoding="utf-8")
        (folder / "book").mkdir()
        shutil.copy(CHAPTER, folder / "book")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")}
        program = "from jupyter_book.cli.main import main; main()"
        command = [sys.executable, "-c", program, "build", str(folder)]
        done = subprocess.run(command, env=kept | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return (folder / "_build" / "html" / "book" / f"{CHAPTER.stem}.html").read_text(encoding="utf-8")

    return build


def test_without_an_address_there_is_no_button_and_no_repository(built):
    page = built()
    assert "colab" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL).lower()
    assert "github.com" not in page


def test_button_opens_this_chapter_from_the_repository_and_branch_named(built):
    page = built(BOOK_REPOSITORY_URL="https://github.com/someone/ugmm.git", BOOK_REPOSITORY_BRANCH="colab")
    target = f"https://colab.research.google.com/github/someone/ugmm/blob/colab/book/{CHAPTER.name}"
    assert f'href="{target}"' in page
    assert 'href="https://github.com/someone/ugmm"' in page
