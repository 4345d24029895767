"""Tests of GPU kernels where there is no GPU: in a process of its own, in which Triton interprets them."""

import os
import re
import subprocess
import sys
from pathlib import Path


def how_many_pass(file: str, *options: str) -> int:
    """Run the tests of a file there; how many passed. None may fail.

    The process has to be another one, because Triton decides when it is imported.
    """
    here = Path(file).resolve()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(here), *options, "-q", "-p", "no:cacheprovider"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=here.parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) passed", done.stdout)[1])
