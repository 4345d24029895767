"""The operator against independent oracles: float64 loops, torch.distributions, scikit-learn, quadrature."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate
from sklearn.mixture import GaussianMixture
from torch.distributions import Categorical, MixtureSameFamily, Normal

from ugmm_tutorial import UGMMLayer, functional, kernels, responsibilities, ugmm_log_density

SIZES = [(1, 1, 1), (4, 1, 3), (4, 3, 1), (3, 2, 5), (7, 13, 31)]
NAMES = ("x", "mean", "log_std", "log_weight")
# "auto" and "reference" always; a fused kernel joins as soon as it can run on this machine.
BACKENDS_HERE = ["auto", "reference"] + (["numba"] if kernels.unavailable("numba") is None else [])


def arguments(b, j, k, *, dtype=torch.float64, seed=0, requires_grad=False):
    """x (B, K) and mean, log_std, log_weight (J, K), with weights that sum to one."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, k, generator=generator, dtype=dtype)
    mean = torch.randn(j, k, generator=generator, dtype=dtype)
    log_std = 0.5 * torch.randn(j, k, generator=generator, dtype=dtype)
    log_weight = torch.log_softmax(torch.randn(j, k, generator=generator, dtype=dtype), dim=-1)
    return tuple(t.requires_grad_(requires_grad) for t in (x, mean, log_std, log_weight))


def loop_terms(x, mean, log_std, log_weight):
    """The terms under the logsumexp by Python loops over floats, as a float64 array (B, J, K)."""
    x, mean, log_std, log_weight = (
        np.asarray(t.detach(), dtype=np.float64) for t in (x, mean, log_std, log_weight)
    )
    terms = np.empty((x.shape[0], *mean.shape))
    for b, j, k in np.ndindex(terms.shape):
        std = math.exp(log_std[j, k])
        log_normal = -math.log(std * math.sqrt(2 * math.pi)) - (x[b, k] - mean[j, k]) ** 2 / (2 * std**2)
        terms[b, j, k] = log_weight[j, k] + log_normal
    return terms


def loop(x, mean, log_std, log_weight):
    """The operator by Python loops: (B, K) to (B, J) in float64."""
    terms = loop_terms(x, mean, log_std, log_weight)
    out = np.empty(terms.shape[:2])
    for b, j in np.ndindex(out.shape):
        top = terms[b, j].max()
        out[b, j] = top + math.log(math.fsum(math.exp(t - top) for t in terms[b, j]))
    return torch.from_numpy(out)


def loop_responsibilities(x, mean, log_std, log_weight):
    """exp(term - out): (B, J, K) in float64."""
    terms = torch.from_numpy(loop_terms(x, mean, log_std, log_weight))
    return torch.exp(terms - loop(x, mean, log_std, log_weight).unsqueeze(-1))


def gradients(args, upstream=None, backend="auto"):
    """Gradients of sum(upstream * out) with respect to fresh copies of the four arguments."""
    leaves = [t.detach().clone().requires_grad_() for t in args]
    out = ugmm_log_density(*leaves, backend=backend)
    return torch.autograd.grad(out, leaves, torch.ones_like(out) if upstream is None else upstream)


# --- The formula


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize("sizes", SIZES)
def test_operator_equals_a_loop_over_components(sizes, backend):
    args = arguments(*sizes)
    torch.testing.assert_close(ugmm_log_density(*args, backend=backend), loop(*args), rtol=1e-12, atol=1e-12)


@st.composite
def arbitrary_arguments(draw):
    leading = draw(st.lists(st.integers(0, 3), max_size=3))
    j, k = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    floats = st.floats(-6, 6, width=32)
    x = draw(hnp.arrays(np.float64, (*leading, k), elements=floats))
    parameters = [draw(hnp.arrays(np.float64, (j, k), elements=floats)) for _ in range(3)]
    return tuple(torch.from_numpy(a) for a in (x, *parameters))


@given(arbitrary_arguments())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_operator_equals_the_loop_for_any_shape_and_values(args):
    x, mean, log_std, log_weight = args
    out = ugmm_log_density(x, mean, log_std, log_weight)
    rows = loop(x.reshape(-1, mean.shape[1]), mean, log_std, log_weight)
    assert out.shape == (*x.shape[:-1], mean.shape[0])
    torch.testing.assert_close(out.reshape(-1, mean.shape[0]), rows, rtol=1e-11, atol=1e-11)


def test_one_value_in_all_inputs_is_an_ordinary_mixture():
    _, mean, log_std, log_weight = arguments(1, 4, 6)
    y = torch.linspace(-4, 4, 23, dtype=torch.float64)
    mixture = MixtureSameFamily(Categorical(logits=log_weight), Normal(mean, log_std.exp()))
    expected = mixture.log_prob(y.unsqueeze(-1))
    torch.testing.assert_close(
        ugmm_log_density(y.unsqueeze(-1).expand(-1, 6), mean, log_std, log_weight), expected
    )


def test_on_the_diagonal_scores_and_responsibilities_are_those_of_scikit_learn():
    _, mean, log_std, log_weight = arguments(1, 1, 5)
    y = np.linspace(-4, 4, 23)[:, None]
    oracle = GaussianMixture(5, covariance_type="diag")
    oracle.weights_ = log_weight.exp().numpy()[0]
    oracle.means_ = mean.numpy().T
    oracle.covariances_ = log_std.exp().square().numpy().T
    oracle.precisions_cholesky_ = log_std.neg().exp().numpy().T
    x = torch.from_numpy(y).expand(-1, 5)
    score = ugmm_log_density(x, mean, log_std, log_weight)
    shares = responsibilities(x, mean, log_std, log_weight)
    np.testing.assert_allclose(score[:, 0].numpy(), oracle.score_samples(y), rtol=1e-10)
    np.testing.assert_allclose(shares[:, 0].numpy(), oracle.predict_proba(y), rtol=1e-9, atol=1e-12)


def test_densities_on_the_diagonal_integrate_to_one():
    _, mean, log_std, log_weight = arguments(1, 3, 4)

    def density(y, j):
        x = torch.full((4,), y, dtype=torch.float64)
        return ugmm_log_density(x, mean, log_std, log_weight)[j].exp().item()

    for j in range(3):
        area, _ = integrate.quad(density, -40, 40, args=(j,), points=mean[j].tolist(), limit=200)
        assert area == pytest.approx(1.0, abs=1e-7)


def box_integral(half_width, k):
    """Integral of exp(out) over [-half_width, half_width]^k for one neuron, by the trapezoid rule."""
    _, mean, log_std, log_weight = arguments(1, 1, k, seed=3)
    axis = torch.linspace(-half_width, half_width, 40 * half_width + 1, dtype=torch.float64)
    out = ugmm_log_density(torch.cartesian_prod(*[axis] * k).view(-1, k), mean, log_std, log_weight)
    values = out.exp().view([len(axis)] * k)
    for _ in range(k):
        values = torch.trapezoid(values, axis, dim=-1)
    return values.item()


def test_exp_of_the_output_is_no_density_of_the_input_vector():
    # Each of the two terms is constant along the other axis: the integral is the width of the box.
    for half_width in (8, 12, 16):
        assert box_integral(half_width, 1) == pytest.approx(1.0, rel=1e-4)
        assert box_integral(half_width, 2) == pytest.approx(2.0 * half_width, rel=1e-4)


def test_a_change_of_units_shifts_the_output_by_the_log_of_the_scale():
    x, mean, log_std, log_weight = arguments(5, 3, 4)
    out = ugmm_log_density(2.54 * x + 7, 2.54 * mean + 7, log_std + math.log(2.54), log_weight)
    torch.testing.assert_close(out, ugmm_log_density(x, mean, log_std, log_weight) - math.log(2.54))


def test_the_order_of_the_inputs_does_not_matter_if_the_parameters_follow():
    args = arguments(5, 3, 6)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(ugmm_log_density(*(t[:, order] for t in args)), ugmm_log_density(*args))


def test_weights_need_not_sum_to_one():
    x, mean, log_std, log_weight = arguments(5, 3, 4)
    doubled = ugmm_log_density(x, mean, log_std, log_weight + math.log(2))
    torch.testing.assert_close(doubled, ugmm_log_density(x, mean, log_std, log_weight) + math.log(2))


def test_responsibilities_equal_the_loop_and_sum_to_one():
    args = arguments(5, 3, 4)
    shares = responsibilities(*args)
    torch.testing.assert_close(shares, loop_responsibilities(*args), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(shares.sum(-1), torch.ones(5, 3, dtype=torch.float64))


# --- Gradients


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_first_derivatives_agree_with_finite_differences(backend):
    args = arguments(3, 2, 4, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: ugmm_log_density(*a, backend=backend), args)


def test_second_derivatives_agree_with_finite_differences():
    args = arguments(3, 2, 4, requires_grad=True)
    assert torch.autograd.gradgradcheck(ugmm_log_density, args)


def test_gradient_wrt_log_weight_is_the_responsibility():
    args = arguments(1, 3, 4)
    torch.testing.assert_close(gradients(args)[3], responsibilities(*args)[0])


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize("sizes", SIZES)
def test_gradients_match_the_closed_forms(sizes, backend):
    args = arguments(*sizes)
    x, mean, log_std, _ = args
    upstream = torch.randn(
        sizes[0], sizes[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    share = upstream.unsqueeze(-1) * loop_responsibilities(*args)
    z = (x.unsqueeze(1) - mean) / log_std.exp()
    pull = share * z / log_std.exp()
    expected = (-pull.sum(1), pull.sum(0), (share * (z**2 - 1)).sum(0), share.sum(0))
    for name, got, want in zip(NAMES, gradients(args, upstream, backend), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_per_sample_gradients_by_vmap_equal_a_loop_over_samples():
    args = arguments(4, 2, 3)

    def total(x, *parameters):
        return ugmm_log_density(x, *parameters).sum()

    per_sample = torch.func.vmap(torch.func.grad(total, argnums=(1, 2, 3)), in_dims=(0, None, None, None))(
        *args
    )
    for b in range(4):
        _, *single = gradients((args[0][b : b + 1], *args[1:]))
        torch.testing.assert_close(tuple(g[b] for g in per_sample), tuple(single))


def test_vmap_over_parameters_runs_an_ensemble():
    members = [arguments(5, 3, 4, seed=seed) for seed in range(3)]
    stacked = [torch.stack(tensors) for tensors in zip(*members, strict=True)]
    expected = torch.stack([loop(*member) for member in members])
    torch.testing.assert_close(torch.func.vmap(ugmm_log_density)(*stacked), expected)


# --- Precision and extremes


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_float32_stays_within_a_few_roundings_of_float64(backend):
    args = arguments(50, 20, 100, dtype=torch.float32)
    out = ugmm_log_density(*args, backend=backend)
    exact = [t.double() for t in args]
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), ugmm_log_density(*exact), rtol=2e-6, atol=2e-6)
    for got, want in zip(gradients(args, backend=backend), gradients(exact), strict=True):
        assert got.dtype == torch.float32
        assert (got.double() - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize("log_std", [0.0, math.log(1e-3)], ids=["std 1", "std 1e-3"])
@pytest.mark.parametrize("distance", [1e4, -1e4])
def test_inputs_far_from_every_mean_stay_finite_in_float32(distance, log_std, backend):
    x, mean, _, log_weight = arguments(4, 3, 5, dtype=torch.float32)
    args = (x + distance, mean, torch.full_like(mean, log_std), log_weight)
    out = ugmm_log_density(*args, backend=backend)
    # The terms reach -5e13; the loop sees the very float32 numbers and works in float64.
    torch.testing.assert_close(out.double(), loop(*args), rtol=1e-5, atol=0)
    assert all(g.isfinite().all() for g in gradients(args, backend=backend))


def test_far_inputs_pull_the_means_towards_them():
    x, mean, log_std, log_weight = arguments(4, 3, 5, dtype=torch.float32)
    grad_x, grad_mean, grad_log_std, _ = gradients((x + 1e4, mean, log_std, log_weight))
    assert (grad_mean.sum(-1) > 0).all()
    assert (grad_log_std.sum(-1) > 0).all()
    assert (grad_x.sum(-1) < 0).all()


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_log_weight_of_minus_infinity_removes_a_component_exactly(backend):
    x, mean, log_std, log_weight = arguments(4, 3, 5)
    log_weight[:, 2] = -math.inf
    x[:, 2] = torch.tensor([0.0, 3.0, -1e6, 1e10])
    args, kept = (x, mean, log_std, log_weight), torch.tensor([0, 1, 3, 4])
    reduced = tuple(t[:, kept] for t in args)
    torch.testing.assert_close(
        ugmm_log_density(*args, backend=backend), loop(*reduced), rtol=1e-12, atol=1e-12
    )
    for got, want in zip(gradients(args, backend=backend), gradients(reduced), strict=True):
        assert torch.equal(got[:, 2], torch.zeros_like(got[:, 2]))
        torch.testing.assert_close(got[:, kept], want)


def test_different_neurons_may_lose_different_components():
    args = arguments(4, 3, 3)
    args[3].fill_(-math.inf).fill_diagonal_(0.0)
    x, mean, log_std, _ = args
    expected = Normal(mean.diagonal(), log_std.diagonal().exp()).log_prob(x)
    torch.testing.assert_close(ugmm_log_density(*args), expected)
    assert all(g.isfinite().all() for g in gradients(args))


def test_a_neuron_without_components_is_minus_infinity_and_leaves_the_others_alone():
    x, mean, log_std, log_weight = arguments(4, 3, 5)
    log_weight[1] = -math.inf
    out = ugmm_log_density(x, mean, log_std, log_weight)
    assert (out[:, 1] == -math.inf).all()
    torch.testing.assert_close(out[:, [0, 2]], loop(x, mean[[0, 2]], log_std[[0, 2]], log_weight[[0, 2]]))
    got, rest = (
        gradients(args)
        for args in ((x, mean, log_std, log_weight), (x, *(t[[0, 2]] for t in (mean, log_std, log_weight))))
    )
    torch.testing.assert_close(got[0], rest[0])
    for whole, others in zip(got[1:], rest[1:], strict=True):
        assert not whole[1].any()
        torch.testing.assert_close(whole[[0, 2]], others)


def test_a_nan_input_makes_its_own_row_nan_and_no_other():
    x, mean, log_std, log_weight = arguments(4, 3, 5)
    clean = ugmm_log_density(x, mean, log_std, log_weight)
    x[1, 2] = math.nan
    out = ugmm_log_density(x, mean, log_std, log_weight)
    assert out[1].isnan().all()
    assert torch.equal(out[[0, 2, 3]], clean[[0, 2, 3]])
    grad_x = gradients((x, mean, log_std, log_weight))[0]
    assert grad_x[1].isnan().any()
    assert grad_x[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("infinity", [math.inf, -math.inf])
@pytest.mark.happens(
    "Inputs and labels",
    when="an input is infinite",
    see="its components leave the sum",
    kept="the other components",
)
def test_an_infinite_input_switches_off_its_components_in_the_output(infinity):
    x, mean, log_std, log_weight = arguments(4, 3, 5)
    clean = ugmm_log_density(x, mean, log_std, log_weight)
    x[1, 2] = infinity
    out = ugmm_log_density(x, mean, log_std, log_weight)
    kept = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(
        out[1:2], loop(x[1:2, kept], mean[:, kept], log_std[:, kept], log_weight[:, kept])
    )
    assert torch.equal(out[[0, 2, 3]], clean[[0, 2, 3]])


def test_an_infinite_input_makes_the_gradients_of_its_own_components_nan():
    x, mean, log_std, log_weight = arguments(4, 3, 5)
    x[1, 2] = math.inf
    grad_x, grad_mean, grad_log_std, grad_log_weight = gradients((x, mean, log_std, log_weight))
    kept = torch.tensor([0, 1, 3, 4])
    assert grad_x[1, 2].isnan()
    assert grad_x[:, kept].isfinite().all()
    assert grad_x[[0, 2, 3]].isfinite().all()
    for grad in (grad_mean, grad_log_std):
        assert grad[:, 2].isnan().all()
        assert grad[:, kept].isfinite().all()
    assert grad_log_weight.isfinite().all()


# --- Shapes and layouts


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_one_component_is_a_normal_distribution(backend):
    x, mean, log_std, log_weight = arguments(6, 4, 1)
    log_weight -= 0.3
    expected = Normal(mean[:, 0], log_std[:, 0].exp()).log_prob(x) - 0.3
    torch.testing.assert_close(ugmm_log_density(x, mean, log_std, log_weight, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_one_output_keeps_its_dimension(backend):
    args = arguments(6, 1, 4)
    out = ugmm_log_density(*args, backend=backend)
    assert out.shape == (6, 1)
    torch.testing.assert_close(out, loop(*args))


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize("leading", [(0,), (0, 3), (2, 0)])
def test_an_empty_batch_gives_an_empty_output_and_zero_gradients(leading, backend):
    _, *parameters = arguments(1, 2, 4)
    x = torch.empty(*leading, 4, dtype=torch.float64)
    assert ugmm_log_density(x, *parameters, backend=backend).shape == (*leading, 2)
    grad_x, *rest = gradients((x, *parameters), backend=backend)
    assert grad_x.shape == x.shape
    assert all(torch.equal(g, torch.zeros_like(g)) for g in rest)


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_a_single_sample_needs_no_batch_dimension(backend):
    x, *parameters = arguments(1, 3, 4)
    out = ugmm_log_density(x[0], *parameters, backend=backend)
    assert out.shape == (3,)
    torch.testing.assert_close(out, loop(x, *parameters)[0])
    assert responsibilities(x[0], *parameters).shape == (3, 4)


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_leading_dimensions_are_a_batch_in_another_shape(backend):
    x, *parameters = arguments(24, 3, 4)
    out = ugmm_log_density(x.view(2, 3, 4, 4), *parameters, backend=backend)
    torch.testing.assert_close(out, loop(x, *parameters).view(2, 3, 4, 3))
    shares = responsibilities(x.view(2, 3, 4, 4), *parameters)
    torch.testing.assert_close(shares, loop_responsibilities(x, *parameters).view(2, 3, 4, 3, 4))


def strided(t):
    """The same values, every second element of every second row of a larger tensor."""
    rows, columns = t.shape
    big = t.new_full((2 * rows, 2 * columns), math.nan)
    big[::2, ::2] = t
    return big[::2, ::2]


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize("layout", [strided, lambda t: t.t().contiguous().t()], ids=["strided", "transposed"])
def test_memory_layout_changes_neither_outputs_nor_gradients(layout, backend):
    args = arguments(6, 3, 4)
    leaves = [t.clone().requires_grad_() for t in args]
    views = [layout(t) for t in leaves]
    assert not any(v.is_contiguous() for v in views)
    out = ugmm_log_density(*views, backend=backend)
    torch.testing.assert_close(out, loop(*args))
    # An upstream gradient of stride 0, as sum() sends it.
    torch.testing.assert_close(torch.autograd.grad(out.sum(), leaves), gradients(args, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_expanded_arguments_collect_the_gradients_of_their_copies(backend):
    args = arguments(1, 3, 4)
    copies = [args[0].repeat(5, 1), args[1], args[2][:, :1].repeat(1, 4), args[3]]
    x, log_std = args[0].clone().requires_grad_(), args[2][:, :1].clone().requires_grad_()
    out = ugmm_log_density(x.expand(5, 4), args[1], log_std.expand(3, 4), args[3], backend=backend)
    torch.testing.assert_close(out, loop(*copies))
    grad_x, grad_log_std = torch.autograd.grad(out.sum(), (x, log_std))
    full_x, _, full_log_std, _ = gradients(copies, backend=backend)
    torch.testing.assert_close(grad_x, full_x.sum(0, keepdim=True))
    torch.testing.assert_close(grad_log_std, full_log_std.sum(1, keepdim=True))


def test_arguments_are_left_as_they_were():
    args = arguments(3, 2, 4)
    before = [t.clone() for t in args]
    ugmm_log_density(*args)
    responsibilities(*args)
    assert all(torch.equal(t, b) for t, b in zip(args, before, strict=True))


def test_meta_tensors_give_the_shape_without_computing():
    args = [t.to("meta") for t in arguments(7, 2, 4)]
    out = ugmm_log_density(*args)
    assert out.shape == (7, 2)
    assert out.device.type == "meta"


# --- Refusals

OPERATORS = pytest.mark.parametrize("operator", [ugmm_log_density, responsibilities])


@OPERATORS
@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(2, 5), (3, 4), (3, 4), (3, 4)], r"x of shape \(\*, K\) with K = 4, got \(2, 5\)"),
        ([(), (3, 4), (3, 4), (3, 4)], r"x of shape \(\*, K\) with K = 4, got \(\)"),
        ([(2, 1), (3, 4), (3, 4), (3, 4)], r"x of shape .* got \(2, 1\)"),
        ([(2, 4), (4,), (4,), (4,)], r"mean of shape \(J, K\).* got \(4,\)"),
        ([(2, 4), (1, 3, 4), (1, 3, 4), (1, 3, 4)], r"mean of shape \(J, K\).* got \(1, 3, 4\)"),
        ([(2, 0), (3, 0), (3, 0), (3, 0)], r"K >= 1, got \(3, 0\)"),
        ([(2, 4), (3, 4), (1, 4), (3, 4)], r"log_std of the shape of mean, \(3, 4\), got \(1, 4\)"),
        ([(2, 4), (3, 4), (3, 4), (4,)], r"log_weight of the shape of mean, \(3, 4\), got \(4,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(operator, shapes, words):
    # Some of these would broadcast, silently, to something else than a layer.
    with pytest.raises(ValueError, match=words):
        operator(*(torch.zeros(shape) for shape in shapes))


@OPERATORS
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float16, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("position", range(4))
def test_dtypes_other_than_float32_and_float64_are_refused(operator, dtype, position):
    args = list(arguments(2, 3, 4, dtype=torch.float32))
    args[position] = args[position].to(dtype)
    with pytest.raises(TypeError, match=rf"expected float32 or float64, got .*{NAMES[position]}: {dtype}"):
        operator(*args)


@OPERATORS
@pytest.mark.parametrize("position", range(4))
def test_mixed_dtypes_are_refused_and_listed(operator, position):
    args = list(arguments(2, 3, 4, dtype=torch.float32))
    args[position] = args[position].double()
    with pytest.raises(TypeError, match=rf"expected one dtype .*{NAMES[position]}: torch.float64"):
        operator(*args)


@OPERATORS
@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize(
    ("value", "kind"), [([[0.0]], "list"), (np.zeros((1, 1)), "ndarray"), (None, "NoneType")]
)
def test_what_is_no_tensor_is_refused_by_name(operator, value, kind, position):
    args = list(arguments(1, 1, 1))
    args[position] = value
    with pytest.raises(TypeError, match=f"expected {NAMES[position]} to be a torch.Tensor, got {kind}"):
        operator(*args)


@OPERATORS
@pytest.mark.parametrize("position", range(4))
def test_arguments_on_different_devices_are_refused_and_listed(operator, position):
    args = list(arguments(2, 3, 4))
    args[position] = args[position].to("meta")
    with pytest.raises(ValueError, match=rf"one device, got .*{NAMES[position]}: meta"):
        operator(*args)


def test_half_precision_on_a_device_without_autocast_is_refused_as_anywhere():
    args = [t.to("meta", torch.float16) for t in arguments(2, 3, 4)]
    with pytest.raises(TypeError, match=r"expected float32 or float64.*autocast"):
        ugmm_log_density(*args)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_half_precision_is_computed_in_float32(dtype):
    x, *parameters = arguments(5, 3, 4, dtype=torch.float32)
    x = x.to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        out = ugmm_log_density(x, *parameters)
        shares = responsibilities(x, *parameters)
    assert out.dtype == shares.dtype == torch.float32
    torch.testing.assert_close(out.double(), loop(x.float(), *parameters), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out, ugmm_log_density(x.float(), *parameters))


# --- The choice of backend


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown backend 'cuda'.*auto, reference, numba, triton"):
        ugmm_log_density(*arguments(2, 3, 4), backend="cuda")


@pytest.mark.parametrize(("old", "new"), [("cpu", "numba"), ("gpu", "triton")])
def test_names_of_backends_of_version_01_are_understood_with_a_warning(old, new, monkeypatch):
    monkeypatch.setattr(kernels, "unavailable", lambda name: f"{name} is out of order")
    said = f"backend '{old}' is called '{new}' since version 0.2"
    with (
        pytest.warns(DeprecationWarning, match=said),
        pytest.raises(RuntimeError, match=f"backend '{new}' cannot run here"),
    ):
        ugmm_log_density(*arguments(2, 3, 4), backend=old)
    with pytest.warns(DeprecationWarning, match=said):
        assert UGMMLayer(3, 2, backend=old).backend == new


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_a_backend_that_cannot_run_raises_with_the_reason(backend, monkeypatch):
    monkeypatch.setattr(kernels, "unavailable", lambda name: f"{name} is out of order")
    with pytest.raises(
        RuntimeError, match=rf"backend '{backend}' cannot run here: {backend} is out of order"
    ):
        ugmm_log_density(*arguments(2, 3, 4), backend=backend)


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_a_kernel_missing_on_this_machine_says_so_and_names_the_alternatives(backend):
    reason = kernels.unavailable(backend)
    if reason is None:
        pytest.skip(f"the {backend} kernel runs here")
    with pytest.raises(RuntimeError, match=re.escape(reason) + ".*backend='auto' or 'reference'"):
        ugmm_log_density(*arguments(2, 3, 4), backend=backend)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_auto_and_reference_run_where_no_kernel_does(backend, monkeypatch):
    monkeypatch.setattr(kernels, "unavailable", lambda name: f"{name} is out of order")
    args = arguments(2, 3, 4)
    torch.testing.assert_close(ugmm_log_density(*args, backend=backend), loop(*args))


def test_the_specification_is_the_logsumexp_of_the_components():
    args = arguments(2, 3, 4)
    terms = functional.component_log_densities(*args)
    torch.testing.assert_close(terms, torch.from_numpy(loop_terms(*args)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(functional.reference_log_density(*args), loop(*args), rtol=1e-12, atol=1e-12)
