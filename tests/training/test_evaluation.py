"""evaluate(): equal to a direct computation, and nothing is left changed."""

import math

import pytest
import torch
from torch import nn

from ugmm_tutorial import data
from ugmm_tutorial.data import Examples
from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.training import evaluate

IRIS = data.iris(validation=15, test=30)


def _network() -> UGMMNet:
    """A fresh network with dropout, which evaluation has to turn off."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return UGMMNet((4, 8, 3), norm="layer", dropout=0.3)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_it_equals_a_direct_computation(batch_size):
    model = _network().eval()
    with torch.no_grad():
        scores = model(IRIS.test.x).double()
    chosen = torch.tensor([row.argmax() for row in scores])
    picked = scores.softmax(dim=1)[torch.arange(30), IRIS.test.y]
    result = evaluate(model, IRIS.test, batch_size=batch_size)
    assert result["loss"] == pytest.approx(-picked.log().mean().item(), rel=1e-5)
    assert result["accuracy"] == (chosen == IRIS.test.y).sum().item() / 30
    assert all(type(value) is float for value in result.values())


def test_it_turns_dropout_off_and_makes_no_graph():
    model, seen = _network().train(), []
    model.register_forward_hook(lambda module, _, out: seen.append((module.training, out.requires_grad)))
    evaluate(model, IRIS.test)
    assert seen == [(False, False)]


@pytest.mark.parametrize("training_mode", [True, False])
def test_it_leaves_every_part_in_its_own_mode(training_mode):
    model = _network().train(training_mode)
    model[-1].train(not training_mode)  # a part that its user has frozen, or not
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    evaluate(model, IRIS.test)
    assert [module.training for module in model.modules()] == modes


def test_it_restores_the_mode_after_an_error():
    model = _network().train()
    with pytest.raises(ValueError, match="got"):
        evaluate(model, Examples(torch.zeros(2, 99), torch.zeros(2).long()))
    assert all(module.training for module in model.modules())


def test_it_takes_a_model_without_parameters():
    scores = torch.tensor([[5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    assert evaluate(nn.Identity(), Examples(scores, torch.tensor([0, 1, 1])))["accuracy"] == 2 / 3


def test_it_refuses_no_examples():
    with pytest.raises(ValueError, match="expected examples to evaluate on, got none"):
        evaluate(_network(), data.iris(test=0).test)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_it_refuses_an_empty_batch(batch_size):
    with pytest.raises(ValueError, match=f"expected batch_size >= 1, got {batch_size}"):
        evaluate(_network(), IRIS.test, batch_size=batch_size)


WRONG_LABELS = [
    (torch.full((6,), -100), "got -100"),
    (torch.tensor([0, 1, 9, 2, 0, 1]), "from 0 to 2, got 9"),
    (torch.eye(3)[[0, 1, 2, 0, 1, 2]], r"got \(6, 3\) of float32.*argmax"),
    (torch.zeros(6, 1).long(), r"got \(6, 1\) of int64"),
    (torch.zeros(6).bool(), r"got \(6,\) of bool"),
    (torch.zeros(5).long(), r"got \(5,\) of int64"),
]


@pytest.mark.parametrize(("y", "message"), WRONG_LABELS)
def test_labels_that_are_no_classes_of_the_model_are_refused(y, message):
    with pytest.raises(ValueError, match="expected examples.y as 6 whole numbers.*" + message):
        evaluate(UGMMNet((4, 5, 3)), Examples(torch.randn(6, 4), y))


def test_arrays_are_refused_by_name():
    x, y = torch.randn(6, 4), torch.zeros(6).long()
    for part, examples in (("x", Examples(x.numpy(), y)), ("y", Examples(x, y.numpy()))):
        with pytest.raises(TypeError, match=f"expected examples.{part} to be a torch.Tensor, got ndarray"):
            evaluate(UGMMNet((4, 5, 3)), examples)


def test_examples_without_numbers_are_refused():
    with pytest.raises(
        TypeError, match=r"expected examples.x to be a tensor of real numbers, got .* on meta"
    ):
        evaluate(nn.Identity(), Examples(torch.eye(3, device="meta"), torch.arange(3)))


@pytest.mark.happens(
    "Inputs and labels",
    when="a network's scores are NaN",
    see="these answers count as wrong",
    kept="an honest accuracy",
)
def test_a_score_that_is_nan_is_no_right_answer():
    found = evaluate(UGMMNet((4, 5, 3)), Examples(torch.full((6, 4), math.nan), torch.zeros(6).long()))
    assert math.isnan(found["loss"])
    assert math.isnan(found["accuracy"])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_any_whole_dtype_are_labels(dtype):
    model, x, y = UGMMNet((4, 5, 3)), torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    assert evaluate(model, Examples(x, y.to(dtype))) == evaluate(model, Examples(x, y))


def test_a_model_without_class_scores_is_refused():
    with pytest.raises(ValueError, match=r"gives scores \(6, classes\), got \(6, 4, 2\)"):
        evaluate(nn.Unflatten(1, (4, 2)), Examples(torch.zeros(6, 8), torch.zeros(6).long()))
