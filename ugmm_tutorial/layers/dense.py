"""The base class of all mixture layers, organised like nn.Linear, and its first subclass.

:class:`MixtureLayer` owns the parameters, their bounds and dropout, and declares the methods that every layer
has. :class:`UGMMLayer` is the dense one: J neurons over K inputs.

Taught in chapter 2 (parameters, initialisation, gradients) and chapter 4 (dropout on components).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ugmm_tutorial import functional
from ugmm_tutorial.kernels import arguments as check
from ugmm_tutorial.kernels.arguments import checked
from ugmm_tutorial.kernels.choice import backend_name
from ugmm_tutorial.kernels.kinds import device as checked_device
from ugmm_tutorial.kernels.kinds import dtype as checked_dtype
from ugmm_tutorial.kernels.transform import DROPPED_FIRST, DROPPED_LAST
from ugmm_tutorial.layers import direct, on_gpu
from ugmm_tutorial.layers.limits import bounded
from ugmm_tutorial.layers.masks import dropout_penalty, input_penalty
from ugmm_tutorial.layers.missing import MISSING, absent_inputs, divided, sums_of

__all__ = ["DROPOUT_MODES", "INITS", "MixtureLayer", "UGMMLayer"]

DROPOUT_MODES = ("renormalize", "literal", "inverted")
INITS = ("unit", "paper")


class MixtureLayer(nn.Module, ABC):
    """What all layers of mixture neurons share: J neurons of m components each, ``(*, K)`` to ``(*, J)``.

    A subclass defines how components read the input (:meth:`component_log_densities`) and how they make
    outputs (:meth:`log_density`). If its parameters are not three learnt tensors (J, m), it says so in
    :meth:`parameter_columns`, :meth:`initial_values` or :attr:`frozen`.

    Attributes:
        in_features: K, how many inputs there are.
        out_features: J, how many neurons there are.
        components: m, how many components a neuron has; K in a dense layer.
        mean: component means, a parameter of shape (J, m), like the next two.
        log_std: logarithm of the standard deviations. :attr:`bounded_log_std` keeps it in its bounds.
        mix_logits: unnormalised logarithms of the mixing weights, for a softmax over the components.
        frozen: which of the three keep their initial values. They are buffers, so no optimizer sees them.
        sums_components: whether an output is the logsumexp of its components.
        leaves_out: whether the components of missing inputs can be left out.

    Args:
        in_features: K, at least 1.
        out_features: J, at least 1.
        components: m, at least 1.
        dropout: probability p with which a component is dropped while training, 0 <= p <= 1, in steps
            of 2**-16. A neuron that would lose all its components keeps its heaviest one, so that
            outputs and gradients stay finite for every p and K. One mask is drawn for each forward pass.
        dropout_mode: what happens to the weights of the components that stay: ``"renormalize"`` divides them
            by their sum (the mask acts before the softmax), ``"literal"`` leaves them as they are (as in the
            paper), ``"inverted"`` divides them by their expected sum (1 - p, apart from a kept heaviest one).
        input_dropout: probability with which an input is dropped while training, for all neurons at once.
            The other weights stay as they are. Not together with ``dropout``.
        min_std: smallest standard deviation a component can have, >= 0, in the units of the input. At the
            floor, a gradient that would widen a component still passes.
        max_std: largest standard deviation a component can have, > ``min_std``. At the ceiling, a gradient
            that would narrow a component still passes. Chapter 9 uses a ceiling as a remedy.
        init: ``"unit"``: means from N(0, 1), standard deviations 1, equal weights; ``"paper"``: means
            from N(0, 1), standard deviations from U(0, 1), logits from U(0, 1), as in the authors' code.
        missing: what a NaN among the inputs does: ``"propagate"`` makes the outputs of its row NaN,
            ``"error"`` raises, ``"drop"`` leaves out the components that read it, ``"renormalize"`` also
            divides by the weight of those that stay. Code that is compiled, exported or inside vmap cannot
            raise because of a value: there ``"error"`` is like ``"propagate"``.
        backend: the operator's implementation, as for :func:`~ugmm_tutorial.functional.ugmm_log_density`.
        device: where the parameters live.
        dtype: their dtype, float32 or float64.

    Raises:
        TypeError: a size is not an integer, or dtype is neither float32 nor float64.
        ValueError: a value is out of its range, or a mode is unknown.

    >>> {name: tuple(p.shape) for name, p in UGMMLayer(4, 8).named_parameters()}
    {'mean': (8, 4), 'log_std': (8, 4), 'mix_logits': (8, 4)}
    """

    mean: Tensor
    log_std: Tensor
    mix_logits: Tensor
    frozen: ClassVar[tuple[str, ...]] = ()
    sums_components: ClassVar[bool] = True
    leaves_out: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        components: int,
        dropout: float = 0.0,
        dropout_mode: str = "renormalize",
        input_dropout: float = 0.0,
        min_std: float = 1e-3,
        max_std: float = math.inf,
        init: str = "unit",
        missing: str = "propagate",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check.integer("in_features", in_features, 1)
        self.out_features = check.integer("out_features", out_features, 1)
        self.components = check.integer("components", components, 1)
        self.dropout = check.fraction("dropout", dropout)
        self.dropout_mode = check.one_of("dropout_mode", dropout_mode, DROPOUT_MODES)
        self.input_dropout = check.fraction("input_dropout", input_dropout)
        self.init = check.one_of("init", init, INITS)
        self.missing = check.one_of("missing", missing, MISSING if self.leaves_out else MISSING[:2])
        if self.input_dropout and self.dropout:
            raise ValueError(f"expected dropout or input_dropout, got {dropout} and {input_dropout}")
        self.backend = backend_name(backend)
        self.min_std = check.number("min_std", min_std, 0.0)
        self.max_std = check.real("max_std", max_std)
        if not self.max_std > self.min_std:
            raise ValueError(f"expected max_std > min_std = {min_std}, got {max_std}")
        device = None if device is None else checked_device(device, meta=True)
        dtype = checked_dtype(dtype)
        for name, columns in self.parameter_columns().items():
            value = torch.empty(self.out_features, columns, device=device, dtype=dtype)
            if name in self.frozen:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))
        self.reset_parameters()

    # --- what a subclass defines --------------------------------------------------------------------

    @abstractmethod
    def component_log_densities(self, x: Tensor) -> Tensor:
        """Weighted log-density of every component at its input, ``(*, K)`` to ``(*, J, m)``, without dropout.

        These are the terms under the logsumexp.
        """

    @abstractmethod
    def log_density(self, x: Tensor, log_weight: Tensor, absent: Tensor | None = None) -> Tensor:
        """Outputs ``(*, J)`` at ``x`` with these log-weights (J, m), without what reads ``absent`` inputs."""

    def parameter_columns(self) -> dict[str, int]:
        """The number of columns of each parameter, by its name; each has J rows."""
        return dict.fromkeys(("mean", "log_std", "mix_logits"), self.components)

    def initial_values(self) -> dict[str, Tensor]:
        """Fresh values of the parameters, (J, m) each. A parameter with fewer columns uses the first ones."""
        shape = (self.out_features, self.components)
        mean = self.mean.new_empty(shape).normal_()
        if self.init == "unit":
            return {"mean": mean, "log_std": torch.zeros_like(mean), "mix_logits": torch.zeros_like(mean)}
        # U(0, 1) may return 0, whose logarithm is not finite. So no width starts below the floor or, without
        # a floor, below a width whose reciprocal still has a finite square.
        smallest = max(self.min_std, torch.finfo(mean.dtype).eps)
        log_std = torch.empty_like(mean).uniform_().clamp_(min=smallest).log_()
        return {"mean": mean, "log_std": log_std, "mix_logits": torch.empty_like(mean).uniform_()}

    def by_input(self, values: Tensor) -> Tensor:
        """Rearrange values of the components, ``(*, J, m)``, by the inputs that they read, ``(*, J, K)``."""
        return values

    # --- what it inherits ---------------------------------------------------------------------------

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as ``init`` says."""
        for name, value in self.initial_values().items():
            kept = getattr(self, name)
            kept.copy_(value[:, : kept.shape[1]])

    @property
    def bounded_log_std(self) -> Tensor:
        """Logarithm of the standard deviations, from ``log(min_std)`` to ``log(max_std)``."""
        log_std = bounded(self.log_std, *self.log_std_bounds)
        return log_std.expand_as(self.mean)  # a neuron may have one for all of its components

    @property
    def log_std_bounds(self) -> tuple[float, float]:
        """``log(min_std)`` and ``log(max_std)``; infinite if there is no such bound."""
        low = math.log(self.min_std) if self.min_std > 0.0 else -math.inf
        return low, math.log(self.max_std) if self.max_std < math.inf else math.inf

    @property
    def std(self) -> Tensor:
        """Standard deviations of the components, from ``min_std`` to ``max_std`` (up to rounding)."""
        return self.bounded_log_std.exp()

    @property
    def log_weight(self) -> Tensor:
        """Logarithm of the mixing weights, (J, m), without dropout."""
        return torch.log_softmax(self.mix_logits, dim=-1)

    @property
    def mix_weight(self) -> Tensor:
        """Mixing weights, (J, m), positive, summing to one over the components, without dropout."""
        return torch.softmax(self.mix_logits, dim=-1)

    def dropped_log_weight(self) -> Tensor:
        """Log-weights under a fresh dropout mask, (J, m); -inf where a component is dropped."""
        mode, penalty = self.dropout_penalty()
        if mode == DROPPED_FIRST:
            return torch.log_softmax(self.mix_logits + penalty, dim=-1)
        return self.log_weight + penalty

    @property
    def drops(self) -> bool:
        """Whether a forward pass drops components now: in training mode, with a probability above 0."""
        return self.training and self.dropout + self.input_dropout > 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Log-densities of the J mixtures at ``x``: ``(*, K)`` to ``(*, J)``, in nats."""
        absent = absent_inputs(x, self.missing)
        found = self._in_one_kernel(x, missing=absent is not None)
        if found is not None:
            return found
        log_weight = self.dropped_log_weight() if self.drops else self.log_weight
        if absent is None:
            return self.log_density(x, log_weight)
        out = self.log_density(x.masked_fill(absent, 0.0), log_weight, absent)
        return divided(out, self.weight_left(log_weight, absent)) if self.missing == "renormalize" else out

    def without_missing(self, terms: Tensor, read: Tensor) -> Tensor:
        """The terms of components, -inf for those that read NaN, if this layer leaves them out."""
        return terms.masked_fill(read.isnan(), -math.inf) if self.missing in MISSING[2:] else terms

    def weight_left(self, log_weight: Tensor, absent: Tensor) -> Tensor:
        """The part of the weights (J, m) whose inputs are not absent, ``(*, J)``."""
        return sums_of(torch.softmax(log_weight, dim=-1), absent)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Share of each input in each output: ``(*, K)`` to ``(*, J, K)``, without dropout."""
        return self.by_input(torch.softmax(self.component_log_densities(x), dim=-1))

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that all layers share, as this one was built; without device and dtype."""
        names = "dropout dropout_mode input_dropout min_std max_std init missing backend"
        return {name: getattr(self, name) for name in names.split()}

    def check_width(self, x: Tensor) -> None:
        """Raise ValueError unless ``x`` has this layer's number of inputs; operators check the rest."""
        if isinstance(x, Tensor) and (x.dim() == 0 or x.shape[-1] != self.in_features):
            raise ValueError(
                f"expected x of shape (*, K) with K = in_features = {self.in_features}, got {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        text += f", dropout={self.dropout}, dropout_mode={self.dropout_mode!r}" if self.dropout else ""
        text += f", input_dropout={self.input_dropout}" if self.input_dropout else ""
        text += f", min_std={self.min_std}"
        text += f", max_std={self.max_std}" if self.max_std < math.inf else ""
        text += f", init={self.init!r}"
        text += f", missing={self.missing!r}" if self.missing != "propagate" else ""
        return text if self.backend == "auto" else f"{text}, backend={self.backend!r}"

    def _in_one_kernel(self, x: Tensor, *, missing: bool) -> Tensor | None:
        """The outputs, if one kernel computes what the methods of this layer do; without what is NaN."""
        return None

    def dropout_penalty(self) -> tuple[int, Tensor]:
        """What a fresh mask adds, (J, m), and whether to the logits or to the logarithms of the weights."""
        if self.input_dropout:
            return DROPPED_LAST, input_penalty(self.mix_logits, self.input_dropout)
        penalty = dropout_penalty(self.mix_logits, self.dropout)
        if self.dropout_mode == "renormalize":
            return DROPPED_FIRST, penalty
        if self.dropout_mode == "inverted":
            # A constant: no gradient may flow through the expected sum of the kept weights.
            penalty = penalty - self._expected_kept_weight().log()
        return DROPPED_LAST, penalty

    @torch.no_grad()
    def _expected_kept_weight(self) -> Tensor:
        """E[sum of kept weights], (J, 1): 1 - p, plus the heaviest weight when all would be dropped."""
        heaviest = self.mix_weight.amax(dim=-1, keepdim=True)
        droppable = (self.mix_logits > -math.inf).to(heaviest.dtype).sum(dim=-1, keepdim=True)
        return (1.0 - self.dropout) + heaviest * self.dropout**droppable


class UGMMLayer(MixtureLayer):
    """A layer of univariate Gaussian mixture neurons: ``(*, in_features)`` to ``(*, out_features)``.

    Every output is the log-density of a mixture with one component per input; component k reads input k (see
    :func:`~ugmm_tutorial.functional.ugmm_log_density`).

    Args:
        in_features: K, at least 1.
        out_features: J, at least 1.
        options: ``dropout``, ``dropout_mode``, ``min_std``, ``max_std``, ``init``, ``missing``, ``backend``,
            ``device`` and ``dtype``, as for :class:`MixtureLayer`.

    Raises:
        TypeError: a size is not an integer, an option is unknown, or dtype is neither float32 nor float64.
        ValueError: a value is out of its range, or a mode is unknown.

    Source: the paper, sections 3.1 and 3.4.

    >>> layer = UGMMLayer(4, 8, dropout=0.5)
    >>> layer(torch.rand(32, 4)).shape
    torch.Size([32, 8])
    >>> layer.responsibilities(torch.rand(4)).sum(dim=-1).allclose(torch.ones(8))
    True
    """

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        if "dropout_mask" in options:
            raise TypeError(
                "since version 0.2 there is no dropout_mask: layers.PerExampleDropoutLayer has its own"
            )
        super().__init__(in_features, out_features, components=in_features, **options)

    def _in_one_kernel(self, x: Tensor, *, missing: bool) -> Tensor | None:
        out = None if missing else on_gpu.log_density(self, x, UGMMLayer)
        return direct.log_density(self, x, UGMMLayer, missing=missing) if out is None else out

    def log_density(self, x: Tensor, log_weight: Tensor, absent: Tensor | None = None) -> Tensor:
        background = None if absent is None else torch.zeros_like(x).masked_fill_(absent, math.inf)
        parameters = (self.mean, self.bounded_log_std, log_weight)
        return functional.ugmm_log_density(x, *parameters, log_background=background, backend=self.backend)

    def component_log_densities(self, x: Tensor) -> Tensor:
        arguments = checked(x, self.mean, self.bounded_log_std, self.log_weight)
        terms = functional.component_log_densities(*arguments)
        return self.without_missing(terms, x.unsqueeze(-2))
