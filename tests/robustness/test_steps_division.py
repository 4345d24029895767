"""Where the division of a LayerNorm may be left out, and where not."""

import pytest
import torch
from torch import nn

from ugmm_tutorial.robustness.behind import steps_of
from ugmm_tutorial.robustness.steps import Affine, Normalised, without_division


def plain(n):
    return nn.LayerNorm(n, elementwise_affine=False)


def test_a_positive_number_passes_through_relus_and_linear_layers_without_a_bias():
    modules = [plain(4), nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)]
    steps, (place, norm) = without_division(steps_of(modules))
    assert (place, type(norm), type(steps[0])) == (0, Normalised, Affine)
    x = torch.randn(5, 4, dtype=torch.float64)
    centred = x @ steps[0].matrix.T + steps[0].shift
    torch.testing.assert_close(centred, x - x.mean(dim=1, keepdim=True))


def test_a_gain_stays():
    norm = nn.LayerNorm(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.0, 3.0]))
    steps, _ = without_division(steps_of([norm, nn.Linear(4, 2, bias=False)]))
    x = torch.randn(5, 4, dtype=torch.float64)
    expected = norm.weight.double() * (x - x.mean(dim=1, keepdim=True))
    torch.testing.assert_close(x @ steps[0].matrix.T, expected)


@pytest.mark.parametrize(
    "modules",
    [
        [plain(4), nn.Linear(4, 2)],
        [plain(4), nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)],
        [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)],
    ],
    ids=["bias", "bias behind", "no norm"],
)
def test_otherwise_it_stays(modules):
    steps = steps_of(modules)
    found, divided = without_division(steps)
    assert divided is None
    assert found == steps


def test_a_shift_keeps_the_division():
    norm = nn.LayerNorm(4)
    nn.init.ones_(norm.bias)
    assert without_division(steps_of([norm, nn.Linear(4, 2, bias=False)]))[1] is None
