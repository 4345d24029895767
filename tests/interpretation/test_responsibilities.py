"""Responsibilities over layers and data, and walks down to the inputs: against posteriors and enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from drawn import drawn_inputs, drawn_network
from torch import nn
from torch.distributions import Normal

from ugmm_tutorial import MLP, ConvNet, UGMMLayer
from ugmm_tutorial.interpretation import (
    back_project,
    mean_responsibilities,
    prune,
    responsibilities,
    responsible,
    statistics,
    submodes,
    tracing,
)
from ugmm_tutorial.layers import CategoricalLeafLayer
from ugmm_tutorial.networks import NORMS

pytestmark = pytest.mark.usefixtures("one_thread")


def network(widths=(6, 5, 4, 3), **options):
    return drawn_network(widths, **options)


def inputs(count, width=6):
    return drawn_inputs(count, width)


def posterior(layer, x):
    """Bayes' rule, written with torch.distributions: (B, J, K)."""
    weighted = layer.mix_weight * Normal(layer.mean, layer.std).log_prob(x.unsqueeze(1)).exp()
    return weighted / weighted.sum(dim=-1, keepdim=True)


@pytest.mark.parametrize("norm", NORMS)
def test_responsibilities_of_every_layer_are_posteriors_at_what_arrives_there(norm):
    model, x = network(norm=norm), inputs(7)
    found, values = iter(responsibilities(model, x)), x
    for module in model:
        if isinstance(module, UGMMLayer):
            torch.testing.assert_close(next(found), posterior(module, values).detach())
        values = module(values)
    assert next(found, None) is None


def test_dropout_does_not_count_and_modes_stay_as_they_were():
    model, x = network(dropout=0.9), inputs(5)
    model[1].eval()
    first, second = responsibilities(model, x), responsibilities(model, x)
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(
        mean_responsibilities(model, x)[-1], first[-1].mean(dim=0), rtol=1e-10, atol=1e-12
    )
    assert [m.training for m in model] == [True, False, True]
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("norm", NORMS)
def test_means_by_one_backward_pass_are_means_of_responsibilities(norm, monkeypatch):
    monkeypatch.setattr(responsible, "_EXAMPLES", 4)
    model, x = network(norm=norm), inputs(11)
    for got, share in zip(mean_responsibilities(model, x), responsibilities(model, x), strict=True):
        torch.testing.assert_close(got, share.mean(dim=0))


def test_means_through_the_fused_kernel_are_right_too():
    model = network((50, 20, 4), norm="layer").float()
    x = inputs(300, 50).float()
    for got, share in zip(mean_responsibilities(model, x), responsibilities(model, x), strict=True):
        torch.testing.assert_close(got, share.mean(dim=0), rtol=1e-4, atol=1e-6)


def test_means_hold_for_one_that_answers_alone_and_for_sparse_layers():
    hard, x = network(layer="hard"), inputs(9)
    for got, share in zip(mean_responsibilities(hard, x), responsibilities(hard, x), strict=True):
        torch.testing.assert_close(got, share.mean(dim=0))
        assert share.unique().tolist() == [0.0, 1.0]
    sparse = prune(network(), 2)
    for got, share in zip(mean_responsibilities(sparse, x), responsibilities(sparse, x), strict=True):
        torch.testing.assert_close(got, share.mean(dim=0))


def test_labels_have_responsibilities_too():
    torch.manual_seed(0)
    model = nn.Sequential(CategoricalLeafLayer(4, 5, num_labels=3), UGMMLayer(5, 1)).double()
    x = torch.cat([inputs(7)[:, :3], torch.arange(7, dtype=torch.float64).remainder(3)[:, None]], dim=1)
    share = responsibilities(model, x)[0]
    assert share.shape == (7, 5, 4)
    assert (share > 0).all()
    torch.testing.assert_close(share.sum(dim=-1), torch.ones(7, 5, dtype=torch.float64))
    torch.testing.assert_close(mean_responsibilities(model, x)[0], share.mean(dim=0))


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_statistics_are_those_of_all_responsibilities_together(block, monkeypatch):
    monkeypatch.setattr(tracing, "_BLOCK", block)
    model, x = network(norm="layer"), inputs(13)
    values = model[0](x)
    found = statistics(model, x)
    for layer, share in zip(found, responsibilities(model, x), strict=True):
        torch.testing.assert_close(layer.mean, share.mean(dim=0))
        torch.testing.assert_close(layer.largest, share.amax(dim=0))
        entropy = -(share * share.log()).sum(dim=-1)
        torch.testing.assert_close(layer.effective, entropy.exp().mean(dim=0))
    torch.testing.assert_close(found[0].outputs, values.detach())


def test_the_effective_number_is_one_for_a_single_answer_and_k_for_equal_ones():
    layer = UGMMLayer(8, 2).double()
    with torch.no_grad():
        layer.mean.zero_()
        layer.mix_logits[0, 3] = 200.0
    (found,) = statistics(layer, torch.zeros(4, 8, dtype=torch.float64))
    torch.testing.assert_close(found.effective, torch.tensor([1.0, 8.0], dtype=torch.float64))


def test_submodes_are_means_over_the_images_of_each_class():
    model, x = network(norm="before"), inputs(30)
    labels = torch.arange(30) % 4
    for place, share in enumerate(responsibilities(model, x)):
        found = submodes(model, x, labels, layer=place)
        assert found.shape == (share.shape[1], 4, share.shape[2])
        for c in range(4):
            torch.testing.assert_close(found[:, c], share[labels == c].mean(dim=0))


def test_a_neuron_is_owned_by_the_pixel_that_matches_it_in_each_class():
    """Pixel c is at the mean of all components where the class is c; the others are far away."""
    layer = UGMMLayer(3, 1)
    with torch.no_grad():
        layer.mean.fill_(1.0)
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    x = 6.0 * (1 - nn.functional.one_hot(labels, 3)).float() + 1.0
    torch.testing.assert_close(submodes(layer, x, labels)[0], torch.eye(3), atol=1e-6, rtol=0.0)


def test_a_head_of_a_convnet_is_interpreted_on_its_features():
    model = ConvNet(head="ugmm", widths=(6, 4), channels=(2, 3), norm="layer")
    x = torch.rand(3, 1, 28, 28)
    first, second = responsibilities(model, x)
    assert first.shape == (3, 6, 48)
    assert second.shape == (3, 4, 6)
    torch.testing.assert_close(first, posterior(model.head[0], model.features(x)).detach())
    assert back_project(model, x).shape == (3, 4, 48)


# --- walks


def enumerated(shares, start):
    """Where walks from one output of the last layer end, (B, K), by adding the probability of each path."""
    shares = list(reversed(shares))
    ended = torch.zeros(shares[0].shape[0], shares[-1].shape[2], dtype=torch.float64)
    for path in itertools.product(*(range(s.shape[2]) for s in shares)):
        places = (start, *path)
        probability = torch.ones(len(ended), dtype=torch.float64)
        for share, j, k in zip(shares, places[:-1], places[1:], strict=True):
            probability = probability * share[:, j, k]
        ended[:, path[-1]] += probability
    return ended


@pytest.mark.parametrize("norm", NORMS)
def test_walks_end_where_the_enumeration_of_all_paths_says(norm):
    model, x = network(norm=norm), inputs(3)
    found, shares = back_project(model, x), responsibilities(model, x)
    assert found.shape == (3, 3, 6)
    for c in range(3):
        torch.testing.assert_close(found[:, c], enumerated(shares, c))


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_walks_are_distributions_whatever_the_batch(block, monkeypatch):
    monkeypatch.setattr(tracing, "_BLOCK", block)
    model, x = network((20, 9, 7, 5), norm="after"), inputs(12, 20)
    found = back_project(model, x)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(12, 5, dtype=torch.float64))
    assert (found >= 0.0).all()
    torch.testing.assert_close(found[4:5], back_project(model, x[4:5]))
    torch.testing.assert_close(back_project(model, x, [3, 0]), found[:, [3, 0]])


def test_walks_through_a_pruned_network_end_at_pixels_that_are_read():
    model, x = network((20, 9, 5), norm="layer"), inputs(8, 20)
    pruned = prune(model, [3, 2])
    found = back_project(pruned, x)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(8, 5, dtype=torch.float64))
    read = set(pruned[0].index.flatten().tolist())
    unread = [k for k in range(20) if k not in read]
    assert unread
    assert (found[..., unread] == 0.0).all()


# --- what is refused


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (MLP((6, 4, 3)), "got Linear as module 0"),
        (nn.Linear(6, 3), "expected model to be a UGMMNet"),
        (nn.Sequential(nn.LayerNorm(6)), "at least one mixture layer"),
        (nn.Sequential(UGMMLayer(6, 4), nn.ReLU()), "got ReLU as module 1"),
        (ConvNet(), "got Linear"),
    ],
    ids=["mlp", "linear", "norm", "relu", "convnet"],
)
def test_networks_of_other_layers_are_refused(model, message):
    for call in (responsibilities, mean_responsibilities, statistics, back_project):
        with pytest.raises(TypeError, match=message):
            call(model, torch.rand(2, 6))


def test_no_examples_missing_classes_and_unknown_places_are_refused():
    model, x = network(), inputs(4)
    for call in (mean_responsibilities, statistics, back_project):
        with pytest.raises(ValueError, match="at least one example"):
            call(model, x[:0])
    labels = torch.tensor([0, 1, 1, 3])
    with pytest.raises(ValueError, match="got none of class 2"):
        submodes(model, x, labels)
    with pytest.raises(ValueError, match="labels as 4 whole numbers from 0 on, got"):
        submodes(model, x, labels[:3])
    with pytest.raises(ValueError, match="all 2 classes, got none of class 1"):
        submodes(model, x, torch.zeros(4, dtype=torch.int64), classes=2)
    with pytest.raises(IndexError, match="layer from 0 to 2, got 3"):
        submodes(model, x, torch.zeros(4, dtype=torch.int64), layer=3)
    with pytest.raises(IndexError, match="outputs from 0 to 2"):
        back_project(model, x, [0, 3])
    assert math.isfinite(submodes(model, x, torch.zeros(4, dtype=torch.int64)).sum())


def test_a_label_is_an_input_like_the_others_in_statistics_and_walks():
    torch.manual_seed(0)
    model = nn.Sequential(CategoricalLeafLayer(5, 4, num_labels=3), UGMMLayer(4, 2)).double()
    x = torch.cat([inputs(7, width=4), torch.arange(7).remainder(3).unsqueeze(1)], dim=1)
    first, second = responsibilities(model, x)
    torch.testing.assert_close(statistics(model, x)[0].mean, first.mean(dim=0))
    torch.testing.assert_close(back_project(model, x), second @ first)
