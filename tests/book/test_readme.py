"""The README: short, its program runs, its links lead somewhere."""

import re
import subprocess
import sys

from chapters import ROOT, Chapter

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_read_in_a_minute():
    assert len(TEXT.splitlines()) <= 90


def test_its_program_runs(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *_, shape = done.stdout.splitlines()
    assert shape == "torch.Size([1, 64, 64])"


def test_its_links_lead_to_files():
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_it_names_chapters_that_there_are():
    numbers = {str(chapter.number) for chapter in Chapter.all()}
    rows = [line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith("| ")]
    named = [number for row in rows[1:] for number in re.findall(r"\d+", row[-1])]
    assert len(named) >= 7
    assert set(named) <= numbers
