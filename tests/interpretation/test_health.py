"""Planted dead neurons, silent components and twins are found, and nothing else is."""

from __future__ import annotations

import pytest
import torch

from ugmm_tutorial import UGMMLayer, UGMMNet
from ugmm_tutorial.interpretation import health
from ugmm_tutorial.networks import NORMS

pytestmark = pytest.mark.usefixtures("one_thread")


def network(norm="none", widths=(8, 6, 5, 3), seed=0):
    torch.manual_seed(seed)
    model = UGMMNet(widths, norm=norm)
    with torch.no_grad():
        for layer in mixtures(model):
            layer.log_std.normal_(0.0, 0.3)
            # Hidden values are log-densities, around -2, without a LayerNorm.
            if layer is not model[0] and norm == "none":
                layer.mean.sub_(2.0)
    return model


def mixtures(model):
    return [m for m in model if isinstance(m, UGMMLayer)]


def examples(count=200, width=8):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("norm", NORMS)
def test_a_network_with_all_neurons_alive_has_nothing_to_report(norm):
    for layer in health(network(norm), examples()):
        assert not layer.dead.any()
        assert not layer.constant.any()
        assert not layer.unread.any()
        assert layer.twins == ()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_neuron_that_is_flat_is_constant_and_the_others_are_not(norm, place):
    model = network(norm)
    with torch.no_grad():
        mixtures(model)[place].log_std[2] = 15.0  # so wide that no input matters
    reports = health(model, examples())
    for where, layer in enumerate(reports):
        planted = [2] if where == place else []
        assert layer.constant.nonzero().flatten().tolist() == planted
    assert reports[place].dead[2]
    assert reports[place].dead.sum() == 1


@pytest.mark.parametrize("norm", NORMS)
def test_a_neuron_without_weight_in_the_next_layer_is_unread(norm):
    model = network(norm)
    with torch.no_grad():
        mixtures(model)[1].mix_logits[:, 4] = -30.0
    reports = health(model, examples())
    assert reports[0].unread.nonzero().flatten().tolist() == [4]
    assert reports[0].dead.nonzero().flatten().tolist() == [4]
    assert not reports[0].constant.any()
    assert not reports[1].dead.any()
    assert not reports[2].dead.any()
    assert reports[1].silent[:, 4].all()
    assert not reports[1].silent.all(dim=0)[:4].any()


def test_a_neuron_that_one_other_reads_is_not_unread():
    model = network()
    with torch.no_grad():
        model[1].mix_logits[1:, 4] = -30.0
    report = health(model, examples())[0]
    assert not report.unread.any()
    # Also where its share counts with that one only: the largest decides, not the mean over the readers.
    model[1].mix_logits.data[0, 4] = 3.0
    assert not health(model, examples(), share=0.3)[0].unread[4]


def test_outputs_are_read_by_whoever_asked_for_them():
    assert not health(network(), examples())[-1].unread.any()


def test_silent_is_who_never_answers_on_the_data_and_deleting_it_changes_little():
    layer = UGMMLayer(4, 1)
    with torch.no_grad():
        layer.mean.zero_()
        layer.mean[0, 3] = 50.0  # far from all inputs
        layer.mix_logits[0, 2] = -3.0  # a share of some hundredths, at times
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    (report,) = health(layer, x, share=1e-3)
    assert report.silent.tolist() == [[False, False, False, True]]
    (report,) = health(layer, x, share=1.0)
    assert report.silent.all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_copied_neuron_is_a_twin_and_a_third_copy_joins_the_group(norm):
    model = network(norm)
    layer = mixtures(model)[0]
    with torch.no_grad():
        for name in ("mean", "log_std", "mix_logits"):
            values = getattr(layer, name)
            values[5] = values[1]
            values[3] = values[1] + 1e-3 * torch.randn(8)
    assert health(model, examples())[0].twins == ((1, 3, 5),)


def test_neurons_that_say_the_same_from_other_inputs_share_no_mode():
    """Two inputs that are copies of each other: the outputs correlate, the responsibilities do not meet."""
    layer = UGMMLayer(4, 3)
    with torch.no_grad():
        layer.mean.zero_()
        layer.mix_logits.fill_(-30.0)
        layer.mix_logits[0, 0] = layer.mix_logits[1, 1] = layer.mix_logits[2, 0] = 0.0
    x = examples(width=4)
    x[:, 1] = x[:, 0]
    assert health(layer, x)[0].twins == ((0, 2),)
    # Without asking for overlap, all three are one group.
    assert health(layer, x, overlap=0.0)[0].twins == ((0, 1, 2),)


def test_neurons_with_opposite_outputs_are_no_twins_although_they_read_the_same_input():
    layer = UGMMLayer(1, 2)
    with torch.no_grad():
        layer.mean[0], layer.mean[1] = 30.0, -30.0  # one rises with the input, the other falls
    x = examples(width=1)
    assert torch.corrcoef(layer(x).T)[0, 1] < -0.99
    assert health(layer, x)[0].twins == ()


def test_two_dead_neurons_are_no_twins_and_a_layer_of_constants_is_all_dead():
    model = network()
    with torch.no_grad():
        for values, flat in ((model[0].log_std, 4.0), (model[0].mean, 0.0), (model[0].mix_logits, 0.0)):
            values[1:3] = flat  # they hardly change, and alike
    report = health(model, examples())[0]
    assert report.constant.nonzero().flatten().tolist() == [1, 2]
    assert report.twins == ()
    with torch.no_grad():
        model[0].log_std.fill_(15.0)
    assert all(layer.constant.all() and layer.twins == () for layer in health(model, examples()))


def test_what_is_no_more_than_rounding_does_not_count_as_a_change():
    layer = network()[0]
    with torch.no_grad():
        layer.log_std.fill_(6.0)
    x = examples()
    assert 0.0 < layer(x).std(dim=0).max() < 1e-5
    assert health(layer, x)[0].constant.all()
    assert not health(layer.double(), x.double())[0].constant.any()


def test_a_neuron_is_compared_with_its_layer_and_not_in_nats():
    """Where all outputs change little, nobody is dead; beside one that changes far more, the others are."""
    layer = UGMMLayer(3, 4)
    with torch.no_grad():
        layer.mean.uniform_(0.5, 1.5)
    x = 2e-4 * examples(width=3)
    assert not health(layer, x)[0].constant.any()
    with torch.no_grad():
        layer.log_std[0] = -6.0
    assert health(layer, x, spread=1e-2)[0].constant.tolist() == [False, True, True, True]


def test_too_few_examples_and_wild_tolerances_are_refused():
    with pytest.raises(ValueError, match="at least two examples"):
        health(network(), examples(1))
    for name in ("spread", "share", "correlation", "overlap"):
        with pytest.raises(ValueError, match=f"expected {name} between 0 and 1, got 1.5"):
            health(network(), examples(), **{name: 1.5})
