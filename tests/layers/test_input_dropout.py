"""Inputs dropped in training, for all neurons at once."""

import math

import pytest
import torch
from torch import nn

from ugmm_tutorial import HybridNet, UGMMLayer, UGMMNet
from ugmm_tutorial.interpretation import pruning
from ugmm_tutorial.layers import LAYERS, CategoricalLeafLayer, SparseUGMMLayer
from ugmm_tutorial.layers.masks import input_penalty


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _gone(penalty: torch.Tensor) -> torch.Tensor:
    return penalty == -math.inf


@pytest.mark.parametrize("p", [0.2, 0.9])
def test_each_input_is_dropped_as_often_as_said_for_all_neurons(p):
    masks = [_gone(input_penalty(torch.zeros(3, 8), p)) for _ in range(3000)]
    assert all(mask[0].equal(mask[1]) and mask[0].equal(mask[2]) for mask in masks)
    share = torch.stack(masks)[:, 0, 1:].double().mean(dim=0)  # not the heaviest, which may be kept
    assert (share - p).abs().max() < 5 * math.sqrt(p * (1 - p) / 3000)


@pytest.mark.parametrize("p", [0.7, 1.0])
def test_a_neuron_keeps_its_heaviest_if_all_would_be_dropped(p):
    logits = torch.randn(5, 4)
    logits[:, 0] = -math.inf  # no weight anyway
    for _ in range(50):
        kept = (logits + input_penalty(logits, p)) > -math.inf
        assert kept.any(dim=1).all()
    assert p < 1.0 or kept.int().argmax(dim=1).equal(logits.argmax(dim=1))


def test_outputs_are_the_sums_of_what_is_kept():
    layer = UGMMLayer(6, 4, input_dropout=0.4, dtype=torch.float64)
    x = torch.randn(50, 6, dtype=torch.float64)
    torch.manual_seed(7)
    out = layer(x)
    torch.manual_seed(7)
    penalty = input_penalty(layer.mix_logits, 0.4)
    assert _gone(penalty).any()
    torch.testing.assert_close(out, (layer.component_log_densities(x) + penalty).logsumexp(dim=2))
    torch.testing.assert_close(layer.eval()(x), layer.component_log_densities(x).logsumexp(dim=2))


def test_beside_missing_inputs_whole_rows_stay_as_they_are():
    layer = UGMMLayer(6, 4, input_dropout=0.4, missing="renormalize")
    x = torch.randn(50, 6)
    torch.manual_seed(7)
    whole = layer(x)
    x[0, 1] = math.nan
    torch.manual_seed(7)
    out = layer(x)
    torch.testing.assert_close(out[1:], whole[1:])
    assert out[0].isfinite().all()


def test_a_network_trains_with_nearly_all_inputs_dropped_and_missing():
    net = HybridNet([5, 16, 8, 3], input_dropout=0.95, missing="renormalize")
    for _ in range(20):
        x = torch.randn(64, 5)
        x[torch.rand(64, 5) < 0.5] = math.nan
        nn.functional.cross_entropy(net(x), torch.randint(3, (64,))).backward()
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


@pytest.mark.parametrize("kind", LAYERS)
def test_all_dense_layers_drop_inputs(kind):
    layer = LAYERS[kind](6, 4, input_dropout=0.5)
    x = torch.rand(3, 6)
    assert not layer(x).equal(layer.eval()(x))


def test_a_pruned_layer_drops_no_inputs():
    pruned = pruning.prune(UGMMNet([6, 8, 3], input_dropout=0.2), 0.5)
    sparse = [m for m in pruned.modules() if isinstance(m, SparseUGMMLayer)]
    assert sparse
    assert all(layer.input_dropout == 0.0 for layer in sparse)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: UGMMLayer(4, 3, dropout=0.5, input_dropout=0.1),
            "dropout or input_dropout, got 0.5 and 0.1",
        ),
        (lambda: SparseUGMMLayer(4, 3, 2, input_dropout=0.1), "expected no input_dropout"),
        (lambda: UGMMLayer(4, 3, input_dropout=-0.1), "input_dropout between 0 and 1, got -0.1"),
        (lambda: UGMMLayer(4, 3, input_dropout=math.nan), "input_dropout between 0 and 1, got nan"),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
