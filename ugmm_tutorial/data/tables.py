"""Twelve tables of measurements for comparisons: numbers, no missing values, two to 26 classes.

A table is read from ``tables/NAME.csv`` in the data folder if it is there (a header, features, then the
label), else fetched from OpenML by scikit-learn, which keeps it in the user's cache. The two sources hold the
same measurements; two tables differ by a few rows.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ugmm_tutorial.data.folder import cache_folder, data_folder
from ugmm_tutorial.data.splits import DataError, DataUnavailableError, Splits, stratified
from ugmm_tutorial.kernels.arguments import real

__all__ = ["TABLES", "table"]


@dataclass(frozen=True)
class _Table:
    """What is known of a table.

    ``openml`` is its name there and ``about`` a few words; ``rows`` are its possible lengths, ``classes`` the
    ascending sizes of its classes at the first of these lengths.
    """

    openml: str
    about: str
    rows: tuple[int, ...]
    features: int
    classes: tuple[int, ...]


#: The tables by name.
TABLES: dict[str, _Table] = {
    "letter": _Table(
        "letter", "shapes of printed letters (Frey and Slate 1991)", (20000,), 16,
        (734, 734, 736, 739, 747, 748, 752, 753, 755, 758, 761, 764, 766, 768, 773, 775, 783, 783, 786, 787,
         789, 792, 796, 803, 805, 813),
    ),
    "magic": _Table(
        "MagicTelescope", "showers of gamma rays or hadrons in a telescope (Bock et al. 2004)", (19020,), 10,
        (6688, 12332),
    ),
    "optdigits": _Table(
        "optdigits", "digits as 8 x 8 counts of ink (Alpaydin and Kaynak 1998)", (5620,), 64,
        (554, 554, 557, 558, 558, 562, 566, 568, 571, 572),
    ),
    "penbased": _Table(
        "pendigits", "digits as eight points on the path of a pen (Alpaydin and Alimoglu 1998)", (10992,), 16,
        (1055, 1055, 1055, 1055, 1056, 1142, 1143, 1143, 1144, 1144),
    ),
    "phoneme": _Table(
        "phoneme", "nasal and oral vowels by five harmonics (ELENA project, 1993)", (5404,), 5, (1586, 3818)
    ),
    "ring": _Table(
        "ringnorm", "a narrow Gaussian inside a wide one (Breiman 1996)", (7400,), 20, (3664, 3736)
    ),
    "satimage": _Table(
        "satimage", "land use by nine pixels in four spectral bands (Srinivasan 1993)", (6435, 6430), 36,
        (626, 703, 707, 1358, 1508, 1533),
    ),
    "segment": _Table("segment", "patches of outdoor photographs (Brodley 1990)", (2310,), 19, (330,) * 7),
    "spambase": _Table(
        "spambase", "words and characters in e-mail (Hopkins et al. 1999)", (4597, 4601), 57, (1812, 2785)
    ),
    "texture": _Table(
        "texture", "eleven textures by fourth-order moments (ELENA project, 1993)", (5500,), 40, (500,) * 11
    ),
    "twonorm": _Table(
        "twonorm", "two Gaussians with the same covariance (Breiman 1996)", (7400,), 20, (3697, 3703)
    ),
    "vehicle": _Table(
        "vehicle", "silhouettes of four vehicles (Mowforth and Shepherd 1987)", (846,), 18,
        (199, 212, 217, 218),
    ),
}  # fmt: skip


def table(
    name: str,
    root: str | Path | None = None,
    *,
    validation: float = 0.15,
    test: float = 0.3,
    seed: int = 0,
    download: bool = True,
) -> Splits:
    """One of the twelve tables: x (N, K), float32, in the table's own units; labels from 0.

    Args:
        name: a key of :data:`TABLES`.
        root: the folder that has ``tables/NAME.csv``; by default ``$UGMM_DATA_DIR``, else a per-user cache.
        validation: share of the rows to set aside for choosing settings, at least 0.
        test: share of the rows to test on, at least 0.
        seed: fixes which row goes where. Classes have the same share in every part.
        download: fetch a table that is not in the folder from OpenML.

    Raises:
        ValueError: there is no such table, or the shares leave no rows to train on.
        DataUnavailableError: the table is not in the folder and could not be fetched.
        DataError: the file is damaged, or it is another table.

    >>> table("vehicle", download=False).sizes  # doctest: +SKIP
    {'train': 465, 'validation': 127, 'test': 254}
    """
    if not isinstance(name, str) or name not in TABLES:
        raise ValueError(f"no table is called {name!r}: expected one of {', '.join(TABLES)}")
    validation, test = real("validation", validation), real("test", test)
    if not (min(validation, test) >= 0.0 and validation + test <= 0.95):
        raise ValueError(f"expected shares >= 0 that leave rows to train on, got {validation=} and {test=}")
    path = data_folder(root) / "tables" / f"{name}.csv"
    x, labels = _read(path) if path.exists() else _fetched(name, path, download)
    classes = _checked(name, x, labels)
    place = {label: number for number, label in enumerate(classes)}
    rows, y = torch.from_numpy(x).float(), torch.tensor([place[label] for label in labels])
    counts = {"validation": round(validation * len(y)), "test": round(test * len(y))}
    return Splits(
        name,
        f"{name}: {TABLES[name].about}",
        tuple(classes),
        *stratified(rows, y, **counts, seed=seed),
        features=tuple(f"x{k}" for k in range(1, rows.shape[1] + 1)),
    )


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        return np.array([[float(value) for value in row[:-1]] for row in rows]), [row[-1] for row in rows]
    except (OSError, ValueError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}). Nothing was changed") from error


def _fetched(name: str, path: Path, download: bool) -> tuple[np.ndarray, list[str]]:
    """From OpenML, or from scikit-learn's cache of it."""
    from sklearn.datasets import fetch_openml

    if not download:
        raise DataUnavailableError(f"there is no {path}, and download is off: {_remedy(path)}")
    try:
        cache = cache_folder() / "openml"
        found = fetch_openml(
            TABLES[name].openml, version=1, as_frame=False, parser="liac-arff", data_home=cache
        )
    except Exception as error:  # scikit-learn passes on whatever the network and the server do
        raise DataUnavailableError(
            f"OpenML's {TABLES[name].openml} could not be fetched ({error}): {_remedy(path)}"
        ) from error
    return np.asarray(found.data, dtype=np.float64), [str(label) for label in found.target]


def _remedy(path: Path) -> str:
    return (
        "put the table there (a header, features, then the label), or set UGMM_DATA_DIR to a folder that has "
        f"{path.parent.name}/{path.name}"
    )


def _checked(name: str, x: np.ndarray, labels: list[str]) -> list[str]:
    """The classes in their order, of a table that has the known sizes."""
    known, found = TABLES[name], Counter(labels)
    problem = None
    if x.ndim != 2 or x.shape[1] != known.features or len(x) not in known.rows:
        sizes = " or ".join(str(rows) for rows in known.rows)
        problem = f"expected {sizes} rows of {known.features} features, got {' x '.join(map(str, x.shape))}"
    elif not np.isfinite(x).all():
        problem = "expected finite numbers, got NaN or inf"
    elif len(found) != len(known.classes):
        problem = f"expected {len(known.classes)} classes, got {len(found)}"
    elif len(x) == known.rows[0] and tuple(sorted(found.values())) != known.classes:
        problem = f"expected classes of {known.classes} rows, got {tuple(sorted(found.values()))}"
    if problem:
        raise DataError(f"this is not the table {name}: {problem}")
    return sorted(found, key=lambda label: (float(label) if label.isdigit() else 0.0, label))
