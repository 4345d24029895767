"""Wrong arguments of public functions: the error names the argument and shows what came.

The tests replace one argument at a time of the valid calls in ``entry_points.py``.
"""

import re
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from entry_points import CALLS, INF, MORE, NAN, NET, X
from torch import nn

import ugmm_tutorial as ug
from ugmm_tutorial import density, inference, interpretation, layers, robustness
from ugmm_tutorial.data import Examples
from ugmm_tutorial.estimators import UGMMClassifier, UGMMRegressor
from ugmm_tutorial.training.joint import train_generative


def cases():
    for call in CALLS + MORE:
        for name in call.integers:
            for value, error in (
                ("3", TypeError),
                (None, TypeError),
                (True, TypeError),
                (2.5, TypeError),
                (NAN, TypeError),
            ):
                yield call, name, value, error
            yield call, name, -1, ValueError
            yield call, name, 0, ValueError
        for name in call.numbers:
            for value, error in (
                ("0.1", TypeError),
                (None, TypeError),
                (True, TypeError),
                ([0.1], TypeError),
            ):
                yield call, name, value, error
            for value in (NAN, INF, -1.0):
                yield call, name, value, ValueError
        for name in call.tensors:
            t = call.valid[name]
            for value in (t.tolist(), t.numpy(), t.to_sparse(), t.bool(), t + 0j, None):
                yield call, name, value, TypeError
            yield call, name, t.to("meta"), (TypeError, ValueError)  # without values, and elsewhere
            yield call, name, torch.full_like(t, NAN), ValueError
            yield call, name, t.unsqueeze(-1), ValueError
        for name, wrongs in call.wrong.items():
            for value, error in wrongs:
                yield call, name, value, error


def is_shown(value, message):
    """A simple value is in the message; of tensors and collections, the message says something."""
    if isinstance(value, (str, bool, int, float)):
        return str(value) in message
    return "got " in message or "unknown " in message


@pytest.mark.parametrize(
    ("call", "name", "value", "error"),
    [pytest.param(*case, id=f"{case[0].name}-{case[1]}-{n}") for n, case in enumerate(cases())],
)
def test_a_wrong_argument_is_named(call, name, value, error):
    with pytest.raises(error) as refused:
        call.function(**call.valid | {name: value})
    plt.close("all")
    message = " ".join(str(refused.value).split())
    assert re.search(rf"\b{name}\b", message), message
    assert is_shown(value, message), message


@pytest.mark.parametrize("call", [call for call in CALLS if call.integers], ids=lambda call: call.name)
def test_integers_of_numpy_are_integers(call):
    same = {name: np.int64(call.valid[name]) for name in call.integers}
    call.function(**call.valid | same)
    plt.close("all")


def test_numpy_integers_go_into_a_config_as_ordinary_ones():
    config = ug.TrainConfig(epochs=np.int64(3), batch_size=np.int32(8), seed=np.int64(5))
    assert [type(n) for n in (config.epochs, config.batch_size, config.seed)] == [int] * 3
    assert robustness.certify(NET, X, changed=np.int64(1)).changed == 1


def test_seeds_and_sizes_of_numpy_reach_what_knows_only_integers():
    seeded = inference.mpe(NET, {0: 0.5, 1: 0.0}, [2], [(-1.0, 1.0)], tolerance=0.1, seed=np.int64(2))
    assert seeded.certified
    train_generative(
        [3, 1], X, epochs=1, learning_rate=0.1, batch_size=np.int64(2), init="unit", seed=np.int64(3)
    )
    UGMMClassifier((3, 2), max_iter=1, batch_size=np.int64(3)).fit(X, [0, 1, 0, 1, 0, 1])
    assert len(interpretation.health(NET, X, overlap=Fraction(1, 3))) == 2
    fractions = torch.tensor([0.0, 0.5])
    assert (
        len(interpretation.deletion_curve_by_example(NET, Examples(X, torch.arange(6) % 2), fractions)) == 2
    )


def test_the_background_of_rows_whose_squares_overflow_is_finite():
    fitted = density.GaussianBackground.fit(torch.tensor([[1e30], [3e30]]))
    torch.testing.assert_close(fitted.std, torch.tensor([1e30]))


@pytest.mark.parametrize("estimator", [UGMMClassifier, UGMMRegressor])
def test_estimators_read_tensors_that_numpy_does_not(estimator):
    x, y = X.clone().requires_grad_(), torch.tensor([0, 1, 0, 1, 0, 1])
    assert estimator((3, 2), max_iter=1).fit(x, y).predict(x).shape == (6,)
    with pytest.raises(TypeError, match="expected X to be a dense tensor"):
        estimator().fit(X.to_sparse(), y)
    with pytest.raises(TypeError, match="expected y to be a dense tensor"):
        estimator().fit(X, y.to_sparse())


@pytest.mark.parametrize("broken", ["averaged", "beyond", "negative"])
def test_an_index_that_names_no_inputs_is_not_loaded(broken):
    torch.manual_seed(0)
    layer, other = layers.SparseUGMMLayer(5, 3, 2), layers.SparseUGMMLayer(5, 3, 2)
    before = layer.index.clone()
    index = {
        "averaged": (layer.index + other.index) / 2,
        "beyond": layer.index + 5,
        "negative": layer.index - 5,
    }[broken]
    model = nn.Sequential(layer)
    state = model.state_dict() | {"0.index": index}
    with pytest.raises(RuntimeError, match=r"0\.index: expected index (to be whole numbers|from 0 to 4)"):
        model.load_state_dict(state)
    assert layer.index.equal(before)
    assert layer.index.dtype == torch.int64


@pytest.mark.parametrize("assign", [False, True])
def test_an_average_of_the_same_index_is_loaded_as_integers(assign):
    layer = layers.SparseUGMMLayer(5, 3, 2)
    state = {name: (value + value) / 2 for name, value in layer.state_dict().items()}
    assert state["index"].is_floating_point()
    fresh = layers.SparseUGMMLayer(5, 3, 2)
    fresh.load_state_dict(state, assign=assign)
    assert fresh.index.equal(layer.index)
    x = torch.rand(4, 5)
    assert fresh(x).equal(layer(x))
