"""Tensors as NumPy arrays: shared or copied, by name refused, and never changed."""

import gc

import numpy as np
import pytest
import torch

from ugmm_tutorial.arrays import array_of, numbers, whole_numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_an_array_shares_the_tensors_memory(dtype, shape):
    tensor = torch.ones(shape, dtype=dtype)
    array = array_of(tensor)
    assert array.shape == shape
    np.add(array, 1, out=array, casting="unsafe")
    assert (tensor == 2).all()
    assert tensor.untyped_storage().resizable()


def test_an_array_keeps_the_memory_alive():
    array = array_of(torch.full((1000,), 7.0))
    gc.collect()
    other = torch.zeros(1000)
    assert (array == 7.0).all()
    assert (other == 0.0).all()


TENSORS = [
    torch.tensor([1.5, 2.0], requires_grad=True),
    torch.tensor([1.5, 2.0], dtype=torch.bfloat16),
    torch.tensor([1.5, 9.0, 2.0])[::2],
    np.array([1.5, 2.0], dtype=np.float16),
    [1.5, 2],
]


@pytest.mark.parametrize("values", TENSORS, ids=lambda values: getattr(values, "dtype", type(values)))
def test_numbers_are_a_copy_in_float64(values):
    found = numbers("values", values)
    np.testing.assert_array_equal(found, np.array([1.5, 2.0]))
    assert found.dtype == np.float64
    found[0] = 0.0
    assert numbers("values", values)[0] == 1.5
    if isinstance(values, torch.Tensor):
        assert values.untyped_storage().resizable()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_whole_numbers_are_a_copy(dtype):
    values = torch.tensor([3, 1], dtype=dtype)
    found = whole_numbers("labels", values)
    np.testing.assert_array_equal(found, [3, 1])
    found[0] = 0
    assert values[0] == 3


WRONG = [
    torch.eye(2).to_sparse(),
    torch.zeros(2, device="meta"),
    torch.zeros(2, dtype=torch.complex64),
    ["a", "b"],
    [[1.0], [1.0, 2.0]],
    None,
]


@pytest.mark.parametrize("values", WRONG, ids=range(len(WRONG)))
def test_what_is_no_array_of_numbers_is_refused_by_name(values):
    with pytest.raises(TypeError, match="expected logits to be"):
        numbers("logits", values)
    with pytest.raises(TypeError, match="expected labels to be"):
        whole_numbers("labels", values)


@pytest.mark.parametrize("values", [torch.zeros(2), torch.zeros(2).bool(), [0.5], [True]], ids=range(4))
def test_what_is_not_whole_is_no_label(values):
    with pytest.raises(TypeError, match="expected labels to be integers"):
        whole_numbers("labels", values)
