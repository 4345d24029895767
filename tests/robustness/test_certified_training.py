"""The bound to train with: below every attempt, never better than a certificate, and learnable."""

import itertools
import math

import pytest
import torch
from torch import nn

from ugmm_tutorial import UGMMLayer
from ugmm_tutorial.robustness import certified_loss, certify, lower_leads
from ugmm_tutorial.robustness.attacks import lead

CASES = [
    (box, norm, changed) for box in (None, (0.0, 1.0)) for norm in (False, True) for changed in (1, 2, 5)
]


def network(norm, inputs=8, neurons=12, classes=3, seed=0, hidden=(), **options):
    torch.manual_seed(seed)
    behind = [nn.LayerNorm(neurons, elementwise_affine=False)] if norm else []
    for k, j in itertools.pairwise((neurons, *hidden)):
        behind += [nn.Linear(k, j, bias=not norm), nn.ReLU()]
    readout = nn.Linear(hidden[-1] if hidden else neurons, classes, bias=not norm)
    layer = UGMMLayer(inputs, neurons, init="paper", **options)
    return nn.Sequential(layer, *behind, readout).double()


def rows(count=60, inputs=8, seed=1):
    return torch.rand(count, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def changes(x, changed, box, tries=200, seed=2):
    """Inputs of which some are at random values, at ends of the box, or far away: (tries, B, K)."""
    draw = torch.Generator().manual_seed(seed)
    low, high = box or (-3.0, 3.0)
    values = low + (high - low) * torch.rand(tries, *x.shape, generator=draw, dtype=x.dtype)
    far = torch.tensor([low, high] if box else [-1e3, 1e3], dtype=x.dtype)
    ends = far[torch.randint(2, values.shape, generator=draw)]
    values = torch.where(torch.rand(values.shape, generator=draw) < 0.3, ends, values)
    place = torch.rand(values.shape, generator=draw).topk(changed, dim=-1).indices
    return x.expand_as(values).scatter(-1, place, values.gather(-1, place))


@pytest.mark.parametrize("hidden", [(), (9,), (9, 7)], ids=str)
@pytest.mark.parametrize(("box", "norm", "changed"), CASES)
def test_no_change_goes_below_the_bound(box, norm, changed, hidden):
    net, x = network(norm, hidden=hidden), rows()
    y = net(x).argmax(dim=1)
    bound = lower_leads(net, x, y, changed=changed, box=box).amin(dim=1)
    attempts = changes(x, changed, box)
    found = torch.stack([lead(net, attempt, y) for attempt in attempts]).amin(dim=0)
    if norm:  # in the unit of the LayerNorm at x only the sign is promised
        assert (found[bound > 0.0] > 0.0).all()
    else:
        assert (found >= bound - 1e-9).all()


@pytest.mark.parametrize(("box", "norm", "changed"), CASES)
def test_what_it_proves_a_certificate_proves_too(box, norm, changed):
    net, x = network(norm), rows(200)
    y = net(x).argmax(dim=1)
    proven = lower_leads(net, x, y, changed=changed, box=box).amin(dim=1) > 1e-9
    assert (certify(net, x, y, changed=changed, box=box).certified | ~proven).all()


def test_without_changes_it_is_the_lead_itself():
    net, x = network(norm=False), rows()
    scores = net(x)
    found = lower_leads(net, x, torch.ones(len(x), dtype=torch.long), changed=0)
    torch.testing.assert_close(found, scores[:, 1:2] - scores[:, [0, 2]])
    deep = network(norm=True, hidden=(9, 7))
    scores = deep(x)  # the ends of every ReLU are its input
    found = lower_leads(deep, x, torch.ones(len(x), dtype=torch.long), changed=0)
    torch.testing.assert_close(found, scores[:, 1:2] - scores[:, [0, 2]])


@pytest.mark.parametrize("far", [5.0, 11.0, 20.0, 100.0])
def test_an_input_that_comes_back_from_far_away_is_counted(far):
    """The sum is next to nothing at first, and a changed input can bring all of it back."""
    net = nn.Sequential(UGMMLayer(2, 1), nn.Linear(1, 2, bias=False)).double()
    x = torch.full((1, 2), far, dtype=torch.float64)
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[-1.0], [0.0]]))
        back = net[0].mean[0].repeat(2, 1).fill_diagonal_(far).flip(0)  # one input at its mean
        worst = lead(net, back, torch.zeros(2, dtype=torch.long)).min()
    assert lower_leads(net, x, torch.tensor([0]), changed=1) <= worst


def test_more_changes_or_a_larger_box_are_never_better():
    net, x = network(norm=False), rows()
    y = net(x).argmax(dim=1)
    by_count = [lower_leads(net, x, y, changed=m, box=(0.0, 1.0)) for m in range(9)]
    assert all((more <= less + 1e-12).all() for less, more in itertools.pairwise(by_count))
    by_box = [lower_leads(net, x, y, changed=2, box=box) for box in ((0.0, 1.0), (-1.0, 2.0), None)]
    assert all((more <= less + 1e-12).all() for less, more in itertools.pairwise(by_box))


@pytest.mark.parametrize("hidden", [(), (3,)], ids=str)
def test_gradients_are_those_of_finite_differences(hidden):
    net, x = network(norm=True, inputs=5, neurons=4, hidden=hidden), rows(3, inputs=5)
    y = torch.tensor([0, 1, 2])
    parameters = dict(net.named_parameters())

    def loss(*values):
        named = dict(zip(parameters, values, strict=True))

        class Called(nn.Module):  # functional_call wants a module that calls the function
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self):
                return certified_loss(self.net, x, y, changed=2, box=(0.0, 1.0))

        return torch.func.functional_call(Called(), {f"net.{name}": v for name, v in named.items()}, ())

    values = [p.detach().clone().requires_grad_() for p in parameters.values()]
    assert torch.autograd.gradcheck(loss, values, atol=1e-6)


def test_training_with_it_proves_more():
    """Twelve inputs, of which all say a little: ordinary training leans on few, this one does not."""
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(2, (600,), generator=draw)
    x = (0.5 + 0.25 * (2 * y.unsqueeze(1) - 1) + 0.2 * torch.randn(600, 12, generator=draw)).clamp(0.0, 1.0)
    proven = []
    for changed in (0, 2):
        torch.manual_seed(0)
        net = nn.Sequential(UGMMLayer(12, 8, min_std=0.1), nn.Linear(8, 2))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            certified_loss(net, x[:400], y[:400], changed=changed, box=(0.0, 1.0)).backward()
            optimizer.step()
        found = certify(net.eval(), x[400:], y[400:], changed=2, box=(0.0, 1.0))
        proven.append(found.certified.double().mean().item())
    assert proven[1] > proven[0] + 0.1


def test_other_networks_and_inputs_outside_of_the_box_are_refused():
    net, x = network(norm=False), rows(4)
    y = torch.zeros(4, dtype=torch.long)
    with pytest.raises(
        TypeError, match=r"perhaps a LayerNorm, and Linear with ReLU between, got \['Linear'\]"
    ):
        lower_leads(nn.Sequential(nn.Linear(8, 3)), x, y, changed=1)
    with pytest.raises(TypeError, match=r"got \['UGMMLayer', 'Linear', 'ReLU'\]"):
        lower_leads(nn.Sequential(*net, nn.ReLU()), x, y, changed=1)
    with pytest.raises(TypeError, match="LayerNorm without parameters"):
        lower_leads(nn.Sequential(net[0], nn.LayerNorm(12), net[1]), x, y, changed=1)
    with pytest.raises(ValueError, match="within the box"):
        lower_leads(net, x + 2.0, y, changed=1, box=(0.0, 1.0))
    with pytest.raises(ValueError, match="from 0 to 8, got 9"):
        lower_leads(net, x, y, changed=9)
    with pytest.raises(ValueError, match="y as 4 whole numbers from 0 to 2"):
        lower_leads(net, x, y - 1, changed=1)


class _Negative(nn.Linear):
    def forward(self, x):
        return -super().forward(x)


def test_modules_that_compute_something_of_their_own_are_refused():
    net, x = network(norm=False), rows(4)
    y = torch.zeros(4, dtype=torch.long)
    with pytest.raises(TypeError, match=r"got .*_Negative"):
        lower_leads(nn.Sequential(net[0], _Negative(12, 3)), x, y, changed=1)
    net[1].register_forward_hook(lambda module, given, out: -out)
    with pytest.raises(TypeError, match="without forward hooks, got one on Linear"):
        lower_leads(net, x, y, changed=1)


def test_labels_of_any_whole_dtype_are_labels():
    net, x = network(norm=False), rows(4)
    y = torch.ones(4, dtype=torch.long)
    expected = lower_leads(net, x, y, changed=1)
    assert torch.equal(lower_leads(net, x, y.byte(), changed=1), expected)


@pytest.mark.parametrize("hidden", [(), (9,), (9, 7)], ids=str)
def test_where_every_input_may_be_far_away_there_is_no_bound(hidden):
    net, x = network(norm=False, hidden=hidden), rows(4)
    assert (lower_leads(net, x, net(x).argmax(dim=1), changed=8) == -math.inf).all()


def test_a_neuron_far_below_its_greatest_sum_leaves_float32_finite():
    """Its greatest sum is e**200 times the clean one, which float32 cannot hold."""
    net = network(norm=False, inputs=3, neurons=2, classes=2).float()
    with torch.no_grad():
        net[0].mean.copy_(torch.tensor([[1.0], [0.0]]).expand(2, 3))
        net[0].log_std.fill_(math.log(0.05))
    x, y = torch.zeros(1, 3), torch.tensor([0])
    for label in (0, 1):
        loss = certified_loss(net, x, y + label, changed=1, box=(0.0, 1.0))
        loss.backward()
        assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    bound = lower_leads(net, x, y, changed=1, box=(0.0, 1.0))
    lowest = min(lead(net, torch.tensor([[v, 0.0, 0.0]]), y).item() for v in torch.linspace(0, 1, 101))
    assert bound.item() <= lowest + 1e-4


@pytest.mark.parametrize("changed", [1, 2])
@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_an_input_that_holds_nearly_all_of_a_sum_can_take_it_away(box, changed):
    """Its term is e**50 times the other: a fall of 50 nats, which 1 minus a share would round away."""
    layer = UGMMLayer(2, 1, dtype=torch.float64)
    readout = nn.Linear(1, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.mean.zero_()
        layer.log_std.fill_(math.log(0.1))
        layer.mix_logits.zero_()
        readout.weight.copy_(torch.tensor([[1.0], [0.0]]))
        readout.bias.copy_(torch.tensor([20.0, 0.0]))
    net = nn.Sequential(layer, readout)
    x, worst = torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[1.0, 1.0]]).double()
    bound = lower_leads(net, x, torch.tensor([0]), changed=changed, box=box)
    assert (bound <= (net(worst)[:, 0] - net(worst)[:, 1] + 1e-9)).all()
    assert not certify(net, x, torch.tensor([0]), changed=changed, box=box).certified.any()
