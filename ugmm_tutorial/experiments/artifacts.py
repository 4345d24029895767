"""Where the records and measurements of chapters lie, and what long studies keep to go on from."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["folder", "scratch"]

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """The folder ``results`` or ``benchmarks``: the copy installed with the package, else the checkout's.

    A wheel has such a copy, and what lies beside an installed package may be anybody's.

    Raises:
        ValueError: another name.
        FileNotFoundError: neither is there.
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


def scratch(name: str) -> Path:
    """A study's own folder for networks that it would otherwise train again, made if it is not there.

    It lies in ``$UGMM_SCRATCH_DIR``, by default in this package's cache of the user.
    """
    from platformdirs import user_cache_path

    place = Path(os.environ.get("UGMM_SCRATCH_DIR") or user_cache_path("ugmm_tutorial") / "studies", name)
    place.mkdir(parents=True, exist_ok=True)
    return place
