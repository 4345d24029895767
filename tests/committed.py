"""Which files of the repository are committed; what a reader has made beside them is the reader's."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def committed(pattern: str) -> list[Path]:
    """The committed files that a pattern of git names, in order; none outside a checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", pattern]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        return []
    return [ROOT / name for name in listed if name and (ROOT / name).exists()]
