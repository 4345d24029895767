"""One chapter's page, without executing the others: ``python book/_ext/chapter.py 4``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from chapters import ROOT, Chapter

#: Another folder than that of the whole book, where the other chapters keep their outputs.
TARGET = ROOT / "_build" / "chapter"


def main(arguments: list[str] | None = None) -> int:
    """Build the page of the named chapter, and print where it is."""
    parser = argparse.ArgumentParser(prog="chapter.py", description=__doc__)
    parser.add_argument("chapter", help="its number, such as 4, or an appendix' letter")
    name = parser.parse_args(arguments).chapter
    found = find(name)
    if found is None:
        numbers = ", ".join(number_of(chapter) for chapter in Chapter.all())
        print(f"expected the number of a chapter, one of {numbers}, got {name!r}", file=sys.stderr)
        return 2
    stem = found.path.stem
    program = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "build", ".", "--path-output", str(TARGET)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"UGMM_CHAPTERS": stem}, check=False)
    if done.returncode == 0:
        print(f"\nThe chapter is in {(TARGET / '_build/html/book' / stem).relative_to(ROOT)}.html")
    return done.returncode


def find(name: str) -> Chapter | None:
    """The chapter with this number: ``4``, ``04``, or the letter of an appendix."""
    return next((c for c in Chapter.all() if number_of(c).lower() == name.lower().lstrip("0")), None)


def number_of(chapter: Chapter) -> str:
    """The chapter's number as a reader writes it, such as ``4`` or ``A``."""
    return chapter.path.stem.partition("_")[0].lstrip("0")


if __name__ == "__main__":
    sys.exit(main())
