"""Fixtures that several test modules share."""

import pytest
import torch


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
