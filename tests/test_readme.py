"""Numbers in the README against the measurements and records that they come from."""

from pathlib import Path

import pytest

from ugmm_tutorial import bench, records
from ugmm_tutorial.claims import claim, plain_text

ROOT = Path(__file__).resolve().parents[1]
README = plain_text((ROOT / "README.md").read_text(encoding="utf-8"))
PAPER = {"batch": 128, "inputs": 784, "outputs": 128}


@pytest.fixture(scope="module")
def report():
    return bench.load(ROOT / "benchmarks" / "cpu-amd-epyc.csv")


def says(words):
    assert plain_text(words) in README, words


@pytest.mark.parametrize(
    ("name", "time", "memory"),
    [
        ("eager", "| 267 ms | 342 MiB |", "342 MiB"),
        ("torch.compile", "| 47 ms | 50 MiB |", "50 MiB"),
        ("cpu", "| 4.5 ms | 1.4 MiB |", "1.4 MiB"),
        ("linear", "| 0.6 ms | 0.1 MiB |", "0.1 MiB"),
    ],
)
def test_table_of_speed_is_that_of_the_stored_benchmark(name, time, memory, report):
    says(time)
    row = {"section": "operator", "implementation": name}
    seconds, extra = (report.value(**row, measure=m, **PAPER) for m in ("both", "extra"))
    claim(time, [seconds, extra])
    claim(memory, extra)


def test_sentences_on_speed_are_those_of_the_stored_benchmark(report):
    step = next(r.value for r in report.select(section="step") if r.implementation == "step")
    forward = report.value(section="operator", implementation="cpu", measure="forward", **PAPER)
    fused, linear = (
        report.value(section="operator", implementation=name, measure="both", **PAPER)
        for name in ("cpu", "linear")
    )
    terms, exponentials = (
        report.value(section="limit", implementation=name, measure="forward")
        for name in ("terms", "exponentials")
    )
    for words, value in (
        ("takes 7.5 ms there", step),
        ("its 100 epochs are six minutes of steps", [100, step * 469 * 100]),
        ("at 90 % of the speed of the same arithmetic on cached numbers", terms / forward),
        ("60 % of bare exponentials", exponentials / forward),
        ("a linear layer stays 8 times cheaper", fused / linear),
    ):
        says(words)
        claim(words, value)


@pytest.mark.parametrize(
    ("row", "name", "seeds"),
    [
        ("| uGMM-NN 784-128-64-10,", "mnist-ugmm-1-epoch", 1),
        ("| MLP 64-64-10", "digits-mlp", 5),
        ("| uGMM 64-64-10,", "digits-ugmm", 5),
        ("| uGMM + LayerNorm 64-64-10,", "digits-ugmm-layernorm", 5),
    ],
)
def test_first_results_are_those_of_the_records(row, name, seeds):
    made = [records.read(ROOT / "results" / name / f"seed{seed}.json") for seed in range(seeds)]
    mean, _ = records.mean_and_interval([record.final["test_accuracy"] for record in made])
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(row)]
    assert line.endswith(f"| {100 * mean:.1f} % |")
