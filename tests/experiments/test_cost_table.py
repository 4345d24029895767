"""The table of costs: counts by hand, times from the stored files, accuracies from the records."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from ugmm_tutorial import experiments
from ugmm_tutorial.experiments import Run, artifacts, cost_table
from ugmm_tutorial.experiments.bench.networks import timed_as
from ugmm_tutorial.networks import preset

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


def cells(name: str, results: Path = ROOT / "results") -> dict[str, list[str]]:
    """The rows of a table of costs by their first cells."""
    lines = cost_table.cost_table(name, results).splitlines()
    return {title: rest for title, *rest in (re.split(r" {2,}", line) for line in lines if line)}


def medians(name: str, measure: str, machine: str = "amd-epyc-*") -> list[float]:
    """In milliseconds, from the files alone."""
    found = []
    for path in sorted(artifacts.folder("benchmarks").glob(f"networks-{machine}.csv")):
        for row in csv.DictReader(path.read_text().splitlines()[1:]):
            if (row["implementation"], row["measure"]) == (name, measure):
                found.append(1000 * float(row["median"]))
    return found


def test_rows_are_the_networks_of_the_group_below_a_heading():
    shown = cells("2")
    rows = ["model", *(e.title for e in experiments.group("2"))]
    assert list(shown)[: len(rows)] == rows
    told = cost_table.cost_table("2", ROOT / "results").splitlines()
    assert "CPU: medians of 2 runs on AMD EPYC, 2 cores" in told
    assert "GPU: medians of one run on NVIDIA H200, steps as CUDA graphs" in told
    assert shown["model"] == [
        "parameters",
        "operations",
        "exponentials",
        "CPU step, ms",
        "CPU 1000 images, ms",
        "GPU step, ms",
        "GPU 1000 images, ms",
        "accuracy, %",
    ]


def test_counts_are_those_of_a_calculation_by_hand():
    pairs = 784 * 128 + 128 * 64 + 64 * 10
    neurons = 128 + 64 + 10
    shown = cells("2")
    assert shown["MLP"][:3] == [f"{pairs + neurons:,}", f"{2 * pairs:,}", "0"]
    assert shown["uGMM-NN"][:3] == [f"{3 * pairs:,}", f"{5 * pairs:,}", f"{pairs:,}"]
    # Each of two convolutions, on 24 x 24 and 8 x 8 places, then the head.
    convolved = 24**2 * 32 * 25 + 8**2 * 64 * 32 * 25
    head = 1024 * 128 + 128 * 64 + 64 * 10
    assert shown["CNN-uGMM"][1:3] == [f"{2 * convolved + 5 * head:,}", f"{head:,}"]


@pytest.mark.parametrize("title", ["uGMM-NN", "CNN-MLP"])
def test_times_are_the_medians_of_the_stored_runs(title):
    for column, measure in ((3, "step"), (4, "inference")):
        times = medians(title, measure)
        assert len(times) >= 2
        low, high = f"{min(times):.1f}", f"{max(times):.1f}"
        assert cells("2")[title][column] == (low if low == high else f"{low} to {high}")


@pytest.mark.parametrize("title", ["uGMM-NN", "CNN-MLP"])
def test_a_step_on_a_gpu_is_the_one_of_the_graph(title):
    for column, measure in ((5, "graph"), (6, "inference")):
        (time,) = medians(title, measure, "nvidia-*")
        assert cells("2")[title][column] == (f"{time:.1f}" if time >= 1 else f"{time:.2f}")


def test_the_mlp_that_is_as_slow_is_timed_under_its_plain_name():
    low, high = (f"{end(medians('MLP 784-1024-512-10', 'step')):.1f}" for end in (min, max))
    assert cells("fair")["MLP 784-1024-512-10, as slow"][3] == f"{low} to {high}"


def test_a_network_has_the_times_of_one_that_computes_the_same_whatever_it_is_called():
    low, high = (f"{end(medians('MLP + LayerNorm', 'step')):.1f}" for end in (min, max))
    assert cells("tuned")["MLP, tuned"][3] == f"{low} to {high}"
    assert cells("tuned")["uGMM-NN, tuned"][3] == "-"  # a LayerNorm behind its outputs: never timed
    variants = cells("variants")
    assert variants["uGMM-NN, unit initialisation"][3:7] == cells("2")["uGMM-NN"][3:7]


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"init": "unit", "min_std": 0.2}, True),
        ({"dropout": (0.1, 0.0, 0.0)}, True),
        ({"dropout": 0.0}, False),
        ({"dropout_mode": "literal"}, False),
        ({"layer": "hard"}, False),
        ({"norm": "layer"}, False),
        ({"widths": (784, 128, 32, 10)}, False),
    ],
    ids=str,
)
def test_networks_take_the_same_time_if_they_differ_in_values_only(options, same):
    assert (timed_as(preset("uGMM-NN", **options)) == "uGMM-NN") is same


def test_a_network_that_was_not_timed_says_so():
    """Those for the small digits are called as those for MNIST."""
    shown = cells("digits")
    assert [shown[e.title][3:7] for e in experiments.group("digits")] == [["-"] * 4] * 3
    assert "'-' was not timed" in cost_table.cost_table("digits", ROOT / "results")


def test_accuracies_are_those_of_the_table(tmp_path):
    for experiment in experiments.group("2"):
        shown = cells("2")[experiment.title][-1]
        assert shown == experiments.accuracy(experiment, ROOT / "results")
        assert f" {shown}  " in experiments.table("2", ROOT / "results")
    assert cells("2", tmp_path)["MLP"][-1] == "no record yet"


def test_accuracy_of_runs_that_are_not_finished_is_marked(tmp_path):
    experiment = experiments.find("digits-mlp")
    Run(experiment, epochs=2, results=tmp_path).train(progress=False)
    assert cells("digits", tmp_path)["MLP"][-1].endswith(" (2 of 30 epochs)")


@pytest.mark.parametrize(("group", "part"), [("fair", "test"), ("ablations", "validation")])
def test_below_stands_which_images_accuracies_are_of(group, part, tmp_path):
    assert cost_table.cost_table(group, tmp_path).endswith(f"accuracies: {part} images")


def test_unknown_group_is_refused():
    with pytest.raises(ValueError, match="no experiment belongs to table '7'"):
        cost_table.cost_table("7")
