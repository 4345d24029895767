"""How far certified most probable explanations go: Iris, wine, other networks, and the value of each bound.

The networks are trained like the paper's generative one (Adam, learning rate 1e-3, 300 epochs, features and
label as inputs). The paper does not give its batch size, so both ``"minibatch"`` and ``"full batch"`` are
measured.

Run with ``python -m ugmm_tutorial study mpe``. Taught in chapter 11.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from ugmm_tutorial import data
from ugmm_tutorial.experiments.studies.mpe_sweep import sweep
from ugmm_tutorial.inference import IMPROVEMENTS, MPEResult, mpe
from ugmm_tutorial.networks import UGMMNet
from ugmm_tutorial.training.joint import train_generative

__all__ = ["SETTINGS", "iris_rows", "measure", "ranges", "trained"]

SETTINGS: dict = {
    "seed": 0,
    "learning_rate": 1e-3,
    "epochs": 300,
    "init": "paper",
    "batch_sizes": {"minibatch": 16, "full batch": 120},
    "tolerance": 1e-6,
    "time_limit": 60.0,
    "ablation_time_limit": 10.0,
    "ablation": [
        [],
        ["smear"],
        ["monotone"],
        ["mean-value"],
        ["mean-value", "monotone"],
        ["mean-value", "smear"],
        ["mean-value", "monotone", "smear"],
        ["mean-value", "monotone", "smear", "newton"],
    ],
    "tolerances": [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
    "iris_sizes": [1, 2, 3, 4, 5],
    "wine_widths": [13, 10, 5, 1],
    "wine_sizes": [1, 2, 3, 4, 5, 6, 8, 13],
    "other_widths": [[5, 5, 1], [5, 20, 10, 1], [5, 40, 20, 1], [5, 10, 10, 5, 1], [5, 10, 10, 10, 5, 1]],
    "other_time_limit": 20.0,
    "ascent_starts": [1, 16, 256],
    "ascent_seeds": 20,
    "ascent_steps": 500,
    "coordinate_seeds": 3,
    "coordinate_time_limit": 10.0,
    "sweep_networks": 10_000,
}


def measure(settings: dict, progress: bool) -> dict:
    """All numbers that chapter 11 gives about certified explanations."""
    say: Callable[[str], None] = print if progress else lambda _: None
    rows = iris_rows()
    box = ranges(rows)
    networks = {}
    for name, size in settings["batch_sizes"].items():
        say(f"train on Iris, {name}")
        networks[name] = trained([5, 10, 5, 1], rows, size, settings)
    results = {}
    parts = {
        "iris": lambda: {name: _iris_queries(net, box, settings) for name, net in networks.items()},
        "ablation": lambda: {name: _ablation(net, box, settings) for name, net in networks.items()},
        "tolerances": lambda: {name: _tolerances(net, box, settings) for name, net in networks.items()},
        "iris_sizes": lambda: {
            name: _sizes(net, rows, settings["iris_sizes"], settings) for name, net in networks.items()
        },
        "wine_sizes": lambda: _wine(settings),
        "other_networks": lambda: _other_networks(rows, box, settings),
        "local_methods": lambda: {name: _local_methods(net, box, settings) for name, net in networks.items()},
        "sweep": lambda: sweep(settings["sweep_networks"], settings["seed"]),
    }
    for part, run in parts.items():
        start = time.perf_counter()
        results[part] = run()
        say(f"{part}: {time.perf_counter() - start:.0f} s")
    return results


def iris_rows() -> Tensor:
    """The training flowers (120, 5): features in centimetres, and the label as a number."""
    x, y = data.iris().train
    return torch.cat([x, y.float().unsqueeze(1)], dim=1)


def _wine_rows() -> Tensor:
    """The 13 measurements of 178 wines, (178, 13), in standard deviations from their means."""
    from sklearn.datasets import load_wine

    x = torch.from_numpy(load_wine().data)
    return ((x - x.mean(dim=0)) / x.std(dim=0)).float()


def trained(widths: list[int], rows: Tensor, batch_size: int, settings: dict) -> UGMMNet:
    """A network that scores these rows highly, trained as the study's settings say."""
    chosen = {name: settings[name] for name in ("epochs", "learning_rate", "init", "seed")}
    return train_generative(widths, rows, batch_size=batch_size, **chosen)


def ranges(rows: Tensor) -> list[tuple[float, float]]:
    """The smallest and the largest value of each column."""
    return [(float(low), float(high)) for low, high in zip(rows.amin(dim=0), rows.amax(dim=0), strict=True)]


def _ask(net: UGMMNet, *query, **options) -> dict:
    """The result of ``mpe``, with its CPU time beside its wall-clock time."""
    start = time.process_time()
    result = mpe(net, *query, **options)
    return _report(result) | {"cpu_seconds": time.process_time() - start}


def _report(result: MPEResult) -> dict:
    return {
        "point": [round(v, 6) for v in result.point.tolist()],
        "value": result.value,
        "gap": result.gap,
        "certified": result.certified,
        "nodes": result.nodes,
        "seconds": result.seconds,
    }


def _iris_queries(net: UGMMNet, box: list, settings: dict) -> dict:
    """A typical flower of each species, and the best flower of all with a continuous and a discrete label."""
    limits = {"tolerance": settings["tolerance"], "time_limit": settings["time_limit"]}
    found = {
        f"features given label {c}": _ask(net, {4: float(c)}, range(4), box[:4], **limits) for c in range(3)
    }
    found["all, label continuous"] = _ask(net, {}, range(5), box, **limits)
    discrete = {4: [0.0, 1.0, 2.0]}
    found["all, label discrete"] = _ask(net, {}, range(5), box, discrete=discrete, **limits)
    return found


def _ablation(net: UGMMNet, box: list, settings: dict) -> list[dict]:
    """Queries for all five inputs, with different improvements of the branch and bound."""
    unknown = {name for some in settings["ablation"] for name in some} - set(IMPROVEMENTS)
    if unknown:
        raise ValueError(f"unknown improvements {sorted(unknown)}")
    limits = {"tolerance": settings["tolerance"], "time_limit": settings["ablation_time_limit"]}
    found = []
    for some in settings["ablation"]:
        found.append({"improvements": some} | _ask(net, {}, range(5), box, improvements=some, **limits))
    return found


def _tolerances(net: UGMMNet, box: list, settings: dict) -> list[dict]:
    """The cost of a smaller gap."""
    limit = settings["time_limit"]
    return [
        {"tolerance": tolerance} | _ask(net, {}, range(5), box, tolerance=tolerance, time_limit=limit)
        for tolerance in settings["tolerances"]
    ]


def _sizes(net: UGMMNet, rows: Tensor, sizes: list[int], settings: dict) -> list[dict]:
    """Queries for the first inputs. The others are observed, as in the row nearest to the mean row."""
    box = ranges(rows)
    typical = rows[(rows - rows.mean(dim=0)).norm(dim=1).argmin()].tolist()
    limits = {"tolerance": settings["tolerance"], "time_limit": settings["time_limit"]}
    found = []
    for n in sizes:
        evidence = {k: typical[k] for k in range(n, len(typical))}
        found.append({"continuous": n} | _ask(net, evidence, range(n), box[:n], **limits))
    return found


def _wine(settings: dict) -> list[dict]:
    rows = _wine_rows()
    net = trained(settings["wine_widths"], rows, settings["batch_sizes"]["minibatch"], settings)
    return _sizes(net, rows, settings["wine_sizes"], settings)


def _other_networks(rows: Tensor, box: list, settings: dict) -> list[dict]:
    limits = {"tolerance": settings["tolerance"], "time_limit": settings["other_time_limit"]}
    found = []
    for widths in settings["other_widths"]:
        net = trained(widths, rows, settings["batch_sizes"]["minibatch"], settings)
        found.append({"widths": widths} | _ask(net, {}, range(5), box, **limits))
    return found


def _local_methods(net: UGMMNet, box: list, settings: dict) -> dict:
    """How far ascent and coordinate ascent stay below the certified upper bound over all inputs, by seed."""
    limits = {"tolerance": settings["tolerance"], "time_limit": settings["time_limit"]}
    best = mpe(net, {}, range(5), box, **limits)

    def shortfalls(seeds: int, method: str, **options) -> dict:
        runs = [mpe(net, {}, range(5), box, method=method, seed=s, **options) for s in range(seeds)]
        below = [best.upper_bound - run.value for run in runs]
        return {
            "below_upper_bound": below,
            "found": sum(b <= 2 * settings["tolerance"] for b in below),
            "found_within_0.001": sum(b <= 1e-3 for b in below),
            "runs": seeds,
            "seconds": sum(run.seconds for run in runs) / seeds,
        }

    found = {
        f"ascent, {starts} starts": shortfalls(
            settings["ascent_seeds"], "ascent", starts=starts, steps=settings["ascent_steps"]
        )
        for starts in settings["ascent_starts"]
    }
    found["coordinate"] = shortfalls(
        settings["coordinate_seeds"], "coordinate", time_limit=settings["coordinate_time_limit"]
    )
    return {"optimum": _report(best)} | found
