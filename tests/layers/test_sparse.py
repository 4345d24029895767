"""Sparse layers: against dense ones with the same components, numbers against float64, gradients, errors."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from ugmm_tutorial import UGMMLayer
from ugmm_tutorial.experiments.cost import FLOPS_PER_COMPONENT, Cost, count
from ugmm_tutorial.functional import ugmm_log_density
from ugmm_tutorial.layers import SparseUGMMLayer, sparse_log_density

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(b, k, j, m, *, seed=0, dtype=torch.float32):
    """x (B, K), index (J, m) and three parameters (J, m)."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randperm(k, generator=generator)[:m] for _ in range(j)])
    x = torch.randn(b, k, generator=generator, dtype=dtype)
    mean, log_std, logits = (torch.randn(j, m, generator=generator, dtype=dtype) for _ in range(3))
    return [x, index, mean, 0.5 * log_std, torch.log_softmax(logits, dim=-1)]


def dense(index, mean, log_std, log_weight, k):
    """The same components in (J, K) arrays; what is not there has no weight."""
    arrays = (torch.zeros(len(mean), k), torch.zeros(len(mean), k), torch.full((len(mean), k), -math.inf))
    return [
        a.to(mean.dtype).scatter(1, index, values)
        for a, values in zip(arrays, (mean, log_std, log_weight), strict=True)
    ]


SIZES = [(5, 7, 3, 2), (1, 1, 1, 1), (130, 20, 17, 13), (300, 64, 9, 1), (40, 33, 20, 33)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("backend", ["reference", "numba", "auto"])
def test_it_is_the_dense_operator_without_the_other_components(size, backend):
    x, index, *parameters = drawn(*size)
    got = sparse_log_density(x, index, *parameters, backend=backend)
    doubles = [p.double() for p in parameters]
    want = ugmm_log_density(x.double(), *dense(index, *doubles, x.shape[1]))
    assert got.shape == (size[0], size[2])
    torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=2e-6)


def test_each_term_is_a_normal_density_of_the_input_that_is_read():
    x, index, mean, log_std, log_weight = drawn(4, 6, 3, 2, dtype=torch.float64)
    got = sparse_log_density(x, index, mean, log_std, log_weight)
    for b in range(4):
        for j in range(3):
            density = sum(
                log_weight[j, i].exp()
                * Normal(mean[j, i], log_std[j, i].exp()).log_prob(x[b, index[j, i]]).exp()
                for i in range(2)
            )
            assert got[b, j].item() == pytest.approx(density.log().item(), abs=1e-12)


@pytest.mark.parametrize("distance", [5.0, 40.0, 1e4])
def test_the_kernel_is_right_where_the_sum_would_vanish(distance):
    x, *rest = drawn(20, 15, 12, 6)
    x[::2] += distance
    got = sparse_log_density(x, *rest, backend="numba")
    index, *parameters = rest
    want = sparse_log_density(x.double(), index, *[p.double() for p in parameters])
    torch.testing.assert_close(got.double(), want, rtol=2e-6, atol=2e-6)


def test_the_kernel_and_the_reference_agree_on_what_is_no_number_and_on_missing_weights():
    x, index, mean, log_std, log_weight = drawn(140, 10, 8, 3)
    x[3, 4], x[5, 2] = math.nan, math.inf
    log_weight[2], log_weight[4, 0] = -math.inf, -math.inf
    got, want = (
        sparse_log_density(x, index, mean, log_std, log_weight, backend=b) for b in ("numba", "reference")
    )
    torch.testing.assert_close(got, want, equal_nan=True, rtol=2e-6, atol=2e-6)
    assert (got[:, 2] == -math.inf).sum() >= 139
    reads_nan = (index == 4).any(dim=1)
    assert reads_nan.any()
    assert not reads_nan.all()
    assert got[3].isnan().equal(reads_nan)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_outputs_do_not_depend_on_the_number_of_threads(threads, set_threads):
    args = drawn(301, 30, 11, 7)
    alone = sparse_log_density(*args, backend="numba")
    set_threads(threads)
    torch.testing.assert_close(sparse_log_density(*args, backend="numba"), alone, rtol=1e-6, atol=1e-6)


def test_any_leading_dimensions_and_strides_and_an_empty_batch():
    x, index, *parameters = drawn(60, 12, 7, 5)
    flat = sparse_log_density(x, index, *parameters, backend="numba")
    for backend in ("numba", "reference"):
        some = sparse_log_density(x.reshape(3, 20, 12), index, *parameters, backend=backend)
        torch.testing.assert_close(some, flat.reshape(3, 20, 7))
        strided = x.t().contiguous().t()
        torch.testing.assert_close(sparse_log_density(strided, index, *parameters, backend=backend), flat)
        assert sparse_log_density(x[:0], index, *parameters, backend=backend).shape == (0, 7)
        assert sparse_log_density(x[0], index, *parameters, backend=backend).shape == (7,)


def test_its_gradients_are_those_of_finite_differences():
    x, index, *parameters = drawn(3, 5, 2, 3, dtype=torch.float64)
    arguments = [t.requires_grad_() for t in (x, *parameters)]
    assert torch.autograd.gradcheck(lambda x, *p: sparse_log_density(x, index, *p), arguments)


def gradients(args, wanted, backend):
    args = [t.double() if backend == "float64" and t.is_floating_point() else t for t in args]
    args = [t.detach().clone().requires_grad_(i in wanted) for i, t in enumerate(args)]
    out = sparse_log_density(*args, backend="reference" if backend == "float64" else backend)
    weights = torch.linspace(-1.0, 2.0, out.numel()).to(out.dtype).reshape(out.shape)
    (out * weights).sum().backward()
    return [args[i].grad for i in wanted]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("wanted", [(0, 2, 3, 4), (0,), (3,)], ids=str)
@pytest.mark.parametrize("size", [(300, 12, 8, 4), (1, 5, 3, 2), (130, 30, 20, 30)], ids=str)
def test_gradients_of_the_kernel_are_those_in_float64(size, wanted, threads, set_threads):
    set_threads(threads)
    args = drawn(*size)
    for got, want in zip(gradients(args, wanted, "numba"), gradients(args, wanted, "float64"), strict=True):
        assert (got.double() - want).norm() <= 2e-6 * want.norm()


@pytest.mark.parametrize("distance", [10.0, 40.0])
def test_gradients_of_the_kernel_are_right_where_the_sum_would_vanish(distance):
    args = drawn(50, 12, 8, 4)
    args[0][::2] += distance
    wanted = (0, 2, 3, 4)
    for got, want in zip(gradients(args, wanted, "numba"), gradients(args, wanted, "float64"), strict=True):
        assert (got.double() - want).norm() <= 5e-6 * want.norm()


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_components_without_weight_have_no_gradient_and_neurons_without_any_none(backend):
    args = drawn(40, 12, 8, 4)
    args[4][1, 2], args[4][3] = -math.inf, -math.inf
    args = [t.requires_grad_(t.is_floating_point()) for t in args]
    out = sparse_log_density(*args, backend=backend)
    assert (out[:, 3] == -math.inf).all()
    out[:, [0, 1, 2, 3]].nan_to_num(neginf=0.0).sum().backward()
    assert args[0].grad.isfinite().all()
    for i in (2, 3, 4):
        assert args[i].grad.isfinite().all()
        assert args[i].grad[1, 2] == 0.0
        assert (args[i].grad[3:] == 0.0).all()
        assert (args[i].grad[0] != 0.0).all()


def test_an_empty_batch_has_gradients_of_zero():
    args = [t.requires_grad_(t.is_floating_point()) for t in drawn(4, 12, 8, 4)]
    sparse_log_density(args[0][:0], *args[1:], backend="numba").sum().backward()
    assert all((args[i].grad == 0.0).all() for i in (2, 3, 4))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_is_registered_as_pytorch_demands():
    x, *rest = drawn(6, 9, 4, 3)
    args = (x.requires_grad_(), *(t.requires_grad_(t.is_floating_point()) for t in rest))
    torch.library.opcheck(torch.ops.ugmm.sparse_log_density.default, args)


def test_second_derivatives_and_vmap_work():
    x, index, *parameters = drawn(50, 12, 8, 4)
    x.requires_grad_()

    def second(backend):
        out = sparse_log_density(x, index, *parameters, backend=backend).sum()
        (first,) = torch.autograd.grad(out, x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(second("numba"), second("reference"), rtol=1e-4, atol=1e-5)
    mapped = torch.func.vmap(lambda x: sparse_log_density(x, index, *parameters, backend="numba"))(x.detach())
    torch.testing.assert_close(mapped, sparse_log_density(x.detach(), index, *parameters))


# --- the layer


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_a_layer_over_all_inputs_is_the_dense_layer():
    torch.manual_seed(0)
    full = UGMMLayer(9, 4, init="paper")
    layer = SparseUGMMLayer(9, 4, index=torch.arange(9).expand(4, 9))
    layer.load_state_dict(full.state_dict(), strict=False)
    x = torch.randn(30, 9)
    torch.testing.assert_close(layer(x), full(x))
    torch.testing.assert_close(layer.responsibilities(x), full.responsibilities(x))


def test_a_layer_draws_distinct_inputs_from_the_global_random_state():
    torch.manual_seed(3)
    first = SparseUGMMLayer(20, 50, 6)
    torch.manual_seed(3)
    again = SparseUGMMLayer(20, 50, 6)
    assert first.index.equal(again.index)
    assert all(len(set(row.tolist())) == 6 for row in first.index)
    assert set(first.index.flatten().tolist()) == set(range(20))
    assert (first.in_features, first.out_features, first.components) == (20, 50, 6)
    assert sum(p.numel() for p in first.parameters()) == 3 * 50 * 6


def test_responsibilities_lie_on_the_inputs_that_are_read_and_are_derivatives():
    torch.manual_seed(1)
    layer = SparseUGMMLayer(8, 5, 3).double()
    x = torch.randn(4, 8, dtype=torch.float64)
    share = layer.responsibilities(x)
    read = torch.zeros(5, 8, dtype=torch.bool).scatter(1, layer.index, True)
    assert (share[:, ~read] == 0.0).all()
    torch.testing.assert_close(share.sum(dim=-1), torch.ones(4, 5, dtype=torch.float64))
    # Chapter 2: the responsibilities are the gradients with respect to the log-weights.
    log_weight = layer.log_weight.detach().requires_grad_()
    out = layer.log_density(x, log_weight)
    (total,) = torch.autograd.grad(out.sum(), log_weight)
    torch.testing.assert_close(share.sum(dim=0), layer.by_input(total))


def test_an_input_that_is_read_twice_has_the_shares_of_both_components():
    layer = SparseUGMMLayer(3, 1, index=torch.tensor([[1, 1, 2]]))
    share = layer.responsibilities(torch.randn(5, 3))
    assert (share[..., 0] == 0.0).all()
    torch.testing.assert_close(share.sum(dim=-1), torch.ones(5, 1))


def test_log_total_is_added_to_the_outputs_and_saved_but_not_learnt():
    torch.manual_seed(0)
    layer = SparseUGMMLayer(6, 3, 2)
    x = torch.randn(4, 6)
    before = layer(x)
    layer.log_total.copy_(torch.tensor([0.0, -1.0, -2.0]))
    torch.testing.assert_close(layer(x), before + torch.tensor([0.0, -1.0, -2.0]))
    assert {"index", "log_total"} <= set(layer.state_dict())
    assert {name for name, _ in layer.named_parameters()} == {"mean", "log_std", "mix_logits"}


def test_reset_parameters_draws_anew_and_forgets_the_weight_that_pruning_left():
    torch.manual_seed(0)
    layer = SparseUGMMLayer(6, 3, 2, init="paper")
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.log_total.fill_(-1.5)
    layer.reset_parameters()
    assert (layer.log_total == 0.0).all()
    assert layer.index.equal(before["index"])
    assert all(not layer.get_parameter(n).equal(before[n]) for n in ("mean", "log_std", "mix_logits"))
    again = SparseUGMMLayer(6, 3, 2, device="meta").to_empty(device="cpu")
    again.log_total.fill_(math.nan)
    again.reset_parameters()
    again.index.copy_(layer.index)
    assert again(torch.randn(4, 6)).isfinite().all()


def test_a_layer_has_an_index_of_its_own():
    index = torch.tensor([[0, 1], [2, 3]])
    layer = SparseUGMMLayer(6, 2, index=index)
    index.fill_(5)
    assert layer.index.tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("index", [None, torch.tensor([[0, 1], [2, 3]], dtype=torch.int32)])
def test_buffers_are_made_where_the_parameters_live(index, dtype):
    components = 2 if index is None else None
    layer = SparseUGMMLayer(6, 2, components, index=index, dtype=dtype, device="meta")
    assert layer.index.is_meta
    assert layer.log_total.is_meta
    assert (layer.index.dtype, layer.log_total.dtype) == (torch.int64, dtype)
    assert layer(torch.empty(4, 6, dtype=dtype, device="meta")).shape == (4, 2)


@pytest.mark.parametrize("shape", [(4, 7), (4, 4), (7,), (), (0, 7), (2, 3, 7)])
def test_another_number_of_inputs_is_refused(shape):
    layer = SparseUGMMLayer(5, 3, index=torch.tensor([[0, 1]] * 3), dropout=0.5)
    for call in (layer, layer.responsibilities):
        with pytest.raises(ValueError, match=r"x of shape \(\*, K\) with K = in_features = 5, got"):
            call(torch.randn(shape))
        with pytest.raises(TypeError, match=r"expected x to be a torch.Tensor, got list"):
            call([1.0] * 5)


@pytest.mark.parametrize("mode", ["renormalize", "literal", "inverted"])
def test_dropout_drops_components_and_every_neuron_keeps_one(mode):
    layer = SparseUGMMLayer(10, 40, 3, dropout=0.5, dropout_mode=mode)
    x = torch.randn(6, 10)
    torch.manual_seed(0)
    assert not torch.allclose(layer(x), layer.eval()(x))
    layer.train().dropout = 1.0
    assert layer(x).isfinite().all()


def test_a_sparse_layer_learns_which_of_its_inputs_tells_the_class():
    torch.manual_seed(0)
    x = torch.randn(400, 12)
    y = (x[:, 3] > 0).long()
    index = torch.tensor([[3, 7], [3, 5]])
    layer = SparseUGMMLayer(12, 2, index=index)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(layer(x), y).backward()
        optimizer.step()
    assert (layer(x).argmax(dim=1) == y).float().mean() > 0.95


def test_it_counts_the_components_that_are_there():
    assert count(SparseUGMMLayer(20, 4, 3), torch.rand(20)) == Cost(36, FLOPS_PER_COMPONENT * 12, 12)


def test_its_text_says_how_many_components_there_are():
    assert "in_features=20, components=3, out_features=4" in repr(SparseUGMMLayer(20, 4, 3))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((5, 2), ValueError, "either components or index"),
        ((5, 2, 6), ValueError, "components <= in_features = 5, got 6"),
        ((5, 2, 0), ValueError, "components >= 1, got 0"),
        ((0, 2, 1), ValueError, "in_features >= 1, got 0"),
        ((5, 0, 1), ValueError, "out_features >= 1, got 0"),
        ((5, 2, 1.5), TypeError, "components to be an integer, got 1.5"),
        ((5.0, 2, 1), TypeError, "in_features to be an integer, got 5.0"),
        ((True, 1, 1), TypeError, "in_features to be an integer, got True"),
    ],
)
def test_bad_sizes_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SparseUGMMLayer(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((5.0, 2), TypeError, "in_features to be an integer, got 5.0"),
        ((5, 2.0), TypeError, "out_features to be an integer, got 2.0"),
        ((5, 0), ValueError, "out_features >= 1, got 0"),
    ],
)
def test_bad_sizes_beside_an_index_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SparseUGMMLayer(*arguments, index=torch.zeros(int(arguments[1]), 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (torch.zeros(2, 2), TypeError, "tensor of integers, got torch.float32"),
        (torch.zeros(2, 2, dtype=torch.bool), TypeError, "tensor of integers, got torch.bool"),
        (torch.zeros(2, 2, dtype=torch.complex64), TypeError, "tensor of integers, got torch.complex64"),
        ([[0, 1], [1, 2]], TypeError, "tensor of integers, got list"),
        (torch.zeros(0, 2, dtype=torch.int64), ValueError, r"shape \(2, m\).*got \(0, 2\)"),
        (torch.zeros(3, 2, dtype=torch.int64), ValueError, r"shape \(2, m\)"),
        (torch.zeros(2, 0, dtype=torch.int64), ValueError, "m >= 1"),
        (torch.tensor([[0, 5], [1, 2]]), ValueError, "from 0 to 4.*got 0 to 5"),
        (torch.tensor([[0, -1], [1, 2]]), ValueError, "got -1 to 2"),
    ],
)
def test_a_bad_index_is_refused(index, error, message):
    with pytest.raises(error, match=message):
        SparseUGMMLayer(5, 2, index=index)


def test_the_operator_refuses_what_does_not_fit():
    x, index, mean, log_std, log_weight = drawn(4, 6, 3, 2)
    good = {"x": x, "index": index, "mean": mean, "log_std": log_std, "log_weight": log_weight}
    for changed, error, message in [
        ({"x": [1.0]}, TypeError, "x to be a torch.Tensor"),
        ({"x": x.double()}, TypeError, "one dtype for all arguments"),
        ({"index": index.int()}, TypeError, "torch.int64"),
        ({"log_std": log_std[:2]}, ValueError, "log_std of the shape of mean"),
        ({"index": index[:, :1]}, ValueError, "index of the shape of mean"),
        ({"x": x[:, :0]}, ValueError, "K >= 1"),
        ({"backend": "tpu"}, ValueError, "unknown backend 'tpu'"),
        ({"backend": "triton"}, RuntimeError, "'triton' cannot run here"),
    ]:
        with pytest.raises(error, match=message):
            sparse_log_density(**(good | changed))


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("place", [-7, -1, 6])
def test_an_index_outside_of_the_inputs_is_refused_before_memory_is_read(backend, place):
    x, index, *parameters = drawn(4, 6, 3, 2)
    index[:] = 2
    index[1, 1] = place
    message = f"index from 0 to 5, one less than the inputs, got {min(2, place)} to {max(2, place)}"
    with pytest.raises(IndexError, match=message):
        sparse_log_density(x, index, *parameters, backend=backend)


def test_an_index_from_the_end_is_refused_where_no_value_can_be_looked_at():
    """Under vmap the index of an ensemble is a buffer like others."""
    x, index, *parameters = drawn(4, 6, 3, 2)
    stacked = torch.stack([index, index])
    mapped = torch.func.vmap(lambda index: sparse_log_density(x, index, *parameters))
    torch.testing.assert_close(mapped(stacked)[1], sparse_log_density(x, index, *parameters))
    stacked[1, 0, 0] = -1
    with pytest.raises(IndexError, match="expected index from 0 to 5, one less than the inputs"):
        mapped(stacked)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [3, 300], ids=["reference", "kernel"])
def test_under_autocast_half_precision_is_computed_in_float32(batch, dtype):
    x, index, *parameters = (t.to(dtype) if t.is_floating_point() else t for t in drawn(batch, 16, 8, 4))
    want = sparse_log_density(x.float(), index, *(p.float() for p in parameters))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = sparse_log_density(x, index, *parameters)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [3, 300], ids=["reference", "kernel"])
def test_under_autocast_a_half_precision_layer_answers_and_explains_in_float32(batch, dtype):
    torch.manual_seed(0)
    layer, x = SparseUGMMLayer(16, 8, 4), torch.randn(batch, 16)
    want, shares = layer(x), layer.responsibilities(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, got = layer.to(dtype)(x.to(dtype)), layer.responsibilities(x.to(dtype))
    assert out.dtype == got.dtype == torch.float32
    torch.testing.assert_close(out, want, rtol=0.05, atol=0.05)
    torch.testing.assert_close(got, shares, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("batch", [3, 300], ids=["reference", "kernel"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bool])
def test_dtypes_that_do_not_fit_are_refused_also_under_autocast(dtype, autocast, batch):
    layer, x = SparseUGMMLayer(16, 8, 4), torch.ones(batch, 16, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        for call in (layer, layer.responsibilities):
            with pytest.raises(TypeError, match=f"x: {dtype}"):
                call(x)


def test_half_precision_without_autocast_is_refused():
    with pytest.raises(TypeError, match=r"float32 or float64, got x: torch.bfloat16.*autocast"):
        SparseUGMMLayer(16, 8, 4).bfloat16()(torch.ones(3, 16, dtype=torch.bfloat16))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_torch_compile_traces_a_layer_without_a_graph_break(backend):
    torch.manual_seed(0)
    layer, x = SparseUGMMLayer(16, 8, 4, backend=backend), torch.randn(5, 16)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.usefixtures("fresh_compiler")
def test_a_layer_is_exported_for_batches_of_any_size():
    layer, x = SparseUGMMLayer(16, 8, 4), torch.randn(300, 16)
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(layer, (x[:5],), dynamic_shapes=({0: batch},)).module()
    for rows in (x, x[:2]):
        torch.testing.assert_close(exported(rows), layer(rows))


def test_auto_leaves_float64_to_the_reference_and_takes_the_kernel_for_every_size_else(monkeypatch):
    from ugmm_tutorial.kernels import numba_kernels

    called = []
    usual = numba_kernels.forward
    monkeypatch.setattr(
        numba_kernels, "forward", lambda *args, **options: called.append(1) or usual(*args, **options)
    )
    sparse_log_density(*drawn(200, 20, 8, 5, dtype=torch.float64))
    assert called == []
    sparse_log_density(*drawn(1, 3, 2, 1))
    sparse_log_density(*drawn(200, 20, 8, 5))
    assert called == [1, 1]


DROPOUT = [{}, {"dropout": 0.4}, {"dropout": 0.4, "dropout_mode": "literal"}]


@pytest.mark.parametrize("missing", ["propagate", "drop"])
@pytest.mark.parametrize("options", DROPOUT, ids=str)
@pytest.mark.parametrize("rows", [3, 150])
def test_the_layer_in_one_kernel_equals_its_own_methods_in_float64(rows, options, missing):
    torch.manual_seed(0)
    layer = SparseUGMMLayer(12, 8, 4, min_std=0.2, max_std=2.0, missing=missing, **options)
    with torch.no_grad():
        layer.log_std.uniform_(-3.0, 2.0)
        layer.mix_logits.normal_()
        layer.log_total.uniform_(-1.0, 0.0)
    x = torch.randn(rows, 12)
    if missing == "drop":
        x[torch.rand(rows, 12) < 0.2] = math.nan
    assert layer._in_one_kernel(x, missing=missing == "drop") is not None
    found = []
    for one in (layer, copy.deepcopy(layer).double()):
        torch.manual_seed(1)
        given = x.detach().to(one.mean.dtype).requires_grad_()
        out = one(given)
        value = out.masked_fill(out.isinf(), 0.0).square().log1p().sum()
        gradients = torch.autograd.grad(value, [given, *one.parameters()])
        found.append([out.masked_fill(out.isinf(), 0.0), *gradients])
    for got, want in zip(*found, strict=True):
        assert (got.double() - want).norm() <= 1e-5 * want.norm()


def test_an_index_that_was_changed_to_one_past_the_inputs_is_refused_by_the_layer():
    layer = SparseUGMMLayer(6, 3, 2)
    layer.index[1, 1] = 6
    with pytest.raises(IndexError, match="expected index from 0 to 5"):
        layer(torch.randn(4, 6))


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_arguments_on_another_device_are_refused(place, backend):
    """A kernel would read memory that was never written."""
    arguments = [torch.zeros(400, 5), torch.zeros(17, 8, dtype=torch.int64), *torch.zeros(3, 17, 8)]
    arguments[place] = arguments[place].to("meta")
    with pytest.raises(ValueError, match=r"on one device|on the device of x"):
        sparse_log_density(*arguments, backend=backend)
