"""Questions to a trained network: which label, given the features; what is most probable, given a part."""

from ugmm_tutorial.inference.labels import label_posterior, label_scores

__all__ = ["label_posterior", "label_scores"]
