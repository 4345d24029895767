"""UGMMLayer: J mixture neurons over K inputs, as a torch.nn.Module with nn.Linear's anatomy.

Taught in chapter 2 (parameters, initialisation, gradients) and chapter 4 (dropout on components).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ugmm_tutorial import functional
from ugmm_tutorial.arguments import positive_integer
from ugmm_tutorial.masks import dropout_penalty

__all__ = ["DROPOUT_MASKS", "DROPOUT_MODES", "INITS", "UGMMLayer", "lower_bound"]

DROPOUT_MODES = ("renormalize", "literal", "inverted")
DROPOUT_MASKS = ("batch", "sample")
INITS = ("unit", "paper")


class UGMMLayer(nn.Module):
    """A layer of univariate Gaussian mixture neurons: ``(*, in_features)`` to ``(*, out_features)``.

    Every output is the log-density of a mixture with one component per input; component k is read at
    input k (see :func:`~ugmm_tutorial.functional.ugmm_log_density`).

    Attributes:
        mean: component means, a parameter of shape (out_features, in_features), as the next two.
        log_std: logarithm of the standard deviations, above the floor ``min_std``.
        mix_logits: unnormalised logarithms of the mixing weights; a softmax over the inputs normalises
            them.

    Args:
        in_features: K, at least 1.
        out_features: J, at least 1.
        dropout: probability p with which a component is dropped while training, 0 <= p <= 1, in steps
            of 2**-16. A neuron that would lose all its components keeps its heaviest one, so that
            outputs and gradients stay finite for every p and K.
        dropout_mode: what happens to the weights of the components that stay: ``"renormalize"``
            divides them by their sum (the mask acts before the softmax), ``"literal"`` leaves them as
            they are (the paper's equation), ``"inverted"`` divides them by the sum they are expected
            to have (1 - p, but for the kept heaviest component).
        dropout_mask: ``"batch"`` draws one mask per forward pass, shared by the batch, as the authors'
            code does; ``"sample"`` draws one for every example. That calls the operator once for each
            and keeps as many sets of weights: for studies, not for speed.
        min_std: smallest standard deviation a component can have, >= 0, in the units of the input. At
            the floor the gradient that would widen a component still passes.
        max_std: largest standard deviation a component can have, > ``min_std``; there the gradient that
            would narrow a component still passes. A ceiling is a remedy of chapter 8.
        init: ``"unit"``: means from N(0, 1), standard deviations 1, equal weights; ``"paper"``: means
            from N(0, 1), standard deviations from U(0, 1), logits from U(0, 1), as in the authors' code.
        backend: the operator's implementation, as for :func:`~ugmm_tutorial.functional.ugmm_log_density`.
        device: where the parameters live.
        dtype: their dtype, float32 or float64.

    Raises:
        TypeError: a size is no integer, or dtype is neither float32 nor float64.
        ValueError: a value is out of its range, or a mode is unknown.

    Source: the paper, sections 3.1 and 3.4.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dropout: float = 0.0,
        dropout_mode: str = "renormalize",
        dropout_mask: str = "batch",
        min_std: float = 1e-3,
        max_std: float = math.inf,
        init: str = "unit",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = positive_integer("in_features", in_features)
        self.out_features = positive_integer("out_features", out_features)
        self.dropout = _probability(dropout)
        self.dropout_mode = _choice("dropout_mode", dropout_mode, DROPOUT_MODES)
        self.dropout_mask = _choice("dropout_mask", dropout_mask, DROPOUT_MASKS)
        self.init = _choice("init", init, INITS)
        self.backend = _choice("backend", backend, functional.BACKENDS)
        if not 0.0 <= min_std < math.inf:
            raise ValueError(f"expected min_std >= 0 and finite, got {min_std}")
        self.min_std = float(min_std)
        if not max_std > min_std:
            raise ValueError(f"expected max_std > min_std = {min_std}, got {max_std}")
        self.max_std = float(max_std)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"expected dtype float32 or float64, got {dtype!r}; for half precision run a float32 "
                "layer under torch.autocast"
            )
        shape = (self.out_features, self.in_features)
        self.mean = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.log_std = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.mix_logits = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as ``init`` says."""
        self.mean.normal_()
        if self.init == "unit":
            self.log_std.zero_()
            self.mix_logits.zero_()
        else:
            # U(0, 1) may return 0, whose logarithm is not finite: start on the floor at the lowest,
            # and without one at a width whose reciprocal still has a finite square.
            smallest = max(self.min_std, torch.finfo(self.log_std.dtype).eps)
            self.log_std.uniform_().clamp_(min=smallest).log_()
            self.mix_logits.uniform_()

    @property
    def std(self) -> Tensor:
        """Standard deviations of the components, (J, K), from ``min_std`` to ``max_std`` (up to rounding)."""
        return self._bounded_log_std().exp()

    @property
    def log_weight(self) -> Tensor:
        """Logarithm of the mixing weights, (J, K), without dropout."""
        return torch.log_softmax(self.mix_logits, dim=-1)

    @property
    def mix_weight(self) -> Tensor:
        """Mixing weights, (J, K), positive, summing to one over K, without dropout."""
        return torch.softmax(self.mix_logits, dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Log-densities of the J mixtures at ``x``: ``(*, K)`` to ``(*, J)``, in nats."""
        log_std = self._bounded_log_std()
        if self._drops and self.dropout_mask == "sample" and _has_examples(x):
            rows = x.reshape(-1, 1, x.shape[-1])
            each = [self._log_density(row, log_std, self._dropped_log_weight()) for row in rows]
            return torch.cat(each).reshape(*x.shape[:-1], self.out_features)
        log_weight = self._dropped_log_weight() if self._drops else self.log_weight
        return self._log_density(x, log_std, log_weight)

    def _log_density(self, x: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
        return functional.ugmm_log_density(x, self.mean, log_std, log_weight, backend=self.backend)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Share of each component in each output: ``(*, K)`` to ``(*, J, K)``, without dropout."""
        return functional.responsibilities(x, self.mean, self._bounded_log_std(), self.log_weight)

    def extra_repr(self) -> str:
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        if self.dropout:
            text += f", dropout={self.dropout}, dropout_mode={self.dropout_mode!r}"
            text += "" if self.dropout_mask == "batch" else f", dropout_mask={self.dropout_mask!r}"
        text += f", min_std={self.min_std}"
        text += f", max_std={self.max_std}" if self.max_std < math.inf else ""
        text += f", init={self.init!r}"
        return text if self.backend == "auto" else f"{text}, backend={self.backend!r}"

    @property
    def _drops(self) -> bool:
        return self.training and self.dropout > 0.0

    def _bounded_log_std(self) -> Tensor:
        log_std = self.log_std
        if self.min_std > 0.0:
            log_std = lower_bound(log_std, math.log(self.min_std))
        if self.max_std < math.inf:
            log_std = -lower_bound(-log_std, -math.log(self.max_std))
        return log_std

    def _dropped_log_weight(self) -> Tensor:
        """Log-weights under a fresh mask; -inf where a component is dropped."""
        penalty = dropout_penalty(self.mix_logits, self.dropout)
        if self.dropout_mode == "renormalize":
            return torch.log_softmax(self.mix_logits + penalty, dim=-1)
        log_weight = self.log_weight
        if self.dropout_mode == "inverted":
            # A constant: no gradient may flow through what the mask is expected to keep.
            log_weight = log_weight - self._expected_kept_weight().log()
        return log_weight + penalty

    @torch.no_grad()
    def _expected_kept_weight(self) -> Tensor:
        """E[sum of kept weights], (J, 1): 1 - p, plus the heaviest weight when all would be dropped."""
        heaviest = self.mix_weight.amax(dim=-1, keepdim=True)
        droppable = (self.mix_logits > -math.inf).to(heaviest.dtype).sum(dim=-1, keepdim=True)
        return (1.0 - self.dropout) + heaviest * self.dropout**droppable


class _LowerBound(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, bound: float) -> Tensor:
        return value.clamp(min=bound)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        value, ctx.bound = inputs
        ctx.save_for_backward(value)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (value,) = ctx.saved_tensors
        # Descent moves against the gradient: a negative one lifts the value back over the bound.
        return torch.where(value >= ctx.bound, gradient, gradient.clamp(max=0.0)), None


def lower_bound(value: Tensor, bound: float) -> Tensor:
    """``max(value, bound)`` whose gradient, below the bound, passes only where descent would raise value.

    A plain clamp has no gradient below the bound, so a component that once gets there stays for ever; a
    straight-through clamp lets the value drift ever further below. This one does neither. The rule
    is the one of ``lower_bound`` in TensorFlow Compression, a library for learned image compression.
    """
    return _LowerBound.apply(value, bound)


def _has_examples(x: Tensor) -> bool:
    """Whether there is an axis of examples with something in it; what is no tensor, the operator refuses."""
    return isinstance(x, Tensor) and x.dim() > 1 and x.numel() > 0


def _probability(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"expected dropout between 0 and 1, got {value}")
    return float(value)


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}: expected one of {', '.join(allowed)}")
    return value
