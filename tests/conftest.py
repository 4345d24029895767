"""Fixtures that several test modules share."""

import inspect
import os
from dataclasses import replace

import pytest
import rounding
import torch

from ugmm_tutorial import data
from ugmm_tutorial.data import sets
from ugmm_tutorial.experiments import catalogue

pytest.register_assert_rewrite("answers_of")  # tests stand in it, so failures tell values


def pytest_configure(config):
    """``UGMM_NOISE=1`` trains as another processor might; the report on portability asks for it.

    Tests with the marker ``bits`` fail then.
    """
    if seed := os.environ.get("UGMM_NOISE"):
        config.add_cleanup(rounding.add_noise(int(seed)).remove)


@pytest.fixture
def set_threads():
    """torch.set_num_threads, and afterwards the number that was set before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(set_threads):
    """Sums over several threads may be taken in another order; small networks gain nothing from them."""
    set_threads(1)


@pytest.fixture
def pretended_mnist(monkeypatch) -> list:
    """A few noisy images in the place of MNIST; the list tells how mnist() was asked for them."""
    asked = []
    usual = inspect.signature(data.mnist).parameters["validation"].default

    def mnist(root, *, validation=usual):
        asked.append((root, validation))
        parts = (data.Examples(torch.rand(n, 1, 28, 28), torch.arange(n)) for n in (2, 3, 4))
        return data.Splits("mnist", "pretended", tuple("0123456789"), *parts)

    monkeypatch.setitem(sets._LOADERS, "mnist", mnist)
    for name in ("mnist", "mnist-split"):
        few = replace(catalogue.SOURCES[name], sizes={"train": 2, "validation": 3, "test": 4})
        monkeypatch.setitem(catalogue.SOURCES, name, few)
    return asked
