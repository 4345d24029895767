"""Joint training of many small networks side by side."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ugmm_tutorial import UGMMLayer, UGMMNet
from ugmm_tutorial.data import with_labels
from ugmm_tutorial.inference import label_scores
from ugmm_tutorial.layers import CategoricalLeafLayer
from ugmm_tutorial.training import EnsembleTrainer, train_generative


def gaussian(seed):
    torch.manual_seed(seed)
    return UGMMNet((3, 4, 1), init="paper", min_std=0.05, max_std=2.0).double()


def categorical(seed):
    torch.manual_seed(seed)
    return nn.Sequential(CategoricalLeafLayer(3, 4, num_labels=3), UGMMLayer(4, 1)).double()


def flowers(networks, count=10):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(networks, count, 2, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (networks, count), generator=generator)


def trained_alone(network, x, y, *, objective, epochs, seed, batch_size=4):
    """The same by an ordinary loop."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        total = 0.0
        for index in torch.randperm(len(x), generator=generator).split(batch_size):
            if objective == "joint":
                loss = -network(with_labels(x[index], y[index])).mean()
            else:
                loss = nn.functional.cross_entropy(label_scores(network, x[index], range(3)), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
    return total / len(x)


@pytest.mark.parametrize("objective", ["joint", "conditional"])
@pytest.mark.parametrize("build", [gaussian, categorical])
def test_side_by_side_every_network_becomes_what_it_becomes_alone(build, objective):
    networks = [build(seed) for seed in range(3)]
    alone = copy.deepcopy(networks)
    x, y = flowers(3)
    options = {"objective": objective, "labels": range(3)}
    training = EnsembleTrainer(networks, x, y, **options, batch_size=4, learning_rate=1e-2, seed=5)
    training.run(2)
    losses = training.run(3)
    assert training.epoch == 5
    for m, (network, other) in enumerate(zip(networks, alone, strict=True)):
        loss = trained_alone(other, x[m], y[m], objective=objective, epochs=5, seed=5 + m)
        assert losses[m].item() == pytest.approx(loss, rel=1e-9)
        for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)
    first = build(0)
    assert (
        max((a - b).abs().max() for a, b in zip(networks[0].parameters(), first.parameters(), strict=True))
        > 1e-3
    )


@pytest.mark.slow
def test_training_raises_the_objective():
    x, y = flowers(2, 40)
    for objective in ("joint", "conditional"):
        training = EnsembleTrainer([gaussian(0), gaussian(1)], x, y, objective=objective, learning_rate=1e-2)
        before, after = training.run(1), training.run(40)
        assert (after < before - 0.05).all()


def test_labels_beyond_those_present_may_be_named_but_not_fewer():
    x, y = flowers(1)
    four = EnsembleTrainer([gaussian(0)], x, y, objective="conditional", labels=range(4)).run(1)
    three = EnsembleTrainer([gaussian(0)], x, y, objective="conditional").run(1)
    assert four > three
    with pytest.raises(ValueError, match=r"labels among \[0.0, 1.0\], got \[0.0, 1.0, 2.0\]"):
        EnsembleTrainer([gaussian(0)], x, y, labels=[0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "likelihood"}, "unknown objective 'likelihood': expected one of joint, conditional"),
        ({"networks": []}, "expected networks, at least one, got none"),
        ({"networks": [torch.nn.Identity()]}, "every one of networks with parameters to train, got none"),
        ({"x": torch.zeros(2, 10, 2).double(), "y": torch.zeros(2, 10)}, r"M = 1 .* \(2, 10, 2\)"),
        ({"x": torch.full((1, 10, 2), torch.nan).double()}, "finite"),
        ({"y": torch.zeros(1, 9)}, r"a label for each row of x, \(1, 10\), got \(1, 9\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    x, y = flowers(1)
    arguments = {"networks": [gaussian(0)], "x": x, "y": y} | change
    with pytest.raises(ValueError, match=message):
        EnsembleTrainer(**arguments)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0.5, 1, 2]])
def test_labels_that_a_categorical_leaf_does_not_know_are_refused(labels):
    x, y = flowers(1)
    with pytest.raises(ValueError, match=r"labels 0 to 2 as the last input, got (3|0\.5)"):
        EnsembleTrainer([categorical(0)], x, y, objective="conditional", labels=labels)


def test_a_batch_without_examples_is_refused():
    x, y = flowers(1)
    with pytest.raises(ValueError, match="batch_size >= 1, got 0"):
        EnsembleTrainer([gaussian(0)], x, y, batch_size=0)


def test_a_joint_input_has_the_label_last():
    z = with_labels(torch.tensor([[1.0, 2.0]]), torch.tensor([2]))
    assert z.tolist() == [[1.0, 2.0, 2.0]]
    assert z.dtype == torch.float32


def test_training_one_network_raises_the_score_of_the_data_and_can_be_repeated():
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    options = {"learning_rate": 1e-2, "batch_size": 20, "init": "unit", "seed": 1}
    none, some, again = (train_generative([3, 4, 1], rows, epochs=e, **options) for e in (0, 20, 20))
    with torch.no_grad():
        assert float(some(rows).mean()) > float(none(rows).mean()) + 0.1
        assert torch.equal(some(rows), again(rows))


def test_one_network_alone_becomes_what_it_becomes_side_by_side():
    x, y = flowers(1, 20)
    rows = with_labels(x, y)[0].float()
    options = {"learning_rate": 1e-2, "batch_size": 8}
    alone = train_generative([3, 4, 1], rows, epochs=5, init="paper", seed=3, **options)
    beside = train_generative([3, 4, 1], rows, epochs=0, init="paper", seed=3, **options)
    EnsembleTrainer([beside], x.float(), y, seed=3, **options).run(5)
    for mine, theirs in zip(alone.parameters(), beside.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
