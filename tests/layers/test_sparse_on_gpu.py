"""Neurons that read a few inputs each, by the kernels for GPUs: against float64, and as PyTorch's operator.

Where there is no GPU, most of these tests run in a second process, under Triton's interpreter.
"""

import math
from importlib.util import find_spec

import pytest
import torch
from test_on_gpu import DEVICE, HERE, runs
from test_sparse import drawn, gradients
from torch.utils._python_dispatch import TorchDispatchMode
from under_interpreter import how_many_pass

from ugmm_tutorial import kernels
from ugmm_tutorial.kernels import inverse_index, sparse
from ugmm_tutorial.layers import SparseUGMMLayer, sparse_log_density

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # PyTorch warns of itself.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
if HERE:
    from ugmm_tutorial.kernels import triton_sparse

FORWARD = ["sparse_prepared", "sparse_outputs"]
BACKWARD = ["sparse_prepared", "sparse_gradients"]
ALL = (0, 2, 3, 4)


def here(*size, **options):
    return [t.to(DEVICE) for t in drawn(*size, **options)]


@pytest.fixture
def launches(monkeypatch):
    """The names of kernels, as they are launched."""
    names, launch = [], triton_sparse._launch

    def recording(kernel, *args, **constants):
        names.append(kernel.fn.__name__)
        launch(kernel, *args, **constants)

    monkeypatch.setattr(triton_sparse, "_launch", recording)
    return names


# --- which components read an input


@pytest.mark.parametrize("size", [(3, 1, 1, 1), (1, 9, 5, 4), (1, 40, 6, 3), (1, 4, 3, 4)], ids=str)
def test_every_component_stands_where_its_input_looks_for_it(size):
    _, index, *_ = drawn(*size)
    components, neurons, starts = inverse_index.readers(index, size[1])
    assert starts[0] == 0
    assert starts[-1] == index.numel()
    for k in range(size[1]):
        read = components[starts[k] : starts[k + 1]].tolist()
        assert read == (index.flatten() == k).nonzero()[:, 0].tolist()
    assert neurons.equal(components // size[3])


class Count(TorchDispatchMode):
    """Which of PyTorch's operators run, besides views."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.names += [name] if name not in ("view", "reshape", "_unsafe_view", "detach") else []
        return function(*args, **(kwargs or {}))


def test_it_takes_four_operations_once_for_an_index_until_it_is_written_to():
    _, index, *_ = drawn(1, 9, 5, 4)
    with Count() as count:
        first = inverse_index.readers(index, 9)
        assert inverse_index.readers(index, 9) is first
    assert count.names == ["sort", "div", "arange", "searchsorted"]
    index[0, 0] = 8 - index[0, 0]
    again = inverse_index.readers(index, 9)
    assert not again.components.equal(first.components)
    assert inverse_index.readers(index, 10).starts.shape == (11,)
    known = len(inverse_index._known)
    del index, again
    assert len(inverse_index._known) == known - 1
    with torch.inference_mode():  # nothing counts how often such a tensor is written to
        _, index, *_ = drawn(1, 9, 5, 4)
        index[0] = 3
        before = inverse_index.readers(index, 9)
        index[0] = 4
        assert not inverse_index.readers(index, 9).starts.equal(before.starts)


def test_a_device_looks_itself_whether_an_index_is_outside():
    """What runs on a GPU without waiting for it; here, it raises at once."""
    sparse._assert_within(torch.tensor([[0, 5]]), 6)
    for place in (-1, 6):
        with pytest.raises(RuntimeError, match="expected index from 0 to 5, one less than the inputs"):
            sparse._assert_within(torch.tensor([[0, place]]), 6)


# --- the numbers

CASES = {
    "small": ((5, 7, 3, 2), 0.0),
    "one": ((1, 1, 1, 1), 0.0),
    "far": ((20, 15, 12, 6), 40.0),
    "everywhere far": ((3, 4, 2, 3), 1e4),
    "two blocks": ((130, 5, 9, 3), 10.0),
    "all inputs": ((6, 9, 4, 9), 0.0),
}


@runs
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_float64(case, launches):
    size, distance = CASES[case]
    args = drawn(*size)
    args[0][::2] += distance
    args[1] = args[1].clamp(max=max(0, size[1] - 2))  # an input that nobody reads, and one for two components
    backends = (("triton", DEVICE), ("reference", "cpu"), ("float64", "cpu"))
    got, usual, exact = ([g.cpu() for g in gradients([t.to(d) for t in args], ALL, b)] for b, d in backends)
    assert launches == FORWARD + BACKWARD
    outputs = (sparse_log_density(*(t.to(DEVICE) for t in args), backend="triton").cpu(),)
    doubles = [t.double() if t.is_floating_point() else t for t in args]
    got, usual = [*outputs, *got], [sparse_log_density(*args, backend="reference"), *usual]
    for one, other, want in zip(got, usual, [sparse_log_density(*doubles), *exact], strict=True):
        assert one.dtype == torch.float32
        # Far from all means every float32 exponent is off by its own rounding.
        error = (other.double() - want).norm() + 1e-6 * want.norm()
        assert (one.double() - want).norm() <= 3.0 * error


@runs
@pytest.mark.skipif(kernels.unavailable("numba") is not None, reason="no fused CPU kernel here")
def test_errors_are_those_of_the_kernel_for_cpus():
    args = drawn(70, 9, 12, 5)
    exact = gradients(args, ALL, "float64")

    def error(backend, device="cpu"):
        found = gradients([t.to(device) for t in args], ALL, backend)
        return [((g.cpu().double() - e).norm() / e.norm()).item() for g, e in zip(found, exact, strict=True)]

    for one, other in zip(error("triton", DEVICE), error("numba"), strict=True):
        assert one <= 2.0 * other + 1e-7


@runs
def test_nan_infinity_and_missing_weights_are_as_in_the_reference():
    x, index, mean, log_std, log_weight = here(9, 10, 8, 3)
    x[3, 4], x[5, 2] = math.nan, math.inf
    log_weight[2], log_weight[4, 0] = -math.inf, -math.inf
    args = [x, index, mean, log_std, log_weight]
    out, want = (sparse_log_density(*args, backend=b) for b in ("triton", "reference"))
    torch.testing.assert_close(out, want, equal_nan=True, rtol=2e-6, atol=2e-6)
    assert out[3].isnan().equal((index == 4).any(dim=1))
    if kernels.unavailable("numba") is None:
        usual = gradients([t.cpu() for t in args], ALL, "numba")
        for got, other in zip(gradients(args, ALL, "triton"), usual, strict=True):
            assert got.isnan().cpu().equal(other.isnan())
    leaves = [t.requires_grad_(t.is_floating_point()) for t in (x[[0, 1, 2, 6, 7, 8]], *args[1:])]
    sparse_log_density(*leaves, backend="triton").nan_to_num(neginf=0.0).sum().backward()
    for t in leaves[2:]:
        assert (t.grad[2] == 0.0).all()
    assert all(t.grad.isfinite().all() for t in (leaves[0], *leaves[2:]))


@runs
def test_a_second_run_gives_the_same_bits_and_parts_are_added_up(monkeypatch):
    args = here(260, 4, 2, 2)
    args[0][::3] += 50.0
    first = gradients(args, ALL, "triton")
    assert all(a.equal(b) for a, b in zip(first, gradients(args, ALL, "triton"), strict=True))
    monkeypatch.setattr(triton_sparse, "_FEWEST_STEPS", 1)
    assert triton_sparse.splits(4, 260) == (3, 128)
    for one, other in zip(gradients(args, ALL, "triton"), first, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_parts_take_every_example_once():
    pytest.importorskip("triton")
    from ugmm_tutorial.kernels import triton_sparse

    for components in (1, 30, 5000, 10**6):
        for examples in (1, 128, 1500, 60_000):
            parts, span = triton_sparse.splits(components, examples)
            assert (parts - 1) * span < examples <= parts * span
            assert parts == 1 or (span >= 1024 and parts * -(-components // 4) <= 512)


# --- the operator


@runs
def test_only_what_is_needed_is_launched_for_any_strides_and_dimensions(launches):
    x, index, *parameters = here(6, 7, 4, 2)
    flat = sparse_log_density(x, index, *parameters, backend="triton")
    assert launches == FORWARD
    strided = x.t().contiguous().t().reshape(2, 3, 7)
    some = sparse_log_density(strided, index.t().contiguous().t(), *parameters, backend="triton")
    assert some.equal(flat.reshape(2, 3, 4))
    launches.clear()
    empty = sparse_log_density(x[:0].requires_grad_(), index, *parameters, backend="triton")
    empty.sum().backward()
    assert launches == []


@runs
@pytest.mark.parametrize("place", [-1, 7])
def test_an_index_outside_of_the_inputs_is_refused(place):
    x, index, *parameters = here(4, 7, 3, 2)
    if x.is_cuda:
        pytest.skip("a GPU that has refused something refuses everything after it")
    index[1, 1] = place
    with pytest.raises(IndexError, match="expected index from 0 to 6, one less than the inputs, got"):
        sparse_log_density(x, index, *parameters, backend="triton")


@runs
def test_the_operators_are_registered_as_pytorch_demands():
    x, *rest = here(2, 4, 3, 2)
    args = (x.requires_grad_(), *(t.requires_grad_(t.is_floating_point()) for t in rest))
    torch.library.opcheck(torch.ops.ugmm.sparse_log_density.default, (*args, "triton"))
    out, state = torch.ops.ugmm.sparse_log_density(*args, "triton")
    tensors = [t.detach() for t in (out, *args, state)]
    torch.library.opcheck(torch.ops.ugmm.sparse_log_density_backward.default, (*tensors, True, "triton"))


@runs
def test_second_derivatives_batches_of_gradients_vmap_and_autocast_work():
    x, index, *parameters = here(3, 5, 2, 2)
    x.requires_grad_()
    out = sparse_log_density(x, index, *parameters, backend="triton")
    upstream = torch.randn(2, 3, 2, device=DEVICE)
    (got,) = torch.autograd.grad(out, x, upstream, is_grads_batched=True, retain_graph=True)
    assert got[1].equal(torch.autograd.grad(out, x, upstream[1], retain_graph=True)[0])

    def second(backend):
        out = sparse_log_density(x, index, *parameters, backend=backend).sum()
        (first,) = torch.autograd.grad(out, x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(second("triton"), second("reference"), rtol=1e-4, atol=1e-5)
    mapped = torch.func.vmap(lambda x: sparse_log_density(x, index, *parameters, backend="triton"))(x)
    torch.testing.assert_close(mapped, out)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        half = sparse_log_density(x.bfloat16(), index, *parameters, backend="triton")
    assert half.equal(sparse_log_density(x.bfloat16().float(), index, *parameters, backend="triton"))


@runs
def test_steps_of_a_layer_share_what_is_known_of_its_index(monkeypatch):
    sorted_, sort = [], torch.sort
    monkeypatch.setattr(torch, "sort", lambda *args, **options: sorted_.append(1) or sort(*args, **options))
    layer = SparseUGMMLayer(5, 2, index=torch.tensor([[0, 1], [3, 3]]), backend="triton").to(DEVICE)
    x = torch.randn(3, 5, device=DEVICE, requires_grad=True)
    first = torch.autograd.grad(layer(x).sum(), x)[0]
    assert torch.autograd.grad(layer(x).sum(), x)[0].equal(first)
    assert len(sorted_) == 1
    layer.index[0, 0] = 2
    changed = torch.autograd.grad(layer(x).sum(), x)[0]
    assert (changed[:, 0] == 0.0).all()
    assert (changed[:, 2] != 0.0).all()


@runs
def test_a_layer_trains_compiled_and_is_exported(launches):
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = SparseUGMMLayer(6, 4, 2, dropout=0.2, backend="triton").to(DEVICE).eval()
    other, x = SparseUGMMLayer(6, 4, index=layer.index), torch.randn(5, 6)
    other.load_state_dict({name: value.cpu() for name, value in layer.state_dict().items()})
    want = other.eval()(x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    out = compiled(x.to(DEVICE))
    torch.testing.assert_close(out.cpu(), want)
    found = (torch.autograd.grad(o.sum(), [*m.parameters()]) for o, m in ((out, layer), (want, other)))
    for got, usual in zip(*found, strict=True):
        torch.testing.assert_close(got.cpu(), usual, rtol=1e-4, atol=1e-5)
    assert launches == FORWARD + BACKWARD
    exported = torch.export.export(layer, (x.to(DEVICE),))
    assert str(exported.graph).count("ugmm.sparse_log_density") == 1
    torch.testing.assert_close(exported.module()(x.to(DEVICE)).cpu(), want)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(HERE, reason="the tests above ran the kernels")
def test_the_kernels_pass_this_file_under_the_interpreter():
    assert how_many_pass(__file__) >= 18
