"""Wrong arguments of public functions: the error names the argument and shows what came.

Each row of a table is a call with valid arguments, of which the tests replace one at a time.
"""

import math
import re
from dataclasses import dataclass, field

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

import ugmm_tutorial as ug
from ugmm_tutorial import (
    approximation,
    data,
    density,
    inference,
    interpretation,
    layers,
    robustness,
    uncertainty,
)
from ugmm_tutorial.robustness import attacks
from ugmm_tutorial.teaching import plotting
from ugmm_tutorial.teaching.viewer import SubmodeViewer
from ugmm_tutorial.training.joint import EnsembleTrainer, train_generative

mpl.use("Agg")

NAN, INF = math.nan, math.inf
X, Y = torch.rand(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
NET = ug.UGMMNet((3, 4, 2))
ROOT = ug.UGMMNet((3, 4, 1))
EXAMPLES = data.Examples(X, Y)
NODES, WEIGHTS = approximation.quadrature([0.0, 1.0], points=20)
FLAT = torch.zeros_like(NODES)  # the logarithm of the uniform density
HALVES = torch.full((2,), 0.5, dtype=torch.float64)
START = approximation.Mixture(HALVES, torch.tensor([0.2, 0.8]).double(), HALVES)
NORMAL = density.GaussianBackground(torch.zeros(3), torch.ones(3))
DIAGONAL = density.DiagonalGaussianMixture(3, 2)
IMAGES = torch.rand(4, 1, 8, 8)
P, LABELS = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]]), np.array([0, 1, 0, 0])
GAUSSIANS = dict(zip(("mean", "log_std", "log_weight"), torch.zeros(3, 2, 3), strict=True))
INDEX = torch.tensor([[0, 1, 1], [1, 2, 0]])
BOX = (0.0, 1.0)
VIEWER = SubmodeViewer(np.full((2, 3, 16), 0.1), np.zeros((2, 3)), np.ones((3, 16)))


@dataclass
class Call:
    """A function, valid arguments, and what kind each argument is that the tests replace."""

    function: object
    valid: dict
    integers: tuple = ()
    numbers: tuple = ()  # finite ones
    tensors: tuple = ()  # of floating-point numbers that are read
    wrong: dict = field(default_factory=dict)  # further (value, error), by argument

    @property
    def name(self):
        return getattr(self.function, "__qualname__", type(self.function).__name__)


def mixture(weight, mean, std, x):
    return approximation.Mixture(weight, mean, std).log_prob(x)


CALLS = [
    Call(
        ug.UGMMLayer,
        {"in_features": 3, "out_features": 2, "dropout": 0.1, "min_std": 0.1, "max_std": 2.0},
        integers=("in_features", "out_features"),
        numbers=("dropout", "min_std"),
        wrong={
            "max_std": [("2", TypeError), (None, TypeError), (0.05, ValueError), (NAN, ValueError)],
            "backend": [(["numba"], ValueError), (None, ValueError)],
            "device": [("gpu7", ValueError)],
            "missing": [("skip", ValueError)],
        },
    ),
    Call(
        layers.CategoricalLeafLayer,
        {"in_features": 3, "out_features": 2, "num_labels": 3},
        integers=("in_features", "out_features", "num_labels"),
    ),
    Call(
        layers.SparseUGMMLayer,
        {"in_features": 3, "out_features": 2, "components": 2},
        integers=("in_features", "out_features"),
        wrong={"components": [(4, ValueError), ("2", TypeError), (2.0, TypeError)]},
    ),
    Call(
        layers.sparse_log_density,
        {"x": X, "index": INDEX, **GAUSSIANS},
        wrong={
            "x": [
                (X.tolist(), TypeError),
                (X.to_sparse(), TypeError),
                (X.long(), TypeError),
                (X.to("meta"), ValueError),
            ],
            "index": [(INDEX.float(), TypeError), (INDEX[:, :2], ValueError), (INDEX + 2, IndexError)],
            "log_std": [(GAUSSIANS["log_std"].to("meta"), ValueError)],
        },
    ),
    Call(
        ug.MLP,
        {"widths": (3, 4, 2)},
        wrong={"widths": [({3, 2}, ValueError), ("3", ValueError), (3, ValueError)]},
    ),
    Call(
        ug.HybridNet,
        {"widths": (3, 4, 3, 2), "init_std": 1.0},
        numbers=("init_std",),
        wrong={"widths": [(3, ValueError), ("3432", ValueError), ([3, NAN, 3, 2], ValueError)]},
    ),
    Call(
        ug.TrainConfig,
        {"learning_rate": 0.1, "gamma": 0.5},
        numbers=("learning_rate", "gamma"),
        wrong={
            "milestones": [(None, ValueError), ({2, 4}, ValueError), ((2.5,), ValueError)],
            "measure": [(None, ValueError)],
            "epochs": [(None, ValueError), (NAN, ValueError), (np.float64(2), ValueError)],
        },
    ),
    Call(
        ug.train,
        {"model": nn.Linear(3, 2), "data": data.iris(), "config": ug.TrainConfig(epochs=1)},
        wrong={
            "model": [(None, TypeError)],
            "data": [(EXAMPLES, TypeError)],
            "config": [({"epochs": 1}, TypeError)],
            "device": [("gpu7", ValueError)],
        },
    ),
    Call(
        ug.evaluate,
        {"model": NET, "examples": EXAMPLES, "batch_size": 2},
        integers=("batch_size",),
        wrong={"model": [("net", TypeError)], "examples": [(None, TypeError)]},
    ),
    Call(
        EnsembleTrainer,
        {
            "networks": [ROOT],
            "x": X[None, :, :2],
            "y": Y[None].float(),
            "batch_size": 2,
            "learning_rate": 0.1,
        },
        integers=("batch_size",),
        numbers=("learning_rate",),
        wrong={
            "networks": [(None, TypeError), ([None], TypeError)],
            "seed": [("a", TypeError), (-1, ValueError)],
        },
    ),
    Call(
        train_generative,
        {
            "widths": [3, 1],
            "rows": X,
            "epochs": 1,
            "learning_rate": 0.1,
            "batch_size": 2,
            "init": "unit",
            "seed": 0,
        },
        integers=("batch_size",),
        numbers=("learning_rate",),
        tensors=("rows",),
        wrong={
            "seed": [("a", TypeError), (-1, ValueError), (2**40, ValueError)],
            "epochs": [(2.5, TypeError)],
        },
    ),
    Call(
        ug.training.mean_and_interval,
        {},
        wrong={"values": [([], ValueError), ([0.5, INF], ValueError), ("a", TypeError)]},
    ),
    # --- approximation
    Call(
        approximation.quadrature,
        {"edges": [0.0, 1.0], "points": 3},
        integers=("points",),
        wrong={"edges": [(["a", "b"], TypeError), ([0.0, NAN], ValueError)]},
    ),
    Call(
        mixture,
        {"weight": HALVES, "mean": START.mean, "std": START.std, "x": NODES},
        tensors=("weight", "mean", "std"),
        wrong={
            "weight": [(-HALVES, ValueError), (0 * HALVES, ValueError), (HALVES[:1], ValueError)],
            "std": [(-HALVES, ValueError), (0 * HALVES, ValueError)],
            "x": [([0.5], TypeError)],
        },
    ),
    Call(
        approximation.fit,
        {"log_density": FLAT, "x": NODES, "weight": WEIGHTS, "start": START, "iterations": 1},
        tensors=("x", "weight"),
        wrong={
            "log_density": [(FLAT.tolist(), TypeError), (FLAT[1:], ValueError), (FLAT - 9.0, ValueError)],
            "x": [(NODES.flip(0), ValueError), (NODES.float(), TypeError)],
            "start": [(None, TypeError)],
            "iterations": [(-1, ValueError), (2.5, TypeError), ("1", TypeError)],
        },
    ),
    Call(
        approximation.spread_start,
        {"log_density": FLAT, "x": NODES, "weight": WEIGHTS, "components": 2, "beyond": 0.1},
        integers=("components",),
        numbers=("beyond",),
    ),
    Call(
        approximation.bump_network,
        {"centres": torch.zeros(2, 3), "log_values": torch.zeros(2), "radius": 0.5, "wide": 30.0},
        numbers=("radius", "wide"),
        tensors=("centres", "log_values"),
    ),
    Call(
        approximation.exponential_layer,
        {"slope": torch.ones(2, 3), "share": torch.ones(2, 3), "wide": 30.0},
        numbers=("wide",),
        tensors=("slope", "share"),
        wrong={"share": [(-torch.ones(2, 3), ValueError), (torch.ones(3, 2), ValueError)]},
    ),
    Call(
        approximation.corners,
        {"x": X, "other": X + 1, "first": 0, "second": 1},
        wrong={
            "first": [
                ("0", TypeError),
                (0.5, TypeError),
                (True, TypeError),
                (-1, ValueError),
                (3, ValueError),
            ],
            "x": [(X.tolist(), TypeError), (X.long(), TypeError), (X[0], ValueError)],
        },
    ),
    # --- density
    Call(
        density.GaussianBackground,
        {"mean": torch.zeros(3), "std": torch.ones(3)},
        tensors=("mean", "std"),
        wrong={"std": [(torch.zeros(3), ValueError), (torch.ones(3).double(), TypeError)]},
    ),
    Call(
        density.GaussianBackground.fit,
        {"x": X, "min_std": 0.1},
        numbers=("min_std",),
        wrong={
            "x": [(X * NAN, ValueError), (X * INF, ValueError), (X[:0], ValueError), (X.long(), TypeError)]
        },
    ),
    Call(
        NORMAL.select,
        {"scope": [0]},
        wrong={"scope": [([3], IndexError), ([-1], IndexError), ([0.5], ValueError)]},
    ),
    Call(
        density.ProductBase,
        {"features": NORMAL, "labels": [0, 1], "probabilities": [0.5, 0.5]},
        wrong={
            "features": [(None, TypeError)],
            "labels": [(3, TypeError), (["a"], TypeError), ([0, NAN], ValueError)],
            "probabilities": [([-0.5, 1.5], ValueError), ([0.0, 0.0], ValueError), ([None, 1], TypeError)],
        },
    ),
    Call(
        density.SmoothedUGMM,
        {"in_features": 3, "num_neurons": 2, "min_std": 0.1},
        integers=("in_features", "num_neurons"),
        numbers=("min_std",),
    ),
    Call(
        density.Circuit,
        {"in_features": 4, "num_sums": 2, "depth": 1, "trees": 1},
        integers=("in_features", "num_sums", "trees"),
        wrong={
            "depth": [(-1, ValueError), (10**9, ValueError), ("1", TypeError)],
            "seed": [(None, TypeError)],
        },
    ),
    Call(
        density.TiltedModel,
        {"root": ROOT, "base": density.ProductBase(NORMAL), "num_points": 16, "scramblings": 2},
        integers=("num_points", "scramblings"),
        wrong={"root": [(None, TypeError)], "base": [(NORMAL, TypeError)], "log_bound": [("1", TypeError)]},
    ),
    Call(
        DIAGONAL.sample,
        {},
        wrong={"n": [(-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]},
    ),
    Call(
        DIAGONAL.log_prob,
        {},
        wrong={
            "x": [
                (X.to("meta"), TypeError),
                (X.to_sparse(), TypeError),
                (X * INF, ValueError),
                (X[:, :2], ValueError),
            ]
        },
    ),
    Call(
        density.em.fit,
        {"model": DIAGONAL, "x": X, "iterations": 1},
        integers=("iterations",),
        wrong={"model": [(NET, TypeError)], "tolerance": [(NAN, ValueError), ("1", TypeError)]},
    ),
    Call(
        density.gradient.fit,
        {"model": DIAGONAL, "x": X, "epochs": 1, "learning_rate": 0.1, "batch_size": 2},
        integers=("epochs", "batch_size"),
        numbers=("learning_rate",),
        wrong={"model": [(NET, TypeError)], "seed": [(0.5, TypeError)]},
    ),
    # --- inference, interpretation
    Call(
        inference.interval_bounds,
        {"model": NET, "low": torch.zeros(3), "high": torch.ones(3)},
        wrong={
            "model": [(nn.Linear(3, 2), TypeError)],
            "low": [
                ([0.0] * 3, TypeError),
                (torch.full((3,), NAN), ValueError),
                (torch.zeros(3).to("meta"), TypeError),
            ],
        },
    ),
    Call(
        inference.label_posterior,
        {"model": ROOT, "x": X[:, :2], "labels": [0, 1]},
        wrong={
            "model": [(None, TypeError)],
            "labels": [(None, TypeError), ([NAN], ValueError), (["a"], TypeError)],
        },
    ),
    Call(
        inference.mpe,
        {
            "model": NET,
            "evidence": {0: 0.5, 1: 0.0},
            "query": [2],
            "box": [(-1.0, 1.0)],
            "tolerance": 0.1,
            "starts": 2,
        },
        integers=("starts",),
        numbers=("tolerance",),
        wrong={
            "evidence": [(None, TypeError), ({0: "a", 1: 0.0}, ValueError)],
            "query": [(2, TypeError), ([2.5], ValueError)],
            "box": [(None, TypeError), ([(0.0, NAN)], ValueError), ([], ValueError)],
            "steps": [(2.5, TypeError), (-1, ValueError)],
            "time_limit": [("1", TypeError), (NAN, ValueError)],
            "node_limit": [(2.5, TypeError), (-1, ValueError)],
            "boxes_at_once": [(NAN, TypeError), (0, ValueError)],
            "improvements": [("newton", TypeError), (["luck"], ValueError)],
            "seed": [("a", TypeError)],
        },
    ),
    Call(
        interpretation.submodes,
        {"model": NET, "x": X, "labels": Y, "classes": 2},
        wrong={
            "classes": [("2", TypeError), (True, TypeError), (2.5, TypeError), (0, ValueError)],
            "x": [(X.tolist(), TypeError), (X[:0], ValueError), (X.to("meta"), TypeError)],
            "labels": [(Y.float(), ValueError), (Y + 1, ValueError), (Y.tolist(), TypeError)],
            "layer": [(2, IndexError), (-1, IndexError), (0.5, ValueError)],
        },
    ),
    Call(interpretation.health, {"model": NET}, wrong={"x": [(X * NAN, ValueError), (X[:1], ValueError)]}),
    Call(
        interpretation.back_project,
        {"model": NET, "x": X},
        wrong={"outputs": [(3, ValueError), ([2], IndexError), ([True], ValueError)]},
    ),
    Call(
        interpretation.prune,
        {"model": NET, "keep": 0.5},
        wrong={
            "importance": [(3, TypeError), ([1, 2], TypeError)],
            "keep": [("a", TypeError), (NAN, ValueError)],
        },
    ),
    # --- uncertainty, robustness
    Call(
        uncertainty.entropy,
        {},
        wrong={
            "probabilities": [
                ([0.5, 0.5], TypeError),
                (torch.tensor([-0.5, 1.5]), ValueError),
                (torch.tensor([0.5, NAN]), ValueError),
                (torch.tensor([2.0, 1.0]), ValueError),
            ]
        },
    ),
    Call(
        uncertainty.mutual_information,
        {},
        wrong={
            "members": [(torch.rand(2, 3, 4), ValueError), (P, TypeError), (torch.ones(2, 1), ValueError)]
        },
    ),
    Call(
        uncertainty.atypicality,
        {"scores": torch.rand(3), "reference": torch.rand(4)},
        tensors=("scores", "reference"),
    ),
    Call(
        uncertainty.accuracy,
        {"probabilities": P},
        wrong={"labels": [(None, TypeError), (LABELS[:2], ValueError)]},
    ),
    Call(
        uncertainty.calibrated_ece,
        {"probabilities": P, "bins": 2, "draws": 2},
        integers=("bins", "draws"),
        wrong={"seed": [("a", TypeError), (-1, ValueError)]},
    ),
    Call(
        uncertainty.logits,
        {"model": NET, "x": X, "batch_size": 2},
        integers=("batch_size",),
        wrong={"model": [(None, TypeError)], "x": [(X.numpy(), TypeError), (X[:0], ValueError)]},
    ),
    Call(
        uncertainty.mc_dropout,
        {"model": ug.UGMMNet((3, 4, 2), dropout=0.5), "x": X, "passes": 1},
        integers=("passes",),
        wrong={"seed": [("3", TypeError), (2.5, TypeError)]},
    ),
    Call(
        uncertainty.ensemble,
        {"x": X},
        wrong={"models": [(NET[0], TypeError), ([None], TypeError), ([], ValueError)]},
    ),
    Call(
        uncertainty.corrupt,
        {"images": IMAGES, "kind": "noise", "severity": 1},
        tensors=("images",),
        wrong={
            "severity": [(6, ValueError), (2.5, TypeError), (True, TypeError)],
            "seed": [(None, TypeError)],
        },
    ),
    Call(
        uncertainty.outliers,
        {"images": IMAGES},
        wrong={"other": [(IMAGES * 9, ValueError), (IMAGES[0], ValueError)]},
    ),
    Call(
        robustness.certify,
        {"network": NET, "x": X, "changed": 1},
        wrong={
            "network": [(None, TypeError)],
            "x": [(X.tolist(), TypeError), (X * NAN, ValueError), (X.to("meta"), TypeError)],
            "y": [("a", TypeError), (Y + 1, ValueError)],
            "changed": [("1", ValueError), (True, ValueError), (-1, ValueError), (4, ValueError)],
            "box": [(3, ValueError), ({0, 1}, ValueError), (("a", "b"), TypeError), ((0.0, INF), ValueError)],
        },
    ),
    Call(
        attacks.gradient_attack,
        {"network": NET, "x": X, "y": Y, "changed": 1, "box": BOX, "restarts": 1, "steps": 1},
        integers=("restarts",),
        tensors=("x",),
        wrong={"steps": [(2.5, TypeError)], "y": [(Y[:2], ValueError)], "seed": [("a", TypeError)]},
    ),
    # --- data
    Call(
        data.digits,
        {},
        wrong={"size": [("a", TypeError), (8.0, TypeError), (7, ValueError)], "seed": [(-1, ValueError)]},
    ),
    Call(data.iris, {}, wrong={"validation": [(3.5, TypeError), (None, TypeError), (-1, ValueError)]}),
    Call(
        data.iris().take,
        {},
        wrong={"train": [(2.5, TypeError), ("2", TypeError), (True, TypeError), (0, ValueError)]},
    ),
    Call(
        data.table,
        {"name": "vehicle"},
        wrong={
            "validation": [("a", TypeError), (NAN, ValueError)],
            "test": [(None, TypeError), (-1.0, ValueError)],
        },
    ),
    Call(
        data.with_labels,
        {"x": X, "y": Y},
        wrong={
            "x": [(X.tolist(), TypeError), (X.long(), TypeError)],
            "y": [(Y[:2], ValueError), (None, TypeError)],
        },
    ),
    # --- figures
    Call(
        plotting.mixture_density,
        {"mean": [0.0, 1.0], "std": [1.0, 1.0], "weight": [0.5, 0.5]},
        wrong={
            "mean": [(["a", "b"], TypeError), ([0.0, NAN], ValueError)],
            "std": [([0.0, 1.0], ValueError), (None, TypeError)],
            "weight": [([-0.5, 1.5], ValueError), ([0.0, 0.0], ValueError)],
        },
    ),
    Call(
        plotting.response_surface,
        {"x1": np.arange(3.0), "x2": np.arange(4.0), "values": np.zeros((4, 3))},
        wrong={
            "x1": [(np.arange(4.0), ValueError), (["a"] * 3, TypeError), ([0.0, NAN, 1.0], ValueError)],
            "values": [(np.zeros((3, 4)), ValueError), (np.full((4, 3), NAN), ValueError), (None, TypeError)],
        },
    ),
    Call(
        plotting.image_grid,
        {"images": np.zeros((2, 4, 4)), "titles": ["a", "b"], "columns": 2},
        integers=("columns",),
        wrong={
            "images": [("a", TypeError), (np.zeros(3), ValueError)],
            "titles": [(None, TypeError), (3, TypeError)],
        },
    ),
    Call(plotting.learning_curves, {}, wrong={"runs": [(3, TypeError), ({"a": None}, ValueError)]}),
    Call(plotting.reliability_diagram, {}, wrong={"bins": [([1], TypeError), ({"a": None}, TypeError)]}),
    Call(
        plotting.severity_curves,
        {"ylabel": "accuracy"},
        wrong={"curves": [(None, TypeError), ({"a": None}, TypeError), ({"a": [None]}, TypeError)]},
    ),
    Call(VIEWER.grid, {}, wrong={"neurons": [([2], IndexError), (3, ValueError), (["a"], ValueError)]}),
]


def cases():
    for call in CALLS:
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
