"""Inference in uGMM networks: the most probable explanation, certified by interval bounds. Chapter 10."""

from ugmm_tutorial.inference.bounds import interval_bounds
from ugmm_tutorial.inference.branch_and_bound import IMPROVEMENTS
from ugmm_tutorial.inference.explanation import METHODS, mpe
from ugmm_tutorial.inference.result import MPEResult

__all__ = ["IMPROVEMENTS", "METHODS", "MPEResult", "interval_bounds", "mpe"]
