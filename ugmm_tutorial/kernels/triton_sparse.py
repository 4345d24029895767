"""Neurons that read a few inputs each, on a GPU: two launches forward, two backward, or three.

A third adds up parts of the parameters' gradients, where a few components have many examples. The components
that read each input are found once for an index (``inverse_index``). Neither (B, J, m) terms nor what neurons
read is stored, but x is, once more, turned round. Symbols as in ``triton_kernels``.

**These kernels have run in Triton's interpreter, and have been compiled for GPUs on a machine without any.
They have not run on a GPU yet.**
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from ugmm_tutorial.kernels.inverse_index import readers
from ugmm_tutorial.kernels.triton_sparse_loops import (
    EXAMPLES,
    NEURONS,
    TURNED,
    WARPS,
    sparse_gradients,
    sparse_outputs,
    sparse_prepared,
)

__all__ = ["OPTIONS", "backward", "block", "forward", "splits"]

OPTIONS = {"num_warps": WARPS.value, "maxnreg": 96, "enable_fp_fusion": False}
# How many programs fill a large GPU, and the fewest steps of the loop over examples that are worth a program.
_PROGRAMS, _FEWEST_STEPS = 512, 8


def block(components: int) -> dict[str, int]:
    """Which neurons and components a program prepares at a time: 512 numbers in all."""
    columns = min(64, max(4, triton.next_power_of_2(components)))
    return {"ROWS": 512 // columns, "BLOCK": columns}


def splits(components: int, examples: int) -> tuple[int, int]:
    """Into how many programs the examples of every component are split, and how many each takes."""
    steps = -(-examples // EXAMPLES.value)
    wanted = min(_PROGRAMS // -(-components // WARPS.value), steps // _FEWEST_STEPS)
    span = -(-steps // max(1, wanted))
    return -(-steps // span), span * EXAMPLES.value


def forward(
    x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, out: Tensor, state: Tensor
) -> None:
    """Fill outputs (B, J) and their state, 2 B J + 1 numbers.

    Args:
        x: (B, K), B >= 1, of any strides.
        index: (J, m), J >= 1, int64, from 0 to K - 1, unchecked.
        mean, log_std, log_weight: (J, m). These, the index, out and state are contiguous.
    """
    (b, _), (j, m) = x.shape, mean.shape
    scale, coefficient, shift, turned = _prepared(x, mean, log_std, log_weight, state[-1:], None, None, None)
    filled = turned.shape[1]
    programs = -(-j // (NEURONS.value * WARPS.value)) * filled // EXAMPLES.value
    _launch(
        sparse_outputs, programs, turned, index, mean, scale, coefficient, shift, out, state, b, j, m, filled
    )


def backward(
    grad: Tensor, x: Tensor, index: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, state: Tensor,
    needs_x: bool, kept: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of x, empty if it needs none, mean, log_std and log_weight.

    Args:
        grad: (B, J), of any strides.
        kept: the index for which the components of every input are kept; ``index`` may be a copy of it.
        x, index, mean, log_std, log_weight, state: what :func:`forward` took and filled.
    """
    (b, k), (j, m) = x.shape, mean.shape
    reciprocal = state[b * j : 2 * b * j]
    g = x.new_empty(j, _filled(b))
    scale, coefficient, _, turned = _prepared(x, mean, log_std, log_weight, state, grad, reciprocal, g)
    filled = turned.shape[1]
    order = readers(kept, k) if needs_x else (index,) * 3
    split, span = splits(j * m, filled)
    grad_x = x.new_empty((b, k) if needs_x else 0)
    gradients = [x.new_empty(split, j, m) for _ in range(3)]
    inputs = needs_x * k * filled // EXAMPLES.value
    _launch(
        sparse_gradients, inputs + -(-j * m // WARPS.value) * split, turned, index, mean, scale, coefficient,
        g, state, *order, grad_x, *gradients, b, j, k, m, filled, span, inputs,
    )  # fmt: skip
    return grad_x, *(v[0] if split == 1 else v.sum(dim=0) for v in gradients)


def _prepared(
    x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor, lowest: Tensor, grad: Tensor | None,
    reciprocal: Tensor | None, g: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """s and c, (J, m), the shifts of outputs, (J,), and x turned round, (K, filled)."""
    (b, k), (j, m) = x.shape, mean.shape
    filled, constants = _filled(b), block(m)
    scale, coefficient, shift = torch.empty_like(mean), torch.empty_like(mean), x.new_empty(j)
    turned = x.new_empty(k, filled)
    neurons = -(-j // constants["ROWS"])
    columns = -(-k // TURNED.value) + (0 if grad is None else -(-j // TURNED.value))
    strides = x.stride() + ((0, 0) if grad is None else grad.stride())
    _launch(
        sparse_prepared, neurons + columns * filled // TURNED.value, x, mean, log_std, log_weight, scale,
        coefficient, shift, turned, lowest, grad, reciprocal, g, b, j, k, m, filled, neurons, *strides,
        **constants,
    )  # fmt: skip
    return scale, coefficient, shift, turned


def _filled(examples: int) -> int:
    return -(-examples // EXAMPLES.value) * EXAMPLES.value


def _launch(kernel: Any, programs: int, *arguments: Any, **constants: int) -> None:
    with torch.cuda.device_of(arguments[0]), np.errstate(all="ignore"):  # as in triton_tiles.launch
        kernel[(programs,)](*arguments, **constants, **OPTIONS)
