"""The fused kernels, every one that runs here, against float64 and Python loops: numbers, edges, memory.

Where there is no GPU, the tests of the GPU kernels run in a second process, under Triton's interpreter.
"""

from __future__ import annotations

import itertools
import math
import re
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from operands import arguments
from under_interpreter import how_many_pass

from ugmm_tutorial import kernels, ugmm_log_density
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI, reference_log_density

NAMES = ("x", "mean", "log_std", "log_weight", "log_background")
BACKENDS = [name for name in ("numba", "triton") if kernels.unavailable(name) is None]
INTERPRETED = kernels.interpreted()
if INTERPRETED:
    from interpreter import patch_once_per_launch

    patch_once_per_launch()
EPS = 2.0**-24  # half a unit in the last place of float32
SMALLEST_NORMAL = torch.finfo(torch.float32).smallest_normal

only_cpu = pytest.mark.skipif("numba" not in BACKENDS, reason="the CPU kernel does not run here")


# Every size is computed by both kinds of loops of the CPU kernel, whichever it would take.
LOOPS = {"numba-rows": 0, "numba-columns": 1 << 30}


@contextmanager
def by(loops):
    from ugmm_tutorial.kernels import numba_kernels

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_kernels, "_WIDE", LOOPS[loops])
        patch.setattr(numba_kernels, "_MANY", 0)
        yield


@pytest.fixture(
    scope="module", params=[*(LOOPS if "numba" in BACKENDS else ()), *(b for b in BACKENDS if b != "numba")]
)
def backend(request):
    if request.param not in LOOPS:
        yield request.param
        return
    with by(request.param):
        yield "numba"


@pytest.fixture(params=LOOPS)
def loops(request):
    with by(request.param):
        yield request.param


# --- Arguments, calls, oracles


def device(backend):
    return "cuda" if backend == "triton" and not INTERPRETED else "cpu"


def upstream_for(args, seed=1):
    shape = (*args[0].shape[:-1], len(args[1]))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def call(args, backend):
    return ugmm_log_density(*args[:4], log_background=args[4] if len(args) > 4 else None, backend=backend)


def run(args, backend, upstream=None, dtype=torch.float32):
    """The output and the gradients of all arguments, on the CPU, by name."""
    leaves = [t.detach().to(device(backend), dtype, copy=True).requires_grad_() for t in args]
    out = call(leaves, backend)
    upstream = torch.ones_like(out) if upstream is None else upstream.to(out)
    gradients = torch.autograd.grad(out, leaves, upstream)
    return {"out": out.detach().cpu()} | {n: g.cpu() for n, g in zip(NAMES, gradients, strict=False)}


def exact(args, upstream=None):
    """The same in float64, by the reference and autograd."""
    return run(args, "reference", upstream, torch.float64) if upstream is None else _exact(args, upstream)


def _exact(args, upstream):
    leaves = [t.detach().double().requires_grad_() for t in args]
    out = reference_log_density(*leaves)
    gradients = torch.autograd.grad(out, leaves, upstream.double())
    return {"out": out.detach()} | dict(zip(NAMES, gradients, strict=False))


def closed_forms(args, upstream):
    """Outputs and gradients by formulas in float64, each with the error that float32 may make in it.

    An exponent is off by its terms' roundings, a share of the sum therefore by that factor; the
    gradients are sums of shares, so the error of each is bounded by the sum of the shares' errors.
    """
    x, mean, log_std, log_weight, *rest = (t.double() for t in args)
    g = upstream.double().unsqueeze(-1)
    std, kept = log_std.exp(), log_weight > -math.inf
    z = (x.unsqueeze(1) - mean) / std
    constant = torch.where(kept, log_weight - log_std - 0.5 * math.log(2 * math.pi), -math.inf)
    terms = constant - 0.5 * z * z
    sizes = 3.0 * z * z + torch.where(kept, constant.abs() + log_weight.abs() + log_std.abs(), 0.0)
    sizes = sizes + torch.where(kept, constant.abs(), 0.0).amax(-1, keepdim=True)
    if rest:
        terms = terms - rest[0].unsqueeze(1)
        sizes = sizes + 2.0 * rest[0].abs().amax(-1)[:, None, None]
    out = torch.logsumexp(terms, -1)
    share = torch.where(out.unsqueeze(-1) > -math.inf, (terms - out.unsqueeze(-1)).exp(), 0.0)
    mean_size = (share * sizes).sum(-1, keepdim=True)
    wrong = share * torch.expm1((EPS * (sizes + mean_size + 16.0)).clamp(max=50.0))
    wrong = torch.where(share > 0.0, (wrong + 1e-13).clamp(max=1.0), 1e-13 * kept)
    pull, rounding = z / std, 8.0 * EPS
    value = {
        "out": out,
        "x": -(g * share * pull).sum(1),
        "mean": (g * share * pull).sum(0),
        "log_std": (g * share * (z * z - 1.0)).sum(0),
        "log_weight": (g * share).sum(0),
    }
    error = (wrong + rounding * share) * g.abs()
    tiny = SMALLEST_NORMAL * (1.0 + sum(x.shape))
    bound = {
        "out": EPS * (mean_size.squeeze(-1) + 2.0 * out.abs().nan_to_num(posinf=0.0) + 16.0),
        "x": (error * pull.abs()).sum(1) + tiny,
        "mean": (error * pull.abs()).sum(0) + tiny,
        "log_std": (error * (z * z + 1.0)).sum(0),
        "log_weight": error.sum(0),
    }
    if rest:
        value["log_background"], bound["log_background"] = -(g * share).sum(1), error.sum(1)
    return value, bound


def assert_exact(got, args, upstream=None):
    """Each number is as near to its float64 value as float32 arithmetic guarantees."""
    upstream = torch.ones(len(args[0]), len(args[1])) if upstream is None else upstream
    want, bound = closed_forms(args, upstream)
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].shape == value.shape, name
        near = (got[name] == value) | ((got[name].double() - value).abs() <= bound[name])
        worst = ((got[name].double() - value).abs() / bound[name])[~near]
        assert near.all(), (
            f"{name}: {len(worst)} of {near.numel()} numbers, error over bound up to {worst.max()}"
        )


def relative_errors(got, want):
    return {n: ((got[n].double() - want[n]).norm() / want[n].norm()).item() for n in want}


def assert_same_bits(got, want, *names):
    for name in names or want:
        assert torch.equal(got[name], want[name]), name


# --- The numbers

SIZES = [
    (33, 17, 61),
    (1, 1, 1),
    (4, 1, 16),
    (5, 3, 1),
    (1, 4, 19),
    (6, 1, 33),
    (30, 2, 15),
    (7, 33, 5),
    # Several tiles of a GPU kernel each way, and several programs along each axis that is summed.
    (66, 34, 34),
    (5, 70, 66),
    (131, 5, 20),
]


def by_loops(x, mean, log_std, log_weight, log_background, upstream):
    """Output and gradients by Python floats, one example, neuron and component at a time."""
    x, mean, log_std, log_weight, log_background, upstream = (
        t.tolist() for t in (x, mean, log_std, log_weight, log_background, upstream)
    )
    b, j, k = len(x), len(mean), len(mean[0])
    zeros = {"x": (b, k), "mean": (j, k), "log_std": (j, k), "log_weight": (j, k), "log_background": (b, k)}
    gradient = {name: np.zeros(shape) for name, shape in zeros.items()}
    out = np.zeros((b, j))
    for i, n in itertools.product(range(b), range(j)):
        std = [math.exp(v) for v in log_std[n]]
        z = [(x[i][c] - mean[n][c]) / std[c] for c in range(k)]
        densities = [
            math.exp(log_weight[n][c] - log_background[i][c] - 0.5 * z[c] ** 2)
            / (std[c] * math.sqrt(2 * math.pi))
            for c in range(k)
        ]
        out[i, n] = math.log(math.fsum(densities))
        for c in range(k):
            share = upstream[i][n] * densities[c] / math.fsum(densities)
            gradient["x"][i, c] -= share * z[c] / std[c]
            gradient["mean"][n, c] += share * z[c] / std[c]
            gradient["log_std"][n, c] += share * (z[c] ** 2 - 1)
            gradient["log_weight"][n, c] += share
            gradient["log_background"][i, c] -= share
    return {"out": torch.from_numpy(out)} | {n: torch.from_numpy(g) for n, g in gradient.items()}


@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 3, 18)])
def test_kernels_equal_loops_over_examples_neurons_and_components(sizes, backend):
    args = arguments(*sizes, background=True)
    upstream = upstream_for(args)
    got, want = run(args, backend, upstream), by_loops(*args, upstream)
    for name in want:
        torch.testing.assert_close(got[name].double(), want[name], rtol=3e-6, atol=1e-6, msg=name)


def test_the_closed_forms_of_these_tests_are_the_derivatives_of_the_specification():
    for background in (False, True):
        args = arguments(6, 4, 9, background=background)
        upstream = upstream_for(args)
        value, _ = closed_forms(args, upstream)
        want = _exact(args, upstream)
        for name in want:
            torch.testing.assert_close(value[name], want[name], rtol=1e-11, atol=1e-12, msg=name)


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: "{}x{}x{}".format(*s))
def test_outputs_and_gradients_equal_float64(sizes, background, backend):
    args = arguments(*sizes, background=background)
    upstream = upstream_for(args)
    assert_exact(run(args, backend, upstream), args, upstream)


def far_in_one(x):
    x[:, 7] += 1e3


def near_in_one(x):
    x[:, :-1] += 1e3


def mixed_rows(x):
    """Near, far, farther, in no order that four rows could share."""
    x[::3] += 50.0
    x[1::5] -= 200.0
    x[7] += 1e4


DISTANCES = {
    "50": lambda x: x.add_(50.0),
    "-1e4": lambda x: x.sub_(1e4),
    "one input": far_in_one,
    "all inputs but one": near_in_one,
    "some rows": mixed_rows,
}


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("move", DISTANCES.values(), ids=DISTANCES)
def test_inputs_far_from_the_means_are_exact_too(move, background, backend):
    args = arguments(22, 9, 37, background=background)
    move(args[0])
    upstream = upstream_for(args)
    assert_exact(run(args, backend, upstream), args, upstream)


def test_one_neuron_may_be_far_from_what_the_others_are_near(backend):
    args = arguments(9, 5, 18)
    args[1][1] += 300.0
    args[1][4] -= 40.0
    upstream = upstream_for(args)
    assert_exact(run(args, backend, upstream), args, upstream)


@pytest.mark.parametrize("distance", [5.0, 7.0, 8.0, 8.3, 8.5, 9.0, 11.0, 12.0])
def test_nothing_happens_where_a_sum_begins_to_vanish(distance, backend):
    """Sums just above and below 2**-50, with terms that the cutoff of exp2 takes away."""
    args = arguments(5, 3, 19)
    args[0] *= 0.1
    args[1] *= 0.1
    args[2] *= 0.1
    args[0] += distance
    assert_exact(run(args, backend), args)


def spread(log_std, decades):
    generator = torch.Generator().manual_seed(5)
    log_std.uniform_(-decades * math.log(10), decades * math.log(10), generator=generator)


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("log_std", ["mixed", math.log(1e-3), math.log(1e3)], ids=["mixed", "1e-3", "1e3"])
def test_standard_deviations_from_a_thousandth_to_a_thousand(log_std, background, backend):
    args = arguments(13, 6, 35, background=background)
    spread(args[2], 3) if log_std == "mixed" else args[2].fill_(log_std)
    upstream = upstream_for(args)
    assert_exact(run(args, backend, upstream), args, upstream)


@pytest.mark.parametrize("scale", [30.0, 1000.0])
def test_backgrounds_may_differ_by_many_orders_of_magnitude(scale, backend):
    args = arguments(9, 5, 18, background=True)
    args[4] *= scale
    args[4][2] += 1e4
    args[4][3] -= 1e4
    assert_exact(run(args, backend), args)


def test_log_weights_may_differ_by_many_orders_of_magnitude(backend):
    args = arguments(9, 5, 18)
    args[3] = args[3] * 40.0 + 300.0 * torch.arange(-2.0, 3.0)[:, None]
    assert_exact(run(args, backend), args)


CONDITIONS = {
    "33x17x61": lambda args: None,
    "far": lambda args: args[0].sub_(1e4),
    "far in one input": lambda args: far_in_one(args[0]),
    "near in one input": lambda args: near_in_one(args[0]),
    "mixed widths": lambda args: spread(args[2], 3),
    "wide": lambda args: args[2].fill_(math.log(1e3)),
}
if INTERPRETED:
    CONDITIONS = dict(itertools.islice(CONDITIONS.items(), 1))


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("change", CONDITIONS.values(), ids=CONDITIONS)
def test_errors_are_at_most_those_of_the_float32_broadcast_and_half_a_millionth(change, background, backend):
    args = arguments(33, 17, 61, background=background)
    change(args)
    upstream = upstream_for(args)
    want = _exact(args, upstream)
    kernel = relative_errors(run(args, backend, upstream), want)
    broadcast = relative_errors(run(args, "reference", upstream), want)
    assert all(kernel[name] <= broadcast[name] + 5e-7 for name in want), (kernel, broadcast)


def test_means_are_subtracted_before_they_are_scaled(backend):
    """x s - mean s, one operation less, loses all but three digits where sigma is a small part of mean."""
    args = arguments(8, 1, 48)
    args[2].fill_(math.log(1e-3))
    args[1] += 60.0
    args[0] = args[1] + 1e-3 * args[0]
    want = exact(args)

    leaves = [t.clone().requires_grad_() for t in args]
    x, mean, log_std, log_weight = leaves
    scale = torch.exp(-log_std)
    z = x * scale - mean * scale
    out = torch.logsumexp(log_weight - log_std - 0.5 * math.log(2 * math.pi) - 0.5 * z * z, -1, keepdim=True)
    gradients = torch.autograd.grad(out.sum(), leaves)
    trapped = relative_errors({"out": out.detach(), **dict(zip(NAMES, gradients, strict=False))}, want)
    assert max(trapped.values()) > 1e-4

    errors = relative_errors(run(args, backend), want)
    assert max(errors.values()) < 2e-6, errors


@only_cpu
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("nearest", [0.0, 25.0])
def test_no_gradient_is_subnormal(nearest, background):
    """CPUs are slow with numbers below 1.2e-38: what is so small is exactly zero instead."""
    k = 3000
    mean = torch.linspace(0.0, 25.0, k).expand(2, k)
    x = torch.full((5, k), -nearest)
    zeros = torch.zeros(2, k)
    args = [x, mean, zeros, zeros, *([torch.zeros(5, k)] if background else [])]
    for name, value in run(args, "numba").items():
        if name != "out":
            assert (value == 0.0).any(), name
            assert value[value != 0.0].abs().min() >= SMALLEST_NORMAL, name


def test_gradients_wrt_log_weights_are_shares_that_sum_to_one_per_example(backend):
    args = arguments(14, 5, 37)
    mixed_rows(args[0])
    sums = run(args, backend)["log_weight"].sum(-1)
    torch.testing.assert_close(sums, torch.full((5,), 14.0), rtol=1e-6, atol=0)


def test_gradients_wrt_the_background_are_minus_the_shares(backend):
    args = arguments(14, 5, 37, background=True)
    mixed_rows(args[0])
    sums = run(args, backend)["log_background"].sum(-1)
    torch.testing.assert_close(sums, torch.full((14,), -5.0), rtol=1e-6, atol=0)


def test_a_background_is_subtracted_from_what_one_example_reads(backend):
    """The same number at all inputs of an example leaves its outputs, less that number."""
    args = arguments(6, 3, 17)
    level = torch.linspace(-7.0, 7.0, 6).unsqueeze(1)
    got, plain = run([*args, level.expand(6, 17)], backend), run(args, backend)
    torch.testing.assert_close(got["out"], plain["out"] - level, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got["mean"], plain["mean"], rtol=1e-5, atol=1e-6)


# --- Any shape, any values

# To look for the smallest failure would take the interpreter many minutes.
PHASES = [Phase.generate] if INTERPRETED else [Phase.generate, Phase.shrink]


@st.composite
def arbitrary_arguments(draw):
    b, j, k = draw(st.integers(0, 9)), draw(st.integers(0, 4)), draw(st.integers(1, 37))
    numbers = st.floats(-6, 6, width=32)
    weights = st.one_of(numbers, st.just(-math.inf))
    x, mean, log_std = (
        draw(hnp.arrays(np.float32, shape, elements=numbers)) for shape in ((b, k), (j, k), (j, k))
    )
    args = [x, mean, log_std / np.float32(2), draw(hnp.arrays(np.float32, (j, k), elements=weights))]
    args += [draw(hnp.arrays(np.float32, (b, k), elements=numbers))] if draw(st.booleans()) else []
    far = draw(st.sampled_from([0.0, 0.0, 30.0, -1e3]))
    args[0][::2] += np.float32(far)
    return [torch.from_numpy(a) for a in args]


@given(args=arbitrary_arguments())
@settings(
    max_examples=10 if INTERPRETED else 150, deadline=None, derandomize=True, database=None, phases=PHASES
)
def test_any_shape_and_values_equal_float64(backend, args):
    upstream = upstream_for(args)
    assert_exact(run(args, backend, upstream), args, upstream)


@given(
    leading=st.lists(st.integers(0, 3), max_size=3),
    j=st.integers(1, 4),
    k=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(
    max_examples=5 if INTERPRETED else 40, deadline=None, derandomize=True, database=None, phases=PHASES
)
def test_leading_dimensions_are_a_batch_in_another_shape(backend, leading, j, k, seed):
    args = arguments(math.prod(leading), j, k, background=True, seed=seed)
    shaped = [args[0].view(*leading, k), *args[1:4], args[4].view(*leading, k)]
    got, want = run(shaped, backend), run(args, backend)
    assert got["out"].shape == (*leading, j)
    assert got["x"].shape == got["log_background"].shape == (*leading, k)
    assert_same_bits({n: g.reshape(want[n].shape) for n, g in got.items()}, want)


@pytest.mark.parametrize("sizes", [(0, 3, 5), (4, 0, 5), (0, 0, 5)])
def test_no_examples_or_no_neurons_give_empty_outputs_and_zero_gradients(sizes, backend):
    args = arguments(*sizes, background=True)
    got = run(args, backend)
    assert got["out"].shape == sizes[:2]
    for name, t in zip(NAMES, args, strict=True):
        assert torch.equal(got[name], torch.zeros_like(t)), name


def test_one_example_needs_no_batch_dimension(backend):
    args = arguments(1, 3, 7, background=True)
    alone = [args[0][0], *args[1:4], args[4][0]]
    got = run(alone, backend)
    assert got["out"].shape == (3,)
    assert_same_bits(
        {n: g.reshape(args[NAMES.index(n)].shape) for n, g in got.items() if n != "out"},
        run(args, backend),
        "x",
        "mean",
    )


@pytest.mark.parametrize("shape", [(4, 6), (1, 7), (7,), (4, 1), (3, 4, 7)])
def test_a_background_of_another_shape_is_refused(shape, backend):
    args = [t.to(device(backend)) for t in arguments(4, 3, 7)]
    wrong = torch.zeros(shape, device=device(backend))
    words = re.escape(f"expected log_background of the shape of x, (4, 7), got {shape}")
    with pytest.raises(ValueError, match=words):
        ugmm_log_density(*args, log_background=wrong, backend=backend)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (0.0, "expected log_background to be a torch.Tensor, got float"),
        (torch.zeros(4, 7).double(), "one dtype"),
    ],
    ids=["float", "float64"],
)
def test_a_background_of_another_kind_is_refused(wrong, error, backend):
    args = [t.to(device(backend)) for t in arguments(4, 3, 7)]
    with pytest.raises(TypeError, match=error):
        ugmm_log_density(*args, log_background=wrong, backend=backend)


# --- Memory layouts, and who asks for what


def strided(t):
    big = t.new_full((2 * t.shape[0], 2 * t.shape[1]), math.nan)
    big[::2, ::2] = t
    return big[::2, ::2]


LAYOUTS = {
    "strided": strided,
    "transposed": lambda t: t.t().contiguous().t(),
    "shifted": lambda t: torch.cat((t.new_full((1, t.shape[1]), math.nan), t))[1:],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_memory_layout_changes_no_bit(layout, backend):
    args = arguments(6, 3, 21, background=True)
    upstream = upstream_for(args)
    leaves = [t.to(device(backend), copy=True).requires_grad_() for t in args]
    out = call([layout(t) for t in leaves], backend)
    gradients = torch.autograd.grad(out, leaves, layout(upstream.to(out.device)))
    got = {"out": out.detach(), **dict(zip(NAMES, gradients, strict=True))}
    assert_same_bits({n: g.cpu() for n, g in got.items()}, run(args, backend, upstream))


def test_expanded_arguments_collect_the_gradients_of_their_copies(backend):
    x, mean, log_std, log_weight = arguments(1, 3, 21)
    small = [
        t.to(device(backend)).requires_grad_()
        for t in (x, mean[:1], log_std[:, :1].clone(), log_weight[:1, :1].clone())
    ]
    shapes = [(5, 21), *((3, 21),) * 3]
    expanded = [t.expand(shape) for t, shape in zip(small, shapes, strict=True)]
    got = torch.autograd.grad(call(expanded, backend).sum(), small)
    full = run([t.detach().cpu().contiguous() for t in expanded], backend)
    for name, g, t in zip(NAMES, got, small, strict=False):
        torch.testing.assert_close(g.cpu(), full[name].sum_to_size(t.shape), msg=name)


def test_an_upstream_gradient_of_stride_zero_is_one_of_ones(backend):
    args = arguments(7, 3, 21, background=True)
    leaves = [t.to(device(backend), copy=True).requires_grad_() for t in args]
    gradients = torch.autograd.grad(call(leaves, backend).sum(), leaves)
    got = {n: g.cpu() for n, g in zip(NAMES, gradients, strict=True)}
    assert_same_bits(got, run(args, backend), *NAMES)


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
def test_only_what_requires_gradients_gets_them_and_they_are_the_same(background, backend):
    args = arguments(6, 3, 21, background=background)
    args[0][2] += 40.0
    upstream = upstream_for(args).to(device(backend))
    full = run(args, backend, upstream)
    names = NAMES[: len(args)]
    numbers = (0, 1, len(names) - 1) if INTERPRETED else range(len(names))
    for wanted in itertools.chain.from_iterable(itertools.combinations(names, n) for n in numbers):
        leaves = [
            t.to(device(backend), copy=True).requires_grad_(n in wanted)
            for n, t in zip(names, args, strict=True)
        ]
        out = call(leaves, backend)
        assert out.requires_grad == bool(wanted)
        assert torch.equal(out.cpu(), full["out"])
        if wanted:
            out.backward(upstream)
        for name, leaf in zip(names, leaves, strict=True):
            if name in wanted:
                torch.testing.assert_close(
                    leaf.grad.cpu(), full[name], rtol=2e-6, atol=2e-6, msg=f"{name} of {wanted}"
                )
            else:
                assert leaf.grad is None, f"{name} of {wanted}"


def test_arguments_and_upstream_gradient_are_left_as_they_were(backend):
    args = [t.to(device(backend)).requires_grad_() for t in arguments(6, 3, 21, background=True)]
    before = [t.detach().clone() for t in args]
    upstream = torch.ones(6, 3, device=device(backend))
    call(args, backend).backward(upstream)
    assert all(torch.equal(t, b) for t, b in zip(args, before, strict=True))
    assert torch.equal(upstream, torch.ones_like(upstream))


def test_an_upstream_gradient_of_zero_at_an_example_takes_it_out(backend):
    args = arguments(6, 3, 21)
    upstream = upstream_for(args)
    upstream[1] = upstream[4] = 0.0
    got = run(args, backend, upstream)
    assert torch.equal(got["x"][[1, 4]], torch.zeros(2, 21))
    rest = [args[0][[0, 2, 3, 5]], *args[1:]]
    assert_exact(
        {n: got[n] if n in NAMES[1:] else got[n][[0, 2, 3, 5]] for n in got}, rest, upstream[[0, 2, 3, 5]]
    )


# --- Dropped components and neurons

DROPPED = [(0, 0), (0, 3), (1, 16), (1, 36), (2, 15), (3, 7), (3, 8)]


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("move", [lambda x: None, mixed_rows], ids=["near", "far"])
def test_dropped_components_have_gradients_of_exactly_zero(move, background, backend):
    args = arguments(14, 4, 37, background=background)
    move(args[0])
    for position in DROPPED:
        args[3][position] = -math.inf
    args[3][:, 20] = -math.inf
    got = run(args, backend, upstream_for(args))
    for name in ("mean", "log_std", "log_weight"):
        assert all(got[name][position] == 0.0 for position in DROPPED), name
        assert not got[name][:, 20].any(), name
    assert not got["x"][:, 20].any()
    assert_exact(got, args, upstream_for(args))


def test_a_dropped_component_may_be_at_or_far_from_its_mean(backend):
    """Its term is zero wherever the input is, also where it would have been by far the largest."""
    args = arguments(6, 3, 21)
    args[3][:, 5] = -math.inf
    args[0][:, 5] = torch.tensor([0.0, 3.0, -1e6, 1e10, -1e10, 12.0])
    args[0][3:] += 100.0
    got = run(args, backend)
    kept = [k for k in range(21) if k != 5]
    assert_exact({n: v if n == "out" else v[:, kept] for n, v in got.items()}, [t[:, kept] for t in args])
    assert all(not got[name][:, 5].any() for name in NAMES[:4])


@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
def test_all_components_but_one_dropped_leave_a_normal_distribution(far, backend):
    x, mean, log_std, _ = args = arguments(9, 5, 37)
    x += 90.0 if far else 0.0
    left = torch.tensor([0, 15, 16, 35, 36])
    args[3] = torch.full((5, 37), -math.inf).scatter(1, left[:, None], -0.3)
    got = run(args, backend)
    neurons = torch.arange(5)
    normal = torch.distributions.Normal(
        mean[neurons, left].double(), log_std[neurons, left].double().exp()
    ).log_prob(x[:, left].double())
    torch.testing.assert_close(got["out"].double(), normal - 0.3, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got["log_weight"][neurons, left], torch.full((5,), 9.0))
    assert_exact(got, args)


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("move", [lambda x: None, mixed_rows], ids=["near", "far"])
def test_a_neuron_without_components_is_minus_infinity_and_leaves_the_others_alone(move, background, backend):
    args = arguments(14, 6, 37, background=background)
    move(args[0])
    upstream = upstream_for(args)
    full = run(args, backend, upstream)
    args[3][[0, 3]] = -math.inf
    got, others = run(args, backend, upstream), [1, 2, 4, 5]
    assert (got["out"][:, [0, 3]] == -math.inf).all()
    assert torch.equal(got["out"][:, others], full["out"][:, others])
    for name in ("mean", "log_std", "log_weight"):
        assert not got[name][[0, 3]].any(), name
        assert torch.equal(got[name][others], full[name][others]), name
    rest = [t[others] if n in NAMES[1:4] else t for n, t in zip(NAMES, args, strict=False)]
    fewer = run(rest, backend, upstream[:, others])
    torch.testing.assert_close(got["x"], fewer["x"], rtol=1e-5, atol=1e-6)


def test_without_any_component_all_gradients_are_zero(backend):
    args = arguments(6, 3, 21, background=True)
    args[3].fill_(-math.inf)
    got = run(args, backend)
    assert (got.pop("out") == -math.inf).all()
    assert not any(g.any() for g in got.values())


def test_an_infinite_background_removes_a_component_for_one_example(backend):
    args = arguments(9, 3, 21, background=True)
    args[4][2, 5] = args[4][5, 20] = math.inf
    got, want = run(args, backend), exact(args)
    for name in want:
        torch.testing.assert_close(got[name].double(), want[name], rtol=1e-5, atol=1e-5, msg=name)
    assert got["log_background"][2, 5] == got["x"][2, 5] == got["log_background"][5, 20] == 0.0


def test_an_example_whose_backgrounds_are_all_infinite_has_no_gradients(backend):
    args = arguments(9, 3, 21, background=True)
    args[4][7] = math.inf
    got, others = run(args, backend), [*range(7), 8]
    assert (got["out"][7] == -math.inf).all()
    assert not got["x"][7].any()
    assert not got["log_background"][7].any()
    rest = [args[0][others], *args[1:4], args[4][others]]
    assert_exact({n: g[others] if len(g) == 9 else g for n, g in got.items()}, rest)


# --- What is no number

POSITIONS = [(0, 0), (3, 7), (4, 15), (9, 16), (10, 36), (13, 33)]
CLEAN = [row for row in range(14) if row not in [b for b, _ in POSITIONS]]


@pytest.mark.parametrize("name", ["x", "log_background"])
def test_nan_in_an_input_makes_its_own_example_nan_and_no_other(name, backend):
    args = arguments(14, 5, 37, background=name == "log_background")
    clean = run(args, backend)
    for position in POSITIONS:
        args[NAMES.index(name)][position] = math.nan
    got, want = run(args, backend), exact(args)
    for key in want:
        assert torch.equal(got[key].isnan(), want[key].isnan()), key
    assert got["out"].isnan().any(dim=1).sum() == len(POSITIONS)
    for key in ("out", "x", *(["log_background"] if name == "log_background" else [])):
        assert got[key][[b for b, _ in POSITIONS]].isnan().all(), key
        assert torch.equal(got[key][CLEAN], clean[key][CLEAN]), key


@pytest.mark.parametrize("far", [0.0, 60.0], ids=["near", "far"])
@pytest.mark.parametrize("name", ["mean", "log_std", "log_weight"])
def test_nan_in_a_parameter_makes_its_own_neuron_nan_and_no_other(name, far, backend):
    args = arguments(7, 14, 37)
    args[0] += far
    clean = run(args, backend)
    for position in POSITIONS:
        args[NAMES.index(name)][position] = math.nan
    got, want = run(args, backend), exact(args)
    for key in want:
        assert torch.equal(got[key].isnan(), want[key].isnan()), key
    assert got["out"][:, [j for j, _ in POSITIONS]].isnan().all()
    assert torch.equal(got["out"][:, CLEAN], clean["out"][:, CLEAN])
    for key in ("mean", "log_std", "log_weight"):
        assert torch.equal(got[key][CLEAN], clean[key][CLEAN]), key


def test_nan_is_not_lost_beside_dropped_components(backend):
    args = arguments(6, 3, 21)
    args[3][:, 1:] = -math.inf
    args[0][1, 20] = args[0][4, 0] = math.nan
    out = run(args, backend)["out"]
    want = exact(args)["out"]
    assert torch.equal(out.isnan(), want.isnan())
    assert out[[1, 4]].isnan().all()


def test_nan_is_not_lost_in_a_neuron_without_components(backend):
    args = arguments(6, 3, 21)
    args[3][1] = -math.inf
    args[0][2, 20] = math.nan
    out = run(args, backend)["out"]
    assert out[2].isnan().all()
    assert (out[[0, 1, 3, 4, 5], 1] == -math.inf).all()
    torch.testing.assert_close(reference_log_density(*args[:4]), out, equal_nan=True)


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("infinity", [math.inf, -math.inf])
def test_an_infinite_input_switches_its_components_off_and_makes_their_gradients_nan(
    infinity, background, backend
):
    args = arguments(9, 4, 21, background=background)
    args[0][1, 2] = args[0][4, 20] = infinity
    args[0][5] += 80.0
    args[0][5, 16] = infinity
    got, want = run(args, backend), exact(args)
    for name in want:
        torch.testing.assert_close(
            got[name].double(),
            want[name],
            rtol=1e-5,
            atol=2e-4,
            equal_nan=True,
            msg=lambda m, n=name: f"{n}: {m}",
        )
    assert got["out"].isfinite().all()
    assert got["log_weight"].isfinite().all()
    assert got["x"].isnan().sum() == 3


def test_an_example_of_infinities_only_has_density_zero(backend):
    args = arguments(6, 4, 21)
    args[0][3] = math.inf
    got, want = run(args, backend), exact(args)
    assert (got["out"][3] == -math.inf).all()
    torch.testing.assert_close(got["out"].double(), want["out"], rtol=1e-6, atol=1e-6)
    kept = [0, 1, 2, 4, 5]
    torch.testing.assert_close(got["x"][kept].double(), want["x"][kept], rtol=1e-5, atol=1e-5)


def test_an_infinite_or_nan_upstream_gradient_stays_with_its_example_and_neuron(backend):
    args = arguments(9, 4, 21)
    upstream = upstream_for(args)
    clean = run(args, backend, upstream)
    upstream[2, 1] = math.nan
    got = run(args, backend, upstream)
    assert got["x"][2].isnan().all()
    others = [0, 1, *range(3, 9)]
    assert torch.equal(got["x"][others], clean["x"][others])
    for name in ("mean", "log_std", "log_weight"):
        assert got[name][1].isnan().all(), name
        assert torch.equal(got[name][[0, 2, 3]], clean[name][[0, 2, 3]]), name


# --- Repetition, threads and blocks


def test_a_second_run_gives_the_same_bits(backend):
    args = arguments(22, 9, 37, background=True)
    mixed_rows(args[0])
    upstream = upstream_for(args)
    assert_same_bits(run(args, backend, upstream), run(args, backend, upstream))


@pytest.fixture
def tasks(monkeypatch):
    """Work as small as that of these tests is cut up too; the list gets the number of tasks of each run."""
    from ugmm_tutorial.kernels import numba_kernels, thread_pool

    counts, run_tasks = [], thread_pool.run

    def counting(tasks, threads):
        tasks = list(tasks)
        counts.append(len(tasks))
        run_tasks(tasks, threads)

    monkeypatch.setattr(numba_kernels, "_ELEMENTS_PER_TASK", 1)
    monkeypatch.setattr(thread_pool, "run", counting)
    return counts


# By neurons; by examples, as neurons are few; by examples, as few as they are; one task for all.
CUTS = {"neurons": (22, 33, 37), "examples": (22, 2, 37), "few": (3, 2, 50), "one": (1, 1, 19)}


@pytest.mark.usefixtures("loops")
@only_cpu
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_any_number_of_threads_gives_exact_numbers_and_repeats_its_bits(
    threads, cut, background, tasks, set_threads
):
    args = arguments(*CUTS[cut], background=background)
    args[0][len(args[0]) // 2] += 50.0
    upstream = upstream_for(args)
    set_threads(threads)
    got = run(args, "numba", upstream)
    assert (tasks[0] > 1) == (threads > 1 and cut != "one")
    assert cut not in ("neurons", "examples") or tasks[0] >= threads
    assert_exact(got, args, upstream)
    assert_same_bits(run(args, "numba", upstream), got)


@pytest.mark.usefixtures("loops")
@only_cpu
@pytest.mark.parametrize("cut", ["neurons", "examples"])
@pytest.mark.parametrize(
    ("wanted", "background"),
    [
        (["x"], False),
        (["x"], True),
        (["mean"], False),
        (["mean"], True),
        (["log_background"], True),
        (["x", "log_std", "log_background"], True),
    ],
)
def test_several_threads_compute_only_the_gradients_that_are_asked_for(
    wanted, background, cut, tasks, set_threads
):
    set_threads(3)
    args = arguments(*CUTS[cut], background=background)
    upstream = upstream_for(args)
    leaves = [t.requires_grad_(n in wanted) for n, t in zip(NAMES, args, strict=False)]
    call(leaves, "numba").backward(upstream)
    want, bound = closed_forms([t.detach() for t in args], upstream)
    for name, leaf in zip(NAMES, leaves, strict=False):
        if name in wanted:
            assert ((leaf.grad - want[name]).abs() <= bound[name]).all(), name
        else:
            assert leaf.grad is None


@pytest.mark.usefixtures("loops")
@only_cpu
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("threads", [3, 4, 5])
def test_input_gradients_are_added_up_block_by_block(threads, background, tasks, set_threads, monkeypatch):
    """With little room for copies, blocks of a few examples, no multiple of four, follow each other."""
    from ugmm_tutorial.kernels import numba_kernels

    args = arguments(53, 12, 18, background=background)
    mixed_rows(args[0])
    upstream = upstream_for(args)
    set_threads(threads)
    in_one = run(args, "numba", upstream)
    whole = tasks.copy()
    monkeypatch.setattr(numba_kernels, "_ROOM", 1)
    got = run(args, "numba", upstream)
    assert len(tasks) > 2 * len(whole) + 1
    assert_exact(got, args, upstream)
    assert_same_bits(got, in_one, "out")
    assert_same_bits(run(args, "numba", upstream), got)


@pytest.mark.usefixtures("loops")
@only_cpu
def test_threads_each_take_an_equal_share_of_a_large_layer(set_threads):
    args = arguments(96, 64, 200)
    upstream = upstream_for(args)
    want = _exact(args, upstream)
    for threads in (1, 2, 3, 5):
        set_threads(threads)
        got = run(args, "numba", upstream)
        assert_same_bits(run(args, "numba", upstream), got)
        assert max(relative_errors(got, want).values()) < 1e-6


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("sizes", [(5, 3, 140), (140, 3, 5), (3, 140, 5)], ids=str)
def test_gpu_programs_may_have_many_steps_and_many_outputs(sizes, background, monkeypatch):
    """One program per tile adds chunk by chunk; warps with many outputs redo those that are far."""
    if "triton" not in BACKENDS:
        pytest.skip("the GPU kernels do not run here")
    from ugmm_tutorial.kernels import triton_tiles

    monkeypatch.setattr(triton_tiles, "_PROGRAMS", 1)
    monkeypatch.setattr(triton_tiles, "_MANY_OUTPUTS", 1)
    args = arguments(*sizes, background=background)
    args[0][2] -= 70.0
    upstream = upstream_for(args)
    assert_exact(run(args, "triton", upstream), args, upstream)


@pytest.fixture
def nan_in_fresh_memory():
    """New tensors that nobody has written to are full of NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.ones(3).new_empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("nan_in_fresh_memory")
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize(
    "sizes", [(3, 1, 5), (5, 70, 66)] if INTERPRETED else [(22, 33, 37), (22, 2, 37), (3, 1, 5)], ids=str
)
def test_no_memory_is_read_before_it_is_written(sizes, background, backend, request, set_threads):
    if backend == "numba":
        request.getfixturevalue("tasks")
        set_threads(3)
    args = arguments(*sizes, background=background)
    args[0][1] += 50.0
    upstream = upstream_for(args)
    assert_exact(run(args, backend, upstream), args, upstream)
    # The background's gradient alone, and the parameters' alone.
    for wanted in [NAMES[1:4], NAMES[4:]] if background else [NAMES[:1], NAMES[1:4]]:
        leaves = [
            t.to(device(backend), copy=True).requires_grad_(n in wanted)
            for n, t in zip(NAMES, args, strict=False)
        ]
        call(leaves, backend).sum().backward()
        assert all(leaf.grad.isfinite().all() for leaf in leaves if leaf.requires_grad)


# --- Memory


def step_of_a_layer(b, j, k, backend, background):
    """A forward and backward pass, to call again; bytes of its arguments and results; of all elements."""
    leaves = [t.to(device(backend)).requires_grad_() for t in arguments(b, j, k, background=background)]

    def step():
        out = call(leaves, backend)
        return out, *torch.autograd.grad(out, leaves, torch.ones_like(out))

    step()
    return step, 4 * (2 * (1 + background) * b * k + 6 * j * k + b * j), 4 * b * j * k


@pytest.mark.usefixtures("loops")
@only_cpu
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
def test_no_allocation_is_nearly_as_large_as_all_elements(background, set_threads):
    set_threads(2)  # each has sums of its own
    step, arguments_and_results, elements = step_of_a_layer(64, 128, 256, "numba", background)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    allocated = [e.self_cpu_memory_usage for e in profile.events() if e.self_cpu_memory_usage > 0]
    assert max(allocated) > 2 * 128 * 256  # it sees at least the gradients, of twice this size
    assert max(allocated) < elements / 10
    assert sum(allocated) < 2 * arguments_and_results


@pytest.mark.skipif("triton" not in BACKENDS or INTERPRETED, reason="no GPU")
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
def test_memory_on_a_gpu_grows_with_arguments_and_results_only(background):
    step, arguments_and_results, elements = step_of_a_layer(512, 512, 1024, "triton", background)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    peak = torch.cuda.max_memory_allocated() - before
    assert peak < 4 * arguments_and_results < elements / 10


# --- The CPU kernel's exponentials


@pytest.fixture(scope="module")
def exponentials():
    """Powers of two, the same cut off at zero, and powers of e, compiled as the kernels compile them."""
    from numba import njit

    from ugmm_tutorial.kernels import numba_elements

    def elementwise(function, fastmath):
        @njit(fastmath=fastmath)
        def fill(values, results):
            for i in range(len(values)):
                results[i] = function(values[i])

        def evaluate(values):
            results = np.empty_like(values)
            fill(values, results)
            return results

        return evaluate

    fast, exactly = numba_elements.FAST, numba_elements.EXACT
    return (
        elementwise(numba_elements.exp2, fast),
        elementwise(numba_elements.exp2_or_zero, fast),
        elementwise(numba_elements.exp, exactly),
    )


@only_cpu
def test_exponentials_have_the_errors_they_promise(exponentials):
    exp2, exp2_or_zero, exp = exponentials
    whole = np.arange(-100, 1)
    y = np.concatenate([np.linspace(-100, 0, 2_000_003), -np.logspace(-30, 0, 2001), whole]).astype(
        np.float32
    )
    exact = np.exp2(y.astype(np.float64))
    assert np.abs(exp2(y) / exact - 1).max() < 2e-7
    assert (np.abs(exp2_or_zero(y) - (exact - 2.0**-100)) < 3e-7 * exact).all()
    assert (exp2(whole.astype(np.float32)) == np.exp2(whole.astype(np.float64))).all()
    v = np.linspace(-80, 80, 2_000_003).astype(np.float32)
    assert np.abs(exp(v) / np.exp(v.astype(np.float64)) - 1).max() < 1e-7


@only_cpu
def test_exponentials_of_what_is_too_small_are_exactly_zero_and_nan_stays(exponentials):
    y = np.array([-100, -100.5, -126, -127, -149, -1e3, -1e30, -np.inf, 0, np.nan], dtype=np.float32)
    exp2, exp2_or_zero, exp = exponentials
    np.testing.assert_array_equal(exp2(y), [2.0**-100] * 8 + [1.0, np.nan])
    np.testing.assert_array_equal(exp2_or_zero(y), [0.0] * 8 + [1.0, np.nan])
    assert np.isfinite(exp(y[:9])).all()


# --- The GPU kernels where there is no GPU


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif("triton" in BACKENDS, reason="the tests above ran the GPU kernels")
def test_the_kernels_for_gpus_pass_this_file_under_the_interpreter():
    assert how_many_pass(__file__, "-k", "gpu or triton") >= 80


NARROW = [-80.0, -87.0, -89.0, -95.0, -500.0]


@pytest.mark.parametrize("log_std", NARROW)
@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_a_component_too_narrow_for_float32_is_finite_at_its_mean_and_nothing_elsewhere(backend, log_std):
    """1 / std overflows there: at the mean, 0 times infinity would be NaN."""
    x = torch.tensor([[0.5, 2.0], [0.25, 2.0]])  # at the first mean, and away from it
    mean = torch.tensor([[0.5, 1.0]]).requires_grad_()
    narrow = torch.tensor([[log_std, 0.0]]).requires_grad_()
    log_weight = torch.tensor([[-1.0, -1.0]])
    out = ugmm_log_density(x, mean, narrow, log_weight, backend=backend)
    other = -1.0 - HALF_LOG_2PI - 0.5
    expected = torch.tensor([[-1.0 - log_std - HALF_LOG_2PI], [other]])
    rounding = 1e-5 + 2e-7 * abs(log_std)  # kernels subtract a neuron's highest peak, and add it again
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=rounding)
    out.sum().backward()
    torch.testing.assert_close(narrow.grad[0, 0].item(), -1.0, rtol=1e-5, atol=1e-5)
    assert mean.grad.isfinite().all()


@pytest.mark.parametrize("log_std", NARROW)
@pytest.mark.parametrize("background", [0.0, math.inf])
@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_a_component_too_narrow_for_float32_has_finite_gradients_a_thousand_units_away(
    backend, background, log_std
):
    args = [
        torch.tensor([[0.0, 2.0]]).expand(6, 2),
        torch.tensor([[1e3, 1.0]]),
        torch.tensor([[log_std, 0.0]]),
    ]
    args += [torch.zeros(1, 2), torch.tensor([[background, 0.0]]).expand(6, 2)]
    leaves = [t.to(device(backend), copy=True).requires_grad_() for t in args]
    out = call(leaves, backend)
    torch.testing.assert_close(out.cpu(), torch.full((6, 1), -HALF_LOG_2PI - 0.5), rtol=1e-5, atol=2e-4)
    gradients = [g.cpu() for g in torch.autograd.grad(out.sum(), leaves)]
    for gradient, of_wide in zip(gradients[1:4], (6.0, 0.0, 6.0), strict=True):
        torch.testing.assert_close(gradient, torch.tensor([[0.0, of_wide]]), rtol=1e-4, atol=1e-4)
    assert all(g.isfinite().all() for g in gradients)
