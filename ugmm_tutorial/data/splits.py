"""A data set as tensors in three parts, and the errors about data sets. Imports nothing else."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ugmm_tutorial.arrays import array_of
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.optional import needed

__all__ = ["DataError", "DataUnavailableError", "Examples", "Splits", "stratified"]


class DataError(RuntimeError):
    """A data set cannot be used; the message names the file and what to do."""


class DataUnavailableError(DataError):
    """A data set is not on this machine and could not be downloaded."""


class Examples(NamedTuple):
    """Inputs ``x`` (N, …), float32, and integer labels ``y`` (N,).

    >>> Examples(x=torch.zeros(1, 2), y=torch.tensor([7]))
    Examples(x=tensor([[0., 0.]]), y=tensor([7]))
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Splits:
    """A data set in three parts, with the names that figures and records need.

    ``name`` is short, ``provenance`` one sentence; ``classes`` and ``features`` name the labels and
    the input columns (no names for pixels). ``validation`` may be empty.

    >>> from ugmm_tutorial.data import iris
    >>> iris().take(train=30).sizes
    {'train': 30, 'validation': 0, 'test': 30}
    """

    name: str
    provenance: str
    classes: tuple[str, ...]
    train: Examples = field(repr=False)
    validation: Examples = field(repr=False)
    test: Examples = field(repr=False)
    features: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples in each part."""
        return {part: len(getattr(self, part).y) for part in ("train", "validation", "test")}

    def describe(self) -> dict:
        """Name, provenance and sizes, for a record."""
        return {"name": self.name, "provenance": self.provenance, "sizes": self.sizes}

    def checksum(self) -> str:
        """A hash that tells apart data sets of the same description, for example two splits of one set."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.train, self.validation, self.test):
            for tensor in part:
                digest.update(array_of(tensor.detach().cpu().contiguous().view(torch.uint8)).data)
        return digest.hexdigest()

    def flatten(self) -> Splits:
        """The same data with every input as one row: x (N, K), for fully connected networks."""
        return self._with_parts(lambda part: Examples(part.x.flatten(1), part.y))

    def take(self, **counts: int) -> Splits:
        """The first examples of some parts, for example ``take(train=6000, test=1000)``.

        Raises:
            TypeError: a count is not an integer.
            ValueError: a part is unknown, or a count is below one or above the size of its part.
        """
        for part, count in counts.items():
            check.one_of("part", part, self.sizes)
            count = check.integer(part, count, -sys.maxsize)
            if not 1 <= count <= self.sizes[part]:
                raise ValueError(f"expected 1 to {self.sizes[part]} {part} examples, got {count}")
        parts = {part: getattr(self, part) for part in self.sizes}
        for part, count in counts.items():
            parts[part] = Examples(parts[part].x[:count], parts[part].y[:count])
        return replace(self, **parts)

    def _with_parts(self, change: Callable[[Examples], Examples]) -> Splits:
        return replace(
            self,
            train=change(self.train),
            validation=change(self.validation),
            test=change(self.test),
        )


def stratified(
    x: Tensor, y: Tensor, *, validation: int, test: int, seed: int
) -> tuple[Examples, Examples, Examples]:
    """Split into train, validation and test; each class has the same share in every part."""
    with needed("scikit-learn", by="Splitting by classes"):
        from sklearn.model_selection import train_test_split

    seed, rest = check.seed(seed), torch.arange(len(y))
    parts = []
    for name, count in (("test", test), ("validation", validation)):
        part = rest[:0]
        if count:
            least = len(y.unique())
            if not least <= count <= len(rest) - least:
                raise ValueError(
                    f"expected {name} to take no rows, or at least {least}, one of each class, and to leave "
                    f"as many, got {count} of {len(rest)}"
                )
            rest, part = train_test_split(rest, test_size=count, stratify=y[rest], random_state=seed)
        parts.append(part)
    in_train, in_validation, in_test = (Examples(x[i], y[i]) for i in (rest, parts[1], parts[0]))
    return in_train, in_validation, in_test
