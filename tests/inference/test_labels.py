"""label_posterior: a joint score asked for every label."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ugmm_tutorial import UGMMNet
from ugmm_tutorial.inference import label_posterior, label_scores


def network(seed=0):
    torch.manual_seed(seed)
    return UGMMNet((3, 4, 1)).double()


X = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_scores_are_the_outputs_beside_each_label_one_by_one():
    model = network()
    scores = label_scores(model, X, [0, 1, 2.5])
    for i, row in enumerate(X):
        for c, label in enumerate((0.0, 1.0, 2.5)):
            alone = model(torch.cat([row, torch.tensor([label], dtype=torch.float64)]))
            assert scores[i, c].item() == pytest.approx(alone.item(), abs=1e-12)


def test_the_posterior_is_bayes_rule_for_a_model_that_is_a_known_density():
    class Known(nn.Module):
        """Class 0 at -1 with prior 0.2, class 1 at 1 with prior 0.8, deviation 1."""

        def forward(self, z):
            x, label = z[..., :1], z[..., 1:]
            prior = torch.where(label > 0.5, 0.8, 0.2).log()
            return prior + torch.distributions.Normal(2 * label - 1, 1.0).log_prob(x)

    x = torch.tensor([[-2.0], [0.0], [0.5]], dtype=torch.float64)
    got = label_posterior(Known(), x, [0, 1])[:, 1]
    torch.testing.assert_close(got, torch.sigmoid(2 * x[:, 0] + math.log(4.0)))


def test_the_order_of_the_labels_is_the_order_of_the_columns():
    model = network()
    torch.testing.assert_close(
        label_posterior(model, X, [2, 0, 1]), label_posterior(model, X, [0, 1, 2])[:, [2, 0, 1]]
    )


def test_leading_dimensions_and_a_single_example():
    model = network()
    many = label_posterior(model, X[:4].reshape(2, 2, 2), [0, 1])
    torch.testing.assert_close(many.reshape(4, 2), label_posterior(model, X[:4], [0, 1]))
    torch.testing.assert_close(label_posterior(model, X[0], [0, 1]), many[0, 0])
    torch.testing.assert_close(many.sum(dim=-1), torch.ones(2, 2, dtype=torch.float64))


def test_one_label_is_certain_and_far_inputs_stay_finite():
    assert label_posterior(network(), X, [1]).tolist() == [[1.0]] * 5
    assert label_posterior(network(), 1e6 * X, [0, 1, 2]).isfinite().all()


@pytest.mark.parametrize("labels", [[], [0, 0], [0, math.nan], [math.inf]])
def test_labels_must_be_different_finite_numbers(labels):
    with pytest.raises(ValueError, match="different finite numbers"):
        label_posterior(network(), X, labels)


def test_missing_features_are_refused_with_the_way_out():
    x = X.clone()
    x[2] = math.nan
    with pytest.raises(ValueError, match=r"without NaN.*ugmm_tutorial\.density"):
        label_posterior(network(), x, [0, 1])


def test_whatever_else_does_not_fit_is_refused():
    with pytest.raises(TypeError, match=r"x to be a torch.Tensor, got list"):
        label_posterior(network(), [[0.0, 1.0]], [0, 1])
    with pytest.raises(TypeError, match=r"got torch\.int64"):
        label_posterior(network(), torch.zeros(2, 2, dtype=torch.int64), [0, 1])
    with pytest.raises(ValueError, match=r"one output, of shape .*, got .5, 2, 2"):
        label_posterior(UGMMNet((3, 2)).double(), X, [0, 1])
    with pytest.raises(ValueError, match="K = 3"):
        label_posterior(network(), X[:, :1], [0, 1])
