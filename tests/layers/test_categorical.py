"""The categorical leaf: a label read by probabilities in a layer that reads features by Gaussians."""

from __future__ import annotations

import pytest
import torch

from ugmm_tutorial.inference import label_posterior
from ugmm_tutorial.layers import CategoricalLeafLayer, UGMMLayer


def layer(seed=0, **options):
    torch.manual_seed(seed)
    return CategoricalLeafLayer(5, 3, num_labels=4, **{"dtype": torch.float64, "init": "paper"} | options)


def inputs(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    label = torch.randint(4, (count, 1), generator=generator).double()
    return torch.cat([x, label], dim=-1)


def written_out(made, row):
    """One example by torch.distributions, term by term."""
    out = []
    for j in range(made.out_features):
        w = torch.softmax(made.mix_logits[j], dim=0)
        terms = [
            w[k] * torch.distributions.Normal(made.mean[j, k], made.std[j, k]).log_prob(row[k]).exp()
            for k in range(4)
        ]
        terms.append(
            w[4] * torch.distributions.Categorical(logits=made.label_logits[j]).log_prob(row[4]).exp()
        )
        out.append(torch.stack(terms).sum().log())
    return torch.stack(out)


def test_every_output_is_the_sum_of_gaussian_terms_and_one_categorical_term():
    made, x = layer(), inputs(6)
    torch.testing.assert_close(made(x), torch.stack([written_out(made, row) for row in x]))


def test_responsibilities_are_the_gradients_of_the_log_weights():
    made, x = layer(), inputs(6)
    r = made.responsibilities(x)
    torch.testing.assert_close(r.sum(dim=-1), torch.ones(6, 3, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(made(x).sum(), made.mix_logits)
    expected = (r - made.mix_weight).sum(dim=0)
    torch.testing.assert_close(gradient, expected)


def test_relabelling_the_classes_permutes_the_posterior_and_changes_nothing_else():
    made, x = layer(), inputs(6)[:, :4]
    network = torch.nn.Sequential(made, UGMMLayer(3, 1, dtype=torch.float64))
    before = label_posterior(network, x, range(4))
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        made.label_logits.copy_(made.label_logits[:, order])
    torch.testing.assert_close(label_posterior(network, x, range(4)), before[:, order])


def test_gradients_of_all_parameters_are_right():
    made, x = layer(), inputs(3)
    names = [name for name, _ in made.named_parameters()]

    def evaluate(*values):
        return torch.func.functional_call(made, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(evaluate, tuple(p.detach().requires_grad_() for p in made.parameters()))


def test_it_takes_leading_dimensions_and_an_empty_batch():
    made, x = layer(), inputs(6)
    torch.testing.assert_close(made(x.reshape(2, 3, 5)), made(x).reshape(2, 3, 3))
    assert made(x[:0]).shape == (0, 3)


@pytest.mark.parametrize(("label", "shown"), [(4.0, "4"), (-1.0, "-1"), (0.5, "0.5"), (float("nan"), "nan")])
@pytest.mark.happens(
    "Inputs and labels",
    when="a label is no class of the layer",
    see="an error with the label and the number of classes",
    kept="the parameters as they are",
)
def test_a_label_that_is_no_class_is_refused(label, shown):
    made, x = layer(), inputs(2)
    x[1, 4] = label
    with pytest.raises(ValueError, match=f"labels 0 to 3 as the last input, got {shown}$"):
        made(x)
    with pytest.raises(ValueError, match="labels 0 to 3"):
        made.responsibilities(x)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((1, 3), {"num_labels": 2}, "in_features >= 2"),
        ((3, 3), {"num_labels": 1}, "num_labels >= 2"),
        ((3, 3), {"num_labels": 2, "dropout": 0.1}, "no dropout"),
        ((3, 3), {"num_labels": 2, "dropout_mode": "literal"}, "no dropout_mode"),
        ((3, 3), {"num_labels": 2, "components": 5}, "no components"),
        ((3, 3), {"num_labels": 2, "min_std": -1.0}, "min_std >= 0"),
    ],
)
def test_bad_arguments_are_refused(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        CategoricalLeafLayer(*sizes, **options)


def test_reset_draws_labels_too_and_the_text_names_them():
    made = layer()
    before = made.label_logits.detach().clone()
    made.reset_parameters()
    assert not torch.equal(made.label_logits, before)
    assert "num_labels=4" in repr(made)
    assert made.mean.shape == made.log_std.shape == (3, 4)
