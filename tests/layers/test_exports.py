"""Every layer and network is compiled whole, exported for batches of any size, and written as ONNX."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from ugmm_tutorial import ConvNet, HybridNet, UGMMNet, kernels, layers
from ugmm_tutorial.layers import (
    LAYERS,
    CategoricalLeafLayer,
    FrozenStdLayer,
    MaxLayer,
    MixtureLayer,
    PerExampleDropoutLayer,
    SparseUGMMLayer,
    TiedStdLayer,
    UGMMLayer,
    UniformWeightLayer,
)

K, J = 16, 8
MODELS = {
    "dense": lambda: UGMMLayer(K, J),
    "numba": lambda: UGMMLayer(K, J, backend="numba"),
    "reference": lambda: UGMMLayer(K, J, backend="reference"),
    "float64": lambda: UGMMLayer(K, J, dtype=torch.float64),
    "no floor": lambda: UGMMLayer(K, J, min_std=0.0, init="paper"),
    "ceiling": lambda: UGMMLayer(K, J, max_std=2.0),
    "dropout": lambda: UGMMLayer(K, J, dropout=0.3, dropout_mode="inverted"),
    "input dropout": lambda: UGMMLayer(K, J, input_dropout=0.3),
    "error": lambda: UGMMLayer(K, J, missing="error"),
    "drop": lambda: UGMMLayer(K, J, missing="drop"),
    "renormalize": lambda: UGMMLayer(K, J, missing="renormalize"),
    "sparse": lambda: SparseUGMMLayer(K, J, components=4),
    "sparse drop": lambda: SparseUGMMLayer(K, J, components=4, missing="drop"),
    "sparse renormalize": lambda: SparseUGMMLayer(K, J, components=4, missing="renormalize"),
    "categorical": lambda: CategoricalLeafLayer(K, J, num_labels=3),
    "categorical drop": lambda: CategoricalLeafLayer(K, J, num_labels=3, missing="drop"),
    "max": lambda: MaxLayer(K, J),
    "uniform weights": lambda: UniformWeightLayer(K, J),
    "tied std": lambda: TiedStdLayer(K, J),
    "frozen std": lambda: FrozenStdLayer(K, J),
    "per example": lambda: PerExampleDropoutLayer(K, J, dropout=0.3),
    "network": lambda: UGMMNet([K, J, 4], norm="before", missing="renormalize"),
    "hybrid": lambda: HybridNet([K, J, J, 4], norm="batch", missing="drop"),
    "images": lambda: ConvNet(head="ugmm", widths=(J, 10), channels=(2, 3)),
}
NEEDS_NUMBA = pytest.mark.skipif(
    kernels.unavailable("numba") is not None, reason="the kernel does not run here"
)
SIZES = (32, 7, 2)


def _of_size(name: str, batch: int) -> Tensor:
    draw = torch.Generator().manual_seed(batch)
    if name == "images":
        return torch.rand(batch, 1, 28, 28, generator=draw)
    x = torch.randn(batch, K, generator=draw, dtype=torch.float64 if name == "float64" else torch.float32)
    x[:, -1] = torch.randint(3, (batch,), generator=draw).to(x.dtype)
    if name.endswith(("drop", "renormalize", "network", "hybrid")):
        x[torch.rand(batch, K, generator=draw) < 0.3] = math.nan
        x[1] = math.nan
    return x


@pytest.fixture(params=[pytest.param(n, marks=NEEDS_NUMBA if n == "numba" else ()) for n in MODELS])
def made(request) -> tuple[nn.Module, list[Tensor]]:
    """A model in evaluation mode, and batches of several sizes."""
    torch.manual_seed(0)
    return MODELS[request.param]().eval(), [_of_size(request.param, size) for size in SIZES]


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _assert_same(function, model: nn.Module, batches: list[Tensor]) -> None:
    for x in batches:
        torch.testing.assert_close(function(x), model(x), rtol=1e-4, atol=1e-4, equal_nan=True)


def test_no_layer_is_left_out():
    public = {kind for name in layers.__all__ if inspect.isclass(kind := getattr(layers, name))}
    here = {type(make()) for make in MODELS.values()}
    assert (public | set(LAYERS.values())) - {MixtureLayer} <= here


@pytest.mark.usefixtures("fresh_compiler")
def test_a_model_is_compiled_whole(made):
    model, batches = made
    _assert_same(torch.compile(model, fullgraph=True, backend="aot_eager"), model, batches[:2])


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["dropout", "input dropout", "tied std", "per example", "categorical"])
def test_training_is_compiled_whole_with_its_gradients(name):
    torch.manual_seed(0)
    model, x = MODELS[name](), _of_size(name, 5)
    found = []
    for function in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(1)
        out = function(x)
        found.append((out, *torch.autograd.grad(out.sum(), tuple(model.parameters()))))
    torch.testing.assert_close(*found)


def test_a_model_is_exported_for_batches_of_any_size(made):
    model, batches = made
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (batches[0],), dynamic_shapes=({0: batch},))
    _assert_same(program.module(), model, batches)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", ["model", "program"])
def test_a_model_is_written_as_onnx(made, first, tmp_path):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    model, batches = made
    shapes = ({0: torch.export.Dim("batch")},)
    given = model
    if first == "program":
        given = torch.export.export(model, (batches[0],), dynamic_shapes=shapes)
    torch.onnx.export(
        given, (batches[0],), tmp_path / "model.onnx", dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (entrance,) = session.get_inputs()
    _assert_same(lambda x: torch.from_numpy(session.run(None, {entrance.name: x.numpy()})[0]), model, batches)


@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_what_exporters_get_instead_of_a_kernel_has_its_outputs(name):
    """The exporter to ONNX asks for the operator in terms of PyTorch's own ones."""
    model, x = MODELS[name]().eval(), _of_size(name, 32)
    program = torch.export.export(model, (x,))
    kernel = (
        torch.ops.ugmm.log_density.default if name == "dense" else torch.ops.ugmm.sparse_log_density.default
    )
    plain = program.run_decompositions({kernel: torch._decomp.decomposition_table[kernel]})
    assert "ugmm" in str(program.graph) or kernels.unavailable("numba")
    assert "ugmm" not in str(plain.graph)
    torch.testing.assert_close(plain.module()(x), model(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["dense", "sparse", "renormalize"])
def test_a_traced_model_needs_no_kernel_and_takes_other_batches(name):
    model, x = MODELS[name]().eval(), _of_size(name, 300)
    traced = torch.jit.trace(model, (x.nan_to_num(),), check_trace=False)
    assert "ugmm::" not in str(traced.inlined_graph)
    _assert_same(traced, model, [x, x[:5]])


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("how", ["compiled", "exported", "vmap"])
def test_where_values_cannot_be_looked_at_nan_and_unknown_labels_give_nan(how):
    kinds = {
        "dense": UGMMLayer(K, J, missing="error"),
        "categorical": CategoricalLeafLayer(K, J, num_labels=3, missing="error"),
    }
    for name, layer in kinds.items():
        x = _of_size("categorical", 6)
        ways = {
            "compiled": lambda layer=layer: torch.compile(layer, fullgraph=True, backend="eager"),
            "exported": lambda layer=layer, x=x: torch.export.export(layer, (x,)).module(),
            "vmap": lambda layer=layer: torch.vmap(layer),
        }
        function = ways[how]()
        torch.testing.assert_close(function(x), layer(x))
        x[2, 0] = math.nan
        if name == "categorical":
            x[3, -1], x[4, -1], x[5, -1] = 3.0, -1.0, 0.5
        broken = function(x).isnan()
        assert broken.all(dim=1).tolist() == [False, False, True, *[name == "categorical"] * 3]
        assert torch.equal(broken.any(dim=1), broken.all(dim=1))
        with pytest.raises(ValueError, match="NaN in 1 places"):
            layer(x)


def test_numba_is_tried_with_pythons_own_functions(monkeypatch):
    """While torch.export traces, math.pow is another function, which Numba would refuse to learn."""
    usual, replaced, seen = math.pow, lambda x, y: x**y, []
    monkeypatch.setattr(math, "pow", replaced)
    monkeypatch.setattr(kernels, "_tried", {})
    monkeypatch.setattr(kernels, "_numba_unavailable", lambda: seen.append(math.pow))
    assert kernels.unavailable("numba") is None
    assert seen == [usual]
    assert math.pow is replaced


@pytest.mark.slow
@NEEDS_NUMBA
def test_an_export_may_be_the_first_thing_that_a_process_does():
    program = (
        "import torch, ugmm_tutorial as ug; net = ug.UGMMNet([64, 64, 10]).eval(); x = torch.rand(128, 64); "
        "print(str(torch.export.export(net, (x,)).graph).count('ugmm.log_density'))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout.strip() == "2", done.stderr
