"""Studies: comparisons that take more than one training run. Each study writes one JSON file.

A study is a module with ``SETTINGS``, which hold everything its outcome depends on, and a function
``measure(settings, progress)``, which returns results that can be written as JSON. The command
``python -m ugmm_tutorial study NAME`` runs it and writes ``results/studies/NAME.json``; chapters read that
file.
"""

from __future__ import annotations

import importlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from ugmm_tutorial.experiments.lookup import look_up
from ugmm_tutorial.training import files, records

__all__ = ["STUDIES", "Outcome", "find", "read", "run"]

#: The question of each study, by the name of its module and its file.
STUDIES: dict[str, str] = {
    "approximation": "What do mixtures and networks of mixture neurons approximate, beside an MLP and a KAN?",
    "broken_inputs": "What is left of the accuracy when features break, beside other learners?",
    "certificates": "How many MNIST images are certified against any m changed pixels, and how accurately?",
    "concentration": "How many inputs share an answer before training and after 100 epochs?",
    "degenerate": "What becomes of the paper's generative network when it is trained for long?",
    "densities": "Which normalised density fits, imputes and classifies held-out rows of four tables best?",
    "frozen_heads": "Which head makes more of the same features, and how wide should mixtures start?",
    "iris": "How often is the label right, over repeated cross-validation, beside other models?",
    "mpe": "How far do certified most probable explanations go, and what does each bound give?",
    "protection": "What protects from broken inputs: which dropout, and how wide do components start?",
    "pruning": "Which components can the tuned network do without, and what is gained by leaving them out?",
    "relaxation": "Do linear relaxations close more boxes than the mean-value bound?",
    "reliance": "Which inputs do answers rest on when pixels that never change count nothing, beside an MLP?",
    "uncertainty": "Does a uGMM network know what it does not know, beside MLPs, ensembles and MC dropout?",
}


@dataclass(frozen=True)
class Outcome:
    """What a study found: its settings, its results, the seconds it took, and the machine and versions."""

    study: str
    settings: dict
    results: dict
    seconds: float
    environment: dict


def find(name: str):
    """The module of a study.

    Raises:
        ValueError: there is none of that name.
    """
    look_up(name, STUDIES, "study")
    return importlib.import_module(f"{__name__}.{name}")


def run(name: str, *, results: str | Path = "results", progress: bool = True) -> Outcome:
    """Run a study and write ``results/studies/NAME.json``, or return the outcome that is already stored.

    Raises:
        ValueError: there is no such study, or the file was made with other settings. It is left unchanged.
        RecordError: the file cannot be read. It is left unchanged.
        OSError: the file cannot be written. This is checked before the study starts.
    """
    module = find(name)
    path = _path(results, name)
    if path.exists():
        return read(name, results)
    files.make_writable(path)
    start = time.perf_counter()
    found = module.measure(module.SETTINGS, progress)
    outcome = Outcome(
        name,
        records.as_json(module.SETTINGS),
        records.as_json(found),
        round(time.perf_counter() - start, 1),
        records.environment("cpu"),
    )
    records.write_json(vars(outcome), path)
    return outcome


def read(name: str, results: str | Path = "results") -> Outcome:
    """The stored outcome of a study.

    Raises:
        ValueError: there is no such study, or the file was made with other settings than the study has now.
        FileNotFoundError: the study has not been run.
        RecordError: the file is not the outcome of a study.
    """
    module = find(name)
    path = _path(results, name)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: python -m ugmm_tutorial study {name} makes it")
    try:
        outcome = Outcome(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise records.RecordError(
            f"{path} is not the outcome of a study ({type(error).__name__}: {error}). Nothing was changed; "
            "move it away to measure anew"
        ) from error
    wanted = records.as_json(module.SETTINGS)
    if outcome.study != name or outcome.settings != wanted:
        raise ValueError(
            f"{path} was made with other settings than the study {name} has now: expected {wanted}, got "
            f"{outcome.settings}. Move it away to measure anew"
        )
    return outcome


def _path(results: str | Path, name: str) -> Path:
    return Path(results, "studies", f"{name}.json")
