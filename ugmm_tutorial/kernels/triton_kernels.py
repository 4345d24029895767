"""The fused GPU kernels: tensors in and out. No (B, J, K) tensor exists. Taught in chapter 3.

Each (b, j, k) triple costs one exponential forward and one in each half of the backward pass. The unit that
computes exponentials limits the speed. In base 2, with ``s = sqrt(log2(e)/2) / std`` and ``q = 2 ln 2``::

    t = (x - mean) s                                    subtracted first: x s - mean s would lose digits
    y = c - t t + n - delta                             <= 0: 2**y cannot overflow
    out = shift + ln 2 delta + ln(sum_k 2**y)

c is the logarithm of weight over standard deviation, less its maximum over k. n is minus the background, less
its own maximum. ``shift`` holds both maxima and the constant, a bound that needs no pass over the inputs.
Where all inputs lie far from all means, the sum underflows. Such rows (b, j) are redone with their true
maximum, delta, which is zero for all others. The backward pass recomputes y with identical rounding. With g,
the incoming gradient over the row's sum, it needs only::

    grad_log_weight = S0            S0 = sum_b g 2**y            grad_x = -q sum_j g 2**y t s
    grad_mean = q s S1              S1 = sum_b g 2**y t          grad_log_background = -sum_j g 2**y
    grad_log_std = q S2 - S0        S2 = sum_b g 2**y t t

One kernel sums over b and one over j. Neither adds atomically, so results repeat bit for bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ugmm_tutorial.kernels import triton_tiles as tiles
from ugmm_tutorial.kernels.autograd import outputs_and_state
from ugmm_tutorial.kernels.reference import HALF_LOG_2PI, inverse_std
from ugmm_tutorial.kernels.shifts import below_its_maximum, finite_maximum
from ugmm_tutorial.kernels.triton_tiles import INPUT_TILE, PARAMETER_TILE, launch, panels

__all__ = ["backward", "forward"]

_LOG2_E = math.log2(math.e)


@torch.no_grad()
def forward(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, log_background: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As ``numba_kernels.forward``, on a CUDA device; the state has the reciprocals of the sums."""
    (b, k), j = x.shape, len(mean)
    scale, c, shift = _prepared(log_std, log_weight)
    n, background_shift = below_its_maximum(log_background)
    sizes = {"B": b, "J": j, "K": k}
    tile = tiles.sum_tile(b, j)
    configuration = tiles.sum_configuration(tile, n is not None)
    count = tile.count(j, b)
    split, span = tiles.splits(configuration.kernel, count, k)
    partial = x.new_empty(split, j, b)
    launch(
        configuration, (count, split), row_panels=panels(tile.rows, mean.t(), scale.t(), c.t()),
        column_panels=panels(tile.columns, *(v.t() for v in (x, n) if v is not None)), partial=partial,
        span=span, **sizes,
    )  # fmt: skip
    out, state = outputs_and_state(x, mean)
    columns = tiles.finish_columns(b, j)
    launch(
        tiles.finish_configuration(columns, n is not None), (tiles.finish_programs(columns, b, j),),
        partial=partial, x=x, mean=mean, scale=scale, c=c, n=n, shift=shift,
        background_shift=None if background_shift is None else background_shift.squeeze(1),
        out=out, state=state, splits=split, **sizes,
    )  # fmt: skip
    return out, state


@torch.no_grad()
def backward(
    grad: Tensor, x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor,
    log_background: Tensor | None, state: Tensor, *, needs_x: bool, needs_parameters: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """As ``numba_kernels.backward``, on a CUDA device."""
    scale, c, _ = _prepared(log_std, log_weight)
    n, _ = below_its_maximum(log_background)
    delta, reciprocal = state
    g = grad * reciprocal
    arguments = {"x": x, "n": n, "mean": mean, "scale": scale, "c": c, "g": g, "delta": delta}
    # Deltas are negative where a row was redone, so one number tells the kernels whether any was.
    arguments["lowest"] = delta.amin()
    # In this order the panels of the parameters and their gradients are never in memory together.
    inputs = _input_gradients(**arguments) if needs_x else (None, None)
    parameters = _parameter_gradients(**arguments) if needs_parameters else (None, None, None)
    return tuple(x.new_empty(0) if v is None else v for v in (inputs[0], *parameters, inputs[1]))


def _parameter_gradients(
    x: Tensor, n: Tensor | None, mean: Tensor, scale: Tensor, c: Tensor, g: Tensor, delta: Tensor,
    lowest: Tensor,
) -> list[Tensor]:  # fmt: skip
    """Gradients of mean, log_std and log_weight, (J, K)."""
    (b, k), j = x.shape, len(mean)
    tile, configuration = PARAMETER_TILE, tiles.parameter_configuration(n is not None)
    count = tile.count(j, k)
    split, span = tiles.splits(configuration.kernel, count, b)
    gradients = [x.new_empty(split, j, k) for _ in range(3)]
    launch(
        configuration, (count, split), row_panels=panels(tile.rows, g, delta),
        column_panels=panels(tile.columns, *(v for v in (x, n) if v is not None)),
        mean=mean, scale=scale, c=c, lowest=lowest, B=b, J=j, K=k, span=span,
        **dict(zip(("grad_mean", "grad_log_std", "grad_log_weight"), gradients, strict=True)),
    )  # fmt: skip
    return [_add_splits(v) for v in gradients]


def _input_gradients(
    x: Tensor, n: Tensor | None, mean: Tensor, scale: Tensor, c: Tensor, g: Tensor, delta: Tensor,
    lowest: Tensor,
) -> list[Tensor | None]:  # fmt: skip
    """Gradients of x and of the background, if there is one, (B, K)."""
    (b, k), j = x.shape, len(mean)
    tile, configuration = INPUT_TILE, tiles.input_configuration(n is not None)
    count = tile.count(b, k)
    split, span = tiles.splits(configuration.kernel, count, j)
    grad_x = x.new_empty(split, b, k)
    grad_n = None if n is None else torch.empty_like(grad_x)
    launch(
        configuration, (count, split), row_panels=panels(tile.rows, g.t(), delta.t()),
        column_panels=panels(tile.columns, mean, scale, c), x=x, n=n, lowest=lowest, grad_x=grad_x,
        grad_n=grad_n, B=b, J=j, K=k, span=span,
    )  # fmt: skip
    return [None if v is None else _add_splits(v) for v in (grad_x, grad_n)]


def _prepared(log_std: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s and c, (J, K), and the shift of every neuron in nats, (J,)."""
    scale = inverse_std(log_std).mul_(math.sqrt(0.5 * _LOG2_E))
    c = log_weight - log_std
    top = finite_maximum(c)
    return scale, c.sub_(top).mul_(_LOG2_E), top.squeeze(1).sub_(HALF_LOG_2PI)


def _add_splits(partial: Tensor) -> Tensor:
    return partial[0] if len(partial) == 1 else partial.sum(dim=0)
