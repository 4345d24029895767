"""Inputs dropped in training: for all neurons at once, in every row anew, one always kept."""

import math

import pytest
import torch
from torch import nn

from ugmm_tutorial import HybridNet, UGMMLayer, UGMMNet
from ugmm_tutorial.interpretation import pruning
from ugmm_tutorial.layers import LAYERS, CategoricalLeafLayer, MaxLayer, SparseUGMMLayer
from ugmm_tutorial.layers.missing import with_dropped


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("missing", ["propagate", "error", "drop", "renormalize"])
def test_outputs_are_the_sums_of_what_is_kept(missing):
    layer = UGMMLayer(6, 4, input_dropout=0.4, missing=missing, dtype=torch.float64)
    x = torch.randn(50, 6, dtype=torch.float64)
    torch.manual_seed(7)
    out = layer(x)
    torch.manual_seed(7)
    gone = with_dropped(None, x, 0.4)
    terms = layer.component_log_densities(x).masked_fill(gone.unsqueeze(1), -math.inf)
    torch.testing.assert_close(out, terms.logsumexp(dim=2))  # weights stay as they are
    assert gone.any()
    assert not layer.eval()(x).equal(out)
    torch.testing.assert_close(layer(x), layer.component_log_densities(x).logsumexp(dim=2))


def test_a_missing_input_stays_missing_and_is_all_that_weights_are_divided_by():
    layer = UGMMLayer(6, 4, input_dropout=0.4, missing="renormalize", dtype=torch.float64)
    x = torch.randn(50, 6, dtype=torch.float64)
    absent = torch.rand(50, 6) < 0.3
    torch.manual_seed(7)
    out = layer(x.masked_fill(absent, math.nan))
    torch.manual_seed(7)
    gone = with_dropped(absent, x, 0.4)
    assert (gone & absent).equal(absent)
    terms = layer.component_log_densities(x).masked_fill(gone.unsqueeze(1), -math.inf)
    left = layer.weight_left(layer.log_weight, absent)
    some = ~absent.all(dim=1)
    torch.testing.assert_close(out[some], (terms.logsumexp(dim=2) - left.log())[some])


@pytest.mark.parametrize("p", [0.2, 0.9, 1.0])
def test_each_input_is_dropped_as_often_as_said_and_one_is_kept(p):
    gone = with_dropped(None, torch.zeros(4000, 8), p)
    assert not gone.all(dim=1).any()
    kept = 1 - p + p**8 / 8  # that of the greatest draw, if all would be dropped
    share = (~gone).double().mean(dim=0)
    assert (share - kept).abs().max() < 5 * math.sqrt(kept * (1 - kept) / 4000)
    absent = torch.zeros(4000, 8, dtype=torch.bool)
    absent[:, :7] = True
    assert not with_dropped(absent, torch.zeros(4000, 8), p)[:, 7].any()


def test_gradients_are_those_of_what_is_kept():
    layer = UGMMLayer(5, 3, input_dropout=1.0, dtype=torch.float64)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()
    assert ((x.grad != 0.0).sum(dim=1) == 1).all()  # one input of a row is left
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_a_network_trains_with_nearly_all_inputs_dropped():
    net = HybridNet([5, 16, 8, 3], input_dropout=0.95)
    for _ in range(20):
        loss = nn.functional.cross_entropy(net(torch.randn(64, 5)), torch.randint(3, (64,)))
        loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_only_the_first_layer_of_a_network_drops_inputs():
    layers = [m for m in UGMMNet([6, 8, 3], input_dropout=0.2) if isinstance(m, UGMMLayer)]
    assert [layer.input_dropout for layer in layers] == [0.2, 0.0]


def test_the_option_is_kept_and_shown():
    layer = UGMMLayer(4, 3, input_dropout=0.25)
    assert "input_dropout=0.25" in repr(layer)
    assert "input_dropout" not in repr(UGMMLayer(4, 3))
    assert UGMMLayer(4, 3, **layer.options).input_dropout == 0.25
    assert CategoricalLeafLayer(4, 3, num_labels=2, input_dropout=0.25).input_dropout == 0.25


def test_a_pruned_layer_drops_no_inputs():
    net = UGMMNet([6, 8, 3], input_dropout=0.2)
    pruned = pruning.prune(net, 0.5)
    sparse = [m for m in pruned.modules() if isinstance(m, SparseUGMMLayer)]
    assert sparse
    assert all(layer.input_dropout == 0.0 for layer in sparse)


@pytest.mark.parametrize("kind", [MaxLayer, LAYERS["per-example dropout"]])
def test_layers_that_cannot_leave_out_components_say_so(kind):
    with pytest.raises(ValueError, match=f"expected input_dropout=0 for {kind.__name__}, got 0.1"):
        kind(4, 3, input_dropout=0.1)


def test_a_sparse_layer_refuses():
    with pytest.raises(ValueError, match="no input_dropout: a sparse neuron could lose all"):
        SparseUGMMLayer(4, 3, 2, input_dropout=0.1)


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_probabilities_are_checked(p):
    with pytest.raises(ValueError, match="expected input_dropout between 0 and 1"):
        UGMMLayer(4, 3, input_dropout=p)
