"""Counts of parameters and operations against arithmetic done by hand."""

import pytest
import torch
from torch import nn

from ugmm_tutorial import MLP, ConvNet, UGMMLayer, UGMMNet, preset
from ugmm_tutorial.experiments.cost import FLOPS_PER_COMPONENT, Cost, count
from ugmm_tutorial.layers.ablations import LAYERS


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 3), (784, 128)])
def test_mixture_layer_has_one_exponential_for_each_component(inputs, outputs):
    components = inputs * outputs
    expected = Cost(3 * components, FLOPS_PER_COMPONENT * components, components)
    assert count(UGMMLayer(inputs, outputs), torch.rand(inputs)) == expected


def test_linear_layer_multiplies_and_adds_once_for_each_weight():
    assert count(nn.Linear(7, 3), torch.rand(7)) == Cost(7 * 3 + 3, 2 * 7 * 3, 0)


def test_networks_are_the_sum_of_their_layers():
    widths = (784, 128, 64, 10)
    edges = 784 * 128 + 128 * 64 + 64 * 10
    assert count(UGMMNet(widths), torch.rand(784)) == Cost(327_552, FLOPS_PER_COMPONENT * edges, edges)
    assert count(MLP(widths), torch.rand(784)) == Cost(109_386, 2 * edges, 0)


def test_convolutions_are_counted_at_every_place():
    convolutions = 2 * (24 * 24 * 32 * 25 + 8 * 8 * 64 * 32 * 25)
    head = 1024 * 128 + 128 * 64 + 64 * 10
    example = torch.rand(1, 28, 28)
    assert count(preset("CNN-MLP"), example).flops == convolutions + 2 * head
    found = count(preset("CNN-uGMM"), example)
    assert (found.flops, found.exponentials) == (convolutions + FLOPS_PER_COMPONENT * head, head)


def test_dropout_layernorm_and_mode_do_not_change_the_operations():
    plain = UGMMNet((20, 8, 4))
    other = UGMMNet((20, 8, 4), dropout=0.5, norm="layer").train()
    found = count(other, torch.rand(20))
    assert (found.flops, found.exponentials) == (count(plain, torch.rand(20)).flops, 20 * 8 + 8 * 4)
    assert found.parameters == count(plain, torch.rand(20)).parameters + 2 * 8
    assert other.training


def test_only_what_is_learnt_counts_as_a_parameter():
    layer = UGMMNet((20, 4), layer="frozen std")
    assert count(layer, torch.rand(20)).parameters == 2 * 20 * 4


def test_a_layer_that_takes_the_largest_term_has_no_exponentials():
    edges = 20 * 8 + 8 * 4
    found = count(UGMMNet((20, 8, 4), layer="hard"), torch.rand(20))
    assert found == Cost(3 * edges, FLOPS_PER_COMPONENT * edges, 0)
    mixed = nn.Sequential(LAYERS["hard"](20, 8), UGMMLayer(8, 4))
    assert count(mixed, torch.rand(20)).exponentials == 8 * 4


def test_counting_leaves_no_hooks_behind_also_after_an_error():
    network = ConvNet(head="ugmm")
    with pytest.raises(ValueError, match="expected images"):
        count(network, torch.rand(784))
    assert all(not m._forward_hooks for m in network.modules())
