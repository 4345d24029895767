"""One thread within, the former number afterwards."""

import pytest
import torch

from ugmm_tutorial.training.threads import one_thread


def test_one_thread_within_and_as_before_afterwards_even_after_an_error():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
