"""Starting points for training: clusters of the data, by scikit-learn's k-means."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

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
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    filled = torch.where(rows.isnan(), rows.nanmean(dim=0), rows).detach()
    with warnings.catch_warnings():
        # With fewer distinct rows than clusters, some start at the same place, which is harmless.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(count, n_init=1, random_state=seed).fit(filled.cpu().numpy())
    member = torch.nn.functional.one_hot(torch.as_tensor(found.labels_).long(), count).to(filled)
    size = member.sum(dim=0).unsqueeze(-1)
    mean = torch.as_tensor(found.cluster_centers_).to(filled)
    scatter = member.T @ filled.square() - size * (member.T @ filled / size.clamp(min=1.0)).square()
    std = ((scatter.clamp(min=0.0) + filled.var(dim=0, correction=0)) / (size + 1.0)).sqrt()
    return (size.squeeze(-1) + 1.0) / (len(rows) + count), mean, std
