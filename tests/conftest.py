"""Fixtures that several test modules share."""

import inspect
import os
from dataclasses import replace

import pytest
import rounding
import torch

from ugmm_tutorial import data
from ugmm_tutorial.data import sets
from ugmm_tutorial.experiments import experiment

pytest.register_assert_rewrite("answers_of")  # it contains tests, so that failures show values


def pytest_configure(config):
    """With ``UGMM_NOISE=1``, training differs as on another processor. The portability report uses this.

    Tests with the marker ``bits`` then fail.
    """
    if seed := os.environ.get("UGMM_NOISE"):
        config.add_cleanup(rounding.add_noise(int(seed)).remove)


@pytest.fixture
def set_threads():
    """``torch.set_num_threads``. The earlier number of threads is restored after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(set_threads):
    """One thread. With several, the order of sums may vary, and small networks gain nothing."""
    set_threads(1)


@pytest.fixture
def pretended_mnist(monkeypatch) -> list:
    """Replace MNIST by a few noisy images. The list has the arguments of every call of ``mnist()``."""
    asked = []
    usual = inspect.signature(data.mnist).parameters["validation"].default

    def mnist(root, *, validation=usual):
        asked.append((root, validation))
        parts = (data.Examples(torch.rand(n, 1, 28, 28), torch.arange(n)) for n in (2, 3, 4))
        return data.Splits("mnist", "pretended", tuple("0123456789"), *parts)

    monkeypatch.setitem(sets._LOADERS, "mnist", mnist)
    for name in ("mnist", "mnist-split"):
        few = replace(experiment.SOURCES[name], sizes={"train": 2, "validation": 3, "test": 4})
        monkeypatch.setitem(experiment.SOURCES, name, few)
    return asked
