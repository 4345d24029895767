"""Bounds on one layer under changed inputs: never exceeded, and approached by brute force."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch

from ugmm_tutorial import UGMMLayer
from ugmm_tutorial.robustness import bounds_if_changed, influence, worst_case_bounds

INPUTS = 4
BOX = (-3.0, 2.5)


@pytest.fixture
def layer() -> UGMMLayer:
    torch.manual_seed(0)
    return UGMMLayer(INPUTS, 3, init="paper", min_std=0.2, dtype=torch.float64)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, INPUTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _outputs_on_grids(layer, row, changed: tuple[int, ...], values: torch.Tensor) -> torch.Tensor:
    """Outputs with the named inputs at all combinations of values."""
    grids = torch.meshgrid(*[values] * len(changed), indexing="ij")
    rows = row.repeat(grids[0].numel(), 1)
    for k, grid in zip(changed, grids, strict=True):
        rows[:, k] = grid.flatten()
    return layer(rows).detach()


def _values(layer) -> torch.Tensor:
    """A grid over the box, with every mean in it, at which terms are greatest."""
    means = layer.mean.detach().flatten()
    means = means[(means >= BOX[0]) & (means <= BOX[1])]
    return torch.cat([torch.linspace(*BOX, 9, dtype=torch.float64), means])


@pytest.mark.parametrize("changed", [(0,), (1, 3), (0, 1, 2)])
def test_bounds_of_named_inputs_are_never_exceeded_and_are_reached(changed, layer, x):
    mask = torch.zeros(INPUTS, dtype=torch.bool)
    mask[list(changed)] = True
    low, high = bounds_if_changed(layer, x, mask, box=BOX)
    for row, least, greatest in zip(x, low, high, strict=True):
        found = torch.cat([_outputs_on_grids(layer, row, changed, _values(layer)), layer(row[None]).detach()])
        assert (found >= least).all()
        assert (found <= greatest).all()
        torch.testing.assert_close(found.amin(dim=0), least, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.amax(dim=0), greatest, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("changed", [1, 2, 3])
def test_worst_case_is_the_worst_of_all_sets_of_inputs(changed, layer, x):
    low, high = worst_case_bounds(layer, x, changed, box=BOX)
    sets = []
    for some in itertools.combinations(range(INPUTS), changed):
        mask = torch.zeros(INPUTS, dtype=torch.bool)
        mask[list(some)] = True
        sets.append(bounds_if_changed(layer, x, mask, box=BOX))
    torch.testing.assert_close(low, torch.stack([s[0] for s in sets]).amin(dim=0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(high, torch.stack([s[1] for s in sets]).amax(dim=0), rtol=1e-12, atol=1e-12)


def test_on_the_whole_line_the_lower_bound_is_approached_far_away(layer, x):
    mask = torch.tensor([True, False, True, False])
    low, high = bounds_if_changed(layer, x, mask)
    far = torch.where(mask, 1e6, x)
    torch.testing.assert_close(layer(far).detach(), low, rtol=1e-9, atol=1e-9)
    peaks = layer.log_weight - layer.bounded_log_std - 0.5 * math.log(2 * math.pi)
    rest = layer.component_log_densities(x)[:, :, ~mask]
    expected = torch.cat([peaks[:, mask].expand(len(x), -1, -1), rest], dim=-1).logsumexp(dim=-1)
    torch.testing.assert_close(high, expected.detach(), rtol=1e-9, atol=1e-9)


def test_all_inputs_changed_on_the_whole_line_leave_no_lower_bound(layer, x):
    low, high = worst_case_bounds(layer, x, INPUTS)
    assert (low == -math.inf).all()
    assert high.isfinite().all()


def test_nothing_changed_leaves_the_outputs(layer, x):
    for low, high in (
        worst_case_bounds(layer, x, 0),
        bounds_if_changed(layer, x, torch.zeros(INPUTS, dtype=torch.bool)),
    ):
        torch.testing.assert_close(low, layer(x).detach(), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(high, layer(x).detach(), rtol=1e-11, atol=1e-11)


def test_influence_of_an_input_is_what_its_responsibility_says(layer, x):
    fall, rise = influence(layer, x)
    share = layer.responsibilities(x).detach()
    torch.testing.assert_close(fall, torch.log1p(-share), rtol=1e-7, atol=1e-9)
    peaks = (layer.log_weight - layer.bounded_log_std - 0.5 * math.log(2 * math.pi)).detach()
    ratio = torch.exp(peaks - layer(x).detach().unsqueeze(-1))
    torch.testing.assert_close(rise, torch.log(1 - share + ratio), rtol=1e-7, atol=1e-9)


def test_influence_survives_an_input_that_answers_alone():
    layer = UGMMLayer(3, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.mean.fill_(0.0)
    fall, rise = influence(layer, torch.tensor([0.0, 60.0, 60.0], dtype=torch.float64))
    # The other terms are exp(-1800): no share of one can hold them, the difference of logarithms does.
    assert fall[0, 0].item() == pytest.approx(-1800 + math.log(2), rel=1e-9)
    assert rise[0, 1].item() == pytest.approx(math.log(2), rel=1e-9)


def test_an_input_beyond_the_box_may_keep_its_value(layer, x):
    outside = x.clone()
    outside[:, 0] = layer.mean[0, 0].item()
    narrow = (5.0, 6.0)
    mask = torch.tensor([True, False, False, False])
    low, high = bounds_if_changed(layer, outside, mask, box=narrow)
    out = layer(outside).detach()
    assert (low <= out).all()
    assert (high >= out).all()


def test_bounds_hold_in_exact_arithmetic(layer, x):
    """Against 50 digits: outward by what rounding needs, and by no more than a thousandth of a millionth."""
    low, high = worst_case_bounds(layer, x, 2, box=BOX)
    with mpmath.workdps(50):
        for b, j in itertools.product(range(len(x)), range(3)):
            logits = [mpmath.exp(mpmath.mpf(v.item())) for v in layer.mix_logits[j].detach()]
            weights = [logit / sum(logits) for logit in logits]
            terms = []
            for k in range(INPUTS):
                mean, std = (
                    mpmath.mpf(layer.mean[j, k].item()),
                    mpmath.exp(mpmath.mpf(layer.log_std[j, k].item())),
                )
                std = max(std, mpmath.mpf(layer.min_std))

                def density(v, mean=mean, std=std, weight=weights[k]):
                    return weight * mpmath.npdf(v, mean, std)

                own = density(mpmath.mpf(x[b, k].item()))
                ends = [density(mpmath.mpf(v)) for v in BOX]
                top = density(min(max(mean, BOX[0]), BOX[1]))
                terms.append((own, min(own, *ends), max(own, top)))
            total = sum(t[0] for t in terms)
            exact_low = mpmath.log(total - sum(sorted((t[0] - t[1] for t in terms), reverse=True)[:2]))
            exact_high = mpmath.log(total + sum(sorted((t[2] - t[0] for t in terms), reverse=True)[:2]))
            assert low[b, j].item() <= exact_low <= low[b, j].item() + 1e-9
            assert high[b, j].item() - 1e-9 <= exact_high <= high[b, j].item()


def test_leading_dimensions_are_kept(layer):
    x = torch.zeros(2, 5, INPUTS)
    assert [end.shape for end in worst_case_bounds(layer, x, 1)] == [(2, 5, 3)] * 2
    assert [end.shape for end in influence(layer, x)] == [(2, 5, 3, INPUTS)] * 2
    assert worst_case_bounds(layer, torch.zeros(0, INPUTS), 1)[0].shape == (0, 3)


@pytest.mark.parametrize(
    ("x", "changed", "box", "message"),
    [
        (torch.zeros(3), 1, None, r"expected x of shape \(\*, 4\), got \(3,\)"),
        (torch.full((4,), math.nan), 1, None, "x to be finite"),
        (torch.zeros(4), 5, None, "changed from 0 to 4, got 5"),
        (torch.zeros(4), 1, (1, 0), "low end not to be above"),
        (torch.zeros(4), 1, (0, math.inf), "box=None is the whole line"),
        (torch.zeros(4), 1, (torch.zeros(3), 1), r"a number or \(4,\), got \(3,\)"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(x, changed, box, message, layer):
    with pytest.raises(ValueError, match=message):
        worst_case_bounds(layer, x, changed, box=box)


def test_wrong_types_are_refused_with_the_reason(layer, x):
    with pytest.raises(TypeError, match="expected changed to be an integer, got True"):
        worst_case_bounds(layer, torch.zeros(4), True)
    with pytest.raises(TypeError, match="changed to be boolean"):
        bounds_if_changed(layer, x, torch.ones(INPUTS))
    with pytest.raises(TypeError, match="expected layer to be a UGMMNet"):
        influence(torch.nn.Linear(4, 2), x)
