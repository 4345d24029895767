"""Densities are compiled whole and exported for batches of any size, missing values included."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ugmm_tutorial.density import Circuit, DiagonalGaussianMixture, GaussianBackground, SmoothedUGMM

K = 8
MODELS = {
    "smoothed": lambda: SmoothedUGMM(K, 6),
    "circuit of Gaussians": lambda: Circuit(K, 3),
    "circuit of smoothed neurons": lambda: Circuit(
        K, 3, leaf="smoothed", background=GaussianBackground(torch.zeros(K), torch.ones(K))
    ),
    "diagonal": lambda: DiagonalGaussianMixture(K, 6),
}


@pytest.fixture(params=MODELS)
def model(request) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS[request.param]()


def _rows(batch: int, *, missing: bool = True) -> Tensor:
    draw = torch.Generator().manual_seed(batch)
    x = torch.randn(batch, K, generator=draw)
    if missing:
        x[torch.rand(batch, K, generator=draw) < 0.3] = math.nan
        x[1] = math.nan
    return x


def test_a_density_is_exported_for_batches_of_any_size(model):
    program = torch.export.export(model, (_rows(20),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for x in (_rows(20), _rows(7), _rows(7, missing=False)):
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("missing", [False, True])
def test_a_density_is_compiled_whole_with_its_gradients(model, missing):
    torch.compiler.reset()
    x, found = _rows(7, missing=missing), []
    for function in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        out = function(x)
        found.append((out, *torch.autograd.grad(out.sum(), tuple(model.parameters()))))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    torch.compiler.reset()
