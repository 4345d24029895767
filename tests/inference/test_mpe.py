"""Most probable explanations against dense grids, brute force and closed forms; limits; bad queries."""

import itertools
import math

import numpy as np
import pytest
import torch

from ugmm_tutorial import UGMMNet
from ugmm_tutorial.functional import max_log_density
from ugmm_tutorial.inference import IMPROVEMENTS, METHODS, MPEResult, interval_bounds, mpe
from ugmm_tutorial.inference.ascent import best_of, climb
from ugmm_tutorial.inference.box_queue import Boxes, BoxQueue
from ugmm_tutorial.inference.branch_and_bound import search
from ugmm_tutorial.inference.network import layers_of
from ugmm_tutorial.inference.newton import polish, second_order
from ugmm_tutorial.inference.problem import pose
from ugmm_tutorial.inference.result import Answer, Budget

pytestmark = pytest.mark.usefixtures("one_thread")
CONTINUOUS = tuple(m for m in METHODS if m != "enumerate")


def network(*widths, seed=0, width=0.7):
    """All parameters drawn at random, float64; the deeper means lie where the layer below can reach."""
    torch.manual_seed(seed)
    net = UGMMNet(widths, dtype=torch.float64)
    with torch.no_grad():
        for i, layer in enumerate(net):
            layer.log_std.normal_(mean=math.log(width), std=0.4)
            layer.mix_logits.normal_()
            layer.mean.sub_(2.0 * (i > 0))
    return net


@torch.no_grad()
def outputs(net, x, output=0):
    return net(x)[:, output]


def grid_maximum(net, evidence, query, box, points, output=0):
    """The best of a dense grid, and where it is: an oracle that knows nothing of bounds."""
    sides = [torch.linspace(low, high, points, dtype=torch.float64) for low, high in box]
    grid = torch.cartesian_prod(*sides).reshape(-1, len(query))
    x = torch.empty(len(grid), len(evidence) + len(query), dtype=torch.float64)
    for k, value in evidence.items():
        x[:, k] = value
    x[:, list(query)] = grid
    value = outputs(net, x, output)
    return float(value.max()), x[value.argmax()]


def check_certificate(net, evidence, query, box, result, output=0):
    """What every result owes: a point that obeys evidence and box, its own value, and a bound above it."""
    assert isinstance(result, MPEResult)
    for k, value in evidence.items():
        assert result.point[k] == value
    for k, side in zip(query, box, strict=True):
        assert side[0] <= result.point[k] <= side[1]
    with torch.no_grad():
        assert result.value == float(net.double()(result.point)[output])
    assert result.value <= result.upper_bound
    assert result.gap == result.upper_bound - result.value
    assert math.isfinite(result.upper_bound)


# --- Branch and bound against grids


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("query", "points"), [((1,), 20001), ((2, 0), 301), ((0, 3, 1), 61)])
def test_branch_and_bound_equals_a_dense_grid(seed, query, points):
    net = network(4, 6, 5, 2, seed=seed)
    evidence = {k: 0.3 * k - 0.5 for k in range(4) if k not in query}
    box = [(-2.0, 1.5)] * len(query)
    # A good first point would hide a box that was closed wrongly: begin anywhere.
    poor = {"starts": 1, "steps": 0, "improvements": ["mean-value", "monotone", "smear"]}
    found = mpe(net, evidence, query, box, output=1, **poor)
    check_certificate(net, evidence, query, box, found, output=1)
    on_grid, _ = grid_maximum(net, evidence, query, box, points, output=1)
    assert found.certified
    assert found.gap <= 1e-6
    assert on_grid <= found.upper_bound
    # The grid misses the maximum by little: no step of it is far from the best point.
    spacing = 3.5 / (points - 1)
    assert found.value - on_grid <= 200 * spacing


def test_a_coarse_bound_covers_the_maximum_that_was_not_looked_for():
    """What closed boxes may still hold counts in the bound, however early they were closed."""
    box, missed = [(-2.0, 2.0)] * 3, 0
    for seed in range(6):
        net = network(3, 6, 4, 1, seed=seed)
        coarse = mpe(net, {}, range(3), box, tolerance=0.5, starts=1, steps=0, improvements=["mean-value"])
        fine = mpe(net, {}, range(3), box, tolerance=1e-4)
        assert coarse.certified
        assert fine.value <= coarse.upper_bound
        missed += fine.value > coarse.value + 1e-3
    assert missed >= 3


def test_a_box_that_monotony_shrinks_to_a_corner_is_certified_there():
    box = [(1.9, 2.1)] * 2
    for seed in range(6):
        net = network(2, 4, 3, 1, seed=seed)
        found = mpe(net, {}, [0, 1], box, starts=1, steps=0, improvements=["monotone"], node_limit=20_000)
        best, _ = grid_maximum(net, {}, [0, 1], box, 101)
        assert found.certified
        assert best <= found.upper_bound


def test_a_needle_that_ascent_misses_is_found():
    """One component 1e-4 wide in a box of 10: random starts hardly ever land on it, boxes cannot miss it."""
    net = network(1, 2, 1)
    with torch.no_grad():
        net[0].min_std = 0.0
        net[0].mean.copy_(torch.tensor([[0.7342], [-2.0]]))
        net[0].log_std.copy_(torch.tensor([[1e-4], [3.0]]).log())
        net[1].mean.copy_(torch.tensor([[8.0, -1.0]]))
        net[1].log_std.fill_(math.log(0.5))
    climbed = mpe(net, {}, [0], [(-5.0, 5.0)], method="ascent")
    found = mpe(net, {}, [0], [(-5.0, 5.0)])
    near = torch.linspace(0.7337, 0.7347, 100001, dtype=torch.float64).unsqueeze(1)
    best = float(outputs(net, near).max())
    assert found.certified
    assert best <= found.upper_bound
    assert found.value == pytest.approx(best, abs=1e-6)
    assert abs(float(found.point[0]) - 0.7342) < 5e-4
    assert climbed.value < found.value - 0.1
    assert climbed.upper_bound >= found.value


@pytest.mark.parametrize("improvements", [[], *([name] for name in IMPROVEMENTS), list(IMPROVEMENTS)])
def test_every_choice_of_improvements_certifies_the_same_maximum(improvements):
    for seed in range(3):
        net = network(3, 5, 4, 1, seed=seed)
        box = [(-2.0, 2.0)] * 2
        some = {"improvements": improvements, "starts": 1, "steps": 0}
        found = mpe(net, {0: 0.2}, [1, 2], box, tolerance=1e-3, **some)
        best, _ = grid_maximum(net, {0: 0.2}, [1, 2], box, 401)
        assert found.certified
        assert best <= found.upper_bound
        assert found.value >= best - 1e-3


def test_improvements_save_boxes():
    net, box = network(3, 5, 4, 1, seed=2), [(-2.0, 2.0)] * 3
    plain = mpe(net, {}, range(3), box, tolerance=1e-3, improvements=[])
    full = mpe(net, {}, range(3), box, tolerance=1e-3)
    assert plain.certified
    assert full.certified
    assert full.nodes * 4 < plain.nodes


def test_a_bad_start_costs_time_but_not_the_certificate():
    net, box = network(3, 6, 4, 1, seed=5), [(-2.0, 2.0)] * 3
    poor = mpe(net, {}, range(3), box, starts=1, steps=0)
    good = mpe(net, {}, range(3), box, starts=500, steps=200)
    assert poor.certified
    assert good.certified
    assert abs(poor.value - good.value) <= 1e-6


@pytest.mark.parametrize("seed", [6, 15, 27])  # where no box that was closed later has a larger bound
def test_boxes_thrown_away_for_a_better_point_still_count_for_the_bound(seed, monkeypatch):
    """With a wide tolerance they may hold something better than what was found."""
    thrown, discard = [], BoxQueue.discard_below

    def watched(self, threshold):
        thrown.append(discard(self, threshold))
        return thrown[-1]

    monkeypatch.setattr(BoxQueue, "discard_below", watched)
    net, box = network(2, 5, 1, seed=seed, width=0.5), [(-4.0, 4.0)] * 2
    options = {"starts": 1, "steps": 0, "improvements": (), "boxes_at_once": 1}
    result = mpe(net, {}, range(2), box, tolerance=0.5, **options)
    assert result.certified
    assert max(thrown) > result.value
    assert result.upper_bound >= max(thrown)


def test_one_box_at_a_time_gives_the_same_answer_with_no_more_boxes():
    net, box = network(2, 5, 1, seed=1), [(-3.0, 3.0)] * 2
    together = mpe(net, {}, range(2), box, steps=0, starts=1)
    single = mpe(net, {}, range(2), box, steps=0, starts=1, boxes_at_once=1)
    assert single.certified
    assert single.nodes <= together.nodes
    assert abs(single.value - together.value) <= 1e-6
    with pytest.raises(ValueError, match="boxes_at_once >= 1, got 0"):
        mpe(net, {}, range(2), box, boxes_at_once=0)


def test_the_order_of_the_query_is_that_of_the_box():
    net = network(3, 5, 1, seed=1)
    a = mpe(net, {1: 0.1}, [0, 2], [(-1.0, 0.0), (0.5, 2.0)])
    b = mpe(net, {1: 0.1}, [2, 0], [(0.5, 2.0), (-1.0, 0.0)])
    check_certificate(net, {1: 0.1}, [2, 0], [(0.5, 2.0), (-1.0, 0.0)], b)
    assert a.value == pytest.approx(b.value, abs=2e-6)


def test_a_box_of_one_point_gives_the_value_there():
    net = network(3, 5, 2, 1, seed=1)
    found = mpe(net, {1: 0.1}, [0, 2], [(0.3, 0.3), (-0.2, -0.2)])
    assert found.point.tolist() == [0.3, 0.1, -0.2]
    assert found.gap < 1e-10


def test_float32_networks_are_answered_in_float64():
    net = network(2, 4, 3, 1).float()
    found = mpe(net, {}, [0, 1], [(-1.0, 1.0)] * 2)
    assert found.point.dtype == torch.float64
    check_certificate(net, {}, [0, 1], [(-1.0, 1.0)] * 2, found)
    assert found.certified


def test_nothing_of_the_caller_changes(set_threads):
    set_threads(2)
    net = network(2, 4, 3, 1).float().train()
    before = {name: p.clone() for name, p in net.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, second = (mpe(net, {}, [0, 1], [(-1.0, 1.0)] * 2) for _ in range(2))
    assert torch.equal(first.point, second.point)
    assert first.nodes == second.nodes
    assert torch.equal(state, torch.get_rng_state())
    assert threads == torch.get_num_threads()
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    assert net.training
    assert all(p.grad is None for p in net.parameters())


def test_dropout_is_off():
    net, box = network(2, 4, 3, 1), [(-1.0, 1.0)] * 2
    expected = mpe(net, {}, [0, 1], box)
    for layer in net:
        layer.dropout = 0.5
    found = mpe(net.train(), {}, [0, 1], box)
    assert found.value == expected.value
    assert found.upper_bound == expected.upper_bound


def test_a_crowded_pool_ends_with_the_same_certificate():
    net = network(3, 6, 4, 1, seed=5)
    problem = pose(net, {}, range(3), [(-2.0, 2.0)] * 3)
    with torch.no_grad():
        start = Answer(*best_of(problem, problem.sample(1, seed=0)), math.inf, 0)
        free, crowded = (
            search(problem, start, Budget(), tolerance=1e-4, max_open=limit) for limit in (10**6, 20)
        )
    assert free.upper_bound - free.value <= 1e-4
    assert crowded.upper_bound - crowded.value <= 1e-4
    assert crowded.nodes >= free.nodes
    assert max(free.value, crowded.value) <= min(free.upper_bound, crowded.upper_bound)


# --- One layer, discrete inputs, max-product


@pytest.mark.parametrize("seed", range(5))
def test_one_layer_is_maximised_at_its_means_moved_into_the_box(seed):
    net = network(4, 3, seed=seed)
    query, box = [3, 0, 1], [(-0.5, 0.5), (0.2, 0.4), (-3.0, 3.0)]
    found = mpe(net, {2: 0.0}, query, box, output=2)
    mean = net[0].mean[2].detach()
    expected = [min(max(float(mean[k]), side[0]), side[1]) for k, side in zip(query, box, strict=True)]
    assert found.point[query].tolist() == expected
    assert found.gap < 1e-10
    check_certificate(net, {2: 0.0}, query, box, found, output=2)
    on_grid, _ = grid_maximum(net, {2: 0.0}, query, box, 41, output=2)
    assert on_grid <= found.upper_bound
    for method in ("ascent", "coordinate"):
        other = mpe(net, {2: 0.0}, query, box, method, output=2)
        assert other.value == pytest.approx(found.value, abs=1e-4)
        assert other.upper_bound == pytest.approx(found.value, abs=1e-10)


def test_one_layer_with_discrete_inputs_takes_the_nearest_values():
    net = network(3, 1, seed=3)
    values = {0: [-1.0, 0.0, 1.0], 2: [-2.0, 0.4, 2.5]}
    a = mpe(net, {1: 0.0}, [0, 2], [None, None], discrete=values)
    b = mpe(net, {1: 0.0}, [0, 2], [None, None], "enumerate", discrete=values)
    assert torch.equal(a.point, b.point)


@pytest.mark.parametrize("method", ["enumerate", "branch_and_bound"])
@pytest.mark.parametrize("seed", range(3))
def test_discrete_queries_equal_brute_force(method, seed):
    net = network(4, 6, 4, 1, seed=seed)
    values = {3: [2.0, 0.0, 1.0, 1.0], 0: [-1.5, 0.1, 0.2], 2: list(np.linspace(-2, 2, 17))}
    found = mpe(net, {1: -0.4}, [0, 2, 3], [(-2.0, 2.0), None, None], method, discrete=values)
    rows = torch.tensor(
        [[a, -0.4, b, c] for a, b, c in itertools.product(values[0], values[2], values[3])],
        dtype=torch.float64,
    )
    best = float(outputs(net, rows).max())
    assert found.certified
    assert found.value == pytest.approx(best, abs=1e-12 if method == "enumerate" else 1e-6)
    assert bool((rows == found.point).all(dim=1).any())
    assert best <= found.upper_bound
    if method == "enumerate":
        assert found.nodes == 3 * 17 * 3
        assert found.gap < 1e-10


@pytest.mark.parametrize("seed", range(3))
def test_mixed_queries_equal_the_best_of_one_query_a_label(seed):
    net = network(3, 6, 4, 1, seed=seed)
    box = [(-1.0, 1.5), (-2.0, 0.5)]
    found = mpe(net, {}, [2, 0, 1], [None, *box], discrete={2: [0, 1, 2]})
    each = [mpe(net, {2: c}, [0, 1], box) for c in range(3)]
    best = max(each, key=lambda r: r.value)
    assert found.certified
    assert found.value == pytest.approx(best.value, abs=2e-6)
    assert float(found.point[2]) in (0.0, 1.0, 2.0)


@torch.no_grad()
def max_product(net, x):
    """The network with every sum replaced by its largest term."""
    for layer in net:
        x = max_log_density(x, layer.mean, layer.log_std, layer.log_weight)
    return x[:, 0]


def test_max_product_cannot_see_what_the_sum_adds():
    """At (0, 0) two equal terms add up to what the layer above wants; at (0, 3) the largest is the same."""
    net = UGMMNet((2, 1, 1), dtype=torch.float64, min_std=0.0)
    with torch.no_grad():
        net[0].mean.zero_()
        net[1].mean.fill_(-0.5 * math.log(2 * math.pi))
        net[1].log_std.fill_(math.log(0.05))
    found = mpe(net, {0: 0.0}, [1], [None], "enumerate", discrete={1: [0.0, 3.0]})
    rows = torch.tensor([[0.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    assert found.point.tolist() == [0.0, 0.0]
    assert float(outputs(net, rows).diff()) < -50
    assert float(max_product(net, rows).diff()) == 0.0


def test_max_product_prefers_a_point_that_is_worse():
    """The parent wants its input near its mean, not large: with the largest term only, near is elsewhere."""
    net = UGMMNet((2, 1, 1), dtype=torch.float64, min_std=0.0)
    with torch.no_grad():
        net[0].mean.zero_()
        net[0].log_std.zero_()
        # The largest term reaches this value at x = (0, far); the sum exceeds it there by nothing, and at
        # (0, 0) by log 2. At (a, a) with a**2 / 2 = log 2 the sum equals it.
        net[1].mean.fill_(math.log(0.5) - 0.5 * math.log(2 * math.pi))
        net[1].log_std.fill_(math.log(0.05))
    a = math.sqrt(2.0 * math.log(2.0))
    values = {0: [0.0, a], 1: [0.0, a]}
    found = mpe(net, {}, [0, 1], [None, None], "enumerate", discrete=values)
    rows = torch.tensor(list(itertools.product(values[0], values[1])), dtype=torch.float64)
    hard = max_product(net, rows)
    viterbi = rows[hard.argmax()]
    assert found.point.tolist() == [a, a]
    assert viterbi.tolist() != [a, a]
    assert float(outputs(net, viterbi.unsqueeze(0))) < found.value - 10


# --- Ascent and coordinates


@pytest.mark.parametrize("method", ["ascent", "coordinate"])
@pytest.mark.parametrize("seed", range(3))
def test_local_methods_find_smooth_maxima_and_bound_them(method, seed):
    net, box = network(3, 5, 4, 1, seed=seed, width=1.5), [(-1.0, 1.0)] * 3
    exact = mpe(net, {}, range(3), box)
    found = mpe(net, {}, range(3), box, method)
    check_certificate(net, {}, range(3), box, found)
    assert exact.value - 1e-3 <= found.value <= exact.upper_bound
    assert found.upper_bound >= exact.value
    assert found.method == method


def test_coordinate_ascent_ends_at_the_best_of_every_line():
    net, box = network(3, 6, 4, 1, seed=7), [(-2.0, 2.0)] * 3
    found = mpe(net, {}, range(3), box, "coordinate", starts=1)
    for k in range(3):
        rest = {i: float(found.point[i]) for i in range(3) if i != k}
        best, _ = grid_maximum(net, rest, [k], [box[k]], 20001)
        assert best <= found.value + 1.01e-6


def test_local_methods_keep_discrete_inputs_discrete():
    box, values = [(-1.0, 1.0), None, (-1.0, 1.0)], (-2.0, -0.3, 0.4, 2.0)
    for seed, method in itertools.product(range(4), ("ascent", "coordinate")):
        found = mpe(network(3, 5, 4, 1, seed=seed), {}, range(3), box, method, discrete={1: values})
        assert float(found.point[1]) in values


def test_hessian_and_gradient_equal_autograd():
    net = network(3, 5, 4, 1, seed=4)
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value, gradient, hessian = second_order(layers_of(net), x, 3)
    torch.testing.assert_close(value, outputs(net, x.T))
    for b in range(6):
        score = lambda v: net(v)[0]  # noqa: E731
        torch.testing.assert_close(gradient[:, b], torch.autograd.functional.jacobian(score, x[:, b]))
        torch.testing.assert_close(hessian[..., b], torch.autograd.functional.hessian(score, x[:, b]))


def test_newton_climbs_a_narrow_ridge_on_which_gradient_ascent_is_slow():
    """Terms of widths 1 and 0.001: the gradient hardly shows the way along the ridge."""
    net = network(2, 2, 1, seed=0)
    with torch.no_grad():
        net[0].mean.copy_(torch.tensor([[0.3, 0.2], [-0.4, 0.5]]))
        net[0].log_std.copy_(torch.tensor([[0.01, 1.0], [0.02, 2.0]]).log())
        net[1].mean.copy_(torch.tensor([[0.5, -1.1]]))
        net[1].log_std.fill_(math.log(0.05))
    problem = pose(net, {}, [0, 1], [(-1.0, 1.0)] * 2)
    certain = mpe(net, {}, [0, 1], [(-1.0, 1.0)] * 2, tolerance=1e-9)
    ends, _ = climb(problem, Budget(), starts=16, steps=10, seed=0)
    with torch.no_grad():
        polished = polish(problem, ends, Budget(), steps=30)
        climbed = best_of(problem, ends)[1]
    assert certain.certified
    assert certain.value - polished.value < 1e-9
    assert certain.value - climbed > 1e-6


# --- Limits


@pytest.mark.parametrize("method", CONTINUOUS)
@pytest.mark.parametrize("limits", [{"time_limit": 0.0}, {"node_limit": 0}, {"node_limit": 50}])
def test_limits_return_what_is_certain_so_far(method, limits):
    net, box = network(4, 8, 6, 1, seed=3), [(-3.0, 3.0)] * 4
    found = mpe(net, {}, range(4), box, method, starts=4, **limits)
    check_certificate(net, {}, range(4), box, found)
    on_grid, _ = grid_maximum(net, {}, range(4), box, 21)
    assert on_grid <= found.upper_bound
    assert not found.certified


def test_enumeration_within_limits_bounds_what_it_did_not_see():
    net = network(2, 4, 1, seed=2)
    values = {0: list(np.linspace(-2, 2, 100)), 1: list(np.linspace(-2, 2, 100))}
    found = mpe(net, {}, [0, 1], [None, None], "enumerate", discrete=values, node_limit=10)
    full = mpe(net, {}, [0, 1], [None, None], "enumerate", discrete=values)
    assert found.nodes == 10
    assert not found.certified
    assert full.certified
    assert full.nodes == 10_000
    assert found.value <= full.value <= found.upper_bound


def test_without_any_node_the_bound_is_that_of_the_whole_box():
    net, box = network(4, 8, 6, 1, seed=3), [(-3.0, 3.0)] * 4
    low, high = torch.tensor(box, dtype=torch.float64).T
    for method in CONTINUOUS:
        found = mpe(net, {}, range(4), box, method, node_limit=0, starts=1)
        assert found.upper_bound == pytest.approx(float(interval_bounds(net, low, high)[1]), rel=1e-15)


def test_boxes_so_far_away_that_squares_overflow_are_answered_without_a_false_claim():
    net = network(2, 3, 3, 3, 1, width=0.1)
    found = mpe(net, {}, [0, 1], [(9e99, 1e100)] * 2, node_limit=1000)
    assert not math.isnan(found.upper_bound)
    assert not found.certified


def test_more_nodes_never_loosen_the_bound():
    net, box = network(4, 8, 6, 1, seed=3), [(-3.0, 3.0)] * 4
    runs = [mpe(net, {}, range(4), box, node_limit=n) for n in (100, 1000, 10_000)]
    assert all(run.nodes <= n for run, n in zip(runs, (100, 1000, 10_000), strict=True))
    bounds = [run.upper_bound for run in runs]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


def test_a_tolerance_beyond_rounding_ends_and_is_not_claimed():
    net = network(1, 3, 2, 1)
    found = mpe(net, {}, [0], [(-1.0, 1.0)], tolerance=1e-300, node_limit=100_000)
    assert not found.certified
    assert 0 < found.gap < 1e-9


# --- The pool


def test_a_pool_gives_back_the_best_boxes_and_keeps_the_others():
    generator = torch.Generator().manual_seed(0)
    pool, kept = BoxQueue(2, capacity=4), {}
    for turn in range(20):
        bound = torch.rand(13, generator=generator, dtype=torch.float64)
        pool.add(
            Boxes(
                torch.stack([bound, bound + 1]),
                torch.stack([bound + 2, bound]),
                bound,
                turn + 0 * bound.long(),
            )
        )
        kept |= dict.fromkeys(bound.tolist(), turn)
        taken = pool.pop(7, best=turn % 3 > 0)
        expected = sorted(kept, reverse=turn % 3 > 0)[:7]
        assert sorted(taken.bound.tolist()) == sorted(expected)
        assert torch.equal(taken.low[1], taken.bound + 1)
        assert torch.equal(taken.high[0], taken.bound + 2)
        assert taken.axis.tolist() == [kept.pop(b) for b in taken.bound.tolist()]
        assert len(pool) == len(kept)
        assert pool.bound == max(kept)
    threshold = sorted(kept)[30]
    assert pool.discard_below(threshold) == threshold
    assert len(pool) == len(kept) - 31
    assert sorted(pool.pop(10**6).bound.tolist()) == sorted(kept)[31:]
    assert len(pool) == 0
    assert pool.bound == -math.inf


# --- Bad queries


def ask(net=None, evidence=None, query=(0, 1), box=((-1.0, 1.0), (-1.0, 1.0)), **options):
    return mpe(net or network(3, 4, 2), {2: 0.0} if evidence is None else evidence, query, box, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": (0, 3)}, "expected query to name inputs from 0 to 2, got 3"),
        ({"query": (0, -1)}, "expected query to name inputs from 0 to 2, got -1"),
        ({"query": (0, 1.0)}, "expected query to name inputs"),
        ({"query": (0, True)}, "expected query to name inputs"),
        ({"query": (0, 0)}, "expected each query input once"),
        ({"query": (), "box": ()}, "at least one query input"),
        ({"evidence": {2: 0.0, 5: 1.0}}, "expected evidence to name inputs from 0 to 2, got 5"),
        ({"evidence": {2: 0.0, 1: 1.0}}, r"inputs \[1\] are in the evidence and in the query"),
        ({"evidence": {}}, r"inputs \[2\] are neither observed nor sought"),
        ({"evidence": {2: math.nan}}, "evidence for input 2 to be a finite number, got nan"),
        ({"evidence": {2: math.inf}}, "evidence for input 2 to be a finite number, got inf"),
        ({"evidence": {2: "a"}}, "evidence for input 2 to be a finite number"),
        ({"box": ((-1.0, 1.0),)}, "one \\(low, high\\) for each of 2 query inputs, got 1"),
        ({"box": ((-1.0, 1.0), (1.0, -1.0))}, "the box of input 1 is empty"),
        ({"box": ((-1.0, 1.0), (-1.0, math.inf))}, "maximum may lie at infinity"),
        ({"box": ((-1.0, 1.0), (math.nan, 1.0))}, "two finite numbers"),
        ({"box": ((-1.0, 1.0), (0.0, 1e200))}, "two finite numbers"),
        ({"box": ((-1.0, 1.0), None)}, "two finite numbers"),
        ({"box": ((-1.0, 1.0), (0.0, 1.0, 2.0))}, "two finite numbers"),
        ({"discrete": {2: [0.0]}}, r"expected discrete to name query inputs, got \[2\]"),
        ({"discrete": {1: []}}, "allowed values of input 1 to be finite numbers"),
        ({"discrete": {1: [0.0, math.nan]}}, "allowed values of input 1 to be finite numbers"),
        ({"discrete": {1: [0.0, 2.0]}}, "allowed values of input 1 lie outside its box"),
        ({"method": "viterbi"}, "unknown method 'viterbi': expected one of branch_and_bound"),
        ({"method": "enumerate"}, r"positions \[0, 1\] of the query are continuous"),
        ({"tolerance": 0.0}, "expected tolerance > 0"),
        ({"tolerance": math.nan}, "expected tolerance > 0"),
        ({"output": 2}, "expected output between 0 and 1, got 2"),
        ({"output": -1}, "expected output between 0 and 1, got -1"),
        ({"time_limit": -1.0}, "expected time_limit >= 0"),
        ({"node_limit": -1}, "expected node_limit >= 0"),
        ({"starts": 0}, "expected starts >= 1"),
        ({"improvements": ["luck"]}, r"unknown improvements \['luck'\]"),
    ],
)
def test_bad_queries_are_refused_with_a_reason(options, message):
    with pytest.raises(ValueError, match=message):
        ask(**options)


def test_networks_with_a_layernorm_are_refused_with_a_reason():
    with pytest.raises(TypeError, match="module 1 is a LayerNorm, whose mean and variance couple all"):
        ask(net=UGMMNet((3, 4, 2), norm="layer"))
