"""Units of work of a long study: each is a line of one file, so an interrupted study goes on.

The file is in the study's scratch folder. Its name tells the settings, and it can be taken elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from ugmm_tutorial.experiments import artifacts
from ugmm_tutorial.training import files

__all__ = ["measured"]

#: A tuple of what JSON keeps: names and numbers.
Unit = TypeVar("Unit", bound=tuple)


def measured(
    study: str,
    settings: dict,
    units: Sequence[Unit],
    work: Callable[[Unit, dict], dict],
    progress: bool,
) -> dict[Unit, dict]:
    """The entry of every unit. Those that are not in the file are measured and added to it.

    Args:
        study: its name.
        settings: all that entries depend on. Other settings have another file.
        units: tuples of names and numbers.
        work: from a unit and the settings to its entry, in another process. $UGMM_JOBS run at once, by
            default as many as there are processors.
        progress: whether to show a bar.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    path = artifacts.scratch(study) / f"{digest}.jsonl"
    done = _entries(path)
    left = [unit for unit in units if unit not in done]
    jobs = int(os.environ.get("UGMM_JOBS") or os.cpu_count() or 1)
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        running = {pool.submit(work, unit, settings): unit for unit in left}
        for found in tqdm(futures.as_completed(running), total=len(running), disable=not progress):
            files.append_line(path, json.dumps([*running[found], found.result()]))
    done = _entries(path)
    return {unit: done[unit] for unit in units}


def _entries(path: Path) -> dict[tuple, dict]:
    """The entries of the units that are done. A line that was cut off is not among them."""
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            *unit, entry = json.loads(line)
            entries[tuple(unit)] = entry
    return entries
