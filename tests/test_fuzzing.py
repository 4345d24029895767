"""Drawn arguments of every public entry point: a documented result or a documented error, and nothing else.

``UGMM_FUZZ_CASES`` sets how many cases each entry point gets. ``make torture`` runs 10,000 of each.
"""

import os

import fuzzing
import pytest
import torch
from fuzzing import ENTRIES, ERROR, FAULT, RESULT, judge
from hypothesis import HealthCheck, Phase, given, settings

import ugmm_tutorial as ug

CASES = int(os.environ.get("UGMM_FUZZ_CASES", "50"))


def test_every_public_entry_point_has_valid_arguments_or_a_reason():
    missing, needless = fuzzing.unaccounted()
    assert not missing, f"add them to tests/entry_points.py: {missing}"
    assert not needless


def test_a_new_entry_point_is_found(monkeypatch):
    monkeypatch.setattr(ug.density, "brand_new", lambda x: x, raising=False)
    monkeypatch.setattr(ug.density, "__all__", [*ug.density.__all__, "brand_new"])
    assert "density.brand_new" in fuzzing.public()


@pytest.mark.parametrize("name", ENTRIES)
def test_drawn_arguments_give_a_documented_result_or_error(name, one_thread, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # a drawn argument may be the name of a file to write
    call = ENTRIES[name]

    @settings(
        max_examples=max(CASES // call.cost, 3),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(fuzzing.replacements(call))
    def check(replaced):
        outcome = judge(call, replaced)
        assert outcome.kind != FAULT, f"{outcome.where} {outcome.detail} | {fuzzing.shown(replaced)}"

    check()


def test_the_judge_knows_faults():
    def broken(x, scale=1.0):
        """Twice x.

        Raises:
            TypeError: ``x`` is no tensor.
        """
        if scale == 2.0:
            raise ValueError("that will not do")
        if scale == 3.0:
            raise KeyError("scale")
        return "no tensor" if scale == 4.0 else x[:1] if scale == 5.0 else x / scale

    call = fuzzing.Call(broken, {"x": torch.ones(2)}, shape=lambda x, **_: [x.shape])
    assert judge(call, {}).kind == RESULT
    assert judge(call, {"scale": 5.0}).detail == "shapes [(1,)] instead of [(2,)]"
    assert judge(call, {"scale": 0.0}).detail == "inf from finite arguments"
    assert judge(call, {"scale": "a"}).detail.startswith("no argument is named: TypeError")
    assert judge(call, {"scale": 2.0}).detail == "no argument is named: ValueError: that will not do"
    assert judge(call, {"scale": 3.0}).detail == "undocumented KeyError: 'scale'"
    assert judge(call, {"scale": 4.0}).detail.startswith("a result of another kind: str")
    layer = ENTRIES["UGMMLayer"]
    assert judge(layer, {"min_std": -1.0}).kind == ERROR
