"""The study of explanations: what it measures on small settings, and what its record says."""

import json
from pathlib import Path

import pytest
import torch

from ugmm_tutorial.experiments.studies import mpe as study
from ugmm_tutorial.inference import IMPROVEMENTS
from ugmm_tutorial.training import records

pytestmark = pytest.mark.usefixtures("one_thread")
RECORD = Path(__file__).resolve().parents[3] / "results" / "studies" / "mpe.json"
SMALL = study.SETTINGS | {
    "epochs": 2,
    "batch_sizes": {"minibatch": 120},
    "tolerance": 0.1,
    "time_limit": 0.3,
    "ablation_time_limit": 0.1,
    "ablation": [[], list(IMPROVEMENTS)],
    "tolerances": [1.0, 0.1],
    "iris_sizes": [1, 2],
    "wine_sizes": [1],
    "other_widths": [[5, 5, 1]],
    "other_time_limit": 0.1,
    "ascent_starts": [1, 2],
    "ascent_seeds": 2,
    "ascent_steps": 5,
    "coordinate_seeds": 1,
    "coordinate_time_limit": 0.1,
    "sweep_networks": 5,
}


def certificates(found) -> list[dict]:
    """Everything in the results that came out of a query."""
    if isinstance(found, dict):
        here = [found] if "gap" in found else []
        return here + [c for part in found.values() for c in certificates(part)]
    return [c for part in found for c in certificates(part)] if isinstance(found, list) else []


def test_the_study_measures_every_part_and_prints_only_when_asked(capsys):
    before = torch.get_rng_state()
    results = study.measure(SMALL, progress=False)
    assert capsys.readouterr().out == ""
    assert torch.equal(before, torch.get_rng_state())
    assert json.loads(json.dumps(records.as_json(results)))
    assert [len(results[part]["minibatch"]) for part in ("iris", "ablation", "tolerances", "iris_sizes")] == [
        5,
        2,
        2,
        2,
    ]
    assert [row["continuous"] for row in results["iris_sizes"]["minibatch"]] == [1, 2]
    assert [row["widths"] for row in results["other_networks"]] == [[5, 5, 1]]
    assert results["local_methods"]["minibatch"]["ascent, 2 starts"]["runs"] == 2
    assert results["sweep"]["points"] == 80
    found = certificates(results)
    assert len(found) == (5 + 2 + 2 + 2 + 1) + 2
    assert all(c["gap"] < 100 and c["nodes"] >= 0 for c in found)


def test_a_misspelt_improvement_is_refused():
    with pytest.raises(ValueError, match=r"unknown improvements \['luck'\]"):
        study.measure(SMALL | {"ablation": [["luck"]]}, progress=False)


# --- The record


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def test_the_record_belongs_to_these_settings(record):
    assert record["study"] == "mpe"
    assert record["settings"] == records.as_json(study.SETTINGS)


def test_every_query_of_the_iris_networks_was_certified(record):
    queries = certificates(record["results"]["iris"])
    assert len(queries) == 10
    assert all(q["certified"] and q["gap"] <= 1e-6 for q in queries)


def test_no_random_network_broke_its_bounds(record):
    sweep = record["results"]["sweep"]
    assert sweep["networks"] == 10_000
    assert (sweep["values_outside"], sweep["slopes_outside"]) == (0, 0)


def test_recorded_bounds_of_one_question_overlap(record):
    """The true maximum lies between value and value + gap, however it was found."""
    for name in record["settings"]["batch_sizes"]:
        runs = [record["results"]["iris"][name]["all, label continuous"]]
        runs += record["results"]["ablation"][name] + record["results"]["tolerances"][name]
        runs += [record["results"]["local_methods"][name]["optimum"]]
        assert max(r["value"] for r in runs) <= min(r["value"] + r["gap"] for r in runs)
