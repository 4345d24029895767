"""Certificates: nothing that brute force or an attack finds contradicts one, and they are not empty."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
from torch import Tensor, nn

from ugmm_tutorial import MLP, UGMMLayer, UGMMNet
from ugmm_tutorial.layers import MaxLayer
from ugmm_tutorial.robustness import attacks, certified_loss, certify, lower_leads

INPUTS, CLASSES = 8, 3
BOX = (-4.0, 4.0)


def _blobs(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three classes that every input tells apart, more or less."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % CLASSES
    centres = torch.tensor([-2.0, 0.0, 2.0])[y].unsqueeze(1)
    return centres + 0.7 * torch.randn(rows, INPUTS, generator=draw), y


def _first(neurons: int) -> UGMMLayer:
    return UGMMLayer(INPUTS, neurons, dropout=0.3, min_std=0.3)


def _deep(norm: str) -> UGMMNet:
    return UGMMNet([INPUTS, 12, 6, CLASSES], norm=norm, dropout=(0.3, 0.0, 0.0), min_std=0.3)


KINDS = {
    "a layer": lambda: _first(CLASSES),
    "affine": lambda: nn.Sequential(_first(12), nn.Linear(12, CLASSES)),
    "batch norm": lambda: nn.Sequential(
        _first(12), nn.BatchNorm1d(12), nn.Dropout(0.1), nn.Linear(12, CLASSES)
    ),
    "layer norm": lambda: nn.Sequential(_first(12), nn.LayerNorm(12), nn.Linear(12, CLASSES)),
    "hybrid": lambda: nn.Sequential(_first(12), nn.BatchNorm1d(12), MLP([12, 8, CLASSES])),
    "hybrid, layer norm": lambda: nn.Sequential(_first(12), nn.LayerNorm(12), MLP([12, 8, CLASSES])),
    "hybrid, plain layer norm": lambda: nn.Sequential(
        _first(12),
        nn.LayerNorm(12, elementwise_affine=False),
        nn.Linear(12, 8, bias=False),
        nn.ReLU(),
        nn.Linear(8, CLASSES, bias=False),
    ),
    "deep": lambda: _deep("none"),
    "deep, layer norm": lambda: _deep("layer"),
}
#: A LayerNorm between nonlinear layers is bounded loosely; nothing is claimed of how much is certified.
LOOSE = {"hybrid, layer norm", "deep, layer norm"}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(kind) -> nn.Module:
    torch.manual_seed(0)
    built = KINDS[kind]()
    x, y = _blobs(600, seed=1)
    optimizer = torch.optim.Adam(built.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(built(x), y).backward()
        optimizer.step()
    return built.double().eval()


@pytest.fixture(scope="module")
def rows() -> tuple[Tensor, Tensor]:
    x, y = _blobs(60, seed=2)
    return x.double(), y


def _worst(network: nn.Module, x: Tensor, y: Tensor, changed: int, values: Tensor) -> Tensor:
    """The least lead over all sets of inputs and all combinations of values."""
    least = attacks.lead(network, x, y).detach()
    grids = torch.meshgrid(*[values] * changed, indexing="ij")
    with torch.no_grad():
        for some in itertools.combinations(range(INPUTS), changed):
            tried = x.unsqueeze(1).repeat(1, grids[0].numel(), 1)
            for k, grid in zip(some, grids, strict=True):
                tried[..., k] = grid.flatten()
            leads = attacks.lead(network, tried.flatten(0, 1), y.repeat_interleave(grids[0].numel()))
            least = torch.minimum(least, leads.reshape(len(x), -1).amin(dim=1))
    return least


@pytest.mark.parametrize(("changed", "points", "examples"), [(1, 401, 60), (2, 17, 12)])
@pytest.mark.parametrize("box", [BOX, None], ids=["box", "line"])
def test_no_change_on_a_grid_goes_below_the_bound(changed, points, examples, box, network, rows):
    x, y = (part[:examples] for part in rows)
    low, high = box or (-40.0, 40.0)
    values = torch.linspace(low, high, points, dtype=torch.float64)
    if box is None:
        values = torch.cat(
            [values, torch.linspace(*BOX, points, dtype=torch.float64), torch.tensor([-1e6, 1e6])]
        )
    found = certify(network, x, y, changed=changed, box=box)
    assert (found.margin <= _worst(network, x, y, changed, values)).all()


def test_something_is_certified_and_less_for_more_changes_or_a_wider_box(kind, network, rows):
    x, y = rows
    certified = [certify(network, x, y, changed=m, box=BOX).certified.sum().item() for m in range(4)]
    assert certified == sorted(certified, reverse=True)
    assert certified[0] > 50
    assert certify(network, x, y, changed=1).certified.sum().item() <= certified[1]
    if kind not in LOOSE:
        assert certified[1] > 0


def test_without_changes_the_bound_is_the_lead(kind, network, rows):
    x, y = rows
    found = certify(network, x, y, changed=0, box=BOX)
    torch.testing.assert_close(found.clean, attacks.lead(network, x, y).detach())
    if "layer norm" not in kind:  # whose division is bounded, not computed
        torch.testing.assert_close(found.margin, found.clean, rtol=1e-5, atol=1e-5)


ATTACKS = {
    "greedy": lambda n, x, y, m: attacks.greedy_attack(n, x, y, changed=m, box=BOX, values=9),
    "random": lambda n, x, y, m: attacks.random_attack(n, x, y, changed=m, box=BOX, tries=100),
    "gradient": lambda n, x, y, m: attacks.gradient_attack(n, x, y, changed=m, box=BOX),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("changed", [1, 2, 3])
def test_no_attack_breaks_a_certified_example(attack, changed, network, rows):
    x, y = rows
    tried = ATTACKS[attack](network, x, y, changed)
    assert ((tried != x).sum(dim=1) <= changed).all()
    assert (tried >= torch.minimum(x, torch.tensor(BOX[0]))).all()
    assert (tried <= torch.maximum(x, torch.tensor(BOX[1]))).all()
    after = attacks.lead(network, tried, y).detach()
    assert (after <= attacks.lead(network, x, y).detach()).all()
    found = certify(network, x, y, changed=changed, box=BOX)
    assert (after >= found.margin).all()
    assert (after[found.certified] > 0.0).all()


def test_attacks_do_harm(network, rows):
    """An attack that finds nothing would make every certificate look good."""
    x, y = rows
    right = attacks.lead(network, x, y) > 0
    for attack in ATTACKS.values():
        assert (attacks.lead(network, attack(network, x, y, 4), y)[right] <= 0).double().mean() > 0.1


def test_answers_of_the_network_stand_in_for_missing_classes(network, rows):
    x, _ = rows
    own = certify(network, x, changed=1, box=BOX)
    named = certify(network, x, network(x).argmax(dim=1), changed=1, box=BOX)
    assert torch.equal(own.margin, named.margin)
    assert own.right.all()


def test_wrong_answers_are_not_certified(network, rows):
    x, _ = rows
    wrong = (network(x).argmax(dim=1) + 1) % CLASSES
    assert not certify(network, x, wrong, changed=1, box=BOX).certified.any()
    assert not certify(network, x, wrong, changed=0, box=BOX).right.any()


def test_everything_may_change_on_the_line_so_nothing_is_certified(network, rows):
    x, y = rows
    found = certify(network, x, y, changed=INPUTS)
    assert (found.margin == -math.inf).all()


def test_the_network_is_left_as_it_was(network, rows):
    x, y = rows
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    certify(network, x, y, changed=1, box=BOX)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.eval()


def test_a_class_of_one_box_for_each_input():
    torch.manual_seed(0)
    network = nn.Sequential(UGMMLayer(3, 6), nn.Linear(6, 2))
    x, low, high = torch.rand(20, 3), torch.tensor([0.0, 0.2, 0.4]), torch.tensor([1.0, 0.8, 0.6])
    wide, narrow = (certify(network, x, changed=1, box=box) for box in ((0.0, 1.0), (low, high)))
    assert (narrow.margin >= wide.margin - 1e-9).all()
    assert (narrow.margin > wide.margin).any()


def test_no_rows_give_no_certificates():
    found = certify(UGMMNet([4, 5, 3]), torch.zeros(0, 4), changed=1)
    assert found.margin.shape == found.certified.shape == (0,)


class _Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def test_modules_that_compute_something_of_their_own_are_refused():
    first = UGMMLayer(4, 3)
    with pytest.raises(TypeError, match="got _Residual: its bounds are not known"):
        certify(nn.Sequential(first, _Residual(nn.Linear(3, 3))), torch.zeros(2, 4), changed=1)
    hooked = nn.Linear(3, 3)
    hooked.register_forward_hook(lambda module, inputs, output: output.square())
    with pytest.raises(TypeError, match="without forward hooks, got one on Linear"):
        certify(nn.Sequential(first, hooked), torch.zeros(2, 4), changed=1)
    with pytest.raises(TypeError, match="first module is a UGMMLayer, got MaxLayer"):
        certify(nn.Sequential(MaxLayer(4, 3), nn.Linear(3, 3)), torch.zeros(2, 4), changed=1)


def test_a_neuron_without_bounds_that_no_score_reads_does_not_matter():
    torch.manual_seed(0)
    network = nn.Sequential(UGMMLayer(4, 3, dtype=torch.float64), nn.Linear(3, 2, dtype=torch.float64))
    x = torch.randn(20, 4, dtype=torch.float64)
    with torch.no_grad():
        network[0].mix_logits[0, 1:] = -math.inf  # one input only: without it nothing is left
        network[1].weight[:, 0] = 0.0
        without = nn.Sequential(UGMMLayer(4, 2, dtype=torch.float64), nn.Linear(2, 2, dtype=torch.float64))
        for name in ("mean", "log_std", "mix_logits"):
            getattr(without[0], name).copy_(getattr(network[0], name)[1:])
        without[1].weight.copy_(network[1].weight[:, 1:])
        without[1].bias.copy_(network[1].bias)
    found, expected = (certify(n, x, changed=1).margin for n in (network, without))
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_cancelling_weights_do_not_hide_rounding():
    """Two layers whose weights cancel all but a billionth: the bound stays below the exact lead."""
    torch.manual_seed(0)
    first = UGMMLayer(3, 4, dtype=torch.float64)
    rows = torch.randn(4, 4, dtype=torch.float64)
    middle, last = nn.Linear(4, 8, dtype=torch.float64), nn.Linear(8, 2, dtype=torch.float64)
    with torch.no_grad():
        middle.weight.copy_(torch.cat([rows, rows + 1e-9 * torch.randn(4, 4, dtype=torch.float64)]))
        middle.bias.zero_()
        last.weight.copy_(1e8 * torch.tensor([[1.0] * 4 + [-1.0] * 4, [0.0] * 8], dtype=torch.float64))
    x = torch.randn(50, 3, dtype=torch.float64)
    network = nn.Sequential(first, middle, last)
    found = certify(network, x, torch.zeros(50, dtype=torch.long), changed=0)
    exact = [_exact_lead(first, middle, last, row) for row in x]
    assert all(margin <= lead for margin, lead in zip(found.margin.tolist(), exact, strict=True))


def test_hidden_units_are_bounded_for_one_adversary():
    """What certify proves of a hybrid is at least what the looser bound to train with proves."""
    torch.manual_seed(0)
    network = nn.Sequential(
        UGMMLayer(INPUTS, 24, min_std=0.3),
        nn.LayerNorm(24, elementwise_affine=False),
        nn.Linear(24, 16, bias=False),
        nn.ReLU(),
        nn.Linear(16, CLASSES, bias=False),
    ).double()
    x, y = _blobs(300, seed=1)
    x = x.double().clamp(*BOX)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        certified_loss(network, x, y, changed=1, box=BOX).backward()
        optimizer.step()
    loose = (lower_leads(network, x, y, changed=2, box=BOX) > 0.0).all(dim=1)
    proven = certify(network, x, y, changed=2, box=BOX).certified
    assert (proven | ~loose).all()
    assert proven.sum() > loose.sum() + 5


def test_products_that_underflow_prove_nothing():
    """Far away the lead is below zero by 1e-340 times a large output, which float64 rounds to nothing."""
    first, middle, last = UGMMLayer(1, 1), nn.Linear(1, 1), nn.Linear(1, 2)
    network = nn.Sequential(first, middle, last).double()
    with torch.no_grad():
        first.mean.zero_()
        first.log_std.fill_(math.log(1e-3))
        middle.weight.fill_(1e-160)
        last.weight.copy_(torch.tensor([[1e-180], [0.0]]))
        last.bias.copy_(torch.tensor([1e-279, 0.0], dtype=torch.float64))
        middle.bias.zero_()
    x, y = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0])
    assert not certify(network, x, y, changed=1, box=(-1e30, 1e30)).certified.any()


def _exact_lead(first, middle, last, row):
    with mpmath.workdps(60):
        numbers = lambda values: [mpmath.mpf(v) for v in values.tolist()]  # noqa: E731
        hidden = []
        for mean, log_std, logits in zip(first.mean, first.log_std, first.mix_logits, strict=True):
            weights = [mpmath.exp(v) for v in numbers(logits)]
            terms = [w / sum(weights) * mpmath.npdf(v, m, mpmath.exp(s)) for w, v, m, s in
                     zip(weights, numbers(row), numbers(mean), numbers(log_std), strict=True)]  # fmt: skip
            hidden.append(mpmath.log(sum(terms)))
        for layer in (middle, last):
            hidden = [mpmath.fdot(numbers(w), hidden) + b for w, b in
                      zip(layer.weight, numbers(layer.bias), strict=True)]  # fmt: skip
        return hidden[0] - hidden[1]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (MLP([4, 5, 3]), "first module is a UGMMLayer, got Linear"),
        (nn.Sequential(), "first module is a UGMMLayer, got nothing"),
        (nn.Sequential(UGMMLayer(4, 3), nn.Tanh()), "got Tanh: its bounds are not known"),
        # Equal inputs would be divided by 0.
        (nn.Sequential(UGMMLayer(4, 3), nn.LayerNorm(3, eps=0.0)), r"expected .* eps above 0"),
    ],
)
def test_networks_without_known_bounds_are_refused(network, message):
    with pytest.raises(TypeError, match=message):
        certify(network, torch.zeros(2, 4), changed=1)


@pytest.mark.parametrize(
    ("outputs", "x", "y", "message"),
    [
        (3, torch.zeros(4), None, r"x of shape \(B, K\) and two outputs or more"),
        (1, torch.zeros(2, 4), None, r"two outputs or more, got \(2, 4\) and 1"),
        (3, torch.zeros(2, 4), torch.tensor([0, 3]), "y as 2 whole numbers from 0 to 2"),
        (3, torch.zeros(2, 4), torch.zeros(2), "whole numbers from 0 to 2, got .*float32"),
        (3, torch.zeros(2, 4), torch.zeros(3, dtype=torch.long), r"y as 2 whole numbers .* got \(3,\)"),
        (3, torch.zeros(2, 5), None, r"expected x of shape \(\*, 4\)"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(outputs, x, y, message):
    with pytest.raises(ValueError, match=message):
        certify(UGMMNet([4, outputs]), x, y, changed=1)
