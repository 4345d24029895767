"""A dense layer as five kernels for GPUs, against float64, and against the layer's own methods.

Where there is no GPU, these tests run in a second process, under Triton's interpreter.
"""

import copy
import math
from importlib.util import find_spec

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function
from under_interpreter import how_many_pass

from ugmm_tutorial import UGMMLayer, kernels
from ugmm_tutorial.kernels.transform import DROPPED_LAST
from ugmm_tutorial.layers import on_gpu

HERE = kernels.unavailable("triton") is None
DEVICE = "cpu" if kernels.interpreted() else "cuda"
runs = pytest.mark.skipif(not HERE, reason="the GPU kernels do not run here")
pytestmark = [
    # PyTorch warns of itself.
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
if HERE:
    from ugmm_tutorial.kernels import triton_layer
if kernels.interpreted():
    from interpreter import patch_once_per_launch

    patch_once_per_launch()


FORWARD = ["layer_panels", "layer_outputs"]
BACKWARD = ["layer_panels", "layer_gradients", "layer_finish"]
LARGE = {"ROWS": 8, "BLOCK": 64}  # with fewer programs, so the interpreter needs less time


def made(j, k, **options):
    """A layer, some of whose deviations are beyond both bounds, and with a component without weight."""
    torch.manual_seed(3)
    layer = UGMMLayer(k, j, **({"min_std": 0.2, "max_std": 2.0} | options), backend="triton").to(DEVICE)
    with torch.no_grad():
        layer.log_std.copy_(torch.empty(j, k).uniform_(-3.0, 2.0))
        layer.mix_logits.copy_(3.0 * torch.randn(j, k))
        if k > 2:
            layer.mix_logits[0, 1] = -math.inf
    return layer


def by_reference(layer):
    """The same layer on the reference in float32 and in float64, under the mask that it has drawn last."""
    drawn, usual = [], layer.dropout_penalty
    layer.dropout_penalty = lambda: drawn.append(usual()) or drawn[-1]
    copies = copy.deepcopy(layer), copy.deepcopy(layer).double()
    for one in copies:
        one.backend = "reference"
        one.dropout_penalty = lambda to=one.mean: (drawn[-1][0], drawn[-1][1].to(to))
    return copies


def results(layer, x, upstream):
    """The output and all gradients."""
    x = x.to(layer.mean, copy=True).requires_grad_()
    out = layer(x)
    return [out.detach(), *torch.autograd.grad(out, [x, *layer.parameters()], upstream.to(out))]


def launches(monkeypatch):
    """The names of kernels, as they are launched."""
    names, launch = [], triton_layer._launch

    def recording(kernel, *args, **constants):
        names.append(kernel.fn.__name__)
        launch(kernel, *args, **constants)

    monkeypatch.setattr(triton_layer, "_launch", recording)
    return names


def far(x):
    """Sums vanish in these rows."""
    x[::3] += 60.0
    x[1::5] -= 200.0


# --- the numbers

# Examples, neurons, components; the tile of a larger layer; options; whether some examples are far away.
CASES = {
    "small": ((5, 3, 7), None, {}, False),
    "one": ((1, 1, 1), None, {}, False),
    "one component": ((6, 4, 1), None, {}, True),
    "one neuron": ((9, 1, 13), None, {"dropout": 0.4}, True),
    "wide": ((67, 18, 37), 0, {}, True),
    "few examples": ((18, 66, 9), 1, {"dropout": 0.4, "dropout_mode": "literal"}, False),
    "middle": ((19, 17, 70), 2, {"dropout": 0.4}, True),
    "many examples": ((130, 3, 5), None, {"input_dropout": 0.4}, False),
    "inverted": ((4, 9, 33), None, {"dropout": 0.6, "dropout_mode": "inverted"}, True),
    "no bounds": ((4, 3, 5), None, {"min_std": 0.0, "max_std": math.inf}, False),
}


@runs
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_float64(case, monkeypatch):
    (b, j, k), tile, options, distant = CASES[case]
    if tile is not None:
        monkeypatch.setattr(triton_layer, "tile_for", lambda *sizes: triton_layer.TILES[tile])
        monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer = made(j, k, **options)
    x, upstream = torch.randn(b, k), torch.randn(b, j)
    if distant:
        far(x)
    names = launches(monkeypatch)
    all_results = [results(one, x, upstream) for one in (layer, *by_reference(layer))]
    assert names == FORWARD + BACKWARD
    for got, usual, exact in zip(*all_results, strict=True):
        assert got.dtype == torch.float32
        assert got.shape == exact.shape
        # Far from all means every float32 exponent is off by its own rounding.
        error = (usual.double() - exact).norm() + 1e-6 * exact.norm()
        assert (got.double() - exact).norm() <= 3.0 * error + 1e-12


@runs
def test_a_second_run_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer = made(5, 20)
    x, upstream = torch.randn(130, 20), torch.randn(130, 5)
    far(x)
    for one, other in zip(results(layer, x, upstream), results(layer, x, upstream), strict=True):
        assert torch.equal(one, other)


@runs
def test_only_what_is_needed_is_launched(monkeypatch):
    monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer, names = made(3, 5), launches(monkeypatch)
    with torch.no_grad():
        assert layer(torch.randn(2, 2, 5, device=DEVICE)).shape == (2, 2, 3)
    assert names == FORWARD
    x = torch.randn(4, 5, device=DEVICE, requires_grad=True)
    alone = copy.deepcopy(layer).requires_grad_(False)
    (of_x,) = torch.autograd.grad(alone(x).sum(), x)
    assert names[2:] == FORWARD + BACKWARD[:2]
    assert torch.equal(of_x, torch.autograd.grad(layer(x).sum(), x)[0])
    layer.mean.requires_grad_(False)
    of_logits = torch.autograd.grad(layer(x.detach()).sum(), layer.mix_logits)[0]
    torch.testing.assert_close(of_logits.sum(dim=1), torch.zeros(3, device=DEVICE), atol=1e-5, rtol=0.0)


@runs
def test_nan_stays_in_its_row_and_where_it_meets_a_parameter():
    layer = made(3, 5)
    x = torch.randn(6, 5)
    x[2, 3] = math.nan
    out, of_x, *_ = results(layer, x, torch.ones(6, 3))
    assert out.isnan().nonzero()[:, 0].unique().tolist() == [2]
    assert of_x.isnan().nonzero()[:, 0].unique().tolist() == [2]
    layer.log_std.data[1, 0] = math.nan
    assert layer(x.to(DEVICE))[[0, 1, 3]].isnan().nonzero()[:, 1].unique().tolist() == [1]


@runs
def test_second_derivatives_are_those_of_the_layers_own_methods():
    layer = made(3, 5)
    layer.log_std.data.clamp_(-1.0, 0.5)
    layer.mix_logits.data[0, 1] = 0.0
    (_, exact), x = by_reference(layer), torch.randn(4, 5)

    def second(layer):
        inputs = [x.to(layer.mean, copy=True).requires_grad_(), *layer.parameters()]
        first = torch.autograd.grad(layer(inputs[0]).sin().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    for got, want in zip(second(layer), second(exact), strict=True):
        assert (got - want).norm() <= 1e-4 * want.norm()


@runs
def test_batches_of_gradients_are_computed_one_after_the_other(monkeypatch):
    monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer = made(2, 3)
    x = torch.randn(2, 3, device=DEVICE, requires_grad=True)
    out, upstream = layer(x), torch.randn(2, 2, 2, device=DEVICE)
    (got,) = torch.autograd.grad(out, x, upstream, is_grads_batched=True, retain_graph=True)
    for one, alone in zip(got, upstream, strict=True):
        assert torch.equal(one, torch.autograd.grad(out, x, alone, retain_graph=True)[0])


# --- the operators


@runs
def test_the_operators_are_registered_as_pytorch_demands(monkeypatch):
    monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer = made(2, 3)
    x = torch.randn(2, 3, device=DEVICE)
    layer(x)
    dropped = torch.tensor([[0.0, -math.inf, 0.0], [-math.inf, 0.0, 0.0]], device=DEVICE)
    arguments, rule = (x.requires_grad_(), *layer.parameters(), dropped), (DROPPED_LAST, -1.0, 1.0)
    torch.library.opcheck(torch.ops.ugmm.layer.default, (*arguments, *rule))
    out, state, lowest = torch.ops.ugmm.layer(*arguments, *rule)
    tensors = [t.detach() for t in (out, *arguments, state, lowest)]
    torch.library.opcheck(torch.ops.ugmm.layer_backward.default, (*tensors, *rule, True, True))


@runs
def test_a_compiled_layer_is_one_graph_with_the_same_numbers():
    torch._dynamo.reset()
    layer = made(3, 5)
    x, upstream = torch.randn(4, 5), torch.randn(4, 3)
    want = results(layer, x, upstream)
    layer.compile(fullgraph=True, backend="aot_eager")
    for got, other in zip(results(layer, x, upstream), want, strict=True):
        torch.testing.assert_close(got, other)


# --- who is left to other methods


@runs
def test_a_subclass_float64_vmap_and_a_switch_leave_these_kernels_out(monkeypatch):
    class Own(UGMMLayer):
        @property
        def log_weight(self):
            return super().log_weight

    names, x = launches(monkeypatch), torch.randn(2, 4, device=DEVICE)
    layer = UGMMLayer(4, 3, backend="triton").to(DEVICE)
    Own(4, 3, backend="triton").to(DEVICE)(x)
    copy.deepcopy(layer).double()(x.double())
    torch.func.vmap(layer)(x)
    assert names == []
    layer(x)
    assert len(names) == 2
    monkeypatch.setattr(on_gpu, "ENABLED", False)
    layer(x)
    assert len(names) == 2
    with pytest.raises(ValueError, match=r"expected x of shape \(\*, K\)"):
        layer(torch.randn(2, 5, device=DEVICE))


# Memory and views: a GPU has nothing to do for them.
NO_WORK = {f"aten::{name}" for name in ("empty", "empty_strided", "view", "as_strided", "detach")}


def work_beside_launches(monkeypatch, call):
    """What PyTorch computes in a call, but for what happens within a launch."""
    launch = triton_layer._launch

    def marked(kernel, *args, **constants):
        with record_function("a launch"):
            launch(kernel, *args, **constants)

    with monkeypatch.context() as patch, profile(activities=[ProfilerActivity.CPU]) as seen:
        patch.setattr(triton_layer, "_launch", marked)
        call()
    found = []
    for event in seen.events():
        ancestor = event
        while ancestor is not None and ancestor.name != "a launch":
            ancestor = ancestor.cpu_parent
        # An operation that only calls others, such as reshape, computes nothing itself.
        if ancestor is None and event.name.startswith("aten::") and not event.cpu_children:
            found.append(event.name)
    assert any(event.name == "a launch" for event in seen.events())
    return [name for name in found if name not in NO_WORK]


@runs
@pytest.mark.parametrize(("options", "drawn"), [({}, []), ({"dropout": 0.4}, ["aten::random_"])])
def test_beside_its_launches_a_layer_computes_nothing_but_a_random_draw(options, drawn, monkeypatch):
    layer = made(3, 5, **options)
    x, upstream = torch.randn(4, 5, device=DEVICE, requires_grad=True), torch.randn(4, 3, device=DEVICE)
    layer(x)
    outputs = []
    assert work_beside_launches(monkeypatch, lambda: outputs.append(layer(x))) == drawn
    leaves = [x, *layer.parameters()]
    backward = work_beside_launches(monkeypatch, lambda: torch.autograd.grad(outputs[0], leaves, upstream))
    assert backward == []


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(HERE, reason="the tests above ran the kernels")
def test_the_kernels_pass_this_file_under_the_interpreter():
    assert how_many_pass(__file__) >= 18
