"""The networks against the same formulas written out by hand, and the arithmetic of their sizes."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ugmm_tutorial import MLP, ConvNet, UGMMLayer, UGMMNet, preset, ugmm_log_density
from ugmm_tutorial.layers.ablations import LAYERS
from ugmm_tutorial.networks import NORMS, PRESETS

PAPER_WIDTHS = (784, 128, 64, 10)
BOTH = pytest.mark.parametrize("network", [MLP, UGMMNet])


@pytest.fixture(autouse=True)
def _seeded():
    """What a network starts from does not depend on the tests before."""
    torch.manual_seed(0)


def size(model):
    return sum(p.numel() for p in model.parameters())


def kinds(model):
    """Names of the modules of a network in the order in which they act."""
    return [type(module).__name__ for module in model]


def probabilities(model):
    """Dropout probabilities of a network: of its Dropout modules, or of its uGMM layers."""
    return [
        m.p if isinstance(m, nn.Dropout) else m.dropout
        for m in model
        if isinstance(m, (nn.Dropout, UGMMLayer))
    ]


def inputs(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def images_for(name, batch=4):
    """A batch as the preset of that name reads it: images for a ConvNet, vectors for the others."""
    return inputs(batch, 1, 28, 28) if PRESETS[name][0] is ConvNet else inputs(batch, 784)


# --- Sizes


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (UGMMNet(PAPER_WIDTHS), 327_552),
        (MLP(PAPER_WIDTHS), 109_386),
        (MLP((784, 352, 128, 10)), 322_794),
        (UGMMNet(PAPER_WIDTHS, norm="layer"), 327_552 + 2 * (128 + 64)),
        (MLP(PAPER_WIDTHS, norm="layer"), 109_386 + 2 * (128 + 64)),
        (UGMMNet(PAPER_WIDTHS, norm="before"), 327_552 + 2 * (784 + 128 + 64)),
        (UGMMNet(PAPER_WIDTHS, norm="after"), 327_552 + 2 * (128 + 64 + 10)),
        (UGMMNet(PAPER_WIDTHS, layer="hard"), 327_552),
        (UGMMNet(PAPER_WIDTHS, layer="uniform weights"), 2 * 109_184),
        (UGMMNet(PAPER_WIDTHS, layer="frozen std"), 2 * 109_184),
        (UGMMNet(PAPER_WIDTHS, layer="tied std"), 2 * 109_184 + (128 + 64 + 10)),
    ],
    ids=[
        "uGMM",
        "MLP",
        "MLP of equal size",
        "uGMM + LayerNorm",
        "MLP + LayerNorm",
        "LayerNorm before",
        "LayerNorm after",
        "hard",
        "uniform weights",
        "frozen std",
        "tied std",
    ],
)
def test_parameter_counts_are_those_the_book_compares(model, expected):
    assert size(model) == expected


def test_parameter_count_of_the_convolutional_networks():
    filters = (5 * 5 * 1 + 1) * 32 + (5 * 5 * 32 + 1) * 64
    weights = 1024 * 128 + 128 * 64 + 64 * 10
    assert size(ConvNet(head="linear")) == filters + weights + (128 + 64 + 10)
    assert size(ConvNet(head="ugmm")) == filters + 3 * weights


# --- What stands where


def test_mlp_is_relu_between_linear_layers():
    model, x = MLP((6, 5, 4, 3)), inputs(7, 6)
    assert kinds(model) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    hidden = torch.clamp(F.linear(x, model[0].weight, model[0].bias), min=0)
    hidden = torch.clamp(F.linear(hidden, model[2].weight, model[2].bias), min=0)
    torch.testing.assert_close(model(x), F.linear(hidden, model[4].weight, model[4].bias))


def test_ugmm_net_is_the_operator_applied_to_its_own_output():
    model, h = UGMMNet((6, 5, 4, 3)), inputs(7, 6)
    assert kinds(model) == ["UGMMLayer"] * 3
    out = model(h)
    for layer in model:
        h = ugmm_log_density(h, layer.mean, layer.log_std, torch.log_softmax(layer.mix_logits, dim=1))
    torch.testing.assert_close(out, h)


def test_layer_norm_stands_after_each_hidden_layer_and_before_relu():
    model = MLP((6, 5, 4, 3), norm="layer")
    assert kinds(model) == ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm", "ReLU", "Linear"]
    assert [m.normalized_shape for m in model if isinstance(m, nn.LayerNorm)] == [(5,), (4,)]
    model = UGMMNet((6, 5, 4, 3), norm="layer")
    assert kinds(model) == ["UGMMLayer", "LayerNorm", "UGMMLayer", "LayerNorm", "UGMMLayer"]
    assert [m.normalized_shape for m in model if isinstance(m, nn.LayerNorm)] == [(5,), (4,)]


@pytest.mark.parametrize(
    ("network", "norm", "expected"),
    [
        (UGMMNet, "before", "LayerNorm UGMMLayer LayerNorm UGMMLayer LayerNorm UGMMLayer"),
        (UGMMNet, "after", "UGMMLayer LayerNorm UGMMLayer LayerNorm UGMMLayer LayerNorm"),
        (MLP, "before", "LayerNorm Linear LayerNorm ReLU Linear LayerNorm ReLU Linear"),
        (MLP, "after", "Linear LayerNorm ReLU Linear LayerNorm ReLU Linear LayerNorm"),
    ],
)
def test_norms_before_and_after_stand_at_the_inputs_or_outputs_too(network, norm, expected):
    model = network((6, 5, 4, 3), norm=norm)
    assert " ".join(kinds(model)) == expected
    sizes = [m.normalized_shape for m in model if isinstance(m, nn.LayerNorm)]
    assert sizes == ([(6,), (5,), (4,)] if norm == "before" else [(5,), (4,), (3,)])


def test_a_network_with_norms_is_the_formula_written_out():
    def normal(h):
        return (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()

    def mixture(h, layer):
        return ugmm_log_density(h, layer.mean, layer.log_std, torch.log_softmax(layer.mix_logits, dim=1))

    # In float64: a LayerNorm magnifies rounding by as much as its inputs are close together.
    x = inputs(7, 6).double()
    before, after = (UGMMNet((6, 5, 3), norm=norm).double() for norm in ("before", "after"))
    expected = mixture(normal(mixture(normal(x), before[1])), before[3])
    torch.testing.assert_close(before(x), expected)
    torch.testing.assert_close(after(x), normal(mixture(normal(mixture(x, after[0])), after[2])))


@BOTH
def test_norm_before_takes_scale_and_mean_out_of_the_inputs(network):
    model, x = network((6, 5, 3), norm="before"), inputs(7, 6)
    torch.testing.assert_close(model(3 * x + 2), model(x), rtol=1e-4, atol=1e-4)
    assert (model(x.flip(1)) - model(x)).abs().max() > 0.1


@BOTH
def test_norm_after_gives_outputs_of_mean_0_and_variance_1(network):
    out = network((6, 50, 30), norm="after")(inputs(7, 6))
    torch.testing.assert_close(out.mean(-1), torch.zeros(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(-1, correction=0), torch.ones(7), atol=1e-2, rtol=0)


@BOTH
@pytest.mark.parametrize(("norm", "place"), [("before", 0), ("after", -1)])
def test_a_single_layer_has_one_norm_before_or_after_it(norm, place, network):
    model = network((6, 3), norm=norm)
    assert len(model) == 2
    assert isinstance(model[place], nn.LayerNorm)


@BOTH
def test_neither_inputs_nor_outputs_are_normalised(network):
    model = network((6, 3), norm="layer")
    assert not any(isinstance(m, nn.LayerNorm) for m in model)
    # A normalisation anywhere would undo the change of scale or of mean.
    assert (model(inputs(2, 6)) - model(3 * inputs(2, 6))).abs().max() > 0.1
    assert (model(inputs(2, 6)).mean(-1).abs() > 1e-3).any()


def test_layer_norm_feeds_the_next_layer_features_of_mean_0_and_variance_1():
    model = UGMMNet((6, 50, 3), norm="layer")
    hidden = model[:2](inputs(7, 6))
    torch.testing.assert_close(hidden.mean(-1), torch.zeros(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden.var(-1, correction=0), torch.ones(7), atol=1e-3, rtol=0)


def test_mlp_dropout_stands_after_relu_of_the_layers_that_drop():
    assert kinds(MLP((6, 5, 4, 3), dropout=0.5)) == ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]
    one = MLP((6, 5, 4, 3), dropout=(0.5, 0.0, 0.0), norm="layer")
    assert kinds(one) == ["Linear", "LayerNorm", "ReLU", "Dropout", "Linear", "LayerNorm", "ReLU", "Linear"]


@pytest.mark.parametrize(
    ("dropout", "mlp", "ugmm"),
    [
        (0.0, [], [0.0, 0.0, 0.0]),
        (0.5, [0.5, 0.5], [0.5, 0.5, 0.0]),
        (1, [1.0, 1.0], [1.0, 1.0, 0.0]),
        (np.float32(0.5), [0.5, 0.5], [0.5, 0.5, 0.0]),
        (np.array([0.5, 0.25, 0.0], np.float32), [0.5, 0.25], [0.5, 0.25, 0.0]),
        ((0.3, 0.2, 0.0), [0.3, 0.2], [0.3, 0.2, 0.0]),
        ([0.0, 0.2, 0.0], [0.2], [0.0, 0.2, 0.0]),
    ],
)
def test_one_dropout_number_means_the_hidden_layers_and_a_sequence_names_each(dropout, mlp, ugmm):
    assert probabilities(MLP((6, 5, 4, 3), dropout=dropout)) == mlp
    assert probabilities(UGMMNet((6, 5, 4, 3), dropout=dropout)) == ugmm


def test_ugmm_net_may_drop_components_of_its_outputs_if_asked():
    assert probabilities(UGMMNet((6, 5, 3), dropout=(0.0, 0.4))) == [0.0, 0.4]


def test_options_reach_every_ugmm_layer():
    options = {"dropout_mode": "literal", "min_std": 0.1, "init": "paper"}
    for name in LAYERS:
        for layer in UGMMNet((6, 5, 3), layer=name, **options):
            assert {option: getattr(layer, option) for option in options} == options


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("norm", NORMS)
def test_layer_names_what_every_layer_of_the_network_is(norm, name):
    model = UGMMNet((6, 5, 4, 3), layer=name, norm=norm, dropout=0.25)
    layers = [m for m in model if not isinstance(m, nn.LayerNorm)]
    assert [type(m) for m in layers] == [LAYERS[name]] * 3
    assert [tuple(m.mean.shape) for m in layers] == [(5, 6), (4, 5), (3, 4)]
    assert probabilities(model) == [0.25, 0.25, 0.0]
    assert model(inputs(7, 6)).shape == (7, 3)


def test_a_network_is_made_of_the_layer_itself_unless_another_is_named():
    assert repr(UGMMNet((6, 5, 3))) == repr(UGMMNet((6, 5, 3), layer="ugmm"))
    assert {type(m) for m in UGMMNet((6, 5, 3))} == {UGMMLayer}


def test_a_network_of_hard_layers_takes_the_largest_term_in_each():
    model, h = UGMMNet((6, 5, 3), layer="hard"), inputs(7, 6)
    out = model(h)
    for layer in model:
        density = torch.distributions.Normal(layer.mean, layer.std).log_prob(h[:, None, :])
        h = (torch.log_softmax(layer.mix_logits, dim=1) + density).amax(-1)
    torch.testing.assert_close(out, h)


def test_layers_and_norms_reach_the_head_of_a_convnet_and_a_preset():
    model = ConvNet(head="ugmm", widths=(5, 3), channels=(1, 2), layer="tied std", norm="after")
    assert kinds(model.head) == ["TiedStdLayer", "LayerNorm", "TiedStdLayer", "LayerNorm"]
    assert kinds(preset("uGMM-NN", layer="hard", norm="before"))[:2] == ["LayerNorm", "MaxLayer"]


@BOTH
def test_dropout_acts_in_training_only(network):
    model, x = network((6, 50, 3), dropout=0.5), inputs(7, 6)
    assert not torch.equal(model.train()(x), model.train()(x))
    assert torch.equal(model.eval()(x), model.eval()(x))


# --- Shapes and the module protocol


@BOTH
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(7, 6), (6,), (2, 3, 6), (0, 6)])
def test_leading_dimensions_pass_through(shape, norm, network):
    model = network((6, 5, 3), norm=norm)
    x = inputs(*shape)
    out = model(x)
    assert out.shape == (*shape[:-1], 3)
    torch.testing.assert_close(out.reshape(-1, 3), model(x.reshape(-1, 6)))


@BOTH
def test_a_slice_of_a_network_is_the_sequence_of_these_layers(network):
    model, x = network((6, 5, 4, 3), norm="layer"), inputs(7, 6)
    torch.testing.assert_close(model[2:](model[:2](x)), model(x))
    assert type(model[:2]) is nn.Sequential
    assert model[:2][0] is model[0]
    assert model[-1] is list(model)[-1]
    assert len(model[:0]) == 0


@BOTH
def test_networks_copy_and_restore_as_any_module(network):
    model, other, x = network((6, 5, 3), norm="layer"), network((6, 5, 3), norm="layer"), inputs(7, 6)
    assert not torch.equal(model(x), other(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(x), other(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@BOTH
def test_widths_may_be_any_sequence_of_integers(network):
    assert size(network([6, 5, 3])) == size(network((np.int64(6), 5, 3))) == size(network((6, 5, 3)))


# --- The convolutional network


def test_convnet_head_reads_1024_features_of_mnist_images():
    model = ConvNet()
    assert model.features(inputs(3, 1, 28, 28)).shape == (3, 1024)
    assert model(inputs(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize(("head", "network"), [("linear", MLP), ("ugmm", UGMMNet)])
def test_head_names_the_network_on_top_of_the_convolutions(head, network):
    model = ConvNet(head=head, widths=(20, 7), channels=(2, 3), norm="layer", dropout=0.25)
    assert type(model.head) is network
    assert kinds(model.head) == kinds(network((48, 20, 7), norm="layer", dropout=0.25))
    x = inputs(3, 1, 28, 28)
    torch.testing.assert_close(model.eval()(x), model.head(model.features(x)))
    assert model(x).shape == (3, 7)


def test_the_filters_do_not_depend_on_the_kind_of_head():
    shapes = [[p.shape for p in ConvNet(head=head).features.parameters()] for head in ("linear", "ugmm")]
    assert shapes[0] == shapes[1]


def test_convnet_widths_may_be_the_output_alone():
    assert kinds(ConvNet(head="ugmm", widths=(10,)).head) == ["UGMMLayer"]


@pytest.mark.parametrize("shape", [(3, 784), (1, 28, 28), (3, 3, 28, 28), (3, 1, 32, 32)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"images of shape \(B, 1, 28, 28\), got \(" + ", ".join(map(str, shape))
    ):
        ConvNet(channels=(1, 1))(torch.zeros(shape))


# --- The paper's table


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_of_a_preset_gets_a_finite_gradient_other_than_zero(name):
    torch.manual_seed(0)
    model, x = preset(name), images_for(name)
    out = model(x)
    assert out.shape == (4, 10)
    loss = F.cross_entropy(out, torch.arange(4))
    loss.backward()
    assert math.isfinite(loss.item())
    for parameter_name, p in model.named_parameters():
        assert p.grad.isfinite().all(), parameter_name
        assert p.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", PRESETS)
def test_presets_drop_half_of_the_first_of_their_fully_connected_layers(name):
    model = preset(name)
    head = model.head if isinstance(model, ConvNet) else model
    assert probabilities(head) == ([0.5] if isinstance(head, MLP) else [0.5, 0.0, 0.0])


@pytest.mark.parametrize("name", PRESETS)
def test_the_name_of_a_preset_says_what_it_is_made_of(name):
    model = preset(name)
    assert isinstance(model, ConvNet) == name.startswith("CNN")
    modules = list(model.modules())
    assert any(isinstance(m, nn.LayerNorm) for m in modules) == name.endswith("LayerNorm")
    layers = [m for m in modules if isinstance(m, UGMMLayer)]
    assert bool(layers) == ("uGMM" in name)
    assert {layer.init for layer in layers} <= {"paper"}


def test_the_six_rows_of_the_table_have_their_sizes():
    convolutional = 832 + 51_264
    norms = 2 * (128 + 64)
    assert {name: size(preset(name)) for name in PRESETS} == {
        "MLP": 109_386,
        "uGMM-NN": 327_552,
        "uGMM-NN + LayerNorm": 327_552 + norms,
        "CNN-uGMM": convolutional + 419_712,
        "CNN-uGMM + LayerNorm": convolutional + 419_712 + norms,
        "CNN-MLP": convolutional + 140_106,
    }


def test_options_override_a_preset_for_one_network_only():
    model = preset("uGMM-NN", init="unit", norm="layer", dropout=0.1)
    assert kinds(model)[1] == "LayerNorm"
    assert model[0].init == "unit"
    assert probabilities(model) == [0.1, 0.1, 0.0]
    assert preset("uGMM-NN")[0].init == "paper"
    assert probabilities(preset("uGMM-NN")) == [0.5, 0.0, 0.0]


# --- Refusals


@BOTH
@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ((), r"at least two widths, input and output, got \(\)"),
        ((784,), r"at least two widths, input and output, got \(784,\)"),
        ((784, 0, 10), r"positive integers, got \(784, 0, 10\)"),
        ((784, -1), r"positive integers, got \(784, -1\)"),
        ((784, 12.5, 10), r"positive integers, got \(784, 12.5, 10\)"),
        ((784, True), r"positive integers, got \(784, True\)"),
        (("784", "10"), r"positive integers, got \('784', '10'\)"),
    ],
)
def test_widths_that_make_no_network_are_refused(network, widths, words):
    with pytest.raises(ValueError, match=words):
        network(widths)


@BOTH
def test_an_unknown_norm_is_refused_with_the_known_ones(network):
    with pytest.raises(ValueError, match=r"unknown norm 'batch': expected one of none, layer, before, after"):
        network((6, 3), norm="batch")


def test_an_unknown_layer_is_refused_with_the_known_ones():
    known = ", ".join(LAYERS)
    with pytest.raises(ValueError, match=rf"unknown layer 'soft': expected one of {known}$"):
        UGMMNet((6, 3), layer="soft")
    with pytest.raises(TypeError, match="unexpected keyword argument 'layer'"):
        MLP((6, 3), layer="hard")


@BOTH
@pytest.mark.parametrize(
    ("dropout", "words"),
    [
        (-0.1, "between 0 and 1, got -0.1"),
        (1.1, "between 0 and 1, got 1.1"),
        (math.nan, "between 0 and 1, got nan"),
        ((0.5, 2.0), r"between 0 and 1, got \(0.5, 2.0\)"),
        ((0.5,), r"one for each of the 2 layers, got \(0.5,\)"),
        ((0.5, 0.5, 0.5), r"one for each of the 2 layers, got \(0.5, 0.5, 0.5\)"),
    ],
)
def test_dropout_that_does_not_fit_is_refused(network, dropout, words):
    with pytest.raises(ValueError, match=words):
        network((6, 5, 3), dropout=dropout)


@BOTH
@pytest.mark.parametrize("dropout", [-0.1, 7.0, math.nan, np.float32(1.5)])
def test_dropout_out_of_range_is_refused_also_where_there_is_no_hidden_layer(network, dropout):
    with pytest.raises(ValueError, match=f"between 0 and 1, got {dropout}"):
        network((4, 3), dropout=dropout)


@BOTH
@pytest.mark.parametrize("dropout", [None, "0.5", ("0.5", "0"), (None, 0.0)])
def test_dropout_that_is_no_number_is_refused(network, dropout):
    with pytest.raises(TypeError, match="dropout to be a number, or one for each layer, got "):
        network((6, 5, 3), dropout=dropout)


def test_dropout_on_the_outputs_of_an_mlp_is_refused():
    with pytest.raises(ValueError, match=r"no dropout on the outputs of an MLP, got 0.2"):
        MLP((6, 5, 3), dropout=(0.5, 0.2))


def test_modes_and_inits_of_a_ugmm_net_are_checked_by_its_layers():
    with pytest.raises(ValueError, match=r"unknown dropout_mode 'mask'"):
        UGMMNet((6, 3), dropout_mode="mask")
    with pytest.raises(ValueError, match=r"unknown init 'zeros'"):
        UGMMNet((6, 3), init="zeros")
    with pytest.raises(ValueError, match=r"min_std >= 0"):
        UGMMNet((6, 3), min_std=-1.0)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'colour'"):
        UGMMNet((6, 3), colour="red")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"head": "mlp"}, ValueError, r"unknown head 'mlp': expected one of linear, ugmm"),
        ({"channels": (32,)}, ValueError, r"channels to be two positive integers, got \(32,\)"),
        ({"channels": (32, 0)}, ValueError, r"channels to be two positive integers, got \(32, 0\)"),
        ({"channels": (3.5, 3)}, ValueError, r"channels to be two positive integers, got \(3.5, 3\)"),
        ({"channels": 5}, ValueError, r"channels to be two positive integers, got 5"),
        ({"widths": 5}, ValueError, r"widths to be positive integers, got 5"),
        ({"widths": ()}, ValueError, r"at least two widths"),
        ({"norm": "batch"}, ValueError, r"unknown norm 'batch'"),
        ({"head": "linear", "init": "paper"}, TypeError, r"unexpected keyword argument 'init'"),
    ],
)
def test_convnet_options_that_do_not_fit_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        ConvNet(**options)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown preset 'uGMM': expected one of MLP, uGMM-NN, .*CNN-MLP"):
        preset("uGMM")


def test_pooling_before_the_relu_changes_no_bit():
    torch.manual_seed(0)
    network = ConvNet(head="linear")
    modules = list(network.features)
    assert [type(module).__name__ for module in modules] == [*("Conv2d", "MaxPool2d", "ReLU") * 2, "Flatten"]
    images, weights = torch.rand(64, 1, 28, 28), torch.randn(64, 1024)
    images[:, :, ::3] = 0.0  # Equal neighbours: windows in which the maximum is not alone.

    def run(order):
        features = torch.nn.Sequential(*(modules[i] for i in order))(images)
        parameters = list(network.features.parameters())
        return features.detach(), *torch.autograd.grad((weights * features).sum(), parameters)

    ours, usual = run((0, 1, 2, 3, 4, 5, 6)), run((0, 2, 1, 3, 5, 4, 6))
    assert 0.2 < (ours[0] == 0).double().mean() < 0.95
    for mine, theirs in zip(ours, usual, strict=True):
        assert torch.equal(mine, theirs)


def test_channels_lie_innermost_in_memory_and_the_numbers_stay():
    torch.manual_seed(0)
    network = ConvNet(head="linear").double().eval()
    assert network.features[3].weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    out = network(images)
    network.features.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(out, network(images))
