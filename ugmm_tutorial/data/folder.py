"""Where data sets are stored."""

from __future__ import annotations

import os
from pathlib import Path

from ugmm_tutorial.kernels.kinds import path

__all__ = ["cache_folder", "data_folder"]


def data_folder(root: str | Path | None = None) -> Path:
    """``root`` if it is given, else ``$UGMM_DATA_DIR``, else :func:`cache_folder`.

    Raises:
        TypeError, ValueError: as :func:`~ugmm_tutorial.kernels.kinds.path`.
    """
    return Path(path("root", root) or os.environ.get("UGMM_DATA_DIR") or cache_folder()).expanduser()


def cache_folder() -> Path:
    """This package's folder in the user's cache."""
    from platformdirs import user_cache_path

    return user_cache_path("ugmm_tutorial")
