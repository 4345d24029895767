"""Join the results of several seeds: numbers become means with intervals, and the file stays small."""

from __future__ import annotations

import numpy as np

from ugmm_tutorial.training.records import mean_and_interval

__all__ = ["over_seeds", "rounded"]


def over_seeds(found: list):
    """Join structures of the same form, one for each seed, into one.

    A number becomes ``{"mean", "half_width", "seeds"}``: the mean, the half-width of the 95 % interval (None
    for a single seed), and the numbers of all seeds. Lists are curves, and their entries have no ``seeds``.
    """
    first = found[0]
    if isinstance(first, dict):
        return {key: over_seeds([f[key] for f in found]) for key in first}
    if isinstance(first, list):
        joined = [over_seeds(list(values)) for values in zip(*found, strict=True)]
        return [{key: summary[key] for key in ("mean", "half_width")} for summary in joined]
    mean, half_width = mean_and_interval(found)
    return {"mean": mean, "half_width": None if len(found) < 2 else half_width, "seeds": found}


def rounded(found, digits: int):
    """A copy with arrays as lists, and with floats rounded to this many significant digits."""
    if isinstance(found, dict):
        return {key: rounded(value, digits) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [rounded(value, digits) for value in found]
    if isinstance(found, np.ndarray):
        return rounded(found.tolist(), digits)
    return float(f"{found:.{digits}g}") if isinstance(found, float) else found
