"""Missing inputs in the direct kernel: outputs and gradients against float64, edges, repeatability."""

import copy
import math

import pytest
import torch
from dropouts import DROPPED

from ugmm_tutorial import UGMMLayer, kernels
from ugmm_tutorial.layers import direct

pytestmark = pytest.mark.skipif(kernels.unavailable("numba") is not None, reason="no fused CPU kernel here")
DROPOUT = [{}, *DROPPED]
# Examples, inputs and neurons: few and many examples with narrow loops, and wide ones.
SIZES = [(3, 9, 5), (150, 9, 40), (14, 600, 5)]
MISSING = pytest.mark.parametrize("missing", ["drop", "renormalize"])


def pair(size, missing, *, bounds=True, spread=1.0, **options):
    """A layer, one like it in float64, and rows: the first is whole, the second has no input at all."""
    rows, inputs, neurons = size
    torch.manual_seed(3)
    bounds = {"min_std": 0.2, "max_std": 2.0} if bounds else {"min_std": 0.0}
    layer = UGMMLayer(inputs, neurons, missing=missing, **bounds, **options)
    with torch.no_grad():
        layer.log_std.uniform_(-3.0, 2.0)
        layer.mix_logits.normal_()
        layer.mix_logits[1, 2] = -math.inf
    x = spread * torch.randn(rows, inputs)
    absent = torch.rand(rows, inputs) < 0.3
    absent[0], absent[1] = False, True
    return layer, copy.deepcopy(layer).double(), x.masked_fill(absent, math.nan).requires_grad_()


def results(layer, x, second=False):
    """The output and all gradients, under one mask; or the gradients of the gradients' squares."""
    torch.manual_seed(5)
    x = x.detach().to(layer.mean.dtype).requires_grad_()
    out = layer(x)
    inputs = [x, *layer.parameters()]
    value = out.masked_fill(out.isinf(), 0.0).square().log1p().sum()
    gradients = torch.autograd.grad(value, inputs, create_graph=second)
    if second:
        gradients = torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
    return [out.detach(), *gradients]


def close(got, want, tolerance):
    nothing = want.isinf()
    assert torch.equal(got.isinf(), nothing)
    got, want = got.double().masked_fill(nothing, 0.0), want.masked_fill(nothing, 0.0)
    assert (got - want).norm() <= tolerance * want.norm()


@MISSING
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("bounds", [True, False], ids=["bounds", "no bounds"])
@pytest.mark.parametrize("options", DROPOUT, ids=str)
def test_outputs_and_gradients_equal_float64(options, bounds, size, missing):
    layer, exact, x = pair(size, missing, bounds=bounds, **options)
    assert direct.log_density(layer, x, UGMMLayer, missing=True) is not None
    for got, want in zip(results(layer, x), results(exact, x), strict=True):
        close(got, want, 2e-5)


@MISSING
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rows_whose_sums_vanish_are_summed_again(size, missing):
    layer, exact, x = pair(size, missing, spread=300.0)
    for got, want in zip(results(layer, x), results(exact, x), strict=True):
        close(got, want, 2e-4)


@MISSING
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_missing_inputs_have_gradients_of_zero_and_so_have_rows_without_any(size, missing):
    layer, _, x = pair(size, missing)
    out = layer(x)
    assert (out[1] == (0.0 if missing == "renormalize" else -math.inf)).all()
    upstream = torch.randn_like(out)
    upstream[2] = math.nan
    (gradient,) = torch.autograd.grad(out, x, upstream, retain_graph=True)
    assert (gradient[x.isnan()] == 0.0).all()
    assert gradient[2][~x[2].isnan()].isnan().all()
    upstream[[0, 2]] = 0.0
    upstream[3:] = 0.0
    for gradient in torch.autograd.grad(out, list(layer.parameters()), upstream):
        assert (gradient == 0.0).all()


@MISSING
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_infinite_inputs_and_nan_among_parameters_are_what_they_were(size, missing):
    layer, exact, x = pair(size, missing)
    with torch.no_grad():
        x[0, 0], x[0, 1] = math.inf, -math.inf
        for one in (layer, exact):
            one.mean[0, 3] = math.nan
    for got, want in zip(results(layer, x), results(exact, x), strict=True):
        assert torch.equal(got.isnan(), want.isnan())
        close(got.nan_to_num(0.0), want.nan_to_num(0.0), 2e-5)


@MISSING
@pytest.mark.parametrize("options", [{}, {"dropout": 0.4, "dropout_mode": "literal"}], ids=str)
def test_second_derivatives_are_those_of_the_layers_own_methods(options, missing):
    layer, exact, x = pair((20, 9, 5), missing, **options)
    for one in (layer, exact):  # beyond a bound the gradient is a rule, and has no derivative
        one.log_std.data.clamp_(-1.0, 0.5)
    for got, want in zip(results(layer, x, second=True), results(exact, x, second=True), strict=True):
        close(got, want, 5e-3)


@MISSING
@pytest.mark.parametrize("size", [(700, 9, 40), (130, 600, 70)], ids=str)
def test_any_number_of_threads_gives_exact_numbers_and_repeats_its_bits(size, missing, set_threads):
    layer, exact, x = pair(size, missing, dropout=0.4)
    want = results(exact, x)
    for threads in (1, 2, 3):
        set_threads(threads)
        first, second = results(layer, x), results(layer, x)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        for got, exactly in zip(first, want, strict=True):
            close(got, exactly, 2e-5)


@MISSING
def test_weights_that_are_left_may_be_subnormal(missing):
    layer, exact, x = pair((20, 9, 5), missing)
    for one in (layer, exact):
        one.mix_logits.data[:] = torch.linspace(-75.0, 0.0, 9)
    with torch.no_grad():
        x[2:] = x[0]
        x[2:, 1:] = math.nan
    for got, want in zip(results(layer, x)[:1], results(exact, x)[:1], strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-4)


def test_leading_dimensions_are_a_batch_in_another_shape():
    layer, _, x = pair((12, 9, 5), "renormalize")
    assert torch.equal(layer(x.reshape(3, 4, 9)), layer(x).reshape(3, 4, 5))
