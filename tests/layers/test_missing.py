"""Missing inputs: their components are left out, on every backend, and nothing else changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ugmm_tutorial import ConvNet, UGMMNet
from ugmm_tutorial.layers import (
    CategoricalLeafLayer,
    MaxLayer,
    PerExampleDropoutLayer,
    SparseUGMMLayer,
    TiedStdLayer,
    UGMMLayer,
)

OUTPUTS = 5
SIZES = {"small": (9, 6), "large": (70, 130)}  # examples and inputs; the fused kernels take the large one
LAYERS = {
    "reference": lambda k, **options: UGMMLayer(k, OUTPUTS, backend="reference", **options),
    "numba": lambda k, **options: UGMMLayer(k, OUTPUTS, backend="numba", **options),
    "auto": lambda k, **options: UGMMLayer(k, OUTPUTS, **options),
    "float64": lambda k, **options: UGMMLayer(k, OUTPUTS, dtype=torch.float64, **options),
    "tied": lambda k, **options: TiedStdLayer(k, OUTPUTS, **options),
    "sparse": lambda k, **options: SparseUGMMLayer(k, OUTPUTS, components=4, **options),
    "categorical": lambda k, **options: CategoricalLeafLayer(k, OUTPUTS, num_labels=3, **options),
}


@pytest.fixture(params=LAYERS)
def make(request):
    def built(inputs: int, **options):
        torch.manual_seed(0)
        return LAYERS[request.param](inputs, init="paper", min_std=0.2, **options)

    return built


@pytest.fixture(params=SIZES)
def sizes(request) -> tuple[int, int]:
    return SIZES[request.param]


def _rows(examples: int, inputs: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Inputs, the last of which is a class, and which of them are missing: none of row 0, all of row 1."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(examples, inputs, generator=draw, dtype=dtype)
    x[:, -1] = torch.randint(3, (examples,), generator=draw).to(dtype)
    absent = torch.rand(examples, inputs, generator=draw) < 0.4
    absent[0], absent[1] = False, True
    return x, absent


def _expected(layer, x: Tensor, absent: Tensor, *, renormalized: bool) -> Tensor:
    """The logsumexp of the terms that are left, divided by the weights that are left."""
    terms, weights = layer.component_log_densities(x), layer.log_weight
    reads = absent[..., layer.index] if isinstance(layer, SparseUGMMLayer) else absent.unsqueeze(-2)
    out = terms.masked_fill(reads, -math.inf).logsumexp(dim=-1)
    if renormalized:
        left = weights.masked_fill(reads, -math.inf).logsumexp(dim=-1)
        out = torch.where(left == -math.inf, 0.0, out - left)
    return out


@pytest.mark.parametrize("missing", ["drop", "renormalize"])
def test_terms_of_missing_inputs_are_left_out(missing, make, sizes):
    layer = make(sizes[1], missing=missing)
    x, absent = _rows(*sizes, layer.mean.dtype)
    expected = _expected(layer, x, absent, renormalized=missing == "renormalize")
    torch.testing.assert_close(layer(x.masked_fill(absent, math.nan)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("missing", ["drop", "renormalize"])
def test_gradients_are_those_of_the_terms_that_are_left(missing, make, sizes):
    layer = make(sizes[1], missing=missing)
    x, absent = _rows(*sizes, layer.mean.dtype)
    some = absent.any(dim=1) & ~absent.all(dim=1)
    expected = _expected(layer, x, absent, renormalized=missing == "renormalize")[some]
    expected = expected[expected.isfinite()]
    wanted = torch.autograd.grad(expected.sum(), tuple(layer.parameters()))
    out = layer(x.masked_fill(absent, math.nan))[some]
    found = torch.autograd.grad(out[out.isfinite()].sum(), tuple(layer.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("missing", ["drop", "renormalize"])
def test_rows_without_any_input_have_no_gradient_and_spoil_no_other(missing, make, sizes):
    layer = make(sizes[1], missing=missing)
    x, absent = _rows(*sizes, layer.mean.dtype)
    out = layer(x.masked_fill(absent, math.nan))
    assert (out[1] == (0.0 if missing == "renormalize" else -math.inf)).all()
    out.masked_fill(out.isinf(), 0.0).sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    layer.zero_grad()
    layer(x.masked_fill(absent, math.nan))[1].masked_fill(out[1].isinf(), 0.0).sum().backward()
    assert all((p.grad == 0.0).all() for p in layer.parameters())


@pytest.mark.parametrize("missing", ["drop", "renormalize"])
def test_whole_rows_are_computed_as_before(missing, make, sizes):
    layer, plain = make(sizes[1], missing=missing), make(sizes[1])
    x, _ = _rows(*sizes, layer.mean.dtype)
    assert torch.equal(layer(x), plain(x))
    torch.testing.assert_close(layer.weight_left(layer.log_weight, torch.zeros_like(x, dtype=torch.bool)),
                               torch.ones(len(x), OUTPUTS, dtype=x.dtype))  # fmt: skip


@pytest.mark.happens(
    "Inputs and labels",
    when="an input is NaN, and nothing was said about missing inputs",
    see="NaN in the outputs of its row",
    kept="the outputs of all other rows",
)
def test_by_default_nan_makes_the_outputs_of_its_row_nan(make, sizes):
    layer = make(sizes[1])
    x, _ = _rows(*sizes, layer.mean.dtype)
    if not isinstance(layer, SparseUGMMLayer):
        x[2, 0] = math.nan
        assert layer(x).isnan().any(dim=1).tolist() == [row == 2 for row in range(len(x))]


def test_error_names_the_place(make):
    layer = make(6, missing="error")
    x, _ = _rows(9, 6, layer.mean.dtype)
    layer(x)
    x[4, 2] = math.nan
    with pytest.raises(
        ValueError, match=r"NaN in 1 places, first at \(4, 2\): fill them in, or .*'renormalize'"
    ):
        layer(x)


def test_missing_inputs_are_responsible_for_nothing(make, sizes):
    layer = make(sizes[1], missing="drop")
    x, absent = _rows(*sizes, layer.mean.dtype)
    share = layer.responsibilities(x.masked_fill(absent, math.nan))[2:]
    seen = ~share.isnan()  # a sparse neuron may read missing inputs only
    assert (share[absent[2:].unsqueeze(1).expand_as(share) & seen] == 0.0).all()
    sums = share.sum(dim=-1)
    torch.testing.assert_close(sums[seen.all(dim=-1)], torch.ones_like(sums[seen.all(dim=-1)]))
    assert seen.all(dim=-1).double().mean() > 0.8


def test_dropout_and_missing_inputs_together_leave_finite_gradients():
    torch.manual_seed(0)
    layer = UGMMLayer(6, OUTPUTS, dropout=0.5, missing="renormalize", dtype=torch.float64).train()
    x, absent = _rows(200, 6, torch.float64)
    for _ in range(20):
        layer.zero_grad()
        out = layer(x.masked_fill(absent, math.nan))
        assert out.isfinite().all()
        out.sum().backward()
        assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_vmap_leaves_out_what_is_missing():
    torch.manual_seed(0)
    layer = UGMMLayer(6, OUTPUTS, missing="renormalize")
    x, absent = _rows(9, 6, torch.float32)
    given = x.masked_fill(absent, math.nan)
    torch.testing.assert_close(torch.vmap(layer)(given), layer(given))


@pytest.mark.parametrize("kind", [MaxLayer, PerExampleDropoutLayer])
@pytest.mark.parametrize("missing", ["drop", "renormalize"])
def test_layers_that_cannot_leave_out_components_say_so(kind, missing):
    with pytest.raises(ValueError, match=f"unknown missing '{missing}': expected one of propagate, error"):
        kind(4, 3, missing=missing)
    kind(4, 3, missing="error")


def test_only_the_first_layer_of_a_network_leaves_out_components():
    network = UGMMNet([6, 8, 3], norm="layer", missing="renormalize")
    assert [layer.missing for layer in network if isinstance(layer, UGMMLayer)] == [
        "renormalize",
        "propagate",
    ]
    x, absent = _rows(9, 6, torch.float32)
    assert network(x.masked_fill(absent, math.nan)).isfinite().all()
    assert ConvNet(head="ugmm", missing="error").head[0].missing == "error"


def test_the_mode_is_an_option_that_is_shown_and_described():
    layer = UGMMLayer(4, 3, missing="drop")
    assert "missing='drop'" in repr(layer)
    assert "missing" not in repr(UGMMLayer(4, 3))
    assert UGMMLayer(4, 3, **layer.options).missing == "drop"
    with pytest.raises(
        ValueError, match="unknown missing 'zero': expected one of propagate, error, drop, renorm"
    ):
        UGMMLayer(4, 3, missing="zero")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_components_of_any_width_are_left_out_whole(backend, dtype):
    """The narrowest is a thousand million times narrower than the widest."""
    torch.manual_seed(0)
    layer = UGMMLayer(4, 3, min_std=1e-4, missing="drop", backend=backend, dtype=dtype)
    with torch.no_grad():
        layer.log_std.copy_(torch.tensor([1e-4, 1.0, 1e2, 1e5]).log().repeat(3, 1))
    x = torch.randn(6, 4, dtype=dtype)
    absent = torch.zeros(6, 4, dtype=torch.bool)
    absent[range(6), [0, 1, 2, 3, 3, 3]] = True
    out = layer(x.masked_fill(absent, math.nan))
    terms = layer.component_log_densities(x).masked_fill(absent.unsqueeze(1), -math.inf)
    torch.testing.assert_close(out, terms.logsumexp(dim=2))
    out.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("missing", ["drop", "renormalize"])
@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "tied"])
def test_components_of_extreme_widths_and_half_precision_change_nothing(kind, missing, half):
    torch.manual_seed(0)
    layer = LAYERS[kind](70, min_std=0.0, missing=missing)
    if half is not None and layer.mean.dtype == torch.float64:
        pytest.skip("autocast is for float32")
    with torch.no_grad():
        layer.mean.mul_(3.0)
        layer.log_std[:, :4] = torch.tensor([1e-38, 1e-30, 1e-4, 1e3]).log()
    x, absent = _rows(130, 70, layer.mean.dtype)
    x = x.to(half or x.dtype)
    with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
        out = layer(x.masked_fill(absent, math.nan))
    expected = _expected(layer, x.to(out.dtype), absent, renormalized=missing == "renormalize")
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    out.masked_fill(out.isinf(), 0.0).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
