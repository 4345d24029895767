"""The lines on cells lie below and above every term, wherever one looks, for cells of any width."""

from __future__ import annotations

import math

import pytest
import torch

from ugmm_tutorial import UGMMLayer
from ugmm_tutorial.inference.network import layers_of
from ugmm_tutorial.robustness import certify
from ugmm_tutorial.robustness.shared import Cells


def _layer(std: float) -> UGMMLayer:
    torch.manual_seed(0)
    layer = UGMMLayer(3, 40, min_std=1e-3, dtype=torch.float64)
    with torch.no_grad():
        layer.mean.mul_(2.0)
        layer.log_std.copy_(math.log(std) + 0.5 * torch.randn(40, 3, dtype=torch.float64))
        layer.mix_logits.normal_()
    return layer


@pytest.mark.parametrize("std", [0.05, 0.3, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("cells", [1, 2, 5, 24])
def test_lines_bound_the_terms_on_every_cell(std, cells):
    layer = _layer(std)
    low, high = torch.full((3,), -4.0, dtype=torch.float64), torch.full((3,), 5.0, dtype=torch.float64)
    found = Cells.of(layers_of(layer)[0], (low, high), cells)
    part = torch.linspace(0.0, 1.0, 201, dtype=torch.float64)
    for cell in range(cells):
        x = -4.0 + 9.0 * (cell + part) / cells
        terms = layer.component_log_densities(x.unsqueeze(1).expand(-1, 3)) - found.log_unit.unsqueeze(1)
        value = terms.exp().detach()  # (201, J, K)
        for line, holds in ((found.low, torch.ge), (found.high, torch.le)):
            ends = line.view(40, 3, -1)
            between = torch.lerp(ends[..., cell], ends[..., cells + cell], part.view(-1, 1, 1))
            slack = 1e-12 if holds is torch.ge else -1e-12
            assert holds(value + slack, between).all()


def test_an_opposing_neuron_between_the_ends_of_a_wide_cell_is_seen():
    """A line that was cut off at 0 lay above the term here, and promised what did not hold."""
    first = UGMMLayer(2, 2, dtype=torch.float64)
    readout = torch.nn.Linear(2, 2, dtype=torch.float64)
    with torch.no_grad():
        first.mean.copy_(torch.tensor([[0.0, 0.0], [-6.0, 0.0]]))
        first.log_std.copy_(torch.tensor([[1.0, 1.0], [6.0, 1.0]]).log())
        first.mix_logits.copy_(torch.tensor([[-4.0, 0.0], [-4.0, 0.0]]))
        readout.weight.copy_(torch.tensor([[1.0, -12.5], [0.0, 0.0]]))
        readout.bias.zero_()
        network = torch.nn.Sequential(first, readout)
        values = torch.linspace(1.0, 49.0, 200001, dtype=torch.float64)
        rows = torch.stack([values, torch.zeros_like(values)], dim=1)
        readout.bias[0] = -network(rows)[:, 0].min() - 1e-6
    box = (torch.tensor([1.0, 0.0]), torch.tensor([49.0, 0.0]))
    x, y = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([0])
    found = certify(network, x, y, changed=1, box=box)
    assert found.right.all()
    assert not found.certified.any()
