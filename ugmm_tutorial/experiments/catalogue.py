"""Every experiment of the book as data: which network is trained on which data set.

:class:`~ugmm_tutorial.experiments.Run` trains them.

An entry cannot change unnoticed: it is frozen, and every record repeats its settings. Do not change an entry
that has records; give a new idea a new name.
"""

from __future__ import annotations

from dataclasses import replace

from ugmm_tutorial.experiments.experiment import Experiment
from ugmm_tutorial.experiments.lookup import look_up
from ugmm_tutorial.training.config import TrainConfig

__all__ = ["EXPERIMENTS", "GROUPS", "WIDE", "WIDE_HEAD", "find", "group"]

#: The purpose of each group of experiments.
GROUPS = {
    "2": "the six rows of the paper's Table 2, under the settings of its Table 1",
    "variants": "rows of Table 2 where the paper leaves something open, or its author's code says otherwise",
    "fair": "MLPs with LayerNorm, with the uGMM network's number of parameters, and with its time for a step",
    "tuned": "the best settings of every search, trained on all images: as long as in the search, and longer",
    "ablations": "the uGMM network with one thing changed at a time, on images set aside for validation",
    "head-ablations": "the tuned convolutional network with one thing of its uGMM head changed, likewise",
    "digits": "quick relatives on scikit-learn's 8 x 8 digits, which every reader has",
    "digits-tuned": "the settings found on MNIST, 100 epochs, as they are, on scikit-learn's 8 x 8 digits",
}


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: there is none; the message suggests similar names.
    """
    return look_up(name, EXPERIMENTS, "experiment")


def group(name: str) -> list[Experiment]:
    """The experiments of a group, in order.

    Raises:
        ValueError: there is no such group.
    """
    if not isinstance(name, str) or name not in GROUPS:
        raise ValueError(f"no experiment belongs to table {name!r}: expected one of {', '.join(GROUPS)}")
    return [e for e in EXPERIMENTS.values() if e.group == name]


# --- entries ----------------------------------------------------------------------------------------


def _table_2(name: str, preset: str, accuracy: float, rate: float, milestones: tuple) -> Experiment:
    """A row of Table 2 with the settings of Table 1. The batch size comes from the author's script."""
    config = TrainConfig(epochs=100, batch_size=128, learning_rate=rate, milestones=milestones)
    return Experiment(name, preset, config, group="2", paper_accuracy=accuracy)


_MLP = _table_2("mnist-mlp", "MLP", 0.9815, 1e-3, (20, 45))
_UGMM = _table_2("mnist-ugmm", "uGMM-NN", 0.978, 1e-2, (40,))
_NORMED = _table_2("mnist-ugmm-layernorm", "uGMM-NN + LayerNorm", 0.9834, 1e-2, (40,))
_CNN_UGMM = _table_2("mnist-cnn-ugmm", "CNN-uGMM", 0.9877, 1e-3, (45, 80))
_CNN_NORMED = _table_2("mnist-cnn-ugmm-layernorm", "CNN-uGMM + LayerNorm", 0.9912, 1e-3, (45, 80))
_CNN_MLP = _table_2("mnist-cnn-mlp", "CNN-MLP", 0.9935, 1e-3, (20, 45))
_SCRIPT = (20, 45, 60)  # the milestones of the author's script, for both networks
_FEWER = {"channels": (16, 32)}  # half as many filters


def _variant(row: Experiment, name: str, label: str, milestones: tuple = (), **options) -> Experiment:
    """A row of Table 2 with another setting, where the paper is silent or its author's code disagrees."""
    config = replace(row.config, milestones=milestones or row.config.milestones)
    return replace(
        row, name=name, label=label, config=config, options=options, group="variants", paper_accuracy=None
    )


WIDE = (784, 352, 128, 10)  # as many parameters as the uGMM network 784-128-64-10, within 1.5 %
WIDE_HEAD = (363, 128, 10)  # as many as the convolutional network with a uGMM head, within 0.2 %


def _fair(name: str, label: str, row: Experiment = _MLP, **options) -> Experiment:
    """An ordinary network of Table 2, changed to make the comparison fairer."""
    return replace(row, name=name, label=label, options=options, group="fair", paper_accuracy=None)


def _tuned(epochs: int, rate: float, scheduler: str) -> TrainConfig:
    """The training of the best trial of a search (results/tuning), its schedule stretched to ``epochs``."""
    falls = (round(2 * epochs / 3),) if scheduler == "multistep" else ()
    return TrainConfig(epochs=epochs, learning_rate=rate, scheduler=scheduler, milestones=falls)


def _both(
    name: str, preset: str, label: str, rate: float, epochs: int = 20, scheduler: str = "multistep", **options
) -> tuple[Experiment, Experiment]:
    """A tuned network, trained as long as in its search and five times as long.

    Its learning rate and dropout are rounded to two significant digits.
    """
    short = Experiment(
        f"tuned-{name}", preset, _tuned(epochs, rate, scheduler), options=options, group="tuned", label=label
    )
    longer = _tuned(5 * epochs, rate, scheduler)
    label = f"{label}, {longer.epochs} epochs"
    return short, replace(short, name=f"{short.name}-long", config=longer, label=label)


_TUNED_MLP = _both("mlp", "MLP", "MLP, tuned", 2.0e-3, dropout=(0.25, 0.0, 0.0), norm="layer")
_TUNED_WIDE = _both(
    "mlp-wide", "MLP", "MLP 784-352-128-10, tuned", 2.3e-3,
    dropout=(0.43, 0.0, 0.0), norm="none", widths=WIDE,
)  # fmt: skip
_TUNED_UGMM = _both(
    "ugmm", "uGMM-NN", "uGMM-NN, tuned", 6.6e-3,
    dropout=(0.083, 0.0, 0.0), norm="after", init="unit",
)  # fmt: skip
_TUNED_CNN_MLP = _both(
    "cnn-mlp", "CNN-MLP", "CNN-MLP, tuned", 2.0e-3, epochs=8,
    dropout=(0.25, 0.0, 0.0), norm="layer",
)  # fmt: skip
_TUNED_CNN_WIDE = _both(
    "cnn-mlp-wide", "CNN-MLP", "CNN-MLP, head 363-128-10, tuned", 3.4e-3, epochs=8, scheduler="cosine",
    dropout=(0.37, 0.0, 0.0), norm="layer", widths=WIDE_HEAD,
)  # fmt: skip
_TUNED_CNN_UGMM = _both(
    "cnn-ugmm", "CNN-uGMM", "CNN-uGMM, tuned", 5.4e-3, epochs=8, scheduler="cosine",
    dropout=(0.23, 0.0, 0.0), norm="after", init="unit",
)  # fmt: skip


def _ablation(name: str, label: str, **options) -> Experiment:
    """One change to a network that learns well: ``unit`` initialisation, LayerNorm, the paper's dropout.

    It trains for 15 epochs, and the learning rate falls after ten. The accuracy is measured on 5,000 images
    that serve neither for training nor for the test.
    """
    base = {"init": "unit", "norm": "layer"}
    config = TrainConfig(epochs=15, learning_rate=1e-2, milestones=(10,), measure=("validation",))
    name = f"ablation-{name}"
    return Experiment(name, "uGMM-NN", config, "mnist-split", base | options, group="ablations", label=label)


def _head_ablation(name: str, label: str, **options) -> Experiment:
    """One change to the tuned head, trained as long as in its search and judged by the same images."""
    base = _TUNED_CNN_UGMM[0]
    return replace(
        base,
        name=f"head-ablation-{name}",
        config=replace(base.config, measure=("validation",)),
        data="mnist-split",
        options=base.options | options,
        group="head-ablations",
        label=label,
    )


def _digits(name: str, preset: str) -> Experiment:
    config = TrainConfig(epochs=30, batch_size=64, learning_rate=1e-2, milestones=(20,))
    options = {"widths": (64, 64, 10), "dropout": 0.2}
    if preset != "MLP":
        options["init"] = "unit"
    return Experiment(name, preset, config, data="digits", options=options, group="digits")


def _untouched(tuned: Experiment, widths: tuple[int, ...]) -> Experiment:
    """A network tuned on MNIST, trained on scikit-learn's digits. Of its settings only the widths change."""
    return replace(
        tuned,
        name=f"digits-{tuned.name.removesuffix('-long')}",
        data="digits",
        options=tuned.options | {"widths": widths},
        group="digits-tuned",
        label="-".join(map(str, widths)).join((f"{tuned.preset} ", ", tuned on MNIST")),
    )


def _first_epoch(row: Experiment) -> Experiment:
    """Only the first epoch of a row, for readers who have a few minutes."""
    config = replace(row.config, epochs=1)
    return replace(row, name=f"{row.name}-1-epoch", config=config, group=None, paper_accuracy=None)


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        _MLP,
        _UGMM,
        _NORMED,
        _CNN_UGMM,
        _CNN_NORMED,
        _CNN_MLP,
        _first_epoch(_UGMM),
        _variant(_MLP, "mnist-mlp-script", "MLP as in the script", _SCRIPT, dropout=(0.0, 0.5, 0.0)),
        _variant(_UGMM, "mnist-ugmm-script", "uGMM-NN as in the script", _SCRIPT, dropout=(0.3, 0.0, 0.0)),
        _variant(_UGMM, "mnist-ugmm-unit", "uGMM-NN, unit initialisation", init="unit"),
        _variant(_NORMED, "mnist-ugmm-layernorm-unit", "uGMM-NN + LayerNorm, unit", init="unit"),
        _variant(_NORMED, "mnist-ugmm-layernorm-before", "uGMM-NN + LayerNorm, also inputs", norm="before"),
        _variant(_NORMED, "mnist-ugmm-layernorm-after", "uGMM-NN + LayerNorm, also outputs", norm="after"),
        _variant(_UGMM, "mnist-ugmm-literal", "uGMM-NN, literal dropout", dropout_mode="literal"),
        _variant(
            _NORMED, "mnist-ugmm-layernorm-literal", "uGMM-NN + LayerNorm, literal dropout",
            dropout_mode="literal",
        ),
        _variant(_CNN_NORMED, "mnist-cnn-ugmm-layernorm-unit", "CNN-uGMM + LayerNorm, unit", init="unit"),
        _variant(_CNN_UGMM, "mnist-cnn-ugmm-fewer", "CNN-uGMM, 16 and 32 filters", **_FEWER),
        _variant(
            _CNN_NORMED, "mnist-cnn-ugmm-layernorm-fewer", "CNN-uGMM + LayerNorm, 16 and 32", **_FEWER
        ),
        _variant(_CNN_MLP, "mnist-cnn-mlp-fewer", "CNN-MLP, 16 and 32 filters", **_FEWER),
        _fair("mnist-mlp-layernorm", "MLP + LayerNorm", norm="layer"),
        _fair("mnist-mlp-wide", "MLP 784-352-128-10", widths=WIDE),
        _fair("mnist-mlp-wide-layernorm", "MLP 784-352-128-10 + LayerNorm", widths=WIDE, norm="layer"),
        # One of its steps takes about as long as one of the uGMM network (benchmarks/networks-*.csv).
        _fair("mnist-mlp-as-slow", "MLP 784-1024-512-10, as slow", widths=(784, 1024, 512, 10)),
        _fair("mnist-cnn-mlp-wide", "CNN-MLP, head 363-128-10", _CNN_MLP, widths=WIDE_HEAD),
        *_TUNED_MLP,
        *_TUNED_WIDE,
        *_TUNED_UGMM,
        *_TUNED_CNN_MLP,
        *_TUNED_CNN_WIDE,
        *_TUNED_CNN_UGMM,
        _ablation("none", "nothing changed"),
        _ablation("hard", "maximum for logsumexp", layer="hard"),
        _ablation("uniform-weights", "all weights equal, not learnt", layer="uniform weights"),
        _ablation("tied-std", "one deviation for each neuron", layer="tied std"),
        _ablation("frozen-std", "deviations stay at one", layer="frozen std"),
        _ablation("no-floor", "no floor", min_std=0.0),
        _ablation("floor-one-hundredth", "floor one hundredth", min_std=0.01),
        _ablation("floor-one-tenth", "floor one tenth", min_std=0.1),
        _ablation("paper-init", "the paper's initialisation", init="paper"),
        # Deviations that start at one hardly ever reach a floor. In the author's code some start near zero.
        _ablation("paper-init-no-floor", "paper's start, no floor", init="paper", min_std=0.0),
        _ablation("paper-init-floor-one-tenth", "paper's start, floor one tenth", init="paper", min_std=0.1),
        _ablation(
            "paper-init-floor-three-tenths", "paper's start, floor three tenths", init="paper", min_std=0.3
        ),
        _ablation("no-norm", "no LayerNorm", norm="none"),
        _ablation("norm-before", "LayerNorm on the pixels too", norm="before"),
        _ablation("norm-after", "LayerNorm on the outputs too", norm="after"),
        _ablation("no-dropout", "no dropout", dropout=0.0),
        _ablation("literal", "dropout as in the paper's equation", dropout_mode="literal"),
        _ablation("inverted", "dropout with a constant correction", dropout_mode="inverted"),
        # Dropout was designed for sums, so the maximum is also trained without it.
        _ablation("hard-no-dropout", "maximum, no dropout", layer="hard", dropout=0.0),
        # LayerNorm removes the constant by which these two differ, so they are compared without it.
        _ablation("literal-no-norm", "paper's equation, no LayerNorm", dropout_mode="literal", norm="none"),
        _ablation("inverted-no-norm", "a constant, no LayerNorm", dropout_mode="inverted", norm="none"),
        replace(
            _ablation("sample-mask", "a mask for every example", layer="per-example dropout"),
            recorded={"init": "unit", "norm": "layer", "dropout_mask": "sample"},
        ),
        _head_ablation("none", "nothing changed"),
        _head_ablation("norm-layer", "no LayerNorm on the outputs", norm="layer"),
        _head_ablation("no-norm", "no LayerNorm", norm="none"),
        _head_ablation("paper-init", "the paper's initialisation", init="paper"),
        _head_ablation("no-dropout", "no dropout", dropout=0.0),
        _head_ablation("frozen-std", "deviations stay at one", layer="frozen std"),
        _head_ablation("uniform-weights", "all weights equal, not learnt", layer="uniform weights"),
        _digits("digits-mlp", "MLP"),
        _digits("digits-ugmm", "uGMM-NN"),
        _digits("digits-ugmm-layernorm", "uGMM-NN + LayerNorm"),
        _untouched(_TUNED_MLP[1], (64, 128, 64, 10)),
        _untouched(_TUNED_WIDE[1], (64, 260, 128, 10)),  # as many parameters as the next one, within 0.3 %
        _untouched(_TUNED_UGMM[1], (64, 128, 64, 10)),
    )
}  # fmt: skip
