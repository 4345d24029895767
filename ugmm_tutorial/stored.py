"""Where the records and measurements lie that chapters read. Imports nothing else of the package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder"]

_HERE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder ``results`` or ``benchmarks``: the copy installed with the package, else the checkout's.

    A wheel has such a copy, and what lies beside an installed package may be anybody's.

    Raises:
        ValueError: another name.
        FileNotFoundError: neither is there.
    """
    if name not in ("results", "benchmarks"):
        raise ValueError(f"expected 'results' or 'benchmarks', got {name!r}")
    for path in (_HERE / "_stored" / name, _HERE.parent / name):
        if path.is_dir():
            return path
    raise FileNotFoundError(
        f"no {name!r} beside the package in {_HERE.parent} and none within it: install the package from a "
        "wheel or a clone"
    )
