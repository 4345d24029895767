"""Execute chapters in parallel, if anything that they depend on has changed.

Sphinx would run one after another. Here as many run at once as :func:`jobs_at_once` says, by default one on
each core with one thread. The longest ones start first, and the results go into the cache that Sphinx reads.
The cache also has a note for each chapter: its cells, the modules and records that it read, the machine, data
and versions that it ran with, and which of its statements do not hold. A chapter runs again if its cells, one
of these files or one of these settings has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.cache.main import JupyterCacheBase

import kernel_run
from kernel_run import ROOT, Run


@dataclass(frozen=True)
class Document:
    """A page with cells: its name in Sphinx, its file, and the stored notebook."""

    name: str
    path: Path
    notebook: nbformat.NotebookNode

    @property
    def cells(self) -> str:
        """A digest of its code cells."""
        sources = [cell.source for cell in self.notebook.cells if cell.cell_type == "code"]
        return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


@dataclass(frozen=True)
class Note:
    """What is known about a document's last execution."""

    cells: str
    settings: dict
    read: dict[str, str]
    notes: list[dict]
    seconds: float
    when: str
    commit: str | None

    @property
    def run(self) -> str:
        """A name for this execution."""
        return f"{self.when} {self.cells[:8]}"


class ExecutionError(RuntimeError):
    """A chapter stopped with an error. The message has its traceback."""


def note_of(folder: Path, name: str) -> Note | None:
    """The note on a document's last execution, or None if there is none or it cannot be read."""
    try:
        return Note(**json.loads(_note_file(folder, name).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def is_fresh(document: Document, folder: Path, settings: Mapping) -> bool:
    """Whether the outputs are in the cache and nothing that they depend on has changed."""
    note = note_of(folder, document.name)
    if note is None or note.cells != document.cells or note.settings != dict(settings):
        return False
    if any(state_of(ROOT / name) != state for name, state in note.read.items()):
        return False
    try:
        with _cache(folder) as cache:
            cache.match_cache_notebook(document.notebook)
    except KeyError:
        return False
    return True


def state_of(path: Path) -> str:
    """A digest of a file, or of the names in a folder. It is empty if there is neither."""
    if path.is_dir():
        return hashlib.sha256("\0".join(sorted(p.name for p in path.iterdir())).encode()).hexdigest()[:16]
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def bring_up_to_date(
    documents: Iterable[Document],
    folder: Path,
    settings: Mapping,
    commit: str | None,
    say: Callable[[str], None],
) -> list[str]:
    """Execute the documents that are not fresh, and return their names.

    Raises:
        ExecutionError: a document stopped with an error. The results of the others are kept.
    """
    stale = [document for document in documents if not is_fresh(document, folder, settings)]
    if not stale:
        return []
    stale.sort(key=lambda document: -_expected_seconds(document, folder))
    by_name = {document.name: document for document in stale}
    failed = []
    for run in run_all(stale, say=say):
        if run.error:
            failed.append(f"{run.name}: {run.error}")
        else:
            _keep(by_name[run.name], run, folder, settings, commit)
    if failed:
        raise ExecutionError("\n\n".join(failed))
    return list(by_name)


def run_all(
    documents: list[Document],
    *,
    say: Callable[[str], None],
    strict: bool = False,
    noise: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterable[Run]:
    """Execute documents in parallel, and yield each result when it is ready.

    ``variables`` go into the environment of the kernels. See :func:`kernel_run.execute` for the other
    arguments.
    """
    jobs = jobs_at_once()
    given = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)),
        # PyTorch's threads spin while they wait for each other. This would slow other processes down.
        "GOMP_SPINCOUNT": "1000",
    }
    given |= {name: os.environ[name] for name in given if name in os.environ} | dict(variables or {})
    jobs = min(jobs, len(documents))
    waiting = list(documents)
    running: dict[Future, Document] = {}
    done, total, begun = 0, len(documents), time.perf_counter()
    # Spawn instead of fork, because the parent may have threads.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                document = waiting.pop(0)
                running[_submit(pool, document, strict, noise, given)] = document
            names = ", ".join(document.path.stem for document in running.values())
            say(f"chapters: {total - done} of {total} left, executing {names}")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                document = running.pop(future)
                done += 1
                run = future.result()
                say(f"chapters: {document.path.stem} took {run.seconds:.0f} s")
                yield run
        say(f"chapters: all {total} in {time.perf_counter() - begun:.0f} s")
    finally:
        pool.shutdown(cancel_futures=True)


def jobs_at_once() -> int:
    """How many notebooks run at once: ``UGMM_JOBS``, or the number of cores without it.

    Raises:
        ValueError: the variable is not a whole number above zero.
    """
    asked = os.environ.get("UGMM_JOBS", "")
    if asked and not (asked.isdecimal() and int(asked) > 0):
        raise ValueError(f"expected UGMM_JOBS to be a number above zero, got {asked!r}: correct or unset it")
    return int(asked or os.cpu_count() or 1)


def _submit(
    pool: ProcessPoolExecutor, document: Document, strict: bool, noise: int | None, given: dict
) -> Future:
    return pool.submit(
        kernel_run.execute,
        document.name,
        nbformat.writes(document.notebook),
        str(document.path.parent),
        strict=strict,
        noise=noise,
        variables=given,
    )


def _keep(document: Document, run: Run, folder: Path, settings: Mapping, commit: str | None) -> None:
    """Store the outputs in the cache, and the note beside it."""
    bundle = CacheBundleIn(
        nbformat.reads(run.notebook, as_version=4),
        str(document.path),
        data={"execution_seconds": run.seconds},
    )
    with _cache(folder) as cache:
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    note = Note(
        cells=document.cells,
        settings=dict(settings),
        read={name: state_of(ROOT / name) for name in run.read},
        notes=list(run.notes),
        seconds=run.seconds,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
    )
    file = _note_file(folder, document.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(note), indent=1), encoding="utf-8")


@contextlib.contextmanager
def _cache(folder: Path) -> Iterator[JupyterCacheBase]:
    """Open the cache that Sphinx reads, and close the connections to its database afterwards."""
    cache = get_cache(folder)
    try:
        yield cache
    finally:
        cache.db.dispose()


def with_outputs(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """A copy of a notebook with the outputs of its last execution.

    Raises:
        LookupError: the cache has no execution of these cells.
    """
    if not (folder / "global.db").is_file():
        raise LookupError(f"{folder} holds no executed chapters")
    with _cache(folder) as cache:
        try:
            return cache.merge_match_into_notebook(notebook, cell_meta=())[1]
        except KeyError:
            raise LookupError(f"{folder} holds no execution of these cells") from None


def _expected_seconds(document: Document, folder: Path) -> float:
    """How long it took last time. A chapter that never ran counts as a long one, and its size decides."""
    note = note_of(folder, document.name)
    return note.seconds if note else 1000.0 + document.path.stat().st_size / 1000


def _note_file(folder: Path, name: str) -> Path:
    return folder / "notes" / f"{Path(name).name}.json"
