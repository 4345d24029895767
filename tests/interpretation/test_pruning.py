"""The deletion identity, pruned networks and deletion curves: against networks with the components masked."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from drawn import drawn_inputs, drawn_network
from torch import nn
from torch.distributions import Normal

from ugmm_tutorial import MLP, ConvNet, UGMMLayer, UGMMNet, evaluate
from ugmm_tutorial.data import Examples
from ugmm_tutorial.functional import reference_log_density
from ugmm_tutorial.interpretation import (
    change_by_deletion,
    deletion_curve,
    deletion_curve_by_example,
    importance,
    prune,
    responsibilities,
)
from ugmm_tutorial.interpretation.importance import most_important
from ugmm_tutorial.layers import SparseUGMMLayer
from ugmm_tutorial.networks import NORMS

pytestmark = pytest.mark.usefixtures("one_thread")


def network(widths=(12, 9, 7, 4), **options):
    return drawn_network(widths, **options).eval()


def inputs(count=20, width=12):
    return drawn_inputs(count, width)


def masked(model, kept, x, *, renormalize=False):
    """The network with all weights but the kept ones at zero, and every neuron still there."""
    kept = iter(kept)
    for module in model:
        if isinstance(module, UGMMLayer):
            stays = torch.zeros_like(module.mean, dtype=torch.bool).scatter(1, next(kept), True)
            log_weight = module.log_weight.masked_fill(~stays, -math.inf)
            if renormalize:
                log_weight = log_weight - log_weight.logsumexp(dim=1, keepdim=True)
            x = reference_log_density(x, module.mean, module.std.log(), log_weight)
        else:
            x = module(x)
    return x


# --- the identity


@pytest.mark.parametrize("deleted", [1, 4, 7])
def test_deleting_components_changes_outputs_by_the_logarithm_of_what_is_left(deleted):
    layer, x = network((8, 6)).get_submodule("0"), 2.0 * inputs(300, 8)
    mask = torch.zeros(6, 8, dtype=torch.bool)
    for row in mask:
        row[torch.randperm(8)[:deleted]] = True
    without = layer.log_weight.masked_fill(mask, -math.inf)
    change = reference_log_density(x, layer.mean, layer.std.log(), without) - layer(x)
    found = change_by_deletion(layer, x, mask)
    torch.testing.assert_close(found, change, rtol=1e-6, atol=1e-9)
    gone = (layer.responsibilities(x) * mask).sum(dim=-1)
    plain = gone < 0.999  # beyond, one minus the share has lost its digits
    torch.testing.assert_close(found[plain], torch.log1p(-gone[plain]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distance", [3.0, 8.0, 20.0, 30.0])
def test_the_identity_holds_where_the_deleted_component_answered_nearly_alone(distance):
    """R_D is 1 up to rounding; what the others leave is far below the last place of it."""
    layer = UGMMLayer(2, 1).double()
    with torch.no_grad():
        layer.mean.zero_()
    x = torch.tensor([[0.0, distance]], dtype=torch.float64)
    mask = torch.tensor([True, False])
    found = change_by_deletion(layer, x, mask).item()
    # By hand: two equal Gaussians, one at its mean, the other a distance away.
    q = 0.5 * distance**2
    assert found == pytest.approx(-q - math.log1p(math.exp(-q)), rel=1e-12)
    without = layer.log_weight.masked_fill(mask, -math.inf)
    change = reference_log_density(x, layer.mean, layer.std.log(), without) - layer(x)
    assert found == pytest.approx(change.item(), abs=1e-6)


def test_a_tiny_share_changes_an_output_by_itself_and_not_by_rounding():
    layer = UGMMLayer(2, 1).double()
    with torch.no_grad():
        layer.mean.zero_()
    x = torch.tensor([[0.0, 10.0]], dtype=torch.float64)
    found = change_by_deletion(layer, x, torch.tensor([False, True])).item()
    assert found == pytest.approx(-math.exp(-50.0), rel=1e-9)


def test_deleting_nothing_changes_nothing_and_deleting_all_leaves_nothing():
    layer, x = network((5, 3)).get_submodule("0"), inputs(6, 5)
    assert (change_by_deletion(layer, x, torch.zeros(5, dtype=torch.bool)) == 0.0).all()
    assert (change_by_deletion(layer, x, torch.ones(3, 5, dtype=torch.bool)) == -math.inf).all()
    some = torch.zeros(3, 5, dtype=torch.bool)
    some[1] = True
    found = change_by_deletion(layer, x, some)
    assert found.isinf().all(dim=0).tolist() == [False, True, False]


def test_the_identity_refuses_what_is_no_mask_of_the_components():
    layer, x = UGMMLayer(5, 3), torch.rand(2, 5)
    with pytest.raises(TypeError, match="boolean"):
        change_by_deletion(layer, x, torch.zeros(5))
    with pytest.raises(ValueError, match=r"shape \(3, 5\) or \(5,\), got \(3,\)"):
        change_by_deletion(layer, x, torch.zeros(3, dtype=torch.bool))


# --- importance


def test_the_most_important_are_the_largest_and_of_equals_the_first():
    values = torch.tensor([[0.1, 0.9, 0.5, 0.7], [1.0, 1.0, 1.0, 1.0]])
    assert most_important(values, 2).tolist() == [[1, 3], [0, 1]]
    assert most_important(values, 4).tolist() == [[0, 1, 2, 3]] * 2


def test_importance_is_the_mean_responsibility_the_weight_or_drawn():
    model, x = network(), inputs()
    for got, share in zip(importance(model, x=x), responsibilities(model, x), strict=True):
        torch.testing.assert_close(got, share.mean(dim=0))
    for got, share in zip(importance(model, "largest", x=x), responsibilities(model, x), strict=True):
        torch.testing.assert_close(got, share.amax(dim=0))
    for got, layer in zip(importance(model, "weight"), model, strict=True):
        assert got.equal(layer.mix_weight)
    first, again, other = (importance(model, "random", seed=s) for s in (0, 0, 1))
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not first[0].equal(other[0])
    with pytest.raises(ValueError, match="unknown importance 'size'"):
        importance(model, "size")
    for by in ("responsibility", "largest"):
        with pytest.raises(ValueError, match="pass training inputs"):
            importance(model, by)


# --- pruned networks


@pytest.mark.parametrize("norm", NORMS)
def test_a_network_that_keeps_everything_is_the_same_function(norm):
    model, x = network(norm=norm), inputs()
    for by in ("weight", "random"):
        pruned = prune(model, 1.0, importance(model, by))
        torch.testing.assert_close(pruned(x), model(x), rtol=0.0, atol=1e-6)
    torch.testing.assert_close(prune(model.float(), 1.0)(x.float()), model(x.float()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("keep", [0.5, 3, (0.25, 1.0, 2), 1])
def test_without_layernorm_a_pruned_network_is_the_masked_one_however_many_neurons_go(keep, renormalize):
    model, x = network(), inputs()
    measured = importance(model, x=x)
    each = keep if isinstance(keep, tuple) else (keep,) * 3
    counts = [
        n if isinstance(n, int) else max(1, round(n * k)) for n, k in zip(each, (12, 9, 7), strict=True)
    ]
    kept = [values.topk(count).indices for values, count in zip(measured, counts, strict=True)]
    want = masked(model, kept, x, renormalize=renormalize)
    for remove in (True, False):
        pruned = prune(model, keep, measured, renormalize=renormalize, remove_unread=remove)
        torch.testing.assert_close(pruned(x), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_with_layernorm_it_is_the_masked_one_as_long_as_all_neurons_stay(norm):
    model, x = network(norm=norm), inputs()
    measured = importance(model, x=x)
    kept = [values.topk(3).indices for values in measured]
    pruned = prune(model, 3, measured, remove_unread=False)
    torch.testing.assert_close(pruned(x), masked(model, kept, x), rtol=1e-6, atol=1e-6)


def test_the_first_layer_changes_by_the_identity():
    model, x = network(norm="layer"), inputs()
    pruned = prune(model, (4, 1.0, 1.0), importance(model, x=x))
    deleted = torch.ones(9, 12, dtype=torch.bool).scatter(1, pruned[0].index, False)
    change = pruned[0](x) - model[0](x)
    torch.testing.assert_close(change, change_by_deletion(model[0], x, deleted), rtol=1e-6, atol=1e-9)


def test_neurons_that_nobody_reads_are_gone_with_what_they_read_and_with_their_layernorm():
    model = network(norm="layer")
    # The outputs read neurons 0 and 1 of the second layer, which read 5 and 6 of the first.
    measured = [torch.rand(9, 12), torch.rand(7, 9), torch.rand(4, 7)]
    measured[2][:, :2] += 2.0
    measured[1][:2, 5:7] += 2.0
    measured[1][2:, :5] += 2.0  # by neurons that go themselves
    pruned = prune(model, 2, measured)
    assert [m.mean.shape for m in pruned if isinstance(m, SparseUGMMLayer)] == [(2, 2), (2, 2), (4, 2)]
    assert [tuple(m.normalized_shape) for m in pruned if isinstance(m, nn.LayerNorm)] == [(2,), (2,)]
    assert sum(p.numel() for p in pruned.parameters()) == 3 * 16 + 2 * 2 * 2
    assert pruned[1].weight.tolist() == model[1].weight[5:7].tolist()
    assert pruned[3].bias.tolist() == model[3].bias[:2].tolist()
    assert pruned[0].index.equal(most_important(measured[0], 2)[5:7])
    assert pruned[2].index.tolist() == [[0, 1], [0, 1]]
    # What is left is the chain of these layers, computed by hand.
    x = inputs()
    values = x
    for module, mine, theirs in ((0, [5, 6], None), (2, [0, 1], [5, 6]), (4, range(4), [0, 1])):
        layer, mine = model[module], list(mine)
        index = most_important(measured[module // 2], 2)[mine]
        picked = index.tolist()
        if theirs is not None:
            picked = [[theirs.index(k) for k in row] for row in picked]
        mean, std, log_weight = (t[mine].gather(1, index) for t in (layer.mean, layer.std, layer.log_weight))
        values = (log_weight + Normal(mean, std).log_prob(values[:, picked])).logsumexp(dim=-1)
        if module < 4:
            norm = model[module + 1]
            values = nn.functional.layer_norm(values, (2,), norm.weight[mine], norm.bias[mine], norm.eps)
    torch.testing.assert_close(pruned(x), values, rtol=1e-6, atol=1e-6)


def test_parameters_fall_with_what_is_kept_and_the_model_stays_as_it_was():
    model, x = network(norm="after", dropout=(0.2, 0.0, 0.0)), inputs()
    before, state = model(x), copy.deepcopy(model.state_dict())
    sizes = [sum(p.numel() for p in prune(model, keep).parameters()) for keep in (1.0, 0.7, 0.4, 0.2, 1)]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[0] == sum(p.numel() for p in model.parameters())
    assert model(x).equal(before)
    assert all(value.equal(state[name]) for name, value in model.state_dict().items())


def test_options_and_mode_of_the_layers_are_taken_over():
    model = network(
        dropout=(0.3, 0.0, 0.0), min_std=0.05, max_std=3.0, dropout_mode="literal", backend="numba"
    )
    assert not prune(model, 0.5).training
    pruned = prune(model.train(), 0.5)
    assert pruned.training
    for mine, theirs in zip(pruned, model, strict=True):
        assert mine.options == theirs.options
        assert mine.mean.dtype == torch.float64
        assert mine.mean.requires_grad


@pytest.mark.parametrize("layer", ["uniform weights", "tied std", "frozen std"])
def test_networks_of_the_ablations_that_sum_over_components_can_be_pruned(layer):
    torch.manual_seed(0)
    model, x = UGMMNet((12, 9, 4), layer=layer).double().eval(), inputs()
    torch.testing.assert_close(prune(model, 1.0)(x), model(x), rtol=0.0, atol=1e-6)


def test_a_pruned_network_learns_and_its_state_can_be_loaded():
    torch.manual_seed(0)
    model = network(norm="layer").float()
    pruned = prune(model, 0.5)
    x, y = inputs(200).float(), torch.arange(200) % 4
    x[:, 0] = y.float()
    optimizer = torch.optim.Adam(pruned.parameters(), lr=0.03)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(pruned(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    other = prune(network(norm="layer", seed=0).float(), 0.5)
    other.load_state_dict(pruned.state_dict())
    assert other(x).equal(pruned(x))


def test_the_head_of_a_convnet_is_pruned_and_its_filters_are_copied():
    model = ConvNet(head="ugmm", widths=(6, 4), channels=(2, 3), norm="before").eval()
    x = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(prune(model, 1.0)(x), model(x), rtol=1e-5, atol=1e-5)
    pruned = prune(model, [0.25, 3])
    assert pruned.head[1].mean.shape == (len(pruned.head[3].index.unique()), 12)
    with torch.no_grad():
        pruned.features[0].weight.zero_()
    assert model.features[0].weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        (0.0, ValueError, "above 0 and up to 1, got 0.0"),
        (-0.5, ValueError, "above 0 and up to 1"),
        (1.5, ValueError, "up to 1, got 1.5"),
        (math.nan, ValueError, "got nan"),
        (0, ValueError, "from 1 to 12 components"),
        (-3, ValueError, "from 1 to 12 components"),
        (10, ValueError, "from 1 to 9 components for a layer of 9 inputs, got 10; give one number for each"),
        (True, TypeError, "got True"),
        ("half", TypeError, "got 'half'"),
        (None, TypeError, "got None"),
        ([0.5, 0.5], ValueError, "each of the 3 layers, got 2"),
        ([0.5, "all", 0.5], TypeError, "got 'all'"),
    ],
)
def test_a_bad_keep_is_refused(keep, error, message):
    with pytest.raises(error, match=message):
        prune(network(), keep)


def test_importance_and_networks_that_do_not_fit_are_refused():
    model = network()
    good = importance(model, "weight")
    with pytest.raises(ValueError, match="each of the 3 layers, got 2"):
        prune(model, 0.5, good[:2])
    with pytest.raises(ValueError, match=r"shape \(7, 9\) for layer 1, got \(9, 12\)"):
        prune(model, 0.5, [good[0], good[0], good[2]])
    with pytest.raises(ValueError, match="without NaN, got some for layer 2"):
        prune(model, 0.5, [*good[:2], good[2] * math.nan])
    with pytest.raises(TypeError, match="got Linear"):
        prune(MLP((4, 3)), 0.5)
    with pytest.raises(TypeError, match="got MaxLayer"):
        prune(UGMMNet((4, 3), layer="hard"), 0.5)
    with pytest.raises(TypeError, match="got SparseUGMMLayer: prune the network they come from"):
        prune(prune(model, 0.5), 0.5)
    examples = Examples(inputs(), torch.arange(20) % 4)
    for wrong in (prune(model, 0.5), UGMMNet((12, 4), layer="hard").double()):
        with pytest.raises(TypeError, match="expected dense layers that sum"):
            deletion_curve_by_example(wrong, examples, [0.5])


# --- curves


@pytest.fixture
def planted():
    """One neuron a class; its first two components know the class, the other eight hear noise."""
    layer = UGMMLayer(10, 2).double()
    with torch.no_grad():
        layer.mean.zero_()
        layer.mean[1, :2] = 4.0
        layer.mix_logits[:, 2:] = -6.0
    y = torch.arange(100) % 2
    x = torch.randn(100, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[:, :2] = 0.1 * x[:, :2] + 4.0 * y.unsqueeze(1)
    return nn.Sequential(layer), Examples(x, y)


def test_deleting_noise_leaves_the_accuracy_and_deleting_what_knows_takes_it(planted):
    model, examples = planted
    measured = importance(model, x=examples.x)
    fractions = [0.0, 0.3, 0.8]
    assert deletion_curve(model, examples, measured, fractions) == [1.0, 1.0, 1.0]
    reverse = deletion_curve(model, examples, [-values for values in measured], fractions)
    assert reverse[0] == 1.0
    assert max(reverse[1:]) < 0.7
    assert deletion_curve_by_example(model, examples, fractions) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("layers", [None, [0], [1, 2]])
def test_a_curve_is_the_accuracy_of_the_masked_networks(layers, renormalize):
    model, x = network(norm="layer"), inputs(400)
    examples = Examples(x, model(x).argmax(dim=1))
    measured = importance(model, x=x[:50])
    fractions = [0.0, 0.4, 0.9]
    found = deletion_curve(model, examples, measured, fractions, layers=layers, renormalize=renormalize)
    assert found[0] == 1.0
    for fraction, accuracy in zip(fractions, found, strict=True):
        kept = []
        for place, values in enumerate(measured):
            goes = fraction if layers is None or place in layers else 0.0
            kept.append(values.topk(max(1, round((1 - goes) * values.shape[1]))).indices)
        scores = masked(model, kept, x, renormalize=renormalize)
        assert accuracy == (scores.argmax(dim=1) == examples.y).double().mean().item()
    assert found[2] < 1.0


def test_deleting_by_example_keeps_the_largest_terms_of_each(planted):
    model, x = network(norm="layer"), inputs(60)
    labels = model(x).argmax(dim=1)
    found = deletion_curve_by_example(model, Examples(x, labels), [0.0, 0.7])
    correct = []
    for row, label in zip(x.split(1), labels, strict=True):
        kept, values = [], row
        for module in model:  # example by example, layer by layer, with what is left below
            if isinstance(module, UGMMLayer):
                count = max(1, round(0.3 * module.in_features))
                kept = module.responsibilities(values)[0].topk(count).indices
                values = masked(nn.Sequential(module), [kept], values)
            else:
                values = module(values)
        correct.append(values.argmax() == label)
    assert found == [1.0, torch.stack(correct).double().mean().item()]


def test_what_was_trained_on_one_part_is_evaluated_on_another(planted):
    model, examples = planted
    measured = importance(model, x=examples.x[:10])
    (whole,) = deletion_curve(model, examples, measured, [0.0])
    assert whole == evaluate(model, examples)["accuracy"]


def test_fractions_and_layers_out_of_range_are_refused(planted):
    model, examples = planted
    measured = importance(model, "weight")
    for call in (
        lambda **o: deletion_curve(model, examples, measured, **o),
        lambda **o: deletion_curve_by_example(model, examples, **o),
    ):
        for wrong in (1.0, -0.1, math.nan):
            with pytest.raises(ValueError, match="from 0 to below 1"):
                call(fractions=[0.5, wrong])
        with pytest.raises(IndexError, match="layers from 0 to 0"):
            call(fractions=[0.5], layers=[1])
