"""The measures of the study of reliance, on tiny layers and networks, against loops over examples."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from ugmm_tutorial import MLP, UGMMLayer, UGMMNet, interpretation
from ugmm_tutorial.data import Examples
from ugmm_tutorial.experiments.studies import (
    reliance_attributions,
    reliance_deletion,
    reliance_measures,
)

#: Two first layers of three neurons over five inputs, and the networks that they begin.
NETWORKS = {"mixtures": (UGMMNet, UGMMLayer), "mlp": (MLP, nn.Linear)}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    made = NETWORKS[request.param][0]((5, 3, 4), norm="layer").double().eval()
    if request.param == "mixtures":
        with torch.no_grad():
            made[0].log_std.normal_(-1.0, 0.5)
            made[0].mix_logits.normal_()
    return made


@pytest.fixture
def inputs():
    return torch.rand(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def replaced_by_loop(layer, x, means):
    """Output minus output with one input at its mean, by running the layer anew for each, (B, J, K)."""
    found = torch.empty(len(x), layer.out_features, x.shape[1], dtype=x.dtype)
    with torch.no_grad():
        for n, k in itertools.product(range(len(x)), range(x.shape[1])):
            other = x[n].clone()
            other[k] = means[k]
            found[n, :, k] = layer(x[n]) - layer(other)
    return found


def test_changes_and_their_variances_are_those_of_a_loop(network, inputs, monkeypatch):
    means = reliance_measures.training_means(inputs)
    expected = replaced_by_loop(network[0], inputs, means)
    torch.testing.assert_close(
        reliance_measures.replacement_changes(network[0], inputs, means), expected, check_dtype=True
    )
    monkeypatch.setattr(reliance_measures, "_BLOCK", 3 * 5 * 2)  # two examples at a time, and one left over
    found = reliance_measures.change_variances(network[0], inputs, means)
    torch.testing.assert_close(found, expected.var(dim=0, correction=0))
    single = reliance_measures.change_variances(copy.deepcopy(network[0]).float(), inputs.float(), means)
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, found, rtol=1e-4, atol=1e-6)


def test_changes_are_precise_where_one_component_answers_alone():
    layer = UGMMLayer(3, 1, min_std=1e-4).double()
    with torch.no_grad():
        layer.mean.copy_(torch.tensor([[0.5, 4.0, -8.0]]))
        layer.log_std.copy_(torch.tensor([[1e-3, 0.3, 0.3]]).log())
    x, means = torch.tensor([[0.5, 0.0, 0.0]]).double(), torch.tensor([0.9, 0.1, 0.1]).double()
    assert layer.responsibilities(x)[0, 0, 0] == 1.0
    found = reliance_measures.replacement_changes(layer, x, means)
    torch.testing.assert_close(found, replaced_by_loop(layer, x, means))
    assert 50.0 < found[0, 0, 0] < math.inf


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_neuron_that_depends_on_three_inputs_has_an_effective_number_of_three(kind):
    layer = NETWORKS[kind][1](53, 1).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(0.3)
    x = torch.full((8, 53), 0.3, dtype=torch.float64)
    x[:, :3] = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    orders, numbers = reliance_measures.dependence(layer, x, reliance_measures.training_means(x))
    assert numbers["effective"] == numbers["effective_largest"] == pytest.approx(3.0)
    assert numbers["ninety"] == 3.0
    assert numbers["pixels"] == pytest.approx(3.0)
    if kind == "mixtures":  # which count what never changes
        assert numbers["responsibility"] > 50.0
        assert numbers["constant"] == pytest.approx(orders["responsibility"][0, 3:].sum())


def test_a_neuron_that_depends_on_nothing_has_an_effective_number_of_zero():
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight[0].zero_()
        layer.weight[1].fill_(1.0)
    x = torch.rand(9, 1).expand(9, 4)
    _, numbers = reliance_measures.dependence(layer, x, reliance_measures.training_means(x))
    assert numbers["effective_smallest"] == 0.0
    assert numbers["effective_largest"] == pytest.approx(4.0)


def test_inputs_holding_a_share_are_counted_from_the_largest():
    values = torch.tensor([[1.0, 5.0, 4.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]])
    assert reliance_measures.inputs_holding(values, 0.9).tolist() == [2, 4, 0]
    assert reliance_measures.inputs_holding(values, 0.5).tolist() == [1, 2, 0]


def test_orders_are_those_of_the_package(network, inputs):
    orders, numbers = reliance_measures.dependence(
        network[0], inputs, reliance_measures.training_means(inputs)
    )
    if isinstance(network[0], nn.Linear):
        assert set(orders) == {"variance", "weight"}
        expected = network[0].weight.square() * inputs.var(dim=0, correction=0)
        torch.testing.assert_close(orders["variance"], expected)
        assert torch.equal(orders["weight"], network[0].weight.abs())
        return
    for name, by in (("responsibility",) * 2, ("largest responsibility", "largest"), ("weight",) * 2):
        torch.testing.assert_close(orders[name], interpretation.importance(network, by, x=inputs)[0])
    shares = network[0].responsibilities(inputs)
    number = torch.special.entr(shares).sum(dim=-1).exp().mean()
    assert numbers["responsibility_by_example"] == pytest.approx(number.item())
    number = torch.special.entr(shares.mean(dim=0)).sum(dim=-1).exp().mean()
    assert numbers["responsibility"] == pytest.approx(number.item())
    assert numbers["constant"] == 0.0


@pytest.mark.parametrize("keep", [1.0, 0.5, 0.26, 0.01])
def test_kept_connections_are_those_that_pruning_keeps(keep):
    order = torch.rand(3, 8, generator=torch.Generator().manual_seed(2))
    order[0] = 1.0  # ties
    kept = reliance_deletion.kept_connections(order, keep)
    index = interpretation.prune(UGMMLayer(8, 3), keep, [order])[0].index
    assert torch.equal(kept, torch.zeros(3, 8, dtype=torch.bool).scatter(1, index, True))


def test_deletion_of_nothing_changes_nothing_and_of_everything_leaves_a_constant(network, inputs):
    means = reliance_measures.training_means(inputs)
    everything = torch.ones(3, 5, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(reliance_deletion.with_means(network, everything, means)(inputs), network(inputs))
        rest = reliance_deletion.with_means(network, ~everything, means)(inputs)
        torch.testing.assert_close(rest, network(means).expand_as(rest))


def test_deleted_connections_read_the_means(network, inputs):
    kept = torch.rand(3, 5, generator=torch.Generator().manual_seed(3)) < 0.5
    means = reliance_measures.training_means(inputs)
    before = copy.deepcopy(network.state_dict())
    first = reliance_deletion.with_means(network, kept, means)[0]
    for j in range(3):  # every neuron lacks other inputs
        x = torch.where(kept[j], inputs, means)
        torch.testing.assert_close(first(inputs)[:, j], network[0](x)[:, j])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_best_order_is_the_one_that_keeps_what_the_answer_needs(network, inputs):
    with torch.no_grad():
        answers = network(inputs).argmax(dim=1)
    means = reliance_measures.training_means(inputs)
    variance = reliance_measures.change_variances(network[0], inputs, means)
    orders = {"worst": -variance, "variance": variance}
    examples = Examples(inputs, answers)
    curves = reliance_deletion.deletion_curves(
        network, orders, means, examples, {"fractions": [0.0, 0.4], "random_orders": 2}
    )
    assert [curves[name][0] for name in orders] == [1.0, 1.0]
    assert [len(curve) for curve in curves["random"]] == [2, 2]
    best = max(orders, key=lambda name: curves[name][1])
    assert reliance_deletion.best_order(network, orders, means, examples, 0.6) == best


def test_gradients_are_those_of_finite_differences(network, inputs):
    answers = torch.arange(7) % 4
    found = reliance_attributions.gradients(network, inputs, answers)
    step = 1e-6
    for k in range(5):
        ends = [inputs.clone(), inputs.clone()]
        ends[0][:, k] -= step
        ends[1][:, k] += step
        with torch.no_grad():
            low, high = (
                reliance_attributions.log_probabilities(network, x)[torch.arange(7), answers] for x in ends
            )
        torch.testing.assert_close(found[:, k], (high - low) / (2 * step), rtol=1e-5, atol=1e-7)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_sure_answer_still_has_a_gradient():
    network = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[30.0], [0.0]]))
    found = reliance_attributions.gradients(network, torch.ones(1, 1), torch.tensor([0]))
    assert found.item() == pytest.approx(30.0 / (1.0 + math.exp(30.0)), rel=1e-4)


def test_integrated_gradients_add_up_to_the_difference(network, inputs):
    answers, base = torch.arange(7) % 4, inputs.mean(dim=0)
    found = reliance_attributions.integrated_gradients(network, inputs, answers, base, 1000)
    with torch.no_grad():
        ends = reliance_attributions.log_probabilities(network, inputs)[torch.arange(7), answers]
        start = reliance_attributions.log_probabilities(network, base.unsqueeze(0))[0, answers]
    torch.testing.assert_close(found.sum(dim=1), ends - start, rtol=1e-3, atol=1e-3)
    found = reliance_attributions.integrated_gradients(network, inputs, answers, base, 2)
    quarters = [base + share * (inputs - base) for share in (0.25, 0.75)]
    halves = [reliance_attributions.gradients(network, x, answers) for x in quarters]
    torch.testing.assert_close(found, (halves[0] + halves[1]) / 2 * (inputs - base))


def test_scores_of_mixtures_know_responsibilities_as_well(network, inputs):
    answers, base = torch.arange(7) % 4, inputs.mean(dim=0)
    found = reliance_attributions.attributions(network, inputs, answers, base, steps=2, seed=0)
    names = {"gradient", "integrated gradients", "distance", "random"}
    assert names <= set(found)
    assert all(score.shape == inputs.shape for score in found.values())
    torch.testing.assert_close(
        found["gradient"], reliance_attributions.gradients(network, inputs, answers) * (inputs - base)
    )
    assert (set(found) == names) == isinstance(network[0], nn.Linear)
    if set(found) != names:
        hidden, outputs = interpretation.responsibilities(network, inputs)
        maps = torch.stack([outputs[n, c] @ hidden[n] for n, c in enumerate(answers)])
        torch.testing.assert_close(found["back-projection"], maps)
        torch.testing.assert_close(found["back-projection times distance"], maps * (inputs - base).abs())


def test_faithfulness_of_a_network_that_reads_one_pixel():
    network = nn.Linear(6, 2, bias=False).double()
    with torch.no_grad():
        network.weight.zero_()
        network.weight[1, 4] = 3.0
    base = torch.full((6,), 0.1, dtype=torch.float64)
    x = base.repeat(5, 1)
    x[:, 4] = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0])
    answers = network(x).argmax(dim=1)
    gradient = reliance_attributions.gradients(network, x, answers) * (x - base)
    log_p = network(x).log_softmax(dim=1)[torch.arange(5), answers]
    at_base = network(base.expand(5, 6)).log_softmax(dim=1)[torch.arange(5), answers]
    whole = (log_p - at_base).mean().item()
    found = reliance_attributions.faithfulness(network, x, answers, gradient, base, (0, 1, 6))
    assert found["fall"] == pytest.approx([0.0, whole, whole])
    assert found["changed"] == pytest.approx([0.0, 0.2, 0.2])
    found = reliance_attributions.faithfulness(network, x, answers, -gradient, base, (5, 6))
    assert found["fall"] == pytest.approx([0.0, whole])
    assert found["changed"] == pytest.approx([0.0, 0.2])
