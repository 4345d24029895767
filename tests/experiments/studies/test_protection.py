"""The study of what protects: every network is measured on whole and broken rows of the same split."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ugmm_tutorial.experiments.studies import broken_inputs, protection, units


def test_every_network_is_measured_on_every_split(monkeypatch, tmp_path):
    draw = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = 3.0 * y[:, None] + draw.standard_normal((300, 6))
    rows = broken_inputs.Rows(x[:150], y[:150], x[150:200], y[150:200], x[200:], y[200:], 3)
    monkeypatch.setattr(broken_inputs, "rows_of", lambda name, split, settings: rows)
    monkeypatch.setenv("UGMM_JOBS", "1")
    # Processes of a pool would not see these rows.
    monkeypatch.setattr(units, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setenv("UGMM_SCRATCH_DIR", str(tmp_path))
    settings = copy.deepcopy(protection.SETTINGS) | {"sets": ["vehicle"], "splits": 2, "epochs": [8, 8]}
    found = protection.measure(settings, progress=False)
    json.dumps(found, allow_nan=False)
    monkeypatch.setattr(broken_inputs, "rows_of", None)  # nothing is measured twice
    assert protection.measure(settings, progress=False) == found
    assert found["vehicle"].keys() == settings["networks"].keys()
    for accuracies in found["vehicle"].values():
        assert len(accuracies) == 2
        for clean, *broken in accuracies:
            assert clean > 0.9
            assert clean > broken[1] > 1 / 3
