"""UGMMLayer: the anatomy of a layer, initialisation, the floor on std, and dropout on components."""

import copy
import itertools
import math
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from ugmm_tutorial import UGMMLayer, ugmm_log_density
from ugmm_tutorial.kernels import eager
from ugmm_tutorial.layers import (
    DROPOUT_MODES,
    INITS,
    PerExampleDropoutLayer,
    SparseUGMMLayer,
    dense,
    lower_bound,
    masks,
)

PARAMETERS = ("mean", "log_std", "mix_logits")
MODES = pytest.mark.parametrize("mode", DROPOUT_MODES)
COMPILERS = [c for c in (os.environ.get("CXX"), "g++", "clang++", "c++", "cl") if c and shutil.which(c)]
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def layer(k, j, seed=0, kind=UGMMLayer, **options):
    """A layer with all three parameters drawn at random, so that no weight equals another."""
    torch.manual_seed(seed)
    made = kind(k, j, **options)
    with torch.no_grad():
        made.log_std.normal_(std=0.3)
        made.mix_logits.normal_()
    return made


def inputs(*shape, seed=1, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def same_parameters(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


# --- Anatomy


@pytest.mark.parametrize("init", INITS)
def test_parameters_are_three_matrices_of_outputs_by_inputs(init):
    shapes = {name: tuple(p.shape) for name, p in UGMMLayer(4, 3, init=init).named_parameters()}
    assert shapes == dict.fromkeys(PARAMETERS, (3, 4))
    assert not list(UGMMLayer(4, 3, init=init).buffers())


@pytest.mark.parametrize("shape", [(5, 4), (4,), (2, 3, 4), (0, 4)])
def test_forward_is_one_call_to_the_operator(shape):
    made = layer(4, 3)
    x = inputs(*shape)
    expected = ugmm_log_density(x, made.mean, made.log_std, torch.log_softmax(made.mix_logits, dim=1))
    torch.testing.assert_close(made(x), expected)
    assert made(x).shape == (*shape[:-1], 3)


def test_repr_shows_the_arguments_that_rebuild_the_layer():
    for made in (
        UGMMLayer(4, 3),
        UGMMLayer(4, 3, dropout=0.5, dropout_mode="inverted", min_std=0.01, init="paper"),
    ):
        rebuilt = eval(repr(made), {"UGMMLayer": UGMMLayer})
        options, same = ({n: v for n, v in vars(m).items() if n[0] != "_"} for m in (made, rebuilt))
        assert options == same
        assert {"in_features", "out_features", "dropout", "dropout_mode"} <= set(options)


def test_the_backend_is_the_layers_to_choose_and_shown_if_it_is_not_auto(monkeypatch):
    asked = []
    real = eager.takes
    monkeypatch.setattr(
        eager,
        "takes",
        lambda backend, *given, **how: asked.append(backend) or real(backend, *given, **how),
    )
    for backend in ("auto", "reference"):
        made = UGMMLayer(4, 3, backend=backend)
        made(inputs(2, 4))
        assert ("backend" in repr(made)) == (backend == "reference")
    assert list(dict.fromkeys(asked)) == ["auto", "reference"]
    with pytest.raises(ValueError, match=r"unknown backend 'cuda'.*auto, reference, numba, triton"):
        UGMMLayer(4, 3, backend="cuda")


def test_repr_mentions_dropout_only_where_there_is_some():
    assert repr(UGMMLayer(4, 3)) == "UGMMLayer(in_features=4, out_features=3, min_std=0.001, init='unit')"
    assert "dropout=0.5, dropout_mode='renormalize', min_std" in repr(UGMMLayer(4, 3, dropout=0.5))


@pytest.mark.parametrize("init", INITS)
def test_reset_parameters_draws_anew_in_place_and_reproducibly(init):
    made = UGMMLayer(4, 3, init=init)
    identities = [id(p) for p in made.parameters()]
    torch.manual_seed(5)
    made.reset_parameters()
    first = copy.deepcopy(made)
    made.reset_parameters()
    assert not torch.equal(made.mean, first.mean)
    torch.manual_seed(5)
    made.reset_parameters()
    assert same_parameters(made, first)
    assert [id(p) for p in made.parameters()] == identities
    assert all(p.requires_grad for p in made.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_reaches_parameters_and_outputs(dtype):
    made = UGMMLayer(4, 3, dtype=dtype)
    assert {p.dtype for p in made.parameters()} == {dtype}
    assert made(inputs(2, 4, dtype=dtype)).dtype == dtype


def test_default_dtype_is_that_of_torch():
    torch.set_default_dtype(torch.float64)
    try:
        assert UGMMLayer(4, 3).mean.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert UGMMLayer(4, 3).mean.dtype == torch.float32


def test_layer_moves_to_float64_as_any_module():
    made = layer(4, 3)
    x = inputs(5, 4)
    torch.testing.assert_close(made.double()(x.double()).float(), layer(4, 3)(x))


@pytest.mark.parametrize("init", INITS)
def test_layer_is_built_on_the_meta_device_and_materialised_later(init):
    made = UGMMLayer(4, 3, device="meta", init=init)
    assert {p.device.type for p in made.parameters()} == {"meta"}
    assert made(torch.empty(5, 4, device="meta")).shape == (5, 3)
    made = made.to_empty(device="cpu")
    torch.manual_seed(5)
    made.reset_parameters()
    torch.manual_seed(5)
    assert same_parameters(made, UGMMLayer(4, 3, init=init))


def test_state_dict_round_trip_restores_the_outputs():
    made, other = layer(4, 3, seed=0), layer(4, 3, seed=1)
    x = inputs(5, 4)
    assert not torch.equal(made(x), other(x))
    other.load_state_dict(made.state_dict())
    assert torch.equal(made(x), other(x))
    assert list(made.state_dict()) == list(PARAMETERS)


def test_state_dict_survives_a_file_read_with_weights_only(tmp_path):
    made, other = layer(4, 3, seed=0), layer(4, 3, seed=1)
    torch.save(made.state_dict(), tmp_path / "layer.pt")
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert same_parameters(made, other)


def test_a_whole_layer_is_picklable(tmp_path):
    made = layer(4, 3, dropout=0.5, min_std=0.1)
    torch.save(made, tmp_path / "layer.pt")
    loaded = torch.load(tmp_path / "layer.pt", weights_only=False)
    assert repr(loaded) == repr(made)
    assert torch.equal(loaded.eval()(inputs(5, 4)), made.eval()(inputs(5, 4)))


def test_deepcopy_shares_nothing_with_the_original():
    made = layer(4, 3)
    twin = copy.deepcopy(made)
    assert same_parameters(made, twin)
    with torch.no_grad():
        twin.mean.add_(1.0)
    assert not torch.equal(made.mean, twin.mean)


def test_training_fits_a_gaussian_by_maximum_likelihood():
    made = UGMMLayer(1, 1)
    x = 3.0 + 0.5 * inputs(2000, 1)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (-made(x).mean()).backward()
        optimizer.step()
    assert made.mean.item() == pytest.approx(x.mean().item(), abs=0.01)
    assert made.std.item() == pytest.approx(x.std(correction=0).item(), abs=0.01)


def test_sizes_may_be_numpy_integers():
    made = UGMMLayer(np.int64(4), np.int64(3))
    assert made.mean.shape == (3, 4)
    assert type(made.in_features) is type(made.out_features) is int


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"in_features": 0}, ValueError, "in_features >= 1, got 0"),
        ({"out_features": -2}, ValueError, "out_features >= 1, got -2"),
        ({"in_features": 4.0}, TypeError, "in_features to be an integer, got 4.0"),
        ({"out_features": True}, TypeError, "out_features to be an integer, got True"),
        ({"dropout": -0.1}, ValueError, "dropout between 0 and 1, got -0.1"),
        ({"dropout": 1.5}, ValueError, "dropout between 0 and 1, got 1.5"),
        ({"dropout": math.nan}, ValueError, "dropout between 0 and 1, got nan"),
        ({"dropout_mode": "mask"}, ValueError, "unknown dropout_mode 'mask'.*renormalize, literal, inverted"),
        ({"init": "zeros"}, ValueError, "unknown init 'zeros'.*unit, paper"),
        ({"min_std": -1e-3}, ValueError, "min_std >= 0 and finite, got -0.001"),
        ({"min_std": math.inf}, ValueError, "min_std >= 0 and finite, got inf"),
        ({"min_std": math.nan}, ValueError, "min_std >= 0 and finite, got nan"),
        ({"dtype": torch.float16}, TypeError, "float32 or float64, got torch.float16.*autocast"),
        ({"dtype": torch.int64}, TypeError, "float32 or float64, got torch.int64"),
        ({"dtype": "float32"}, TypeError, "got 'float32'"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(kwargs, error, words):
    with pytest.raises(error, match=words):
        UGMMLayer(**({"in_features": 4, "out_features": 3} | kwargs))


def test_inputs_that_do_not_fit_are_refused_as_by_the_operator():
    made = UGMMLayer(4, 3)
    with pytest.raises(ValueError, match=r"K = 4, got \(2, 5\)"):
        made(torch.zeros(2, 5))
    with pytest.raises(TypeError, match=r"one dtype .* x: torch.float64"):
        made(torch.zeros(2, 4, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"x to be a torch.Tensor, got ndarray"):
        made(np.zeros((2, 4)))


# --- Initialisation


def is_sample_of(draws, distribution):
    """Kolmogorov-Smirnov: 100,000 draws of a fixed seed would expose a scale that is 5 % off."""
    return stats.kstest(draws.detach().flatten().numpy(), distribution.cdf).pvalue > 1e-3


def test_unit_init_is_normal_means_unit_std_and_equal_weights():
    torch.manual_seed(0)
    made = UGMMLayer(250, 400)
    assert is_sample_of(made.mean, stats.norm())
    assert not is_sample_of(made.mean, stats.norm(scale=1.05))
    assert torch.equal(made.std, torch.ones(400, 250))
    torch.testing.assert_close(made.mix_weight, torch.full((400, 250), 1 / 250))


def test_paper_init_is_normal_means_uniform_std_and_uniform_logits():
    torch.manual_seed(0)
    made = UGMMLayer(250, 400, init="paper")
    assert is_sample_of(made.mean, stats.norm())
    assert is_sample_of(made.std, stats.uniform())
    assert is_sample_of(made.mix_logits, stats.uniform())
    assert not is_sample_of(made.std, stats.uniform(scale=1.05))


def test_paper_init_starts_on_the_floor_at_the_lowest():
    torch.manual_seed(0)
    made = UGMMLayer(100, 100, init="paper", min_std=0.25)
    assert made.log_std.min().item() == pytest.approx(math.log(0.25))
    assert (made.log_std <= math.log(0.25) + 1e-6).float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("min_std", [0.0, 1e-3])
def test_paper_init_survives_a_uniform_draw_of_zero(min_std, dtype, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *bounds: self.zero_())
    made = UGMMLayer(4, 3, init="paper", min_std=min_std, dtype=dtype)
    out = made(10 * inputs(5, 4, dtype=dtype))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in made.parameters())


# --- The floor


def test_std_is_the_exponential_of_log_std_above_the_floor_and_the_floor_below():
    made = UGMMLayer(4, 1, min_std=0.1)
    with torch.no_grad():
        made.log_std.copy_(torch.tensor([[-50.0, math.log(0.05), math.log(0.2), 3.0]]))
    torch.testing.assert_close(made.std, torch.tensor([[0.1, 0.1, 0.2, math.exp(3.0)]]))


def test_forward_and_responsibilities_use_the_floored_std():
    made, twin = layer(4, 3, min_std=0.5), layer(4, 3, min_std=0.0)
    with torch.no_grad():
        made.log_std.copy_(torch.linspace(-3, 1, 12).view(3, 4))
        twin.log_std.copy_(made.log_std.clamp(min=math.log(0.5)))
    x = inputs(5, 4)
    torch.testing.assert_close(made(x), twin(x))
    torch.testing.assert_close(made.responsibilities(x), twin.responsibilities(x))


@pytest.mark.parametrize("below", [1e-6, 1.0, 20.0])
def test_at_the_floor_only_a_gradient_that_widens_the_component_passes(below):
    made = UGMMLayer(1, 2)
    with torch.no_grad():
        made.log_std.fill_(math.log(made.min_std) - below)
    # Descent on this loss would narrow the first component and widen the second.
    (made.std[0] - made.std[1]).sum().backward()
    assert made.log_std.grad[0].item() == 0.0
    assert made.log_std.grad[1].item() == pytest.approx(-made.min_std)


@pytest.mark.bits
def test_a_component_on_the_floor_widens_again_when_the_data_ask_for_it():
    made = UGMMLayer(1, 1)
    with torch.no_grad():
        made.mean.zero_()
        made.log_std.fill_(math.log(made.min_std) - 0.01)
    x = inputs(200, 1)
    optimizer = torch.optim.Rprop([made.log_std], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (-made(x).mean()).backward()
        optimizer.step()
    assert made.std.item() == pytest.approx(x.square().mean().sqrt().item(), rel=1e-2)


@pytest.mark.bits
def test_a_component_on_the_floor_does_not_sink_below_it():
    made = UGMMLayer(1, 1)
    with torch.no_grad():
        made.mean.zero_()
        made.log_std.fill_(math.log(made.min_std) - 0.01)
    start = made.log_std.detach().clone()
    optimizer = torch.optim.SGD([made.log_std], lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (-made(torch.zeros(5, 1)).mean()).backward()  # every datum on the mean: narrower is likelier
        optimizer.step()
    assert torch.equal(made.log_std, start)


# --- The ceiling


def test_std_stays_between_floor_and_ceiling():
    made = UGMMLayer(4, 1, min_std=0.1, max_std=2.0)
    with torch.no_grad():
        made.log_std.copy_(torch.tensor([[-50.0, math.log(0.2), math.log(1.9), 3.0]]))
    torch.testing.assert_close(made.std, torch.tensor([[0.1, 0.2, 1.9, 2.0]]))
    twin = UGMMLayer(4, 1, min_std=0.0)
    twin.load_state_dict(made.state_dict() | {"log_std": made.std.log().detach()})
    torch.testing.assert_close(made(inputs(5, 4)), twin(inputs(5, 4)))
    torch.testing.assert_close(made.responsibilities(inputs(5, 4)), twin.responsibilities(inputs(5, 4)))


@pytest.mark.parametrize("above", [1e-6, 1.0, 20.0])
def test_at_the_ceiling_only_a_gradient_that_narrows_the_component_passes(above):
    made = UGMMLayer(1, 2, max_std=2.0)
    with torch.no_grad():
        made.log_std.fill_(math.log(2.0) + above)
    # Descent on this loss would narrow the first component and widen the second.
    (made.std[0] - made.std[1]).sum().backward()
    assert made.log_std.grad[0].item() == pytest.approx(2.0)
    assert made.log_std.grad[1].item() == 0.0


def test_the_ceiling_stands_in_the_text_only_where_there_is_one():
    assert "max_std=2.0" in repr(UGMMLayer(4, 3, max_std=2.0))
    assert "max_std" not in repr(UGMMLayer(4, 3))


@pytest.mark.parametrize("max_std", [1e-3, 0.0, -1.0, math.nan])
def test_a_ceiling_not_above_the_floor_is_refused(max_std):
    with pytest.raises(ValueError, match=r"max_std > min_std = 0\.001, got"):
        UGMMLayer(4, 3, max_std=max_std)


def test_without_a_floor_std_follows_log_std_everywhere():
    made = UGMMLayer(3, 1, min_std=0.0)
    with torch.no_grad():
        made.log_std.copy_(torch.tensor([[-60.0, -10.0, 2.0]]))
    made.std.log().sum().backward()
    torch.testing.assert_close(made.std, made.log_std.exp())
    torch.testing.assert_close(made.log_std.grad, torch.ones(1, 3))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_lower_bound_is_the_maximum_with_the_gradient_untouched_above_and_at_the_bound(sign):
    value = torch.tensor([-2.0, -1.0, -0.5, 3.0], requires_grad=True)
    bounded = lower_bound(value, -1.0)
    assert torch.equal(bounded, torch.tensor([-1.0, -1.0, -0.5, 3.0]))
    (sign * bounded).sum().backward()
    assert torch.equal(value.grad[1:], torch.full((3,), sign))
    assert value.grad[0].item() == min(sign, 0.0)


def test_second_derivatives_pass_through_the_floor_function():
    value = torch.tensor([0.3, 1.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: lower_bound(v, -1.0).exp(), value)


# --- Weights and responsibilities


def test_mixing_weights_are_positive_and_sum_to_one():
    made = layer(50, 20)
    assert (made.mix_weight > 0).all()
    torch.testing.assert_close(made.mix_weight.sum(1), torch.ones(20))
    torch.testing.assert_close(made.log_weight.exp(), made.mix_weight)


def test_the_output_ignores_a_constant_added_to_the_logits():
    made, x = layer(4, 3), inputs(5, 4)
    before = made(x)
    with torch.no_grad():
        made.mix_logits.add_(torch.tensor([[1.0], [-3.0], [100.0]]))
    torch.testing.assert_close(made(x), before, rtol=1e-4, atol=1e-4)


@MODES
def test_responsibilities_sum_to_one_and_ignore_dropout(mode):
    made = layer(4, 3, dropout=0.9, dropout_mode=mode)
    x = inputs(2, 5, 4)
    shares = made.train().responsibilities(x)
    assert shares.shape == (2, 5, 3, 4)
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 5, 3))
    assert torch.equal(shares, made.eval().responsibilities(x))
    assert (shares > 0).all()


def test_responsibilities_are_the_gradient_wrt_the_log_weights():
    made, x = layer(4, 3), inputs(4)
    log_weight = made.log_weight.detach().requires_grad_()
    ugmm_log_density(x, made.mean, made.log_std, log_weight).sum().backward()
    torch.testing.assert_close(made.responsibilities(x), log_weight.grad)


# --- Dropout


def twins(k, j, p, **options):
    """One layer per dropout mode, all with the same parameters, in training mode."""
    return {mode: layer(k, j, dropout=p, dropout_mode=mode, **options) for mode in DROPOUT_MODES}


def seeded(made, x, seed=7):
    torch.manual_seed(seed)
    return made(x)


def flatten_densities(made):
    """Give every component the density of N(0, 1): at x = 0 the output is log S - log sqrt(2 pi)."""
    with torch.no_grad():
        made.mean.zero_()
        made.log_std.zero_()
    return made


def kept_weight(made, seed=7):
    """S_j, the sum of the weights a forward pass in training mode uses, (J,)."""
    flat = flatten_densities(copy.deepcopy(made))
    zero = torch.zeros(flat.in_features, dtype=flat.mean.dtype)
    return (seeded(flat, zero, seed) + LOG_SQRT_2PI).exp()


@MODES
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("k", [1, 2, 5, 784])
def test_dropout_never_gives_nan_or_infinity(k, p, mode):
    made = layer(k, 6, dropout=p, dropout_mode=mode)
    for seed in range(5):
        made.zero_grad()
        x = inputs(4, k).requires_grad_()
        out = seeded(made, x, seed)
        out.square().sum().backward()
        tensors = (out, x.grad, *(q.grad for q in made.parameters()))
        assert all(t.isfinite().all() for t in tensors)


@MODES
def test_dropout_of_zero_changes_nothing_in_training(mode):
    made, x = layer(4, 3, dropout=0.0, dropout_mode=mode), inputs(5, 4)
    assert torch.equal(made.train()(x), made.eval()(x))


@MODES
def test_evaluation_ignores_dropout(mode):
    made, plain = layer(6, 3, dropout=0.9, dropout_mode=mode), layer(6, 3)
    x = inputs(5, 6)
    assert torch.equal(made.eval()(x), plain(x))
    assert not torch.equal(seeded(made.train(), x), plain(x))


@MODES
def test_dropout_is_reproducible_from_the_seed(mode):
    made, x = layer(20, 10, dropout=0.5, dropout_mode=mode), inputs(5, 20)
    assert torch.equal(seeded(made, x, 1), seeded(made, x, 1))
    assert not torch.equal(seeded(made, x, 1), seeded(made, x, 2))


@MODES
def test_one_mask_serves_the_whole_batch(mode):
    made = layer(20, 10, dropout=0.5, dropout_mode=mode)
    out = made(inputs(1, 20).expand(5, 20))
    torch.testing.assert_close(out, out[:1].expand(5, 10))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_components_are_dropped_independently_with_probability_p(p):
    made = UGMMLayer(100, 200, dropout=p, dropout_mode="literal")
    x = inputs(100).requires_grad_()
    counts = 0
    for seed in range(10):
        made.zero_grad()
        seeded(made, x, seed).sum().backward()
        # A kept component has a positive share of its output and so a gradient in its mean.
        counts = counts + (made.mean.grad != 0).double()
    draws = 10 * made.mean.numel()
    error = math.sqrt(p * (1 - p) / draws)
    assert abs(counts.sum().item() / draws - (1 - p)) < 5 * error
    # Over 10 passes the count of a component is binomial: its variance shows that draws are independent.
    assert counts.var().item() == pytest.approx(10 * p * (1 - p), rel=0.05)
    assert counts.mean(0).var().item() == pytest.approx(10 * p * (1 - p) / 200, rel=0.6)
    assert counts.mean(1).var().item() == pytest.approx(10 * p * (1 - p) / 100, rel=0.6)


@pytest.mark.parametrize("p", [0.3, 0.9, 1.0])
def test_renormalize_is_literal_minus_the_log_of_the_kept_weight(p):
    made, x = twins(5, 40, p), inputs(7, 5)
    kept = kept_weight(made["literal"])
    assert kept.min() < 0.9
    torch.testing.assert_close(seeded(made["renormalize"], x), seeded(made["literal"], x) - kept.log())
    torch.testing.assert_close(kept_weight(made["renormalize"]), torch.ones(40))


def test_literal_shifts_the_outputs_by_about_the_log_of_1_minus_p():
    p, x = 0.5, inputs(50, 784)
    shift = {}
    for mode, made in twins(784, 200, p).items():
        shift[mode] = (seeded(made, x) - made.eval()(x)).mean().item()
    assert shift["literal"] == pytest.approx(math.log(1 - p), abs=0.02)
    assert shift["renormalize"] == pytest.approx(0.0, abs=0.02)
    assert shift["inverted"] == pytest.approx(0.0, abs=0.02)


def force_masks(monkeypatch, keep):
    """Make the layer's random draw one that keeps exactly ``keep``: the highest keeps, the lowest drops."""
    draws = torch.where(keep, 32767, -32768).to(torch.int16)
    monkeypatch.setattr(masks, "_draws", lambda like: draws)


def every_mask(k):
    """All masks of k components as rows, (2^k, k)."""
    return torch.tensor(list(itertools.product([False, True], repeat=k)))


def repeated(logits, p, mode):
    """A float64 layer of 2^K equal neurons, one for each mask."""
    k = len(logits)
    made = UGMMLayer(k, 2**k, dropout=p, dropout_mode=mode, dtype=torch.float64)
    with torch.no_grad():
        made.mix_logits.copy_(torch.tensor(logits, dtype=torch.float64).expand(2**k, k))
    return made


LOGITS = [[0.0], [0.3, -0.2], [0.0, 0.0, 0.0], [1.0, -2.0, 0.5, 3.0], [-math.inf, 0.5, -1.0, 2.0]]


@pytest.mark.parametrize("logits", LOGITS, ids=lambda v: f"K={len(v)}")
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
def test_inverted_keeps_a_weight_of_one_in_expectation_over_all_masks(logits, p, monkeypatch):
    keep = every_mask(len(logits))
    kept = keep.sum(1).double()
    chance = (1 - p) ** kept * p ** (len(logits) - kept)
    assert chance.sum().item() == pytest.approx(1.0)
    force_masks(monkeypatch, keep)
    weight = kept_weight(repeated(logits, p, "inverted"))
    assert (chance * weight).sum().item() == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("logits", LOGITS, ids=lambda v: f"K={len(v)}")
def test_literal_keeps_the_weights_of_the_mask_or_else_the_heaviest(logits, monkeypatch):
    keep = every_mask(len(logits))
    force_masks(monkeypatch, keep)
    made = repeated(logits, 0.5, "literal")
    weight = made.mix_weight[0].detach()
    expected = (keep * weight).sum(1)
    expected = torch.where(expected > 0, expected, weight.max())
    torch.testing.assert_close(kept_weight(made).detach(), expected)


@MODES
def test_when_all_would_be_dropped_the_heaviest_component_stays(mode):
    made, x = layer(5, 8, dropout=1.0, dropout_mode=mode), inputs(6, 5)
    heaviest = made.mix_weight.argmax(1)
    rows = torch.arange(8)
    alone = torch.distributions.Normal(made.mean[rows, heaviest], made.std[rows, heaviest])
    expected = alone.log_prob(x[:, heaviest])
    if mode == "literal":
        expected = expected + made.mix_weight.max(1).values.log()
    torch.testing.assert_close(made(x), expected)


@MODES
def test_only_the_kept_components_receive_gradients(mode, monkeypatch):
    keep = torch.tensor([[True, False, True, False], [False, True, True, True], [False] * 4])
    force_masks(monkeypatch, keep)
    made = layer(4, 3, dropout=0.5, dropout_mode=mode)
    made(inputs(5, 4)).sum().backward()
    expected = keep.clone()
    expected[2, made.mix_logits[2].argmax()] = True
    assert torch.equal(made.mean.grad != 0, expected)
    assert torch.equal(made.log_std.grad != 0, expected)


@MODES
def test_a_component_of_weight_zero_is_never_the_one_that_is_kept(mode):
    # Masked together with the only live component it would leave a neuron without any.
    made = layer(4, 50, dropout=0.8, dropout_mode=mode)
    with torch.no_grad():
        made.mix_logits[:, 1:] = -math.inf
    out = made(inputs(5, 4))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in made.parameters())
    assert (made.mean.grad[:, 1:] == 0).all()


@pytest.mark.parametrize("mode", DROPOUT_MODES)
def test_gradients_under_dropout_agree_with_finite_differences(mode):
    made = layer(4, 3, dropout=0.5, dropout_mode=mode, dtype=torch.float64)
    x = inputs(2, 4, dtype=torch.float64)
    values = tuple(p.detach().clone().requires_grad_() for p in made.parameters())

    def forward(*values):
        torch.manual_seed(7)
        return torch.func.functional_call(made, dict(zip(PARAMETERS, values, strict=True)), (x,))

    if mode != "inverted":
        assert torch.autograd.gradcheck(forward, values)
        return
    # The correction of inverted is a constant by design: check the rest of the formula only.
    shift = forward(*values).detach() - seeded(
        layer(4, 3, dropout=0.5, dropout_mode="literal", dtype=torch.float64), x
    )
    torch.testing.assert_close(shift, shift[:1].expand(2, 3))
    literal = layer(4, 3, dropout=0.5, dropout_mode="literal", dtype=torch.float64)
    seeded(literal, x).sum().backward()
    got = torch.autograd.grad(forward(*values).sum(), values)
    torch.testing.assert_close(got, tuple(p.grad for p in literal.parameters()))


# --- A mask for every example


def per_sample(k, j, p=0.5, **options):
    """A layer that draws a mask for every example, in training mode."""
    return layer(k, j, kind=PerExampleDropoutLayer, dropout=p, **options)


@MODES
def test_examples_of_a_batch_get_masks_of_their_own(mode):
    x = inputs(1, 20).expand(6, 20)
    out = per_sample(20, 10, dropout_mode=mode)(x)
    assert len(out.unique(dim=0)) == 6
    # Under one mask for the batch they would be the same.
    assert len(layer(20, 10, dropout=0.5, dropout_mode=mode)(x).unique(dim=0)) == 1


@MODES
@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (2, 1, 2, 4), (1, 4), (4,)])
def test_a_batch_is_what_its_examples_give_one_after_the_other(shape, mode, monkeypatch):
    """Each alone is a batch, under the mask that it has in the other."""
    made, single = per_sample(4, 3, dropout_mode=mode), layer(4, 3, dropout=0.5, dropout_mode=mode)
    x = inputs(*shape)
    out = seeded(made, x)
    if x.dim() > 1:
        torch.manual_seed(7)
        drawn = iter(masks.written_out(made._transform(x[..., 0].numel()).masks, made.mix_logits))
        monkeypatch.setattr(dense, "dropout_penalty", lambda *given: next(drawn))
    torch.manual_seed(7)
    expected = torch.stack([single(row) for row in x.reshape(-1, 4)])
    assert out.shape == (*shape[:-1], 3)
    torch.testing.assert_close(out, expected.reshape(out.shape))


@MODES
def test_evaluation_ignores_masks_of_every_example(mode):
    made, x = per_sample(6, 3, 0.9, dropout_mode=mode), inputs(2, 5, 6)
    assert torch.equal(made.eval()(x), layer(6, 3)(x))
    assert not torch.equal(seeded(made.train(), x), layer(6, 3)(x))


@MODES
def test_dropout_of_zero_draws_no_masks_for_examples(mode):
    made, x = per_sample(6, 3, 0.0, dropout_mode=mode), inputs(5, 6)
    before = torch.get_rng_state()
    assert torch.equal(made.train()(x), made.eval()(x))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [UGMMLayer, PerExampleDropoutLayer])
@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4)])
def test_an_empty_batch_passes_under_either_mask(shape, kind):
    made = layer(4, 3, kind=kind, dropout=0.5)
    x = torch.empty(shape, requires_grad=True)
    out = made(x)
    assert out.shape == (*shape[:-1], 3)
    out.sum().backward()
    assert x.grad.shape == shape
    assert all((p.grad == 0).all() for p in made.parameters())


@MODES
@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("k", [1, 2, 784])
def test_masks_of_every_example_never_give_nan_or_infinity(k, p, mode):
    made = per_sample(k, 6, p, dropout_mode=mode)
    x = inputs(4, k).requires_grad_()
    out = seeded(made, x)
    out.square().sum().backward()
    assert all(t.isfinite().all() for t in (out, x.grad, *(q.grad for q in made.parameters())))


@pytest.mark.parametrize("p", [0.3, 0.9])
@pytest.mark.parametrize("mode", DROPOUT_MODES)
def test_masks_of_every_example_keep_the_weight_they_are_expected_to_keep(mode, p):
    made = flatten_densities(per_sample(4, 50, p, dropout_mode=mode, dtype=torch.float64))
    with torch.no_grad():
        made.mix_logits.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]).expand(50, 4))
        out = seeded(made, torch.zeros(400, 4, dtype=torch.float64))
    kept = (out + LOG_SQRT_2PI).exp()  # the sum of the kept weights, for every example and neuron
    # 1 - p of the weight stays, and the heaviest component where all would go.
    expected = (1 - p) + made.mix_weight.max().item() * p**4
    expected = {"renormalize": 1.0, "literal": expected, "inverted": 1.0}[mode]
    error = kept.std().item() / math.sqrt(kept.numel())
    assert abs(kept.mean().item() - expected) < 5 * error + 1e-9
    assert (error < 1e-9) == (mode == "renormalize")
    # The masks of two examples have nothing to do with each other.
    if mode != "renormalize":
        neighbours = torch.corrcoef(torch.stack([kept[:-1].flatten(), kept[1:].flatten()]))[0, 1]
        assert abs(neighbours) < 5 / math.sqrt(kept.numel())


@MODES
def test_an_example_teaches_only_the_components_that_its_own_mask_keeps(mode, monkeypatch):
    keep = [torch.tensor([[True, False, True, False]]), torch.tensor([[False, True, False, False]])]
    of_examples = torch.where(torch.cat(keep), 2**31 - 1, -(2**31)).to(torch.int32)
    words = torch.cat([of_examples, torch.ones(1, 4, dtype=torch.int32)])
    monkeypatch.setattr(masks, "_words", lambda *shape: words)
    made, x = per_sample(4, 1, dropout_mode=mode), inputs(2, 4).requires_grad_()
    out = made(x)
    (through_x,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
    assert torch.equal(through_x != 0, torch.cat(keep))
    for example in (0, 1):
        (gradient,) = torch.autograd.grad(out[example].sum(), made.mean, retain_graph=True)
        assert torch.equal(gradient != 0, keep[example])


# --- The rest of PyTorch


def with_gradients(model, x):
    """Output and the gradients of all parameters and of x."""
    x = x.detach().clone().requires_grad_()
    out = model(x)
    return out.detach(), torch.autograd.grad(out.square().sum(), (x, *model.parameters()))


def model_with_layer(entrance=UGMMLayer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), entrance(4, 3, dropout=0.5), nn.LayerNorm(3), UGMMLayer(3, 2))


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.usefixtures("fresh_compiler")
def test_torch_compile_traces_the_layer_without_a_graph_break(training, backend):
    # aot_eager traces forward and backward but generates no code: the slow test below does.
    model, x = model_with_layer().train(training), inputs(6, 5)
    for module in model:
        module.backend = backend
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.manual_seed(3)
    expected = with_gradients(model, x)
    torch.manual_seed(3)
    torch.testing.assert_close(with_gradients(compiled, x), expected)


@pytest.mark.slow
@pytest.mark.skipif(not COMPILERS, reason="torch.compile needs a C++ compiler: install one, or set CXX")
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "entrance", [UGMMLayer, partial(SparseUGMMLayer, components=2)], ids=["dense", "sparse"]
)
def test_torch_compile_generates_code_for_the_layer(entrance, tmp_path, monkeypatch):
    # Kept code is taken for the same even where it was generated for other vector units.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # On test servers, which set this, Inductor refuses more.
    monkeypatch.setenv("CI", "true")
    model, x = model_with_layer(entrance), inputs(6, 5)
    # Generated code draws its own random numbers: the option makes it draw the masks of eager mode.
    compiled = torch.compile(model, fullgraph=True, options={"fallback_random": True})
    torch.manual_seed(3)
    expected = with_gradients(model, x)
    torch.manual_seed(3)
    torch.testing.assert_close(with_gradients(compiled, x), expected, rtol=1e-4, atol=1e-4)


BEFORE = {
    "linear": (lambda: nn.Linear(6, 4), (5, 6)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten()), (5, 1, 4, 4)),
}


@pytest.mark.parametrize("before", BEFORE)
def test_under_autocast_the_layer_answers_in_float32_close_to_full_precision(before):
    make, shape = BEFORE[before]
    torch.manual_seed(0)
    model = nn.Sequential(make(), UGMMLayer(4, 3, dropout=0.5))
    x = inputs(*shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[0](x).dtype == torch.bfloat16
        assert model.train()(x).isfinite().all()
        out = model.eval()(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, model(x), rtol=0.05, atol=0.05)
    out.sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", DROPOUT_MODES)
def test_dropout_stays_finite_in_a_half_precision_layer_under_autocast(mode, dtype):
    torch.manual_seed(0)
    made = UGMMLayer(64, 16, dropout=0.3, dropout_mode=mode).to(dtype)
    for _ in range(20):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = made(torch.randn(8, 64))
        out.sum().backward()
        assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in made.parameters())


def test_half_precision_without_autocast_is_refused():
    with pytest.raises(TypeError, match=r"expected float32 or float64, got x: torch.bfloat16.*autocast"):
        UGMMLayer(4, 3)(torch.zeros(2, 4, dtype=torch.bfloat16))


def test_functional_call_uses_the_given_parameters():
    made, other, x = layer(4, 3, seed=0), layer(4, 3, seed=1), inputs(5, 4)
    assert torch.equal(torch.func.functional_call(made, dict(other.named_parameters()), (x,)), other(x))


def test_an_ensemble_by_vmap_equals_its_members():
    members, x = [layer(4, 3, seed=seed, min_std=0.9) for seed in range(3)], inputs(5, 4)
    parameters, buffers = torch.func.stack_module_state(members)
    bare = copy.deepcopy(members[0]).to("meta")

    def call(parameters, buffers):
        return torch.func.functional_call(bare, (parameters, buffers), (x,))

    out = torch.func.vmap(call)(parameters, buffers)
    torch.testing.assert_close(out, torch.stack([member(x) for member in members]))


def test_per_sample_gradients_pass_the_floor_as_in_a_loop():
    made, x = layer(4, 3, min_std=1.0), inputs(5, 4)
    parameters = {name: p.detach() for name, p in made.named_parameters()}

    def loss(parameters, sample):
        return -torch.func.functional_call(made, parameters, (sample,)).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    assert (per_sample["log_std"] == 0).any()
    for b in range(5):
        made.zero_grad()
        (-made(x[b])).sum().backward()
        for name, p in made.named_parameters():
            torch.testing.assert_close(per_sample[name][b], p.grad)
