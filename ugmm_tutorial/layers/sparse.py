"""SparseUGMMLayer: neurons that read a few inputs each, left by pruning or built that way.

Taught in chapter 12 (what pruning leaves).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ugmm_tutorial import functional
from ugmm_tutorial.kernels import eager, sparse
from ugmm_tutorial.kernels.arguments import integer, numbers_in, of_one_kind, require_shape, tensor
from ugmm_tutorial.kernels.choice import choose
from ugmm_tutorial.kernels.reference import log_sum_exp
from ugmm_tutorial.layers import direct
from ugmm_tutorial.layers.dense import MixtureLayer

__all__ = ["SparseUGMMLayer", "sparse_log_density"]


def sparse_log_density(
    x: Tensor,
    index: Tensor,
    mean: Tensor,
    log_std: Tensor,
    log_weight: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Log-density of J mixtures of m components, each of which reads one input.

    ``out[..., j] = logsumexp_k( log_weight[j, k] + log N(x[..., index[j, k]] | mean[j, k], std[j, k]**2) )``

    With ``index[j] = 0 … K - 1`` this is :func:`~ugmm_tutorial.functional.ugmm_log_density`.

    Args:
        x: inputs, ``(*, K)``.
        index: which input each component reads, (J, m), int64, from 0 to K - 1. Several components of a
            neuron may read the same input.
        mean, log_std, log_weight: as for the dense operator, but (J, m).
        backend: ``"reference"`` gathers the inputs, ``(*, J, m)``; ``"numba"`` and ``"triton"`` are fused
            kernels in float32, for CPUs and GPUs; ``"auto"`` takes the fastest of those that can run. The
            kernel for GPUs has not run on one yet.

    Returns:
        The outputs, ``(*, J)``, in nats, with the dtype of the parameters.

    Raises:
        TypeError: an argument is not a tensor, or dtypes differ or are not supported. Under
            ``torch.autocast``, half-precision arguments are computed in float32 instead.
        ValueError: shapes or devices do not fit together, or the backend's name is unknown.
        IndexError: an index is outside the inputs.
        RuntimeError: the requested backend cannot run here.

    Taught in chapter 12.

    >>> index = torch.tensor([[0, 2], [3, 3]])  # two neurons with two components each
    >>> sparse_log_density(torch.rand(5, 4), index, *torch.zeros(3, 2, 2)).shape
    torch.Size([5, 2])
    """
    if eager.takes(backend, x, mean, log_std, log_weight, index=index):
        reference = partial(_reference, index)
        return eager.log_density(x, mean, log_std, log_weight, index=index, reference=reference)
    arguments = x, index, mean, log_std, log_weight = _checked(x, index, mean, log_std, log_weight)
    chosen = choose(backend, x, mean)
    if chosen == "reference" or x.dtype == torch.float64 or functional.under_functorch(*arguments):
        return sparse.sparse_reference_log_density(*arguments)
    rows = x.reshape(-1, x.shape[-1])
    out, _ = sparse.sparse_log_density(rows, index, mean, log_std, log_weight, chosen)
    return out.reshape(*x.shape[:-1], len(mean))


class SparseUGMMLayer(MixtureLayer):
    """A uGMM layer whose neurons read m inputs each: ``(*, in_features)`` to ``(*, out_features)``.

    Attributes:
        index: which inputs each neuron reads, (J, m), a buffer. ``reset_parameters`` does not draw it: after
            ``to_empty`` it has to be loaded (``load_state_dict``) or copied in.
        mean, log_std, mix_logits: parameters as in :class:`~ugmm_tutorial.layers.MixtureLayer`, but (J, m).
        log_total: logarithm of the sum of each neuron's mixing weights, (J,), a buffer. It is 0 unless
            pruning removed components and left the other weights unchanged. It is added to the outputs;
            ``mix_weight`` and ``log_weight`` are relative to it.

    Args:
        in_features: K, at least 1.
        out_features: J, at least 1.
        components: m, from 1 to K. Every neuron reads that many inputs, drawn without repetition from
            PyTorch's global random state.
        index: the inputs that each neuron reads, instead of ``components``: (J, m), whole numbers from 0 to
            K - 1, copied.
        layer_options: whatever :class:`~ugmm_tutorial.layers.MixtureLayer` takes, without ``input_dropout``.
            ``backend`` as for :func:`sparse_log_density`.

    Raises:
        TypeError: a size is not an integer, or ``index`` is not a tensor of integers.
        ValueError: a value is out of its range, or not exactly one of ``components`` and ``index`` is given.

    Taught in chapter 12.

    >>> SparseUGMMLayer(784, 10, components=3)(torch.rand(5, 784)).shape
    torch.Size([5, 10])
    """

    index: Tensor
    log_total: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        components: int | None = None,
        *,
        index: Tensor | None = None,
        **layer_options: Any,
    ) -> None:
        if (components is None) == (index is None):
            got = "neither" if index is None else "both"
            raise ValueError(f"expected either components or index, got {got}")
        in_features = integer("in_features", in_features, 1)
        out_features = integer("out_features", out_features, 1)
        if index is not None:
            _check_index(index, in_features, out_features)
            components = index.shape[1]
        components = integer("components", components, 1)
        if index is None and components > in_features:
            raise ValueError(f"expected components <= in_features = {in_features}, got {components}")
        if layer_options.get("input_dropout"):
            raise ValueError("expected no input_dropout: neurons of this layer read different inputs")
        super().__init__(in_features, out_features, components=components, **layer_options)
        if index is None:
            drawn = torch.rand(out_features, in_features).argsort(dim=1)[:, :components]
            index = drawn.sort(dim=1).values
        self.register_buffer("index", index.to(self.mean.device, torch.int64, copy=True))
        self.register_buffer("log_total", self.mean.new_zeros(out_features))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as ``init`` says. ``log_total`` becomes 0, ``index`` stays."""
        super().reset_parameters()
        if hasattr(self, "log_total"):  # the base class calls this before the buffer exists
            self.log_total.zero_()

    def _in_one_kernel(self, x: Tensor, *, missing: bool) -> Tensor | None:
        if missing and self.missing == "renormalize":  # the weight that is left is no product of matrices
            return None
        out = direct.log_density(self, x, SparseUGMMLayer, missing=missing, index=self.index)
        return None if out is None else out + self.log_total

    def log_density(self, x: Tensor, log_weight: Tensor, absent: Tensor | None = None) -> Tensor:
        self.check_width(x)
        arguments = (x, self.index, self.mean, self.bounded_log_std, log_weight)
        if absent is None:
            return sparse_log_density(*arguments, backend=self.backend) + self.log_total
        # The kernel knows no backgrounds; the reference gathers every input anyway.
        terms = sparse.sparse_component_log_densities(*_checked(*arguments))
        return log_sum_exp(terms.masked_fill(absent[..., self.index], -math.inf)) + self.log_total

    def weight_left(self, log_weight: Tensor, absent: Tensor) -> Tensor:
        weight = torch.softmax(log_weight, dim=-1)
        return ((~absent)[..., self.index].to(weight.dtype) * weight).sum(dim=-1)

    def component_log_densities(self, x: Tensor) -> Tensor:
        """Weighted log-density of every component at the input that it reads, ``(*, K)`` to ``(*, J, m)``."""
        self.check_width(x)
        arguments = _checked(x, self.index, self.mean, self.bounded_log_std, self.log_weight)
        return self.without_missing(sparse.sparse_component_log_densities(*arguments), x[..., self.index])

    def by_input(self, values: Tensor) -> Tensor:
        """Sum values of the components, ``(*, J, m)``, by the inputs read, ``(*, J, K)``: 0 elsewhere."""
        sorted_ = values.new_zeros(*values.shape[:-1], self.in_features)
        return sorted_.scatter_add_(-1, self.index.expand(values.shape), values)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """As in every module, but an index that names no inputs is refused: a copy would round it."""
        index, error_msgs = state_dict.get(f"{prefix}index"), others[-1]
        try:
            if isinstance(index, Tensor) and index.shape == self.index.shape and index.device.type != "meta":
                whole = index.to(torch.int64)
                if not bool((whole == index).all()):
                    raise ValueError("expected index to be whole numbers, got fractions")
                _check_index(whole, self.in_features, self.out_features)
                state_dict[f"{prefix}index"] = whole
        except ValueError as error:
            error_msgs.append(
                f"{prefix}index: {error}. An average of indices names other inputs than any of them: average "
                "layers that read the same inputs, and keep the index of one of them"
            )
        else:
            super()._load_from_state_dict(state_dict, prefix, *others)

    def extra_repr(self) -> str:
        features = f"in_features={self.in_features}"
        return super().extra_repr().replace(features, f"{features}, components={self.components}")


def _reference(index: Tensor, x: Tensor, mean: Tensor, log_std: Tensor, weight: Tensor, *_: None) -> Tensor:
    return sparse.sparse_reference_log_density(x, index, mean, log_std, weight)


def _checked(x: Tensor, index: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    """Check the arguments against each other; under autocast, lift half precision to float32."""
    named = of_one_kind(dict(zip(("x", "mean", "log_std", "log_weight"), (x, *parameters), strict=True)))
    if tensor("index", index).dtype != torch.int64:
        raise TypeError(f"expected index of dtype torch.int64, got {index.dtype}")
    if index.device != x.device:
        raise ValueError(f"expected index on the device of x, {x.device}, got {index.device}")
    x, mean, *others = named.values()
    if mean.dim() != 2 or 0 in mean.shape[1:]:
        raise ValueError(f"expected mean of shape (J, m) with m >= 1, got {tuple(mean.shape)}")
    for name, value in zip(("index", "log_std", "log_weight"), (index, *others), strict=True):
        require_shape(name, value, "mean", mean.shape)
    if x.dim() == 0 or x.shape[-1] == 0:
        raise ValueError(f"expected x of shape (*, K), K >= 1, got {tuple(x.shape)}")
    return x, index, mean, *others


def _check_index(index: Tensor, in_features: int, out_features: int) -> None:
    if not isinstance(index, Tensor):
        raise TypeError(f"expected index to be a tensor of integers, got {type(index).__name__}")
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"expected index to be a tensor of integers, got {index.dtype}")
    numbers_in("index", index, floating=False, finite=False)
    if index.dim() != 2 or index.shape[0] != out_features or index.shape[1] == 0:
        raise ValueError(f"expected index of shape ({out_features}, m), m >= 1, got {tuple(index.shape)}")
    if not 0 <= int(index.min()) <= int(index.max()) < in_features:
        raise ValueError(
            f"expected index from 0 to {in_features - 1}, one less than in_features, got "
            f"{int(index.min())} to {int(index.max())}"
        )
