"""Data sets as tensors in memory. Chapters use ``images()``, which always finds some digits.

sets          mnist, fashion_mnist, mnist_5k, digits, iris, images, and load(name)
tables        twelve tables of measurements for comparisons
splits        what they return: training, validation and test examples
folder        where data sets are stored
idx_files     the files of MNIST and Fashion-MNIST: how they are checked and downloaded
mnist_subset  5,000 of MNIST's digits, from another package
labels        features and label as one input
"""

from ugmm_tutorial.data.labels import with_every_label, with_labels
from ugmm_tutorial.data.sets import (
    NAMES,
    digits,
    fashion_mnist,
    images,
    iris,
    load,
    mnist,
    mnist_5k,
)
from ugmm_tutorial.data.splits import DataError, DataUnavailableError, Examples, Splits
from ugmm_tutorial.data.tables import TABLES, table

__all__ = [
    "NAMES",
    "TABLES",
    "DataError",
    "DataUnavailableError",
    "Examples",
    "Splits",
    "digits",
    "fashion_mnist",
    "images",
    "iris",
    "load",
    "mnist",
    "mnist_5k",
    "table",
    "with_every_label",
    "with_labels",
]
