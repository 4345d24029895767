"""The hybrid network: what it is made of, how wide it starts, and what it refuses."""

import math

import pytest
import torch

from ugmm_tutorial import HybridNet, ugmm_log_density
from ugmm_tutorial.hybrid import NORMS


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_hybrid_is_a_mixture_layer_and_an_mlp(norm):
    net = HybridNet([6, 12, 8, 3], norm=norm, dropout=0.4, min_std=0.2, missing="drop").eval()
    normed = "LayerNorm" if norm == "layer" else "BatchNorm1d"
    assert [type(module).__name__ for module in net] == [
        "UGMMLayer",
        normed,
        "Linear",
        normed,
        "ReLU",
        "Linear",
    ]
    assert (net[0].dropout, net[0].min_std, net[0].missing) == (0.4, 0.2, "drop")
    x = torch.randn(7, 6)
    hidden = ugmm_log_density(x, net[0].mean, net[0].bounded_log_std, net[0].log_weight)
    torch.testing.assert_close(net(x), net[1:](hidden))
    assert net(x.masked_fill(x > 1.0, math.nan)).isfinite().all()
    assert HybridNet([6, 12, 3], dtype=torch.float64)(x.double()).dtype == torch.float64


def test_a_hybrid_starts_as_wide_as_it_is_told():
    narrow, wide = HybridNet([50, 80, 3], init_std=0.5)[0], HybridNet([50, 80, 3], init_std=4.0)[0]
    torch.testing.assert_close(narrow.bounded_log_std.exp(), torch.full((80, 50), 0.5))
    torch.testing.assert_close(wide.bounded_log_std.exp(), torch.full((80, 50), 4.0))
    assert narrow.mean.std().item() == pytest.approx(1.0, abs=0.1)
    assert wide.mean.std().item() == pytest.approx(2.8, abs=0.3)


@pytest.mark.parametrize(
    ("widths", "options", "message"),
    [
        ([6, 3], {}, "at least three widths"),
        ([6, 8, 0], {}, "positive integers"),
        ([6, 8, 3], {"norm": "none"}, "norm"),
        ([6, 8, 3], {"init_std": 0.0}, "init_std > 0 and finite, got 0.0"),
        ([6, 8, 3], {"init_std": math.nan}, "init_std > 0 and finite, got nan"),
        ([6, 8, 3], {"dropout": 2.0}, "dropout"),
    ],
)
def test_a_hybrid_refuses_what_it_cannot_be(widths, options, message):
    with pytest.raises(ValueError, match=message):
        HybridNet(widths, **options)
