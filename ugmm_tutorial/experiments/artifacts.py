"""Where the chapters' records and measurements are stored, and where long studies keep their networks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["folder", "records_of", "scratch"]

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """Find the folder ``results`` or ``benchmarks``.

    A wheel contains a copy of both. This copy comes first, because a folder of the same name beside an
    installed package may belong to another project. Without it, the checkout's folder is returned.

    Raises:
        ValueError: the name is another one.
        FileNotFoundError: neither folder exists.
    """
    if name not in ("results", "benchmarks"):
        raise ValueError(f"expected 'results' or 'benchmarks', got {name!r}")
    for path in (_PACKAGE / "_stored" / name, _PACKAGE.parent / name):
        if path.is_dir():
            return path
    raise FileNotFoundError(
        f"no {name!r} beside the package in {_PACKAGE.parent} and none within it: install the package from a "
        "wheel or a clone"
    )


def records_of(names: Iterable[str]) -> Path:
    """Find the folder with records of these experiments.

    It is ``results`` in the working directory if that has a record of one of them, as after training there.
    Else it is the folder that comes with the package.

    Raises:
        FileNotFoundError: neither folder exists.
    """
    own = Path("results")
    return own if any(any(own.joinpath(name).glob("*.json")) for name in names) else folder("results")


def scratch(name: str) -> Path:
    """A study's own folder for trained networks, so that it need not train them again.

    The folder is created if it does not exist. It is in ``$UGMM_SCRATCH_DIR``, by default in the user's cache
    of this package.
    """
    from platformdirs import user_cache_path

    place = Path(os.environ.get("UGMM_SCRATCH_DIR") or user_cache_path("ugmm_tutorial") / "studies", name)
    place.mkdir(parents=True, exist_ok=True)
    return place
