"""Data sets as tensors in memory. Chapters use ``images()``, which always finds some digits.

sets          mnist, mnist_5k, digits, iris, images, and load(name)
splits        what they return: training, validation and test examples
mnist_files   where MNIST is stored, how it is checked and downloaded
mnist_subset  5,000 of its digits, from another package
labels        features and label as one input
"""

from ugmm_tutorial.data.labels import with_every_label, with_labels
from ugmm_tutorial.data.sets import NAMES, digits, images, iris, load, mnist, mnist_5k
from ugmm_tutorial.data.splits import DataError, DataUnavailableError, Examples, Splits

__all__ = [
    "NAMES",
    "DataError",
    "DataUnavailableError",
    "Examples",
    "Splits",
    "digits",
    "images",
    "iris",
    "load",
    "mnist",
    "mnist_5k",
    "with_every_label",
    "with_labels",
]
