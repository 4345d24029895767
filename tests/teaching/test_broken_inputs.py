"""The live example's data are the networks and rows that it was given."""

import base64
import json

import numpy as np
import pytest
import torch
from torch import nn

from ugmm_tutorial import MLP, UGMMLayer
from ugmm_tutorial.teaching import BrokenInputs

ROWS = np.array([[1.0, 200.0, -3.0], [2.0, 100.0, 0.5]])


def hybrid():
    torch.manual_seed(0)
    return nn.Sequential(UGMMLayer(3, 5, dropout=0.3), nn.LayerNorm(5), MLP([5, 4, 2], dropout=0.5))


def demo(networks=None, **changes):
    options = {
        "center": [1.0, 150.0, 0.0],
        "scale": [1.0, 50.0, 2.0],
        "deviation": [0.5, 40.0, 1.0],
        "inputs": ["size", "weight", "</script>"],
        "classes": ["benign", "malignant"],
        "proven": [2, 0],
    }
    networks = {"mixtures": hybrid()} if networks is None else networks
    return BrokenInputs(networks, ROWS, [0, 1], **options | changes)


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_the_page_is_given_rows_names_and_proofs():
    html = demo()._repr_html_()
    start, end = '<script type="application/json" class="broken-inputs">', "</script>"
    assert html.startswith(start)
    assert html.count(end) == 1  # the one at the end, not the input of that name
    found = json.loads(html.removeprefix(start).removesuffix(end))
    assert found["rows"] == ROWS.tolist()
    assert found["inputs"][2] == "</script>"
    assert (found["labels"], found["proven"]) == ([0, 1], [2, 0])


def test_modules_are_stored_as_they_are_in_evaluation_mode():
    network = hybrid()
    kinds = demo({"mixtures": network}).data()["networks"]["mixtures"]
    assert [part["kind"] for part in kinds] == ["mixture", "norm", "linear", "relu", "linear"]
    layer = network[0]
    np.testing.assert_allclose(floats(kinds[0]["weight"]).reshape(5, 3), layer.mix_weight.detach())
    np.testing.assert_allclose(floats(kinds[0]["std"]).reshape(5, 3), layer.std.detach())
    np.testing.assert_array_equal(floats(kinds[2]["weight"]).reshape(4, 5), network[2][0].weight.detach())


def test_inputs_break_in_an_order_of_all_of_them_that_depends_on_the_seed_only():
    first, again, other = (demo(seed=seed).data() for seed in (0, 0, 7))
    assert first["order"] == again["order"]
    assert first["signs"] == again["signs"]
    assert (first["order"], first["signs"]) != (other["order"], other["signs"])
    assert [sorted(order) for order in first["order"]] == [[0, 1, 2]] * 2
    assert {sign for signs in first["signs"] for sign in signs} <= {-1, 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"center": [1.0]}, r"center of shape \(3,\), got \(1,\)"),
        ({"inputs": ["size"]}, "inputs of shape"),
        ({"proven": [1]}, "each of 2 rows, got 2 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        demo(**changes)


def test_a_module_that_the_page_cannot_compute_is_refused():
    with pytest.raises(TypeError, match="got Tanh"):
        demo({"other": nn.Sequential(nn.Linear(3, 2), nn.Tanh())})
