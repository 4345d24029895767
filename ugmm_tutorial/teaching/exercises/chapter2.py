"""Exercises of chapter 2, from a neuron to a batched layer."""

from __future__ import annotations

import inspect
import math

import torch
from torch import Tensor, nn

from ugmm_tutorial.functional import ugmm_log_density
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    Unanswered,
    as_function,
    as_numbers,
    as_tensor,
    call,
    close,
    compare,
    draw,
    shown,
)

__all__ = ["EXERCISES", "rescue", "resting_deviation", "shared_deviation"]


# --- 2.1 --------------------------------------------------------------------------------------------


def resting_deviation(answer: object) -> str:
    """2.1: every z at which an answering component has a zero gradient for its deviation."""
    values = as_numbers(answer, "one number or several, such as (0.5, 2)")
    if not values:
        raise Unanswered
    wrong = [v for v in values if not close(abs(v), 1.0, atol=1e-3)]
    if any(close(v, 0.0, atol=1e-3) for v in wrong):
        raise NotYet("At z = 0 it is the mean that rests: the deviation gets -r, a wish to be narrower.")
    if any(close(abs(v), math.sqrt(2), atol=1e-2) for v in wrong):
        raise NotYet("The square root of 2: look at the formula for the logarithm of the deviation again.")
    if wrong:
        raise NotYet(f"At z = {wrong[0]:g} the gradient is not zero: look for the bracket that vanishes.")
    if len({v > 0 for v in values}) == 1:
        raise NotYet("This is one place. There is a second.")
    return (
        "One deviation from the mean, on either side: nearer inputs narrow the component, farther widen it."
    )


# --- 2.2 --------------------------------------------------------------------------------------------

_J, _K = 4, 6
_SHAPES = {"mean": (_J, _K), "log_std": (_J, 1), "mix_logits": (_J, _K)}
_WRONG_LOG_STD = {
    (_J, _K): "this is one for each component, as before.",
    (1, _K): "this is one for each input, shared by the neurons; each neuron should have its own.",
    (_K,): "this is one for each input, shared by the neurons; each neuron should have its own.",
    (_J,): "it needs a second axis of length one, over which it can spread to the components.",
    (1, 1): "this is a single one for the whole layer.",
    (1,): "this is a single one for the whole layer.",
    (): "this is a single one for the whole layer.",
}


def shared_deviation(answer: object) -> str:
    """2.2: a layer in which the components of each neuron share one deviation."""
    if not isinstance(answer, type) or not issubclass(answer, nn.Module):
        instance = " Pass the class, not a layer made from it." if isinstance(answer, nn.Module) else ""
        raise NotYet(f"Expected a subclass of nn.Module, got {shown(answer)}.{instance}")
    layer = call(answer, _K, _J)
    _check_parameters(layer)
    dtype = layer.mean.dtype
    with torch.no_grad():
        for seed, parameter in enumerate(_parameters(layer)):
            parameter.copy_(draw(*parameter.shape, seed=seed, dtype=dtype))
        layer.log_std.copy_(torch.tensor([[-0.7], [-0.2], [0.3], [0.6]]))
    _check_outputs(layer, draw(2, 3, _K, seed=9, dtype=dtype))
    _check_outputs(layer, draw(_K, seed=10, dtype=dtype))
    return "Expanding shares a parameter: autograd adds up the gradients of all its copies."


def _check_parameters(layer: nn.Module) -> None:
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    if not shapes:
        raise Unanswered
    for name in _SHAPES:
        if name in shapes:
            continue
        if isinstance(getattr(layer, name, None), Tensor):
            raise NotYet(f"`{name}` is a plain tensor: only an nn.Parameter is found by an optimiser.")
        raise NotYet(f"There is no parameter `{name}`; found: {', '.join(shapes)}.")
    if extra := sorted(shapes.keys() - _SHAPES.keys()):
        raise NotYet(f"Three parameters are asked for, and there also is {', '.join(extra)}.")
    if (found := shapes["log_std"]) != _SHAPES["log_std"]:
        why = _WRONG_LOG_STD.get(found, "the first axis is the neurons', the second has length one.")
        raise NotYet(f"`log_std` has shape {found} for {_J} neurons over {_K} inputs: {why}")
    for name in ("mean", "mix_logits"):
        if shapes[name] != _SHAPES[name]:
            why = " The neurons come first." if shapes[name] == (_K, _J) else ""
            raise NotYet(f"Expected `{name}` of shape {_SHAPES[name]}, got {shapes[name]}.{why}")


def _parameters(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    return layer.mean, layer.log_std, layer.mix_logits


def _outputs(x: Tensor, mean: Tensor, log_std: Tensor, log_weight: Tensor) -> Tensor:
    return ugmm_log_density(x, mean, log_std.expand_as(mean), log_weight, backend="reference")


def _check_outputs(layer: nn.Module, x: Tensor) -> None:
    out = call(layer, x)
    shape = (*x.shape[:-1], _J)
    hints = {(*x.shape[:-1], _J, _K): "There still is one value for each component."}
    got = as_tensor(out, shape, "(..., J)", hints)

    mean, log_std, logits = copies = [p.detach().clone().requires_grad_() for p in _parameters(layer)]
    log_weight = logits.log_softmax(dim=-1)
    right = _outputs(x, mean, log_std, log_weight)
    with torch.no_grad():
        mistakes = {
            "The weights do not sum to one: `mix_logits` are not log-weights yet.": (
                _outputs(x, mean, log_std, logits)
            ),
            "The softmax runs over the neurons; weights sum to one over the inputs.": (
                _outputs(x, mean, log_std, logits.log_softmax(dim=0))
            ),
            "The operator takes the logarithms of the weights, not the weights.": (
                _outputs(x, mean, log_std, logits.softmax(dim=-1))
            ),
            "The operator takes the logarithm of the deviation, and got the deviation.": (
                _outputs(x, mean, log_std.exp(), log_weight)
            ),
            "The parameter `log_std` has no effect: the deviations stay at 1.": (
                _outputs(x, mean, 0 * log_std, log_weight)
            ),
        }
        otherwise = "The outputs are not those of `ugmm_log_density` with the deviations expanded to (J, K)."
        compare(got, right.detach(), mistakes, otherwise)

    right.sum().backward()
    layer.zero_grad(set_to_none=True)
    if out.requires_grad:
        out.sum().backward()
    for (name, mine), theirs in zip(layer.named_parameters(), _by_name(layer, copies), strict=True):
        if mine.grad is None or not mine.grad.any():
            raise NotYet(f"No gradient reaches `{name}`: is it detached, or read through `.data`?")
        if not close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-3):
            raise NotYet(f"The outputs are right and the gradient of `{name}` is not.")


def _by_name(layer: nn.Module, copies: list[Tensor]) -> list[Tensor]:
    """The copies in the order in which the layer names its parameters."""
    named = dict(zip(_SHAPES, copies, strict=True))
    return [named[name] for name, _ in layer.named_parameters()]


# --- 2.3 --------------------------------------------------------------------------------------------

_FORGOTTEN = 1e-6
_CENTRES = (3.0, 5.0, -4.0, 8.0)  # one for each input, none of them at 0


def rescue(answer: object) -> str:
    """2.3: a function that moves the means of forgotten components in place to where their inputs are."""
    function = as_function(answer, "rescue(layer, x)")
    layer, x = _forgetful_layer()
    responsibility = _mean_responsibility(layer, x)
    forgotten = responsibility < _FORGOTTEN
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    parameter = layer.mean
    returned = call(function, layer, x, silent=True)

    if layer.mean is not parameter:
        raise NotYet("`layer.mean` is a new parameter: an optimiser still holds the old one. Work in place.")
    for name in ("log_std", "mix_logits"):
        if not torch.equal(getattr(layer, name), before[name]):
            raise NotYet(f"`{name}` has changed: only means were to move.")
    moved = layer.mean.detach() != before["mean"]
    if not moved.any():
        raise _nothing_moved(function, returned)
    if moved.all():
        raise NotYet("All means have moved, and with them what the other components had learnt.")
    if (moved & ~forgotten).any():
        j, k = (moved & ~forgotten).nonzero()[0].tolist()
        share = f"its mean responsibility is {responsibility[j, k]:.0e}"
        raise NotYet(f"Component {k} of neuron {j} has moved, although {share}.")
    _check_places(layer, x, forgotten)
    return (
        "New means start near data, but the averages that Adam keeps for them still belong to the old place."
    )


def _forgetful_layer() -> tuple[UGMMLayer, Tensor]:
    """A layer with five components that are 50 too far away, and three that distinguish rules.

    Component (0, 0) answers only for a few examples. Component (3, 1) is not forgotten: its mean
    responsibility is about 1e-4. Component (3, 3) is forgotten: its mean responsibility is about 1e-7,
    although its largest one is above 1e-6.
    """
    centres = torch.tensor(_CENTRES, dtype=torch.float32)
    x = centres + 0.5 * draw(200, len(_CENTRES), seed=0, dtype=torch.float32)
    x[:20, 0] += 20.0
    layer = UGMMLayer(len(_CENTRES), 4, dtype=torch.float32)
    with torch.no_grad():
        layer.mean.copy_(centres + 0.5 * draw(4, len(_CENTRES), seed=1, dtype=torch.float32))
        layer.mean[0, 0] = 23.0
        layer.mix_logits.copy_(draw(4, len(_CENTRES), seed=2, dtype=torch.float32))
        layer.log_std.copy_(0.2 * draw(4, len(_CENTRES), seed=3, dtype=torch.float32))
        for j, k in ((0, 1), (0, 3), (1, 0), (2, 1), (2, 2)):
            layer.mean[j, k] += 50.0
        layer.mean[3, 1] = _CENTRES[1] + 4.75
        layer.mean[3, 3] = _CENTRES[3] + 6.75
    return layer, x


@torch.no_grad()
def _mean_responsibility(layer: UGMMLayer, x: Tensor) -> Tensor:
    return layer.responsibilities(x).mean(dim=0)


def _nothing_moved(function, returned: object) -> NotYet:
    if returned is not None and returned is not ...:
        return NotYet(
            f"The layer is as it was: `rescue` returned {shown(returned)}, but should work in place."
        )
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None and not code.co_names:  # without any attribute, the body does nothing with a layer
        return Unanswered()
    return NotYet("No mean has moved. Indexing with a mask makes a copy: assign to the parameter itself.")


def _check_places(layer: UGMMLayer, x: Tensor, forgotten: Tensor) -> None:
    low, high = x.amin(dim=0), x.amax(dim=0)
    mean = layer.mean.detach()
    outside = forgotten & ~((mean >= low) & (mean <= high))  # true for NaN as well
    if outside.any():
        j, k = outside.nonzero()[0].tolist()
        lives = f"input {k} lives between {low[k].item():.1f} and {high[k].item():.1f}"
        raise NotYet(
            f"A forgotten component still is nowhere near its data: {lives}, its mean is {mean[j, k]:.1f}."
        )
    if (_mean_responsibility(layer, x)[forgotten] < _FORGOTTEN).any():
        raise NotYet("A component that was moved is still forgotten: few values of its input lie there.")


EXERCISES = {
    "2.1": Exercise(
        resting_deviation,
        "Set the gradient of the output by the logarithm of the deviation to zero, for r > 0.",
    ),
    "2.2": Exercise(
        shared_deviation,
        "Three parameters: `mean` and `mix_logits` of shape (out_features, in_features), and `log_std` of "
        "shape (out_features, 1), which `expand_as` spreads in `forward`.",
    ),
    "2.3": Exercise(
        rescue,
        "`layer.responsibilities(x)` has shape (B, J, K): which components are below 1e-6 on average over "
        "the batch, and which values does input k take?",
    ),
}
