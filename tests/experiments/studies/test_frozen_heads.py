"""The study of heads on frozen features: every head sees the same features, and the best rate is tested."""

import copy
import json

import pytest
import torch

from ugmm_tutorial import data
from ugmm_tutorial.experiments.studies import frozen_heads
from ugmm_tutorial.networks import ConvNet


def noise(train=60, validation=20, test=20):
    """Two classes of images: a bright upper half, or a bright lower half."""
    draw = torch.Generator().manual_seed(0)
    parts = []
    for count in (train, validation, test):
        y = torch.arange(count) % 2
        x = 0.3 * torch.rand(count, 1, 28, 28, generator=draw)
        x[y == 0, :, :14] += 0.6
        x[y == 1, :, 14:] += 0.6
        parts.append(data.Examples(x, y))
    return data.Splits("noise", "drawn", tuple(map(str, range(10))), *parts)


def test_features_of_are_what_the_head_of_the_network_sees():
    images, network = noise(), ConvNet()
    examples = frozen_heads.features_of(network, images, factor=2.0)
    with torch.no_grad():
        torch.testing.assert_close(network.head(0.5 * examples.test.x), network.eval()(images.test.x))
    assert torch.equal(examples.train.y, images.train.y)
    assert not examples.train.x.requires_grad


@pytest.mark.parametrize("kind", frozen_heads.HEADS)
def test_every_head_scores_ten_classes_and_mixtures_start_at_their_deviations(kind):
    head = frozen_heads.HEADS[kind]()
    assert head(torch.rand(3, 1024)).shape == (3, 10)
    if kind.startswith("deviations"):
        assert torch.allclose(head[1][0].std, torch.tensor(float(kind.split()[1])))


def test_every_head_is_measured_on_every_seed_and_its_best_rate_by_validation_is_tested(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(data, "mnist", noise)
    monkeypatch.setenv("UGMM_SCRATCH_DIR", str(tmp_path))
    settings = copy.deepcopy(frozen_heads.SETTINGS)
    settings["images"] = {"train": 60, "validation": 20, "test": 20}
    settings["filters"]["epochs"], settings["heads"]["epochs"] = 2, 6
    settings["kinds"], settings["seeds"] = ["linear", "deviations 1"], 1
    tried = []
    original = frozen_heads._trained
    monkeypatch.setattr(frozen_heads, "_trained", lambda *a: tried.append(original(*a)) or tried[-1])
    found = {kind: [entry] for kind, entry in frozen_heads._measured((0,), settings).items()}
    json.dumps(found, allow_nan=False)
    for place, kind in enumerate(settings["kinds"]):
        of_kind = tried[3 * place : 3 * place + 3]
        assert [entry["learning_rate"] for entry in of_kind] == settings["learning_rates"]
        assert found[kind][0]["validation"] == max(entry["validation"] for entry in of_kind)
        assert found[kind][0]["test"] > 0.6
