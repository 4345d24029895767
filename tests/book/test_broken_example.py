"""The data of the page *Break a measurement*: the networks are the package's, the tumours scikit-learn's."""

import json
import re

import broken_example
import pytest
import torch
from chapters import ROOT

TRAINED_ON = 398


@pytest.fixture(scope="module")
def content():
    return json.loads(broken_example.PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text():
    return (ROOT / "book" / "broken_example.md").read_text(encoding="utf-8")


def right(content, x):
    """Which part of the tumours each network gets right, if their rows are these."""
    y = torch.tensor(content["y"])
    networks = broken_example.networks(content).items()
    answers = {name: network(broken_example.scaled(content, x)).argmax(dim=-1) for name, network in networks}
    return {name: (answer == y).double().mean().item() for name, answer in answers.items()}


def test_tumours_are_those_that_training_has_not_seen(content):
    in_train, in_test = broken_example.split()
    assert torch.equal(torch.tensor(content["rows"], dtype=torch.float64), in_test.x)
    assert content["y"] == in_test.y.tolist()
    assert len(in_train.y) == TRAINED_ON
    assert not {tuple(row) for row in in_train.x.tolist()} & {tuple(row) for row in content["rows"]}


def test_numbers_of_the_file_are_the_whole_network(content, tmp_path):
    torch.manual_seed(1)
    fresh = broken_example.trained(epochs=1, learning_rate=1e-2)
    broken_example.write(fresh, tmp_path / "fresh.json")
    again = json.loads((tmp_path / "fresh.json").read_text(encoding="utf-8"))
    assert again == fresh
    assert again.keys() == content.keys()
    for name, network in broken_example.networks(again).items():
        shapes = {key: torch.tensor(value).shape for key, value in content[name].items()}
        assert {key: value.shape for key, value in network.state_dict().items()} == shapes
        assert not any(parameter.isnan().any() for parameter in network.parameters())


def test_scale_is_that_of_the_training_rows(content):
    in_train, _ = broken_example.split()
    x = broken_example.scaled(content, in_train.x)
    assert x.median(dim=0).values.abs().max() < 0.01
    quartiles = torch.quantile(x, torch.tensor([0.25, 0.75], dtype=torch.float64), dim=0)
    torch.testing.assert_close(
        quartiles[1] - quartiles[0], torch.full((30,), 1.349).double(), atol=0.05, rtol=0
    )
    torch.testing.assert_close(
        torch.tensor(content["std"]).double(), in_train.x.std(dim=0), rtol=0.01, atol=0
    )


def test_sentence_without_scripts_says_what_the_networks_do(content, text):
    x = torch.tensor(content["rows"], dtype=torch.float64)
    far = 10 * torch.diag(torch.tensor(content["std"], dtype=torch.float64))
    broken = [right(content, x + one) for one in far]
    clean = right(content, x)
    lost = {name: 1 - sum(found[name] for found in broken) / len(broken) / clean[name] for name in clean}
    sentence = re.search(r'<p class="be-still">(.*)</p>', text)[1]
    assert "costs the MLP more than a fifth of its right answers on average" in sentence
    assert lost["mlp"] > 1 / 5
    assert "the mixtures less than a hundredth" in sentence
    assert lost["mixtures"] < 1 / 100
    assert min(clean.values()) > 0.94


def test_text_counts_mixtures_and_tumours(content, text):
    counts = [int(number) for number in re.findall(r"(?:of|on|are) (\d+) (?:mixtures|tumours|others)", text)]
    assert counts == [len(content["mixtures"]["0.mean"]), TRAINED_ON, len(content["y"])]


def test_text_is_short(text):
    prose = re.sub(r"```.*?```|<[^>]+>", "", text, flags=re.DOTALL)
    assert len(prose.split()) <= 200
