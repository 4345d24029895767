"""Dropout penalties: how often, where, and what stays."""

import math

import pytest
import torch

from ugmm_tutorial.layers import masks
from ugmm_tutorial.layers.masks import dropout_penalty

P = pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.97])


@P
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_component_is_kept_as_0_or_dropped_as_minus_infinity_with_probability_p(p, dtype):
    torch.manual_seed(0)
    penalty = dropout_penalty(torch.randn(400, 301, dtype=dtype), p)
    assert penalty.dtype == dtype
    assert set(penalty.unique().tolist()) == {0.0, -math.inf}
    dropped = (penalty == -math.inf).double()
    error = math.sqrt(p * (1 - p) / penalty.numel())
    assert abs(dropped.mean().item() - p) < 5 * error
    # Four draws share one random integer: each of the four positions is as often dropped as the others.
    for position in range(4):
        assert abs(dropped.view(-1)[position::4].mean().item() - p) < 10 * error
    neighbours = torch.corrcoef(torch.stack([dropped.view(-1)[:-1], dropped.view(-1)[1:]]))[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(penalty.numel())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_seed_gives_the_same_mask_in_every_precision(dtype):
    logits = torch.randn(50, 64)
    for p in (0.3, 0.8, 0.999):
        torch.manual_seed(1)
        want = dropout_penalty(logits, p)
        torch.manual_seed(1)
        # Half precision may call another component the heaviest: compare where a row did not lose all.
        got = dropout_penalty(logits.to(dtype), p)
        drew = (want == 0).sum(dim=1) > 1
        assert torch.equal(got[drew], want[drew].to(dtype))
        assert ((got == 0).sum(dim=1) >= 1).all()


def test_zero_drops_nothing_and_one_all_but_the_heaviest():
    logits = torch.randn(50, 20)
    assert (dropout_penalty(logits, 0.0) == 0).all()
    kept = dropout_penalty(logits, 1.0) == 0
    assert torch.equal(kept, torch.nn.functional.one_hot(logits.argmax(1), 20).bool())


def test_the_lowest_draw_is_dropped_and_the_highest_kept_at_the_threshold(monkeypatch):
    draws = torch.tensor([[-32768, -1, 0, 1, 32767]], dtype=torch.int16)
    monkeypatch.setattr(masks, "_draws", lambda like: draws)
    logits = torch.zeros(1, 5)
    assert (dropout_penalty(logits, 0.5) == 0).tolist() == [[False, False, True, True, True]]
    assert (dropout_penalty(logits, 2.0**-16) == 0).tolist() == [[False, True, True, True, True]]
    assert (dropout_penalty(logits, 1 - 2.0**-16) == 0).tolist() == [[False, False, False, False, True]]


def test_a_component_without_weight_does_not_count_as_kept(monkeypatch):
    draws = torch.tensor([[32767, -32768, -32768]], dtype=torch.int16)
    monkeypatch.setattr(masks, "_draws", lambda like: draws)
    logits = torch.tensor([[-math.inf, 1.0, 2.0]])
    assert (dropout_penalty(logits, 0.5) == 0).tolist() == [[True, False, True]]


def test_the_seed_decides_and_no_gradient_flows():
    logits = torch.randn(5, 7, requires_grad=True)
    torch.manual_seed(3)
    first = dropout_penalty(logits, 0.5)
    second = dropout_penalty(logits, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout_penalty(logits, 0.5), first)
    assert not torch.equal(second, first)
    assert not first.requires_grad
