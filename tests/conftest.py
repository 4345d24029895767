"""Fixtures that several test modules share."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """Sums over several threads may be taken in another order; small networks gain nothing from them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
