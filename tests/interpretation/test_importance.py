"""Importances have one value for each input of each neuron, whatever kind of layer it is."""

import pytest
import torch

from ugmm_tutorial import UGMMLayer
from ugmm_tutorial.interpretation import IMPORTANCES, change_by_deletion, importance
from ugmm_tutorial.layers import CategoricalLeafLayer, MaxLayer, SparseUGMMLayer

LAYERS = {
    "dense": lambda: UGMMLayer(5, 2),
    "sparse": lambda: SparseUGMMLayer(5, 2, components=3),
    "categorical": lambda: CategoricalLeafLayer(5, 2, num_labels=3),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("by", IMPORTANCES)
def test_importance_has_a_value_for_each_input_of_each_neuron(by, kind):
    torch.manual_seed(0)
    x = torch.rand(7, 5)
    x[:, -1] = torch.arange(7) % 3
    (found,) = importance(LAYERS[kind](), by, x=x)
    assert found.shape == (2, 5)
    assert (found >= 0).all()


def test_weights_of_a_sparse_layer_lie_at_the_inputs_that_it_reads():
    layer = SparseUGMMLayer(5, 1, index=torch.tensor([[4, 0]]))
    (found,) = importance(layer, "weight")
    assert found.tolist() == [[0.5, 0.0, 0.0, 0.0, 0.5]]


def test_deletion_is_refused_where_outputs_are_no_sums():
    with pytest.raises(TypeError, match="a layer that sums its components, got MaxLayer"):
        change_by_deletion(MaxLayer(3, 2), torch.rand(5, 3), torch.tensor([True, False, False]))
