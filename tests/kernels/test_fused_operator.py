"""The fused kernels as a PyTorch operator: compiled, exported, cast, transformed, differentiated twice.

All with the CPU kernel, and sizes at which ``backend="auto"`` takes it. What the kernel cannot do itself has
to reach the reference, so float32 is compared with float64 and the calls of the kernel are counted.
"""

from __future__ import annotations

import copy
import io
import math
import pickle

import operands
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from ugmm_tutorial import UGMMLayer, UGMMNet, kernels, ugmm_log_density
from ugmm_tutorial.experiments.bench.timing import peak_memory
from ugmm_tutorial.kernels.reference import reference_log_density

if kernels.unavailable("numba"):
    pytest.skip("the CPU kernel does not run here", allow_module_level=True)

# PyTorch warns of itself: its decompositions for forward mode are scripts, its opcheck looks at .grad.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

B, J, K = 12, 9, 40  # 4320 elements, just enough for "auto" to take the kernel
FORWARD, BACKWARD = "ugmm.log_density.default", "ugmm.log_density_backward.default"


def arguments(b=B, j=J, k=K, *, background=False, dtype=torch.float32, seed=0):
    return [t.to(dtype) for t in operands.arguments(b, j, k, background=background, seed=seed)]


def doubles(tensors):
    return [t.detach().double() for t in tensors]


def leaves_of(tensors):
    return [t.detach().clone().requires_grad_() for t in tensors]


def operator(x, mean, log_std, log_weight, log_background=None, backend="auto"):
    return ugmm_log_density(x, mean, log_std, log_weight, log_background=log_background, backend=backend)


def total(*args):
    return operator(*args).sum()


def gradients(args, function=operator):
    leaves = leaves_of(args)
    return torch.autograd.grad(function(*leaves).sum(), leaves)


def assert_near(got, want, tolerance=2e-6):
    """Norm-wise, tensor by tensor."""
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        assert g.dtype == torch.float32
        assert (g.double() - w).norm() <= tolerance * w.norm()


@pytest.fixture
def calls(monkeypatch):
    """The names of the kernel's functions, as they are called."""
    from ugmm_tutorial.kernels import numba_kernels

    called = []

    def counting(name, function):
        def call(*args, **options):
            called.append(name)
            return function(*args, **options)

        return call

    for name in ("forward", "backward"):
        monkeypatch.setattr(numba_kernels, name, counting(name, getattr(numba_kernels, name)))
    return called


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# --- The registration


@pytest.mark.parametrize("transposed", [False, True], ids=["contiguous", "transposed"])
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize("wanted", [(0, 1, 2, 3, 4), (0,), (1,), ()], ids=str)
def test_the_operator_is_registered_as_pytorch_demands(wanted, background, transposed):
    args = arguments(6, 3, 21, background=background)
    args = [t.t().contiguous().t() if transposed else t for t in args]
    args = [t.requires_grad_(i in wanted) for i, t in enumerate(args)]
    if not background:
        args.append(None)
    torch.library.opcheck(torch.ops.ugmm.log_density.default, (*args, "numba"))


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
@pytest.mark.parametrize(("needs_x", "needs_parameters"), [(True, True), (True, False), (False, True)])
def test_its_backward_is_registered_as_pytorch_demands(needs_x, needs_parameters, background):
    args = arguments(6, 3, 21, background=background)
    if not background:
        args.append(None)
    state = torch.ops.ugmm.log_density(*args, "numba")[1]
    arguments_ = (torch.ones(6, 3), *args, state, needs_x, needs_parameters, "numba")
    torch.library.opcheck(torch.ops.ugmm.log_density_backward.default, arguments_)


def test_an_empty_batch_is_registered_as_pytorch_demands():
    torch.library.opcheck(torch.ops.ugmm.log_density.default, (*arguments(0, 3, 21), None, "numba"))


def test_auto_takes_the_kernel_for_float32_of_any_size(calls):
    ugmm_log_density(*arguments())
    ugmm_log_density(*arguments(1, 1, 1))
    assert calls == ["forward"] * 2
    ugmm_log_density(*arguments(dtype=torch.float64))
    assert calls == ["forward"] * 2
    ugmm_log_density(*arguments(2, 3, 4), backend="numba")
    assert calls == ["forward"] * 3


def test_float64_is_left_to_the_reference_bit_for_bit(calls):
    args = arguments(background=True, dtype=torch.float64)
    assert torch.equal(operator(*args, backend="numba"), reference_log_density(*args))
    got = gradients(args, lambda *a: operator(*a, backend="numba"))
    assert all(torch.equal(g, w) for g, w in zip(got, gradients(args, reference_log_density), strict=True))
    assert calls == []


@pytest.mark.parametrize(
    ("position", "needs_x", "needs_parameters"),
    [(0, True, False), (1, False, True), (2, False, True), (3, False, True), (4, True, False)],
    ids=["x", "mean", "log_std", "log_weight", "log_background"],
)
def test_the_kernel_is_asked_for_no_more_than_is_needed(position, needs_x, needs_parameters, monkeypatch):
    from ugmm_tutorial.kernels import numba_kernels

    asked, backward = [], numba_kernels.backward

    def recording(*args, **options):
        asked.append(options)
        return backward(*args, **options)

    monkeypatch.setattr(numba_kernels, "backward", recording)
    args = arguments(background=True)
    args[position].requires_grad_()
    operator(*args).sum().backward()
    (options,) = asked
    assert (options["needs_x"], options["needs_parameters"]) == (needs_x, needs_parameters)


def test_without_gradients_nothing_is_kept(calls):
    with torch.no_grad():
        assert not operator(*leaves_of(arguments())).requires_grad
    with torch.inference_mode():
        out = operator(*arguments())
    assert torch.equal(out, operator(*arguments()))
    assert calls == ["forward"] * 3


def test_without_gradients_only_the_outputs_are_allocated():
    layer, x = UGMMLayer(8, 64), torch.randn(512, 8)
    outputs = 4 * 512 * 64
    with torch.no_grad():
        layer(x)
        assert peak_memory(lambda: layer(x)) < 1.5 * outputs
    assert peak_memory(lambda: layer(x)) > 2.5 * outputs  # with what the backward pass needs


# --- Models, compiled and exported

WIDTHS = (30, 20, 10)


def network(**options):
    torch.manual_seed(0)
    return UGMMNet(WIDTHS, norm="layer", **options)


def outputs_and_gradients(function, model, x):
    model.zero_grad()
    x = x.clone().requires_grad_()
    out = function(x)
    out.square().sum().backward()
    return out.detach(), x.grad, *(p.grad.clone() for p in model.parameters())


def recording(graphs):
    """A compiler backend that changes nothing, and records the operators of each graph."""
    from torch._dynamo.backends.common import aot_autograd

    def into(kind):
        def compiler(module, _):
            names = [str(n.target) for n in module.graph.nodes if n.op == "call_function"]
            graphs.append((kind, names))
            return module.forward

        return compiler

    from functorch.compile import make_boxed_compiler

    forward, backward = (make_boxed_compiler(into(kind)) for kind in ("forward", "backward"))
    return aot_autograd(fw_compiler=forward, bw_compiler=backward)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("model", ["layer", "network"])
def test_compiled_models_are_one_graph_with_the_numbers_of_eager_ones(model, calls):
    model = UGMMLayer(*WIDTHS[:2]) if model == "layer" else network()
    graphs, x = [], torch.randn(32, WIDTHS[0])
    compiled = torch.compile(model, fullgraph=True, backend=recording(graphs))
    got = outputs_and_gradients(compiled, model, x)
    want = outputs_and_gradients(model, model, x)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w)
    layers = sum(isinstance(m, UGMMLayer) for m in model.modules())
    (_, forward), (_, backward) = graphs
    assert forward.count(FORWARD) == layers
    assert backward.count(BACKWARD) == layers
    assert calls.count("forward") == calls.count("backward") == 2 * layers


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_models_take_any_batch_size_without_being_compiled_again():
    model, graphs = network(), []
    compiled = torch.compile(model, fullgraph=True, backend=recording(graphs))
    for size in (64, 65, 66, 90, 200, 37):
        x = torch.randn(size, WIDTHS[0])
        got, want = (outputs_and_gradients(f, model, x) for f in (compiled, model))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w)
    # Once for the first size, once for any.
    assert [kind for kind, _ in graphs].count("forward") == 2


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_model_is_unbroken_with_dropout_and_with_a_background():
    model = network(dropout=0.3)
    assert torch._dynamo.explain(model)(torch.randn(64, WIDTHS[0])).graph_break_count == 0
    assert torch._dynamo.explain(operator)(*arguments(background=True)).graph_break_count == 0


@pytest.mark.usefixtures("fresh_compiler")
def test_the_compiled_function_has_the_gradients_of_the_background_too():
    args = arguments(background=True)
    compiled = torch.compile(operator, fullgraph=True, backend="aot_eager")
    for got, want in zip(gradients(args, compiled), gradients(args), strict=True):
        torch.testing.assert_close(got, want)


def test_an_exported_network_contains_the_operator_and_gives_the_same_numbers():
    model, x = network(dropout=0.3).eval(), torch.randn(64, WIDTHS[0])
    program = torch.export.export(model, (x,))
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count(FORWARD) == 2
    assert torch.equal(program.module()(x), model(x))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert torch.equal(torch.export.load(file).module()(x), model(x))


def test_an_exported_network_takes_any_batch_size():
    model, x = network().eval(), torch.randn(64, WIDTHS[0])
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    exported = program.module()
    for size in (2, 32, 64, 300):
        x = torch.randn(size, WIDTHS[0])
        torch.testing.assert_close(exported(x), model(x))
    assert str(program.graph).count("ugmm.log_density") == 2


def test_a_model_is_copied_pickled_and_restored_after_use(calls):
    model, x = network(), torch.randn(32, WIDTHS[0])
    out = model(x)
    out.sum().backward()
    restored = network()
    restored.load_state_dict(copy.deepcopy(model.state_dict()))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), restored):
        assert torch.equal(other(x), out)
        other(x).sum().backward()
    assert calls.count("forward") == 2 * 7


# --- Half precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_half_precision_reaches_the_kernel_in_float32(dtype, calls):
    args = [t.to(dtype).requires_grad_() for t in arguments(background=True)]
    with torch.autocast("cpu", dtype=dtype):
        out = operator(*args)
        directly, _ = torch.ops.ugmm.log_density(*args, "numba")
    assert out.dtype == directly.dtype == torch.float32
    assert torch.equal(out, operator(*(t.float() for t in args)))
    assert torch.equal(directly, out)
    out.sum().backward()
    for leaf, want in zip(args, gradients([t.float() for t in args]), strict=True):
        assert torch.equal(leaf.grad, want.to(dtype))
    assert set(calls) == {"forward", "backward"}


def test_a_layer_after_a_linear_one_trains_under_autocast(calls):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 40), UGMMLayer(40, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model[0](torch.randn(B, 20))
        out = model(torch.randn(B, 20))
    assert hidden.dtype == torch.bfloat16
    assert out.dtype == torch.float32
    out.sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
    assert calls == ["forward", "backward"]


# --- torch.func


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
def test_functional_gradients_equal_float64(background):
    args = arguments(background=background)
    every = tuple(range(len(args)))
    got = torch.func.grad(total, argnums=every)(*args)
    assert_near(got, torch.func.grad(total, argnums=every)(*doubles(args)))
    value = torch.func.grad_and_value(total)(*args)[1]
    assert value.item() == pytest.approx(total(*doubles(args)).item(), rel=1e-6)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev])
def test_functional_gradients_may_pass_by_the_operator(transform):
    """None of its arguments is transformed, though they may have ordinary gradients."""
    leaves = leaves_of(arguments())
    want = operator(*leaves).sum(0)
    got = transform(lambda factor: (operator(*leaves) * factor).sum())(torch.ones(J))
    assert torch.equal(got, want)


@pytest.mark.parametrize("b", [1, B], ids=["below the size of the kernel", "above it"])
def test_per_sample_gradients_equal_a_loop_over_samples(b):
    x, *parameters = arguments(5 * b)
    samples = x.view(5, b, K)
    per_sample = torch.func.vmap(torch.func.grad(total, argnums=(0, 1, 2, 3)), in_dims=(0, None, None, None))
    got = per_sample(samples, *parameters)
    for i, sample in enumerate(samples):
        assert_near([g[i] for g in got], gradients(doubles([sample, *parameters])))


def test_per_sample_gradients_of_a_network_equal_a_loop_over_samples():
    model, x = network(), torch.randn(5, WIDTHS[0])
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, sample):
        return torch.func.functional_call(model, parameters, (sample,)).square().sum()

    got = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for i in range(5):
        model.zero_grad()
        model(x[i]).square().sum().backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(got[name][i], p.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("backend", ["auto", "numba"])
def test_vmap_over_parameters_runs_an_ensemble(backend):
    members = [arguments(seed=seed) for seed in range(3)]
    stacked = [torch.stack(tensors) for tensors in zip(*members, strict=True)]
    exact = [doubles(member) for member in members]
    together = torch.func.vmap(lambda *a: operator(*a, backend=backend))
    assert_near([together(*stacked)], [torch.stack([operator(*m) for m in exact])])
    got = torch.func.vmap(torch.func.grad(lambda *a: operator(*a, backend=backend).sum(), (0, 1, 2, 3)))(
        *stacked
    )
    want = [torch.stack(g) for g in zip(*(gradients(m) for m in exact), strict=True)]
    assert_near(got, want)


def test_vmap_takes_any_dimension_and_nests():
    x, *parameters = arguments(6 * B)
    x = x.view(6, B, K)
    want = reference_log_density(*doubles([x, *parameters]))
    got = torch.func.vmap(lambda x: operator(x, *parameters, backend="numba"), in_dims=1, out_dims=1)(x)
    assert_near([got], [want])
    nested = torch.func.vmap(torch.func.vmap(lambda x: operator(x, *parameters, backend="numba")))(x)
    assert_near([nested], [want])


def test_the_operators_themselves_are_mapped_over_any_dimension():
    """Reached by batched gradients; arguments that are vmap's own go to the reference before."""
    args = (*arguments(), None)
    several = torch.randn(B, 3, K)
    mapped = torch.func.vmap(lambda x: torch.ops.ugmm.log_density(x, *args[1:], "numba"), in_dims=1)(several)
    for i in range(3):
        one = torch.ops.ugmm.log_density(several[:, i], *args[1:], "numba")
        assert all(torch.equal(m[i], o) for m, o in zip(mapped, one, strict=True))
    _, state = torch.ops.ugmm.log_density(*args, "numba")
    upstream = torch.randn(B, J, 3)

    def backward(grad):
        return torch.ops.ugmm.log_density_backward(grad, *args, state, True, True, "numba")

    mapped = torch.func.vmap(backward, in_dims=2)(upstream)
    for i in range(3):
        assert all(torch.equal(m[i], o) for m, o in zip(mapped, backward(upstream[..., i]), strict=True))


def test_vmap_maps_the_background_along_with_the_inputs():
    x, *parameters, background = arguments(6 * B, background=True)
    x, background = x.view(6, B, K), background.view(6, B, K)
    got = torch.func.vmap(lambda x, n: operator(x, *parameters, n, backend="numba"))(x, background)
    assert_near([got], [reference_log_density(*doubles([x, *parameters, background]))])


@pytest.mark.parametrize("backend", ["auto", "numba"])
def test_forward_mode_derivatives_equal_float64(backend):
    args, tangents = arguments(background=True), arguments(background=True, seed=1)
    got = torch.func.jvp(lambda *a: operator(*a, backend=backend), tuple(args), tuple(tangents))
    assert_near(got, torch.func.jvp(operator, tuple(doubles(args)), tuple(doubles(tangents))))


@pytest.mark.parametrize("position", range(5), ids=["x", "mean", "log_std", "log_weight", "log_background"])
@pytest.mark.parametrize("backend", ["auto", "numba"])
def test_a_tangent_of_any_argument_alone_reaches_the_output(position, backend):
    args, tangents = arguments(background=True), arguments(background=True, seed=1)

    def tangent(args, direction):
        with forward_ad.dual_level():
            args = list(args)
            args[position] = forward_ad.make_dual(args[position], direction)
            return forward_ad.unpack_dual(operator(*args, backend=backend)).tangent

    got = tangent(args, tangents[position])
    assert got is not None
    assert_near([got], [tangent(doubles(args), tangents[position].double())])


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd, torch.func.hessian])
def test_jacobians_and_hessians_equal_float64(transform):
    args = arguments()

    def derivative(x, *parameters):
        """With respect to a change of an eighth of the inputs, the same for all examples."""
        return transform(lambda change: operator(x + change.repeat(8), *parameters).mean(0))(
            torch.zeros_like(x[0, :5])
        )

    assert_near([derivative(*args)], [derivative(*doubles(args))])


# --- Derivatives of derivatives, and hooks of autograd


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
def test_batched_upstream_gradients_equal_one_after_the_other(background):
    leaves = leaves_of(arguments(background=background))
    out = operator(*leaves)
    upstream = torch.randn(3, B, J, generator=torch.Generator().manual_seed(1))
    got = torch.autograd.grad(out, leaves, upstream, is_grads_batched=True, retain_graph=True)
    for i in range(3):
        want = torch.autograd.grad(out, leaves, upstream[i], retain_graph=True)
        assert_near([g[i] for g in got], [w.double() for w in want])
    only_x = torch.autograd.grad(out, leaves[:1], upstream, is_grads_batched=True)
    torch.testing.assert_close(only_x[0], got[0])


def second_derivatives(args):
    """Of the gradients' squares, whose weights no symmetry of the inputs makes equal."""
    leaves = leaves_of(args)
    first = torch.autograd.grad(operator(*leaves).square().sum(), leaves, create_graph=True)
    return [*first, *torch.autograd.grad(sum((g * g).sum() for g in first), leaves)]


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
def test_second_derivatives_equal_float64(background, calls):
    args = arguments(background=background)
    assert_near([t.detach() for t in second_derivatives(args)], second_derivatives(doubles(args)), 5e-6)
    # Twice the first derivatives, once by the reference; the second derivatives by the reference.
    assert calls == ["forward", "backward"]


def test_second_derivatives_agree_with_finite_differences():
    args = [t.requires_grad_() for t in arguments(3, 2, 4, background=True, dtype=torch.float64)]
    assert torch.autograd.gradgradcheck(lambda *a: operator(*a, backend="numba"), args)


def test_a_gradient_penalty_trains_the_parameters():
    x, *parameters = leaves_of(arguments())
    (slope,) = torch.autograd.grad(total(x, *parameters), x, create_graph=True)
    got = torch.autograd.grad(slope.square().sum(), parameters)
    x, *exact = leaves_of(doubles([x, *parameters]))
    (slope,) = torch.autograd.grad(total(x, *exact), x, create_graph=True)
    assert_near(got, torch.autograd.grad(slope.square().sum(), exact), 5e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_activations_give_the_same_gradients(reentrant, calls):
    leaves = leaves_of(arguments(background=True))
    checkpoint(operator, *leaves, use_reentrant=reentrant).sum().backward()
    for leaf, want in zip(leaves, gradients(arguments(background=True)), strict=True):
        assert torch.equal(leaf.grad, want)
    assert calls == ["forward", "forward", "backward", "forward", "backward"]


def test_saved_tensors_may_be_packed_away():
    packed = []

    def pack(t):
        packed.append(t.shape)
        return t.detach().clone().numpy()

    leaves = leaves_of(arguments(background=True))
    with torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy):
        out = operator(*leaves)
    assert math.prod(out.shape) * K not in [math.prod(shape) for shape in packed]
    got = torch.autograd.grad(out.sum(), leaves)
    assert all(torch.equal(g, w) for g, w in zip(got, gradients(leaves), strict=True))


@pytest.mark.parametrize("position", range(5), ids=["x", "mean", "log_std", "log_weight", "log_background"])
def test_an_argument_changed_in_place_before_the_backward_pass_is_refused(position):
    leaves = leaves_of(arguments(background=True))
    out = operator(*leaves)
    with torch.no_grad():
        leaves[position].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_a_graph_is_freed_after_one_backward_pass_unless_it_is_retained():
    leaves = leaves_of(arguments())
    out = operator(*leaves).sum()
    first = torch.autograd.grad(out, leaves, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(out, leaves), strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(out, leaves)
