"""A mask for every example: how they are drawn, and the kernel that draws them against masks written out."""

import copy
import math

import pytest
import torch
from dropouts import DROPPED

from ugmm_tutorial import kernels
from ugmm_tutorial.layers import PerExampleDropoutLayer, direct
from ugmm_tutorial.layers.masks import masks_of_examples, written_out

NEEDS_KERNEL = pytest.mark.skipif(kernels.unavailable("numba") is not None, reason="no fused CPU kernel here")
MODES = [
    *DROPPED,
    {"dropout": 0.95},
    {"dropout": 0.95, "dropout_mode": "literal"},
    {"dropout": 1.0},
]
SIZES = [(3, 9, 5), (150, 9, 40), (150, 3, 4), (14, 600, 5)]


def dropped(examples, neurons, inputs, p, **options):
    torch.manual_seed(0)
    logits = torch.randn(neurons, inputs)
    return (written_out(masks_of_examples(examples, logits, p, **options), logits) == -math.inf).double()


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.97])
def test_components_are_dropped_with_probability_p_and_any_two_independently(p):
    lost = dropped(100, 40, 300, p) - p  # so many inputs that hardly a neuron loses all
    count, variance = lost.numel(), p * (1 - p)
    assert abs(lost.mean()) < 6 * math.sqrt(variance / count)
    # The same input of two neurons, the same component for two examples, two inputs, and diagonals.
    for one, other in (
        (lost[:, 1:], lost[:, :-1]),
        (lost[1:], lost[:-1]),
        (lost[..., 1:], lost[..., :-1]),
        (lost[1:, 1:], lost[:-1, :-1]),
    ):
        assert abs((one * other).mean()) < 6 * variance / math.sqrt(count)
    # Two neurons and two examples together: their words give four products.
    four = lost[1:, 1:] * lost[:-1, :-1] * lost[1:, :-1] * lost[:-1, 1:]
    assert abs(four.mean()) < 6 * variance**2 / math.sqrt(count) * max(1.0, 1.0 / math.sqrt(variance))
    # How many are lost varies as it should, over examples and over neurons.
    for dim in ((1, 2), (0, 2), (0, 1)):
        sums = lost.sum(dim=dim)
        wanted = count / len(sums) * variance
        assert 0.4 < sums.var() / wanted < 2.0


def test_inputs_are_dropped_for_all_neurons_at_once():
    lost = dropped(300, 5, 20, 0.3, of_inputs=True)
    assert torch.equal(lost, lost[:, :1].expand_as(lost))
    assert abs(lost[:, 0].mean() - 0.3) < 6 * math.sqrt(0.21 / 6000)


def pair(size, options):
    rows, inputs, neurons = size
    torch.manual_seed(3)
    layer = PerExampleDropoutLayer(inputs, neurons, min_std=0.2, max_std=2.0, **options)
    with torch.no_grad():
        layer.log_std.uniform_(-3.0, 2.0)
        layer.mix_logits.normal_()
        layer.mix_logits[1, 2] = -math.inf
    return layer, copy.deepcopy(layer).double(), torch.randn(rows, inputs)


def results(layer, x, second=False):
    """The output and all gradients, under the same masks; or the gradients of the gradients' squares."""
    torch.manual_seed(5)
    x = x.to(layer.mean.dtype).requires_grad_()
    out = layer(x)
    inputs = [x, *layer.parameters()]
    gradients = torch.autograd.grad(out.square().log1p().sum(), inputs, create_graph=second)
    if second:
        gradients = torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
    return [out.detach(), *gradients]


def close(got, want, tolerance):
    assert (got.double() - want).norm() <= tolerance * max(want.norm(), 2.0)  # a few gradients are 0


@NEEDS_KERNEL
@pytest.mark.parametrize("spread", [1.0, 300.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("options", MODES, ids=str)
def test_the_kernel_equals_masks_written_out_in_float64(options, size, spread):
    layer, exact, x = pair(size, options)
    transform = layer._transform(len(x))
    assert direct.log_density(layer, x, PerExampleDropoutLayer, transform=transform) is not None
    for got, want in zip(results(layer, spread * x), results(exact, spread * x), strict=True):
        close(got, want, 2e-5 if spread == 1.0 else 2e-4)


@NEEDS_KERNEL
@pytest.mark.parametrize("options", MODES[:2], ids=str)
def test_second_derivatives_have_the_same_masks(options):
    layer, exact, x = pair((20, 9, 5), options)
    for one in (layer, exact):  # beyond a bound the gradient is a rule, and has no derivative
        one.log_std.data.clamp_(-1.0, 0.5)
    for got, want in zip(results(layer, x, second=True), results(exact, x, second=True), strict=True):
        close(got, want, 5e-3)


def test_finite_differences_agree_while_the_masks_stay():
    _, exact, x = pair((4, 5, 3), {"dropout": 0.5})
    exact.mix_logits.data[1, 2] = 0.0
    transform = exact._transform(4)._replace(low=-math.inf, high=math.inf)
    given = [
        t.detach().clone().requires_grad_() for t in (x.double(), exact.mean, exact.log_std, exact.mix_logits)
    ]
    assert torch.autograd.gradcheck(lambda *each: direct.specification(transform, None, *each), given)


@NEEDS_KERNEL
@pytest.mark.parametrize("size", [(700, 9, 40), (130, 600, 70)], ids=str)
def test_masks_do_not_depend_on_threads_and_bits_repeat(size, set_threads):
    layer, exact, x = pair(size, {"dropout": 0.4})
    want = results(exact, x)
    for threads in (1, 2, 3):
        set_threads(threads)
        first, second = results(layer, x), results(layer, x)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        for got, exactly in zip(first, want, strict=True):
            close(got, exactly, 2e-5)


def test_every_call_has_other_masks_and_the_seed_repeats_them():
    layer, _, x = pair((6, 9, 5), {"dropout": 0.4})
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer(x), second)
    assert not torch.equal(first, second)


def test_missing_inputs_are_an_error_in_training_too():
    layer = PerExampleDropoutLayer(4, 3, dropout=0.5, missing="error")
    with pytest.raises(ValueError, match="expected no missing inputs"):
        layer(torch.full((2, 4), math.nan))
