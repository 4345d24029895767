"""scikit-learn's own checks, every one of them, for every estimator and for its main variants."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from ugmm_tutorial.estimators import UGMMClassifier, UGMMDensity, UGMMRegressor

pytestmark = [
    pytest.mark.slow,
    # The checks provoke these on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning"),
]

SMALL = {"hidden_layer_sizes": (32,)}


@parametrize_with_checks(
    [
        UGMMClassifier(),
        UGMMClassifier(mixtures="all", **SMALL),
        UGMMClassifier(allow_nan=True, **SMALL),
        UGMMRegressor(),
        UGMMRegressor(allow_nan=True, **SMALL),
        UGMMDensity(),
        UGMMDensity(kind="diagonal", allow_nan=True),
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
