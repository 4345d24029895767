"""Starting points for training: clusters of the data, by scikit-learn's k-means."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ugmm_tutorial.arrays import array_of
from ugmm_tutorial.optional import needed

__all__ = ["clusters"]


def clusters(rows: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shares (count,), centres and standard deviations (count, K) of clusters of rows (N, K).

    Missing values are replaced by the mean of their feature. The variance of a cluster is shrunk towards that
    of all rows, as if the cluster had one more row with that variance: a cluster of one row has a width too.

    Raises:
        ValueError: there are fewer rows than clusters.
    """
    if len(rows) < count:
        raise ValueError(f"expected at least {count} rows, one for each component, got {len(rows)}")
    with needed("scikit-learn", by="A start from clusters"):
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

    # In float64, and variances around each cluster's mean: differences of sums would lose all digits of data
    # far from zero.
    whole = rows.detach().to("cpu", torch.float64)
    filled = torch.where(whole.isnan(), whole.nanmean(dim=0), whole)
    with warnings.catch_warnings():
        # With fewer distinct rows than clusters, some start at the same place, which is harmless.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(count, n_init=1, random_state=seed).fit(array_of(filled))
    label = torch.as_tensor(found.labels_).long()
    size = torch.bincount(label, minlength=count).to(filled).unsqueeze(-1)
    nothing = torch.zeros(count, rows.shape[1], dtype=filled.dtype)
    own_mean = nothing.index_add(0, label, filled) / size.clamp(min=1.0)
    scatter = nothing.index_add(0, label, (filled - own_mean[label]).square())
    std = ((scatter + filled.var(dim=0, correction=0)) / (size + 1.0)).sqrt()
    share = (size.squeeze(-1) + 1.0) / (len(rows) + count)
    centres = torch.as_tensor(found.cluster_centers_)
    return share.to(rows), centres.to(rows), std.to(rows)
