"""What can mixtures of Gaussians, and networks of mixture neurons, approximate? Three measurements.

- Densities: how closely the best mixture of M univariate Gaussians approximates known densities, for each M.
- Regression: uGMM layers followed by a linear readout, beside an MLP and a KAN with as many parameters, on
  functions without noise.
- Classification: the same networks on points in the plane. Here the uGMM networks have no readout, and their
  largest output is the answer. The numbers of inputs and classes therefore fix the size of a single layer.

Every network is trained on all rows at once with the same number of gradients. For each task, size and kind
of network, one of two variants and one of two optimisers is chosen on validation rows with one seed. The
errors come from other seeds and from test rows. Inputs and targets are the same for all. The kinds of network
take turns on one thread, so that their times can be compared with each other. The times compare with nothing
else.

For chapter 14. pykan takes part if it is installed; it is not a dependency.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ugmm_tutorial.experiments.studies.approximation_densities import TARGETS, measure_densities
from ugmm_tutorial.experiments.studies.approximation_learners import (
    CONTENDERS,
    OPTIMISERS,
    VARIANTS,
    build,
    parameters,
    pykan_version,
    train,
)
from ugmm_tutorial.experiments.studies.approximation_tasks import CLASSES, FUNCTIONS, sampled
from ugmm_tutorial.training.threads import one_thread

__all__ = ["SETTINGS", "measure"]

SETTINGS: dict = {
    "densities": {
        "targets": list(TARGETS),
        "components": [1, 2, 3, 4, 6, 8, 12, 16, 24],
        "points": 12,
        "random_starts": 12,
        "beyond": [0.2, 0.1, 0.03, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10],
        "moved_starts": 5,
        "grown_starts": 8,
        "em": 30,
        "short": 150,
        "finalists": 10,
        "polish": 800,
        "smallest": 1e-6,
        "slope_from": 2,
        "seed": 0,
    },
    "functions": list(FUNCTIONS),
    "classes": list(CLASSES),
    "contenders": list(CONTENDERS),
    "variants": {name: list(variants) for name, variants in VARIANTS.items()},
    "optimisers": list(OPTIMISERS),
    "sizes": [60, 200, 600],
    "class_size": 150,
    "rows": {"train": 400, "validation": 500, "test": 2000},
    "evaluations": 400,
    "tuning_seed": 0,
    "seeds": [1, 2, 3, 4, 5],
}


class _Task(NamedTuple):
    """Rows and targets for training, validation and test, and the loss and the error of outputs."""

    parts: dict[str, tuple[Tensor, Tensor]]
    outputs: int
    readout: bool
    loss: Callable[[Tensor, Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]


def measure(settings: dict, progress: bool) -> dict:
    """Run the study.

    Returns:
        ``densities``: the result of ``measure_densities`` in ``approximation_densities``.
        ``regression`` and ``classification``: for each task and contender a list over sizes. An entry has
        ``chosen`` (variant and optimiser), ``tuning`` (validation errors), ``parameters``, ``errors`` on the
        test rows, ``seconds`` and ``evaluations`` for every seed, and the ``median`` error. The error of a
        regression is the root mean squared error divided by the standard deviation of the targets. The error
        of a classification is the share of wrong labels. Outputs that are not finite have error 1. A
        contender that is not installed is None.
        ``pykan``: its version.
    """
    with one_thread():
        densities = measure_densities(settings["densities"], progress)
        _warm_up(settings)
        regression = {
            name: _compared(
                _regression(name, settings), settings["sizes"], settings, name if progress else ""
            )
            for name in settings["functions"]
        }
        classification = {
            name: _compared(
                _classification(name, settings), [settings["class_size"]], settings, name if progress else ""
            )
            for name in settings["classes"]
        }
    return {
        "densities": densities,
        "regression": regression,
        "classification": classification,
        "pykan": pykan_version(),
    }


def _regression(name: str, settings: dict) -> _Task:
    """The task for a function, its targets scaled to mean zero and deviation one on the training rows."""
    generator = torch.Generator().manual_seed(settings["tuning_seed"])
    raw = {part: sampled(FUNCTIONS[name], n, generator) for part, n in settings["rows"].items()}
    mean, std = raw["train"][1].mean(), raw["train"][1].std()
    parts = {part: (x, (y - mean) / std) for part, (x, y) in raw.items()}

    def square(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs[:, 0] - y).square().mean()

    return _Task(parts, 1, True, square, lambda outputs, y: square(outputs, y).sqrt() / y.std())


def _classification(name: str, settings: dict) -> _Task:
    generator = torch.Generator().manual_seed(settings["tuning_seed"])
    parts = {part: CLASSES[name](n, generator) for part, n in settings["rows"].items()}
    return _Task(
        parts, 2, False, nn.functional.cross_entropy, lambda out, y: (out.argmax(1) != y).float().mean()
    )


def _there(contender: str) -> bool:
    return contender != "KAN" or pykan_version() is not None


def _warm_up(settings: dict) -> None:
    """Run every kind once, so that no measured time includes the compilation of kernels."""
    task = _regression("x y", settings)
    for contender in filter(_there, settings["contenders"]):
        _run(
            task,
            contender,
            settings["sizes"][0],
            next(iter(VARIANTS[contender])),
            "lbfgs",
            0,
            settings | {"evaluations": 50},
        )


def _run(task: _Task, contender: str, size: int, variant: str, how: str, seed: int, settings: dict) -> dict:
    x, y = task.parts["train"]
    model = build(contender, x.shape[1], task.outputs, size, variant, seed, readout=task.readout)
    run = train(model, x, y, task.loss, how, settings["evaluations"])
    with torch.no_grad():
        errors = {part: _error(task, model(rows), truth) for part, (rows, truth) in task.parts.items()}
    return {
        **errors,
        "seconds": run.seconds,
        "evaluations": run.evaluations,
        "parameters": parameters(model),
    }


def _error(task: _Task, outputs: Tensor, truth: Tensor) -> float:
    """The error of outputs. If they are not finite it is 1: that of a constant, or of all labels wrong."""
    return task.error(outputs, truth).item() if outputs.isfinite().all() else 1.0


def _compared(task: _Task, sizes: list[int], settings: dict, name: str) -> dict:
    found: dict = {contender: [] if _there(contender) else None for contender in settings["contenders"]}
    there = [contender for contender, rows in found.items() if rows is not None]
    for size in sizes:
        tuned = {contender: _tuned(task, contender, size, settings) for contender in there}
        runs: dict[str, list[dict]] = {contender: [] for contender in there}
        # The kinds take turns, so that a temporary slowdown of the machine affects all of them.
        for seed in settings["seeds"]:
            for contender in there:
                chosen = tuned[contender]["chosen"]
                runs[contender].append(_run(task, contender, size, *chosen, seed, settings))
        for contender in there:
            found[contender].append(tuned[contender] | _summary(runs[contender]))
    if name:
        for contender in there:
            shown = [f"{e['median']:.2g} ({e['parameters']}, {e['chosen']})" for e in found[contender]]
            print(f"{name}, {contender}: {'; '.join(shown)}", flush=True)
    return found


def _tuned(task: _Task, contender: str, size: int, settings: dict) -> dict:
    """The variant and the optimiser with the smallest error on validation rows."""
    errors = {}
    for variant in settings["variants"][contender]:
        for how in settings["optimisers"]:
            run = _run(task, contender, size, variant, how, settings["tuning_seed"], settings)
            errors[variant, how] = run["validation"]
    tuning = {", ".join(pair): error for pair, error in errors.items()}
    return {"chosen": list(min(errors, key=errors.__getitem__)), "tuning": tuning}


def _summary(runs: list[dict]) -> dict:
    errors = [run["test"] for run in runs]
    return {
        "parameters": runs[0]["parameters"],
        "errors": errors,
        "median": statistics.median(errors),
        "seconds": [run["seconds"] for run in runs],
        "evaluations": [run["evaluations"] for run in runs],
    }
