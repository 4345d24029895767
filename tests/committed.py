"""The committed files of the repository. Other files in a checkout may belong to its reader."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def committed(pattern: str) -> list[Path]:
    """The committed files that match a git pattern, in order. Outside a checkout the list is empty."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", pattern]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        return []
    return [ROOT / name for name in listed if name and (ROOT / name).exists()]
