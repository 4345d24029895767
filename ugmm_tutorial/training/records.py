"""A run's record: what was trained, on what, and how it went. Written and read as JSON.

Imports nothing else of the package but :mod:`files`.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ugmm_tutorial.kernels.arguments import reals
from ugmm_tutorial.training import files

__all__ = [
    "Record",
    "RecordError",
    "as_json",
    "environment",
    "mean_and_interval",
    "now",
    "read",
    "read_all",
    "write",
    "write_json",
]

_VERSIONED = ("ugmm_tutorial", "torch", "torchvision", "numpy", "scikit-learn")


class RecordError(ValueError):
    """A file is not a record of this package; the message names it."""


@dataclass(frozen=True)
class Record:
    """What one training run did.

    ``config``, ``data`` and ``model`` describe the run; ``metrics`` holds one dictionary per epoch (losses in
    nats, accuracies as fractions, seconds); ``seconds`` is the sum over all epochs, also those before a
    resume; ``environment`` names versions, device and commit; ``experiment`` is its name in the catalogue, if
    it has one; ``notes`` are remarks by the person who ran it.

    >>> record = Record({}, {}, {}, ({"loss": 2.0}, {"loss": 1.5}), seconds=0.1, environment={})
    >>> record.curve("loss"), record.final
    ([2.0, 1.5], {'loss': 1.5})
    """

    config: dict
    data: dict
    model: dict
    metrics: tuple[dict, ...]
    seconds: float
    environment: dict
    experiment: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def final(self) -> dict:
        """Metrics of the last epoch (never of the best)."""
        return self.metrics[-1]

    def curve(self, metric: str) -> list[float]:
        """One metric over the epochs.

        Raises:
            KeyError: the run did not measure it; the message lists what it measured.
        """
        if metric not in self.metrics[0]:
            raise KeyError(f"no metric {metric!r} in this record: it has {', '.join(self.metrics[0])}")
        return [epoch[metric] for epoch in self.metrics]


def as_json(fields: dict) -> dict:
    """The fields as they would be read back from JSON (tuples become lists), for comparisons.

    >>> as_json({"milestones": (5, 8)})
    {'milestones': [5, 8]}
    """
    return json.loads(json.dumps(fields))


def write(record: Record, path: str | Path) -> Path:
    """Write a record as JSON (see :func:`write_json`).

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(Record({}, {}, {}, (), 0.0, {}), f"{folder}/seed0.json").name
    'seed0.json'
    """
    return write_json(asdict(record), path)


def write_json(fields: dict, path: str | Path) -> Path:
    """Write a file of JSON, whole or not at all (see :func:`~ugmm_tutorial.training.files.replacing`).

    Raises:
        ValueError: a number is not finite, which JSON cannot express.
        OSError: the file cannot be written. An older one stays.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     json.loads(write_json({"seed": 0}, f"{folder}/a.json").read_text())
    {'seed': 0}
    """
    text = json.dumps(fields, indent=1, allow_nan=False) + "\n"
    # A list of numbers is one line, or a study's file would have a hundred thousand. The line break in front
    # tells lists from brackets within a string.
    text = re.sub(r"\[\n[-+\d.e,\s]+\]", lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)
    with files.replacing(path) as file:
        file.write(text)
    return Path(path)


def read(path: str | Path) -> Record:
    """Read a record.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: the file is not a record; the message names it.

    >>> read(__file__)
    Traceback (most recent call last):
    ugmm_tutorial.training.records.RecordError: ...records.py is not a record of this package ...
    """
    path = Path(path)
    try:
        fields = json.loads(path.read_text())
        _check(fields)
        return Record(**fields | {name: tuple(fields[name]) for name in ("metrics", "notes")})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecordError(
            f"{path} is not a record of this package ({type(error).__name__}: {error}). Nothing was "
            "changed; move it away, with the checkpoint beside it if there is one, to train anew"
        ) from error


_KINDS: dict[str, type | tuple[type, ...]] = {
    "config": dict,
    "data": dict,
    "model": dict,
    "metrics": list,
    "seconds": (int, float),
    "environment": dict,
    "experiment": (str, type(None)),
    "notes": list,
}


def _check(fields: dict) -> None:
    """Raise if an entry that readers of a record rely on is missing or has another type."""
    for name, kind in _KINDS.items():
        _expect(name, fields[name], kind)
    _expect("the seed", fields["config"]["seed"], int)
    for name in ("device", "finished"):
        _expect(name, fields["environment"][name], str)
    for note in fields["notes"]:
        _expect("a note", note, str)
    if not fields["metrics"]:
        raise ValueError("expected metrics of at least one epoch, got none")
    for number, epoch in enumerate(fields["metrics"], start=1):
        _expect("the metrics of an epoch", epoch, dict)
        if epoch["epoch"] != number or epoch.keys() != fields["metrics"][0].keys():
            raise ValueError(f"expected the metrics of epoch {number}, the same as of the first, got {epoch}")
        for name, value in epoch.items():
            _expect(name, value, (int, float))
            share = name.endswith("accuracy")
            if not math.isfinite(value) or (share and not 0.0 <= value <= 1.0):
                wanted = "from 0 to 1" if share else "finite"
                raise ValueError(f"expected {name} of epoch {number} to be {wanted}, got {value}")


def _expect(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(k.__name__ for k in kinds)
        raise TypeError(f"expected {name} to be {wanted}, got {value!r}")


def read_all(folder: str | Path, experiment: str) -> list[Record]:
    """All records of an experiment under ``folder/experiment/``, sorted by seed.

    They are the files ``seed<N>.json`` whose record has seed N; copies under other names are ignored.

    Raises:
        RecordError: one of these files is not a record; the message names it.

    >>> read_all("no such folder", "mlp")
    []
    """
    paths = [p for p in Path(folder, experiment).glob("seed*.json") if re.fullmatch(r"seed\d+\.json", p.name)]
    found = [(path.name, read(path)) for path in paths]
    own = [record for name, record in found if name == f"seed{record.config['seed']}.json"]
    return sorted(own, key=lambda record: record.config["seed"])


def environment(device: str) -> dict:
    """Versions, hardware, time and commit, for a record made on ``device`` now.

    >>> sorted(environment("cpu"))
    ['commit', 'device', 'finished', 'python', 'system', 'threads', 'versions']
    """
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": {name: _version(name) for name in _VERSIONED},
        "commit": _commit(),
        "finished": now(),
    }


def now() -> str:
    """The time now, as records write it: UTC, to the second.

    >>> now().endswith("+00:00")
    True
    """
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval (Student's t; NaN for a single value).

    >>> [round(value, 4) for value in mean_and_interval([0.97, 0.98, 0.99])]
    [0.98, 0.0248]
    """
    values = reals("values", values)
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"expected values to be finite numbers, at least one, got {values}")
    if len(values) < 2:
        return statistics.fmean(values), math.nan
    from scipy.stats import t

    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(t.ppf(0.975, len(values) - 1)) * error


def _processor() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    return f"{model}, {os.cpu_count()} cores"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout this package runs from, ``-dirty`` if files differ; None outside a checkout."""
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        commit = git("rev-parse", "HEAD")
        return commit + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
