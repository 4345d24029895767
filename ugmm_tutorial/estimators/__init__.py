"""Estimators with scikit-learn's interface, for people who work with tables.

    UGMMClassifier  shrugs off broken and missing features, and can prove it
    UGMMRegressor   p(y | x) as a mixture, robust to outliers in y too
    UGMMDensity     normalised densities: scores, samples, information criterion

Taught in the chapter *When inputs break*.
"""

from ugmm_tutorial.optional import needed

with needed("scikit-learn", by="An estimator"):
    from ugmm_tutorial.estimators.classifier import UGMMClassifier
    from ugmm_tutorial.estimators.density import UGMMDensity
    from ugmm_tutorial.estimators.regressor import UGMMRegressor

__all__ = ["UGMMClassifier", "UGMMDensity", "UGMMRegressor"]
