"""Execute one notebook in a watched kernel: its outputs, its findings, and the files it read."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_client.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

EXTENSION = Path(__file__).resolve().parent
ROOT = EXTENSION.parents[1]
CELL_TIMEOUT = 900
#: How often a kernel is started that dies before it has run anything, as on a machine short of memory.
_STARTS = 2


@dataclass(frozen=True)
class Run:
    """The result of an execution: the text of the notebook with its outputs, or the error that stopped it."""

    name: str
    notebook: str
    seconds: float
    found: tuple[dict, ...] = ()
    notes: tuple[dict, ...] = ()
    read: tuple[str, ...] = ()
    error: str | None = None


def execute(
    name: str,
    notebook: str,
    folder: str,
    *,
    strict: bool = False,
    noise: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> Run:
    """Execute a notebook from top to bottom.

    Args:
        name: the name of the result.
        notebook: the text of the notebook, as nbformat writes it.
        folder: the folder in which it runs.
        strict: whether a failing claim stops it.
        noise: see :func:`probes.start`.
        variables: additions to the environment of the kernel.
    """
    mode = {"UGMM_CLAIMS": "strict" if strict else "note", "UGMM_CHECK_FIGURES": "1"}
    begun = time.perf_counter()
    for _ in range(_STARTS):
        client = _Watched(
            nbformat.reads(notebook, as_version=4),
            timeout=CELL_TIMEOUT,
            resources={"metadata": {"path": folder}},
            kernel_name="python3",
            record_timing=False,  # times in the metadata of cells would hide the result from Sphinx's cache
        )
        kept, error = _outcome(client, strict, noise, os.environ | mode | dict(variables or {}))
        if error is None or client.started:
            break
    seconds = time.perf_counter() - begun
    parts = {key: tuple(kept.get(key, ())) for key in ("found", "notes", "read")}
    return Run(name, nbformat.writes(client.nb), seconds, **parts, error=error)


def _outcome(client: _Watched, strict: bool, noise: int | None, env: dict) -> tuple[dict, str | None]:
    """What the probes have found, and the error that stopped the notebook."""
    error = None
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "found.json")
        try:
            # The kernel's own messages are not an output of the chapter, but they say why it died.
            with Path(scratch, "stderr").open("w+") as stderr:
                asyncio.run(client.run(file, strict, noise, {"env": env, "stderr": stderr}))
        except (CellExecutionError, CellTimeoutError) as problem:
            error = str(problem)
        except RuntimeError as problem:  # a dead kernel; one that died at once has no class of its own
            if client.started and not isinstance(problem, DeadKernelError):
                raise
            error = f"{problem}\n{Path(scratch, 'stderr').read_text('utf-8', errors='replace')[-2000:]}"
        return json.loads(file.read_text("utf-8")) if file.exists() else {}, error


class _Watched(NotebookClient):
    """A client that starts the probes before the first cell and collects them after the last.

    ``started`` tells whether the kernel has run anything.
    """

    started = False

    async def run(self, file: Path, strict: bool, noise: int | None, options: dict) -> None:
        cells = {c.get("id", str(n)): c.source for n, c in enumerate(self.nb.cells) if c.cell_type == "code"}
        begin = f"import sys; sys.path.insert(0, {str(EXTENSION)!r})\nimport probes\n"
        begin += f"probes.start({cells!r}, {str(ROOT)!r}, {strict!r}, {noise!r})"
        end = f"probes.finish({str(file)!r}, {str(ROOT)!r})"
        self.reset_execution_trackers()
        async with self.async_setup_kernel(**options):
            reply = await self.async_wait_for_reply(await ensure_async(self.kc.kernel_info()))
            self.nb.metadata["language_info"] = reply["content"]["language_info"]
            await self._hidden(begin)
            self.started = True
            for index, cell in enumerate(list(self.nb.cells)):
                await self.async_execute_cell(cell, index, execution_count=self.code_cells_executed + 1)
            self.set_widgets_metadata()
            await self._hidden(f"import probes\n{end}")

    async def _hidden(self, code: str) -> None:
        """Run our own code, which is not a cell of the chapter."""
        self.nb.cells.append(nbformat.v4.new_code_cell(code))
        try:
            await self.async_execute_cell(
                self.nb.cells[-1], len(self.nb.cells) - 1, execution_count=0, store_history=False
            )
        finally:
            self.nb.cells.pop()
            self.code_cells_executed -= 1
