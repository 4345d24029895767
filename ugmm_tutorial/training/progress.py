"""The bar that shows how far training has come, where tqdm is installed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["bar"]


def bar(iterable: Iterable | None = None, **options: Any) -> Any:
    """A bar of tqdm, or where tqdm is not installed something silent that takes the same calls.

    Args:
        iterable: what to go through; None for a bar that is moved by ``update``.
        options: those of ``tqdm``.

    >>> [number for number in bar(range(3), disable=True)]
    [0, 1, 2]
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        if not options.get("disable"):
            warnings.warn("no progress is shown, because tqdm is missing: pip install tqdm", stacklevel=2)
        return _Silent(iterable)
    return tqdm(iterable, **options)


class _Silent:
    def __init__(self, iterable: Iterable | None) -> None:
        self.iterable = () if iterable is None else iterable

    def __iter__(self) -> Iterator:
        return iter(self.iterable)

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self) -> None:
        pass

    def set_postfix(self, **_: object) -> None:
        pass

    def set_postfix_str(self, _: str) -> None:
        pass
