"""What networks say, how strange they find it, ensembles, MC dropout: against the networks themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ugmm_tutorial import MLP, ConvNet, UGMMNet
from ugmm_tutorial.uncertainty import (
    ClassGaussians,
    atypicality,
    ensemble,
    entropy,
    layer_log_densities,
    logits,
    mc_dropout,
    mutual_information,
    ood_scores,
    penultimate,
    probabilities,
)

SOFTMAX_SCORES = {"max softmax", "entropy", "max logit", "energy"}


def x(n: int = 30, k: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def network(kind: type = UGMMNet, seed: int = 0, widths=(6, 8, 5, 4), **options) -> nn.Module:
    torch.manual_seed(seed)
    return kind(widths, **options)


# --- outputs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MLP, UGMMNet])
def test_logits_are_the_outputs_in_evaluation_mode_and_modes_are_put_back(kind):
    net = network(kind, dropout=0.5, norm="layer").train()
    net[0].eval()
    modes = [module.training for module in net.modules()]
    said = logits(net, x(), batch_size=7)
    assert [module.training for module in net.modules()] == modes
    assert said.dtype == torch.float64
    assert not said.requires_grad
    torch.testing.assert_close(said.float(), net.eval()(x()).detach())
    # Batches of another size may be computed by other loops, so float32's rounding differs.
    again = probabilities(net, x()).log()
    torch.testing.assert_close(again, torch.log_softmax(said, dim=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["none", "layer", "before", "after"])
def test_log_densities_are_those_of_every_layer_before_what_stands_behind_it(norm):
    net = network(norm=norm, init="paper").eval()
    found = layer_log_densities(net, x(), batch_size=11)
    value, expected = x(), []
    with torch.no_grad():
        for module in net:
            value = module(value)
            if hasattr(module, "log_std"):
                expected.append(value)
    assert [tuple(f.shape) for f in found] == [(30, 8), (30, 5), (30, 4)]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.float(), theirs)
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("kind", [MLP, UGMMNet])
def test_penultimate_features_are_what_the_last_layer_reads(kind):
    net = network(kind, norm="layer").eval()
    with torch.no_grad():
        torch.testing.assert_close(penultimate(net, x()).float(), net[:-1](x()))
    assert not any(module._forward_hooks for module in net.modules())


def test_convolutional_networks_are_asked_as_well():
    torch.manual_seed(0)
    images = torch.rand(3, 1, 28, 28)
    net = ConvNet(head="ugmm", channels=(2, 2), widths=(6, 10))
    assert penultimate(net, images).shape == (3, 6)
    assert [layer.shape[1] for layer in layer_log_densities(net, images)] == [6, 10]
    assert ood_scores(net, images)["root maximum"].shape == (3,)


def test_networks_that_cannot_be_asked_are_refused():
    with pytest.raises(ValueError, match="uGMM layers, got MLP"):
        layer_log_densities(network(MLP), x())
    with pytest.raises(ValueError, match="linear or uGMM layers, got Tanh"):
        penultimate(nn.Tanh(), x())
    with pytest.raises(ValueError, match=r"logits \(N, C\), got \(30,\)"):
        logits(nn.Sequential(nn.Linear(6, 1), nn.Flatten(0)), x())
    refused = (
        (x(0), 10, r"expected x with at least one example, got \(0, 6\)"),
        (x(), 0, "batch_size >= 1, got 0"),
    )
    for rows, batch_size, message in refused:
        with pytest.raises(ValueError, match=message):
            logits(network(MLP), rows, batch_size=batch_size)


# --- scores -----------------------------------------------------------------------------------------


def test_scores_of_an_mlp_are_functions_of_its_logits():
    net = network(MLP)
    z = logits(net, x())
    found = ood_scores(net, x())
    assert set(found) == SOFTMAX_SCORES
    p = torch.softmax(z, dim=1)
    torch.testing.assert_close(found["max softmax"], 1 - p.amax(dim=1))
    torch.testing.assert_close(found["entropy"], torch.distributions.Categorical(probs=p).entropy())
    torch.testing.assert_close(found["max logit"], -z.amax(dim=1))
    torch.testing.assert_close(found["energy"], -z.exp().sum(dim=1).log())


def test_very_sure_answers_are_still_told_apart():
    net = nn.Linear(1, 3, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0], [0.0], [0.0]]))
    found = ood_scores(net, torch.tensor([[50.0], [60.0]]))["max softmax"]
    np.testing.assert_allclose(found, [2 * math.exp(-50), 2 * math.exp(-60)], rtol=1e-9)


def test_root_scores_look_behind_the_layernorm_on_the_outputs():
    net = network(norm="after", init="paper")
    with torch.no_grad():
        net[-1].weight.uniform_()
    *hidden, root = layer_log_densities(net, x())
    found = ood_scores(net, x())
    assert set(found) == SOFTMAX_SCORES | {"root maximum", "root logsumexp", "layer 1", "layer 2"}
    torch.testing.assert_close(found["root maximum"], -root.amax(dim=1))
    torch.testing.assert_close(found["root logsumexp"], -root.logsumexp(dim=1))
    torch.testing.assert_close(found["layer 1"], -hidden[0].sum(dim=1))
    torch.testing.assert_close(found["layer 2"], -hidden[1].sum(dim=1))
    assert (found["root maximum"] - found["max logit"]).abs().max() > 0.1


def test_without_a_layernorm_on_the_outputs_roots_are_logits():
    found = ood_scores(network(norm="layer"), x())
    torch.testing.assert_close(found["root maximum"], found["max logit"])
    torch.testing.assert_close(found["root logsumexp"], found["energy"])


def test_what_lies_far_from_every_component_is_strange_to_the_roots():
    net = network(widths=(6, 4))
    near, far = (ood_scores(net, scale * torch.ones(1, 6)) for scale in (1.0, 100.0))
    for name in ("root maximum", "root logsumexp"):
        assert far[name] > near[name] + 1000


def test_what_is_too_likely_is_untypical_as_well():
    usual = torch.tensor([1.0, 2.0, 3.0])
    assert atypicality(torch.tensor([2.0, -5.0, 9.0]), usual).tolist() == [0.0, 7.0, 7.0]
    for scores, reference in ((usual, usual[:0]), (usual[None], usual), (usual, usual[None])):
        with pytest.raises(ValueError, match=r"scores \(N,\) and reference \(M,\)"):
            atypicality(scores, reference)


def test_entropy_and_mutual_information_of_known_opinions():
    certain, even = [1.0, 0.0], [0.5, 0.5]
    members = torch.tensor([[certain, even, certain], [[0.0, 1.0], even, certain]], dtype=torch.float64)
    np.testing.assert_allclose(entropy(members[0]), [0.0, math.log(2), 0.0])
    # They disagree wholly; they agree that it is open; they agree.
    np.testing.assert_allclose(mutual_information(members), [math.log(2), 0.0, 0.0], atol=1e-12)
    # One is sure and one is open: the mean is (3/4, 1/4), and one half of ln 2 is nobody's disagreement.
    halfway = torch.tensor([[certain], [even]], dtype=torch.float64)
    expected = -0.75 * math.log(0.75) - 0.25 * math.log(0.25) - 0.5 * math.log(2)
    np.testing.assert_allclose(mutual_information(halfway), [expected])
    with pytest.raises(ValueError, match=r"\(M, N, C\) of members, got \(3, 2\)"):
        mutual_information(members[0])


# --- members ----------------------------------------------------------------------------------------


def test_an_ensemble_asks_every_network():
    nets = [network(MLP, seed) for seed in range(3)]
    found = ensemble(nets, x())
    assert found.shape == (3, 30, 4)
    for member, net in zip(found, nets, strict=True):
        torch.testing.assert_close(member, probabilities(net, x()))
    with pytest.raises(ValueError, match="at least one network"):
        ensemble([], x())


@pytest.mark.parametrize("kind", [MLP, UGMMNet])
def test_mc_dropout_repeats_by_seed_and_leaves_no_trace(kind):
    net = network(kind, dropout=0.5)
    modes = [module.training for module in net.modules()]
    state = torch.get_rng_state()
    first, again, other = (mc_dropout(net, x(), passes=4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in net.modules()] == modes
    assert first.shape == (4, 30, 4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    torch.testing.assert_close(first.sum(dim=-1), torch.ones(4, 30, dtype=torch.float64))


def test_mc_dropout_averages_the_masks_with_their_probabilities():
    """Two inputs, four masks: the mean over many passes is the sum over masks, times their probabilities."""
    net = nn.Sequential(nn.Dropout(0.3), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0.5], [0.0, -1.0]]))
    point = torch.tensor([[1.0, 2.0]])
    exact = torch.zeros(2, dtype=torch.float64)
    for mask in torch.cartesian_prod(torch.arange(2), torch.arange(2)):
        chance = 0.3 ** (2 - mask.sum().item()) * 0.7 ** mask.sum().item()
        exact += chance * torch.softmax((point * mask / 0.7) @ net[1].weight.T, dim=1)[0].detach().double()
    found = mc_dropout(net, point, passes=8000).mean(dim=0)[0]
    torch.testing.assert_close(found, exact, atol=0.01, rtol=0)


def test_mc_dropout_of_components_shares_one_mask_within_a_pass():
    net = network(UGMMNet, widths=(6, 4), dropout=(0.5,))
    same = x(1).expand(20, 6)
    found = mc_dropout(net, same, passes=3)
    assert (found - found[:, :1]).abs().max() < 1e-12
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_only_dropout_is_on():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net[2].p = 1e-9  # as good as none, but on
    found = mc_dropout(net, x(), passes=2)
    torch.testing.assert_close(found[0], probabilities(net, x()))
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(module.training for module in net.modules())


def test_mc_dropout_of_a_network_without_any_is_refused():
    for net in (network(MLP), network(UGMMNet), nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 4))):
        with pytest.raises(ValueError, match="a network with dropout"):
            mc_dropout(net, x())
    with pytest.raises(ValueError, match="passes >= 1, got 0"):
        mc_dropout(network(MLP, dropout=0.1), x(), passes=0)


# --- class Gaussians --------------------------------------------------------------------------------


def test_distances_to_class_means_are_those_of_linear_discriminant_analysis():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((3, 3))
    labels = np.repeat([0, 1], 20000)
    features = rng.standard_normal((40000, 3)) @ mixing + 4.0 * labels[:, None]
    gaussians = ClassGaussians(torch.from_numpy(features), torch.from_numpy(labels))
    points = 4.0 * rng.standard_normal((20, 3))
    inverse = np.linalg.inv(mixing.T @ mixing)
    exact = [min((p - m) @ inverse @ (p - m) for m in (np.zeros(3), np.full(3, 4.0))) for p in points]
    np.testing.assert_allclose(gaussians.score(points), exact, rtol=0.05, atol=0.05)


def test_features_that_never_change_are_no_obstacle():
    features = np.column_stack([np.arange(10.0), np.zeros(10)])
    found = ClassGaussians(features, np.repeat([0, 1], 5)).score([[2.0, 0.0], [2.0, 5.0]])
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(0.0, abs=1e-12)
    assert found[1] > found[0]


def test_class_gaussians_refuse_shapes_that_do_not_fit():
    for features, labels in (([1.0, 2.0], [0, 1]), ([[1.0], [2.0]], [0]), ([[1.0]], [0])):
        with pytest.raises(ValueError, match=r"features \(N, K\) and labels"):
            ClassGaussians(features, labels)
    with pytest.raises(ValueError, match=r"features \(N, 2\), got \(1, 3\)"):
        ClassGaussians(np.eye(2), [0, 1]).score(np.ones((1, 3)))
