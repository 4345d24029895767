"""CategoricalLeafLayer: a mixture layer whose last input is a label with class probabilities.

Taught in chapter 9. A label that is read as a number 0, 1 or 2 would say that class 1 lies between the
others.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from ugmm_tutorial import functional
from ugmm_tutorial.kernels.arguments import checked, integer, numbers_in, tensor
from ugmm_tutorial.kernels.reference import log_sum_exp
from ugmm_tutorial.layers.dense import MixtureLayer
from ugmm_tutorial.layers.missing import MISSING, can_look

__all__ = ["CategoricalLeafLayer"]


class CategoricalLeafLayer(MixtureLayer):
    """A uGMM layer over features and a label: ``(*, in_features)`` to ``(*, out_features)``.

    The last input is a class 0 to ``num_labels - 1``. Its component in neuron j is the categorical
    distribution ``softmax(label_logits[j])`` instead of a Gaussian:

    ``out[..., j] = logsumexp( log w_jk + log N(x_k | mean_jk, std_jk**2) for all features k,
    log w_jK + log pi_jc for the label c )``

    ``mean`` and ``log_std`` have a column for each feature, ``mix_logits`` one more for the label.

    Args:
        in_features: features and label, at least 2.
        out_features: neurons, at least 1.
        num_labels: classes, at least 2.
        layer_options: ``min_std``, ``max_std``, ``init``, ``missing``, ``backend``, ``device``, ``dtype`` of
            :class:`~ugmm_tutorial.layers.MixtureLayer`. There is no dropout.

    Raises:
        TypeError, ValueError: as for :class:`~ugmm_tutorial.layers.UGMMLayer`. The forward pass raises
            ValueError if a label is not a class. Code that is compiled, exported or inside vmap cannot check
            this, and gives NaN instead: call :meth:`check_labels` before.

    >>> layer = CategoricalLeafLayer(5, 8, num_labels=3)
    >>> flower = torch.tensor([5.1, 3.5, 1.4, 0.2, 0.0])  # four measurements in cm and the species
    >>> layer(flower).shape
    torch.Size([8])
    """

    label_logits: Tensor

    def __init__(self, in_features: int, out_features: int, *, num_labels: int, **layer_options: Any) -> None:
        integer("in_features", in_features, 2)  # features and a label
        num_labels = integer("num_labels", num_labels, 2)
        for name in ("dropout", "dropout_mode", "components"):
            if name in layer_options:
                raise ValueError(f"expected no {name}: this layer has a component per input and no dropout")
        self.num_labels = num_labels  # before the base class asks for the parameters' sizes
        super().__init__(in_features, out_features, components=in_features, **layer_options)

    def parameter_columns(self) -> dict[str, int]:
        """A mean and a deviation for each feature, a weight for the label too, a logit for each class."""
        features = dict.fromkeys(("mean", "log_std"), self.in_features - 1)
        return super().parameter_columns() | features | {"label_logits": self.num_labels}

    def initial_values(self) -> dict[str, Tensor]:
        """As in every layer; logits of the classes from N(0, 1)."""
        values = super().initial_values()
        return values | {"label_logits": self.label_logits.new_empty(self.label_logits.shape).normal_()}

    @property
    def label_log_prob(self) -> Tensor:
        """log pi, (J, num_labels): logarithms of the label's probabilities in each neuron."""
        return torch.log_softmax(self.label_logits, dim=-1)

    def log_density(self, x: Tensor, log_weight: Tensor, absent: Tensor | None = None) -> Tensor:
        """Outputs ``(*, J)`` in nats, under log-weights (J, K); the last input is a class."""
        features, of_label = self._split(x, log_weight)
        background = None
        if absent is not None:
            background = torch.zeros_like(features).masked_fill_(absent[..., :-1], math.inf)
            of_label = of_label.masked_fill(absent[..., -1:], -math.inf)
        parameters = (self.mean, self.bounded_log_std, log_weight[:, :-1])
        from_features = functional.ugmm_log_density(
            features, *parameters, log_background=background, backend=self.backend
        )
        if absent is not None:  # where both are -inf, logaddexp would have NaN gradients
            return log_sum_exp(torch.stack([from_features, of_label], dim=-1))
        return torch.logaddexp(from_features, of_label)

    def component_log_densities(self, x: Tensor) -> Tensor:
        """Weighted log-density of each feature and, last, of the label: ``(*, K)`` to ``(*, J, K)``."""
        log_weight, given = self.log_weight, x
        if self.missing in MISSING[2:]:
            given = x.nan_to_num(nan=0.0)
        features, of_label = self._split(given, log_weight)
        arguments = checked(features, self.mean, self.bounded_log_std, log_weight[:, :-1])
        terms = torch.cat([functional.component_log_densities(*arguments), of_label.unsqueeze(-1)], dim=-1)
        return self.without_missing(terms, x.unsqueeze(-2))

    def _split(self, x: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and what the label contributes to every neuron, ``(*, J)``."""
        self.check_width(tensor("x", x))
        features, label = x[..., :-1], x[..., -1]
        known = self._known(label)
        if can_look(x):
            self.check_labels(label)
        number = label.masked_fill(~known, 0.0).long()
        of_label = log_weight[:, -1] + embedding(number, self.label_log_prob.T)  # in PyTorch 2.7's vmap too
        return features, of_label.masked_fill(~known.unsqueeze(-1), math.nan)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_labels={self.num_labels}"

    def check_labels(self, label: Tensor) -> None:
        """Raise ValueError if one of the labels is not a class."""
        numbers_in("x", label, finite=False)  # on the device meta, for example, there are no labels to read
        known = self._known(label)
        if not known.all():
            raise ValueError(
                f"expected x with labels 0 to {self.num_labels - 1} as the last input, got "
                f"{label[~known].flatten()[0].item():g}"
            )

    def _known(self, label: Tensor) -> Tensor:
        return (label == label.round()) & (label >= 0) & (label < self.num_labels)
