"""The ablated layers: each against its formula written out, and what it lacks stays away."""

import copy
import math

import pytest
import torch
from torch.distributions import Normal

from ugmm_tutorial import UGMMLayer, UGMMNet
from ugmm_tutorial.functional import max_log_density
from ugmm_tutorial.layers import DROPOUT_MODES, INITS, ablations, masks
from ugmm_tutorial.layers.ablations import LAYERS

NAMES = pytest.mark.parametrize("name", LAYERS)
INIT = pytest.mark.parametrize("init", INITS)
# What an optimizer may change, and its shape for three neurons over four inputs.
LEARNT = {
    "per-example dropout": {"mean": (3, 4), "log_std": (3, 4), "mix_logits": (3, 4)},
    "ugmm": {"mean": (3, 4), "log_std": (3, 4), "mix_logits": (3, 4)},
    "hard": {"mean": (3, 4), "log_std": (3, 4), "mix_logits": (3, 4)},
    "uniform weights": {"mean": (3, 4), "log_std": (3, 4)},
    "tied std": {"mean": (3, 4), "log_std": (3, 1), "mix_logits": (3, 4)},
    "frozen std": {"mean": (3, 4), "mix_logits": (3, 4)},
}
FROZEN = {"uniform weights": "mix_logits", "frozen std": "log_std"}
FROZEN_LAYERS = pytest.mark.parametrize(("name", "frozen"), FROZEN.items())


def layer(name, k=4, j=3, seed=0, *, spread=True, **options):
    """A layer whose learnt parameters are all drawn at random, so that none equals another."""
    torch.manual_seed(seed)
    made = LAYERS[name](k, j, **options)
    if spread:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def inputs(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def state(made):
    """Parameters and buffers, detached copies."""
    return {name: value.clone() for name, value in made.state_dict().items()}


def written_out(name, x, mean, log_std, mix_logits, *, min_std=1e-3, kept=None):
    """The formula of the layer of that name; ``kept`` (J, K) says which components dropout leaves."""
    std = log_std.exp().clamp(min=min_std)
    if name == "tied std":
        std = torch.cat([std] * mean.shape[1], dim=1)
    if name == "uniform weights":
        weight = torch.full_like(mean, 1.0 / mean.shape[1])
    else:
        weight = mix_logits.exp() / mix_logits.exp().sum(1, keepdim=True)
    if kept is not None:
        weight = weight * kept / (weight * kept).sum(1, keepdim=True)
    terms = weight.log() + Normal(mean, std).log_prob(x[..., None, :])
    largest = terms.max(dim=-1).values
    if name == "hard":
        return largest
    shift = largest.detach()
    return shift + (terms - shift[..., None]).exp().sum(-1).log()


def leaves(made):
    """The layer's numbers as fresh leaves of a graph: those that are learnt ask for gradients."""
    learnt = dict(made.named_parameters())
    return {name: value.requires_grad_(name in learnt) for name, value in state(made).items()}


def gradients(out, tensors):
    """Gradients of a sum in which every output counts differently."""
    factors = torch.linspace(0.5, 2.0, out.numel(), dtype=out.dtype).view(out.shape)
    return torch.autograd.grad((out * factors).sum(), tensors)


# --- Formulas


@NAMES
@INIT
@pytest.mark.parametrize("shape", [(5, 4), (4,), (2, 3, 4)])
def test_output_and_gradients_are_those_of_the_formula_written_out(shape, init, name):
    made = layer(name, init=init, dtype=torch.float64)
    x, same_x = inputs(*shape).requires_grad_(), inputs(*shape).requires_grad_()
    values = leaves(made)
    out, expected = made(x), written_out(name, same_x, **values)
    assert out.shape == (*shape[:-1], 3)
    torch.testing.assert_close(out, expected)
    learnt = [values[n] for n, _ in made.named_parameters()]
    got = gradients(out, (x, *made.parameters()))
    torch.testing.assert_close(got, gradients(expected, (same_x, *learnt)))
    assert all(g.abs().max() > 0 for g in got)


@NAMES
def test_fused_sizes_in_float32_agree_with_the_formula_in_float64(name):
    # Large enough for the fused kernel, and sizes that are no multiples of anything.
    made = layer(name, 37, 19)
    x = inputs(23, 37, dtype=torch.float32).requires_grad_()
    values = leaves(copy.deepcopy(made).double())
    exact_x = x.detach().double().requires_grad_()
    out, expected = made(x), written_out(name, exact_x, **values)
    torch.testing.assert_close(out, expected.float(), rtol=1e-5, atol=1e-5)
    learnt = [values[n] for n, _ in made.named_parameters()]
    got = gradients(out, (x, *made.parameters()))
    exact = gradients(expected, (exact_x, *learnt))
    torch.testing.assert_close(got, tuple(g.float() for g in exact), rtol=1e-4, atol=1e-4)


@NAMES
def test_an_empty_batch_has_outputs_of_its_shape_and_gradients_of_zero(name):
    made = layer(name, dropout=0.5)
    out = made(torch.empty(0, 4))
    assert out.shape == (0, 3)
    out.sum().backward()
    assert all((p.grad == 0).all() for p in made.parameters())


@NAMES
def test_nan_in_an_example_makes_its_outputs_nan_and_no_others(name):
    made, x = layer(name), inputs(3, 4, dtype=torch.float32)
    expected = made(x)
    x[1, 2] = math.nan
    out = made(x)
    assert out[1].isnan().all()
    assert torch.equal(out[[0, 2]], expected[[0, 2]])


@NAMES
def test_one_input_leaves_every_layer_a_gaussian(name):
    made = layer(name, 1, 3, dtype=torch.float64)
    x = inputs(5, 1)
    torch.testing.assert_close(made(x), Normal(made.mean[:, 0], made.std[:, 0]).log_prob(x))


@NAMES
def test_weights_and_deviations_are_matrices_that_the_responsibilities_follow(name):
    made = layer(name, dtype=torch.float64)
    x = inputs(2, 5, 4)
    assert made.std.shape == made.mix_weight.shape == made.log_weight.shape == (3, 4)
    terms = made.mix_weight * Normal(made.mean, made.std).log_prob(x[..., None, :]).exp()
    shares = terms / terms.sum(-1, keepdim=True)
    if name == "hard":  # one component answers alone
        shares = (terms == terms.amax(-1, keepdim=True)).double()
    torch.testing.assert_close(made.responsibilities(x), shares)


# --- What each one lacks


@NAMES
@INIT
def test_what_is_learnt_has_these_names_and_shapes(init, name):
    made = LAYERS[name](4, 3, init=init)
    assert {n: tuple(p.shape) for n, p in made.named_parameters()} == LEARNT[name]
    assert all(p.requires_grad for p in made.parameters())
    assert [n for n, _ in made.named_buffers()] == ([FROZEN[name]] if name in FROZEN else [])
    assert isinstance(made, UGMMLayer)


def test_every_layer_of_the_module_has_a_name():
    classes = {getattr(ablations, n) for n in ablations.__all__ if n.endswith("Layer")}
    assert set(LAYERS.values()) == classes | {UGMMLayer}
    assert len(LAYERS) == len(classes) + 1


def test_repr_tells_the_layers_apart():
    """Checkpoints know a network by its repr."""
    assert len({repr(made(4, 3)) for made in LAYERS.values()}) == len(LAYERS)


def test_hard_layer_is_the_term_of_one_component_which_alone_gets_gradients():
    made = layer("hard", 6, 5, dtype=torch.float64)
    x = inputs(6).requires_grad_()
    terms = made.log_weight + Normal(made.mean, made.std).log_prob(x)
    winner = terms.argmax(1)
    rows = torch.arange(5)
    assert len(winner.unique()) > 1
    out = made(x)
    torch.testing.assert_close(out, terms[rows, winner])
    # One neuron at a time: through x, too, nothing but the winner's input is felt.
    for j in rows:
        made.zero_grad()
        (through_x,) = torch.autograd.grad(out[j], x, retain_graph=True)
        out[j].backward(retain_graph=True)
        alone = torch.zeros(5, 6, dtype=torch.bool)
        alone[j, winner[j]] = True
        assert torch.equal(made.mean.grad != 0, alone)
        assert torch.equal(made.log_std.grad != 0, alone)
        assert torch.equal(through_x != 0, alone[j])


@INIT
def test_hard_layer_is_below_the_mixture_by_at_most_log_k(init):
    k = 50
    hard = layer("hard", k, 20, init=init, dtype=torch.float64)
    mixture = layer("ugmm", k, 20, init=init, dtype=torch.float64)
    mixture.load_state_dict(hard.state_dict())
    x = 2.0 * inputs(100, k)
    gap = mixture(x) - hard(x)
    assert gap.min() > 0
    assert gap.max() < math.log(k)


def test_hard_layer_is_log_k_below_where_all_components_answer_alike():
    hard, mixture = (LAYERS[name](50, 2, dtype=torch.float64) for name in ("hard", "ugmm"))
    for made in (hard, mixture):
        torch.nn.init.zeros_(made.mean)
    zero = torch.zeros(50, dtype=torch.float64)
    torch.testing.assert_close(mixture(zero) - hard(zero), torch.full((2,), math.log(50.0)).double())


@pytest.mark.parametrize("j", [1, 7, 8, 9, 16, 20])
def test_the_largest_term_is_found_for_any_number_of_neurons(j):
    """They are looked at a few at a time."""
    mean, log_std, x = inputs(j, 5, seed=2), inputs(j, 5, seed=3), inputs(6, 5)
    log_weight = inputs(j, 5, seed=4).log_softmax(1)
    terms = log_weight + Normal(mean, log_std.exp()).log_prob(x[:, None, :])
    torch.testing.assert_close(max_log_density(x, mean, log_std, log_weight), terms.amax(-1))


def test_hard_gradients_agree_with_finite_differences():
    operands = [t.requires_grad_() for t in (inputs(3, 4), *(inputs(2, 4, seed=s) for s in (2, 3, 4)))]
    assert torch.autograd.gradcheck(max_log_density, operands)


@INIT
def test_uniform_weights_are_one_over_k_whatever_the_initialisation(init):
    made = LAYERS["uniform weights"](4, 3, init=init)
    torch.testing.assert_close(made.mix_weight, torch.full((3, 4), 0.25))


def test_tied_deviations_are_one_a_neuron_and_their_gradient_the_sum_over_components():
    tied, free = layer("tied std", dtype=torch.float64), layer("ugmm", dtype=torch.float64)
    values = state(tied)
    free.load_state_dict(values | {"log_std": values["log_std"].repeat(1, 4)})
    x = inputs(5, 4)
    got, each = gradients(tied(x), tuple(tied.parameters())), gradients(free(x), tuple(free.parameters()))
    got, each = (dict(zip(("mean", "log_std", "mix_logits"), g, strict=True)) for g in (got, each))
    assert tied.log_std.shape == got["log_std"].shape == (3, 1)
    torch.testing.assert_close(got["log_std"], each["log_std"].sum(1, keepdim=True))
    torch.testing.assert_close(got["mean"], each["mean"])
    torch.testing.assert_close(got["mix_logits"], each["mix_logits"])
    assert torch.equal(tied.std, tied.std[:, :1].expand(3, 4))


# --- What is frozen stays


@FROZEN_LAYERS
def test_what_is_frozen_is_moved_and_saved_with_the_layer(name, frozen, tmp_path):
    made, other = layer(name, seed=0, init="paper"), layer(name, seed=1, init="paper")
    with torch.no_grad():
        getattr(made, frozen).copy_(inputs(3, 4, seed=5))  # as if another layer had been drawn
    assert frozen in made.state_dict()
    assert getattr(copy.deepcopy(made).double(), frozen).dtype == torch.float64
    assert made.double()(inputs(5, 4)).dtype == torch.float64
    torch.save(made.state_dict(), tmp_path / "layer.pt")
    other.double().load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert torch.equal(getattr(other, frozen), getattr(made, frozen))
    assert torch.equal(other(inputs(5, 4)), made(inputs(5, 4)))


@NAMES
@INIT
@pytest.mark.parametrize("min_std", [0.0, 1e-3])
def test_training_changes_what_is_learnt_and_nothing_else(min_std, init, name):
    made = layer(name, init=init, min_std=min_std, dropout=0.2)
    before, x = state(made), inputs(50, 4, dtype=torch.float32)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        (-made(x).mean()).backward()
        optimizer.step()
    changed = {n for n, value in state(made).items() if not torch.equal(value, before[n])}
    assert changed == set(LEARNT[name])


@NAMES
@INIT
def test_reset_draws_anew_into_the_same_tensors_and_reproducibly(init, name):
    made = layer(name, init=init)
    tensors = [*made.parameters(), *made.buffers()]
    names = list(made.state_dict())
    torch.manual_seed(5)
    made.reset_parameters()
    first = state(made)
    made.reset_parameters()
    second = state(made)
    torch.manual_seed(5)
    made.reset_parameters()
    again = state(made)
    assert all(torch.equal(first[n], again[n]) for n in names)
    assert not torch.equal(first["mean"], second["mean"])
    for n in ("log_std", "mix_logits"):
        always_the_same = init == "unit" or (name, n) == ("uniform weights", "mix_logits")
        assert torch.equal(first[n], second[n]) == always_the_same
    after = [*made.parameters(), *made.buffers()]
    assert all(a is b for a, b in zip(after, tensors, strict=True))
    assert {n: tuple(p.shape) for n, p in made.named_parameters()} == LEARNT[name]
    assert list(made.state_dict()) == names


@NAMES
@INIT
def test_reset_draws_from_the_same_seed_what_the_constructor_drew(init, name):
    torch.manual_seed(5)
    built, next_draw = state(LAYERS[name](4, 3, init=init)), torch.rand(())
    made = layer(name, init=init)
    torch.manual_seed(5)
    made.reset_parameters()
    assert torch.equal(torch.rand(()), next_draw)
    assert all(torch.equal(value, built[n]) for n, value in state(made).items())


@INIT
def test_tied_deviations_are_the_first_of_those_of_the_layer_itself(init):
    torch.manual_seed(5)
    free = UGMMLayer(4, 3, init=init)
    torch.manual_seed(5)
    tied = LAYERS["tied std"](4, 3, init=init)
    assert torch.equal(tied.log_std, free.log_std[:, :1])
    assert torch.equal(tied.mean, free.mean)
    assert torch.equal(tied.mix_logits, free.mix_logits)


@NAMES
@INIT
def test_layer_is_built_on_the_meta_device_and_materialised_later(init, name):
    made = LAYERS[name](4, 3, device="meta", init=init).to_empty(device="cpu")
    made.reset_parameters()
    assert {n: tuple(p.shape) for n, p in made.named_parameters()} == LEARNT[name]
    expected = torch.ones(3, 4) if init == "unit" else made.std.clamp(0.0, 1.0)
    assert torch.equal(made.std, expected)
    assert made(inputs(5, 4, dtype=torch.float32)).isfinite().all()


def test_frozen_deviations_stay_as_they_are_drawn():
    torch.manual_seed(3)
    made = LAYERS["frozen std"](30, 20, init="paper")
    torch.manual_seed(3)
    assert torch.equal(made.std, UGMMLayer(30, 20, init="paper").std)
    assert made.std.std() > 0.2
    assert torch.equal(LAYERS["frozen std"](4, 3).std, torch.ones(3, 4))


# --- Dropout, the floor and the other options, in each of them


@NAMES
def test_dropout_leaves_the_formula_of_the_kept_components(name, monkeypatch):
    keep = torch.tensor([[True, False, True, False], [False, True, True, True], [False] * 4])
    draws = torch.where(keep, 32767, -32768).to(torch.int16)
    monkeypatch.setattr(masks, "_draws", lambda like: draws)
    of_neurons = torch.where(keep, 2**31 - 1, -(2**31) + 1)
    words = torch.cat([torch.ones(5, 4, dtype=torch.int64), of_neurons]).to(torch.int32)
    monkeypatch.setattr(masks, "_words", lambda *shape: words)  # of every example the same
    made = layer(name, dropout=0.5, dtype=torch.float64)
    keep[2, made.mix_weight[2].argmax()] = True  # the heaviest stays where none would
    x = inputs(5, 4)
    expected = written_out(name, x, **state(made), kept=keep)
    torch.testing.assert_close(made(x), expected)
    made(x).sum().backward()
    assert (made.mean.grad[~keep] == 0).all()
    assert (made.mean.grad[keep] != 0).sum() >= 3
    torch.testing.assert_close(made.eval()(x), written_out(name, x, **state(made)))


@NAMES
@pytest.mark.parametrize("mode", DROPOUT_MODES)
@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("k", [1, 3])
def test_dropout_stays_finite_in_every_layer_and_mode(k, p, mode, name):
    made = layer(name, k, 6, dropout=p, dropout_mode=mode)
    for seed in range(3):
        made.zero_grad()
        torch.manual_seed(seed)
        out = made(inputs(4, k, dtype=torch.float32))
        out.square().sum().backward()
        assert out.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


@NAMES
def test_deviations_do_not_fall_below_the_floor(name):
    made = layer(name, min_std=0.5, dtype=torch.float64)
    with torch.no_grad():
        made.log_std.copy_(torch.linspace(-3, 1, made.log_std.numel()).view_as(made.log_std))
    x = inputs(5, 4)
    assert made.std.min().item() == pytest.approx(0.5)
    assert made.std.max() > 1.0
    torch.testing.assert_close(made(x), written_out(name, x, **state(made), min_std=0.5))
    assert not torch.allclose(made(x), written_out(name, x, **state(made), min_std=1e-3))


@NAMES
@pytest.mark.parametrize("min_std", [0.0, 0.25])
def test_paper_init_draws_deviations_from_the_floor_to_one(min_std, name):
    torch.manual_seed(0)
    made = LAYERS[name](100, 100, init="paper", min_std=min_std)
    assert min_std == 0.0 or made.std.min().item() == pytest.approx(min_std)
    assert min_std - 1e-6 <= made.std.min() < min_std + 0.05
    assert 0.95 < made.std.max() <= 1.0


@NAMES
def test_an_option_that_no_layer_has_is_refused(name):
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        LAYERS[name](4, 3, colour="red")
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        UGMMNet((4, 3), layer=name, colour="red")


@NAMES
def test_values_out_of_range_are_refused_as_by_the_layer_itself(name):
    with pytest.raises(ValueError, match="min_std >= 0 and finite, got -1"):
        LAYERS[name](4, 3, min_std=-1.0)
    with pytest.raises(ValueError, match="unknown init 'zeros'"):
        LAYERS[name](4, 3, init="zeros")
    with pytest.raises(ValueError, match="in_features >= 1, got 0"):
        LAYERS[name](0, 3)


def test_hard_operator_checks_its_arguments_like_the_other():
    mean = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="expected x of shape"):
        max_log_density(torch.zeros(2, 5), mean, mean, mean)
    with pytest.raises(TypeError, match="expected one dtype"):
        max_log_density(torch.zeros(2, 4, dtype=torch.float64), mean, mean, mean)


@NAMES
def test_responsibilities_check_inputs_like_the_outputs(name):
    made = LAYERS[name](3, 2)
    for call in (made, made.responsibilities):
        with pytest.raises(ValueError, match=r"x of shape \(\*, K\) with K = 3, got \(5, 1\)"):
            call(torch.zeros(5, 1))
        with pytest.raises(TypeError, match="expected one dtype"):
            call(torch.zeros(5, 3, dtype=torch.float64))
        with pytest.raises(TypeError, match=r"expected x to be a torch.Tensor, got list"):
            call([1.0, 2.0, 3.0])
