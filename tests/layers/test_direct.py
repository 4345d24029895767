"""A dense layer's forward pass as one kernel, against the layer's own methods on the reference."""

import copy
import math

import pytest
import torch
from dropouts import DROPPED

from ugmm_tutorial import UGMMLayer, kernels
from ugmm_tutorial.layers import direct

pytestmark = pytest.mark.skipif(kernels.unavailable("numba") is not None, reason="no fused CPU kernel here")
DROPOUT = [{}, *DROPPED]


def pair(options, rows=20):
    """A layer, some of whose deviations are beyond both bounds; one like it on the reference; inputs."""
    torch.manual_seed(3)
    layer = UGMMLayer(9, 5, min_std=0.2, max_std=2.0, **options)
    with torch.no_grad():
        layer.log_std.uniform_(-3.0, 2.0)
        layer.mix_logits.normal_()
        layer.mix_logits[1, 2] = -math.inf
    slow = copy.deepcopy(layer)
    slow.backend = "reference"
    return layer, slow, torch.randn(rows, 9, requires_grad=True)


def results(layer, x, second=False):
    """The output and all gradients, under one mask; or the gradients of the gradients' squares."""
    torch.manual_seed(5)
    out = layer(x)
    inputs = [x, *layer.parameters()]
    gradients = torch.autograd.grad(out.sin().sum(), inputs, create_graph=second)
    if second:
        gradients = torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
    return [out.detach(), *gradients]


@pytest.mark.parametrize("rows", [3, 20])
@pytest.mark.parametrize("options", DROPOUT, ids=str)
def test_outputs_and_gradients_are_those_of_the_layers_own_methods(options, rows):
    layer, slow, x = pair(options, rows)
    assert direct.log_density(layer, x, UGMMLayer) is not None
    assert direct.log_density(slow, x, UGMMLayer) is None
    for got, want in zip(results(layer, x), results(slow, x), strict=True):
        assert (got - want).norm() <= 2e-4 * want.norm()  # at most 4e-5 over 40 seeds


@pytest.mark.parametrize("options", DROPOUT[:2], ids=str)
def test_second_derivatives_are_those_of_the_layers_own_methods(options):
    layer, slow, x = pair(options)
    for one in (layer, slow):  # beyond a bound the gradient is a rule, and has no derivative
        one.log_std.data.clamp_(-1.0, 0.5)
    for got, want in zip(results(layer, x, second=True), results(slow, x, second=True), strict=True):
        assert (got - want).norm() <= 5e-3 * want.norm()  # at most 1.1e-3 over 40 seeds


@pytest.mark.parametrize("name", ["log_density", "dropped_log_weight", "bounded_log_std"])
def test_a_subclass_with_a_method_of_its_own_is_left_to_it(name):
    kind = type("Own", (UGMMLayer,), {name: getattr(UGMMLayer, name)})
    assert direct.log_density(kind(9, 5), torch.randn(2, 9), UGMMLayer) is not None
    other = property(lambda self: self.log_std) if name == "bounded_log_std" else lambda self, *given: given
    kind = type("Other", (UGMMLayer,), {name: other})
    assert direct.log_density(kind(9, 5), torch.randn(2, 9), UGMMLayer) is None
