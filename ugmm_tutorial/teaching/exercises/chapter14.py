"""Exercises of chapter 14: the fourth corner, an EM step, and XOR with few parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ugmm_tutorial.approximation.univariate import Mixture
from ugmm_tutorial.layers.dense import UGMMLayer
from ugmm_tutorial.teaching.exercises.answers import (
    Exercise,
    NotYet,
    as_function,
    as_number,
    as_tensor,
    call,
    close,
    compare,
    draw,
    shown,
)

__all__ = ["EXERCISES", "em_step", "four_clouds", "fourth_corner", "small_xor"]


# --- 14.1 -------------------------------------------------------------------------------------------


def fourth_corner(answer: object) -> str:
    """14.1: out at the fourth corner of a rectangle, if exp(out) is 0.20, 0.35 and 0.10 at the others."""
    right = math.log(0.35 + 0.10 - 0.20)
    mistakes = {
        "This is the exponential; the output is its logarithm.": 0.25,
        "Add before the logarithm: it is the exponential that is additive, not the output.": math.log(
            0.35 * 0.10 / 0.20
        ),
        "The corner that lies across has the other sign.": math.log(0.35 + 0.20 - 0.10),
        "The first corner counts too, with a minus.": math.log(0.35 + 0.10),
        "Signs alternate around the rectangle.": math.log(0.35 + 0.10 + 0.20),
        "Natural logarithms, please: the unit is nats.": math.log10(0.25),
        "Logarithms of numbers below one are negative.": -right,
    }
    otherwise = "Which combination of the four values of exp(out) is zero on every rectangle?"
    compare(as_number(answer), right, mistakes, otherwise, rtol=0.0, atol=5e-3)
    return "Three corners determine the fourth: that is why no single layer can say XOR."


# --- 14.2 -------------------------------------------------------------------------------------------


def em_step(answer: object) -> str:
    """14.2: one step of expectation maximisation (EM), with masses instead of counts."""
    function = as_function(answer, "em_step(x, mass, weight, mean, std)")
    x = draw(40, seed=0).mul(2).sort().values
    mass = draw(40, seed=1).exp()
    mass = mass / mass.sum()
    start = Mixture(
        draw(3, seed=2).softmax(0),
        torch.tensor([-1.5, 0.2, 1.8], dtype=x.dtype),
        draw(3, seed=3).mul(0.3).exp(),
    )
    got = call(function, x, mass, *start)
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        raise NotYet(f"Expected weights, means and deviations, three tensors, got {shown(got)}.")
    hints = {(40, 3): "Sum over the nodes.", (40,): "Sum over the nodes, not over the components."}
    found = [as_tensor(part, (3,), "(M,)", hints) for part in got]
    right = _step(x, mass, start)
    for name, value, wanted, mistakes in zip(
        ("weights", "means", "deviations"), found, right, _mistakes(x, mass, start, right), strict=True
    ):
        if close(value, wanted, rtol=1e-9, atol=1e-9):
            continue
        for hint, wrong in mistakes.items():
            if close(value, wrong, rtol=1e-9, atol=1e-9):
                raise NotYet(f"The {name}: {hint}")
        raise NotYet(f"The {name} are not right. Check that those before them in the list are, then go on.")
    return "With one over N as masses of N samples this is the usual step; scikit-learn takes no others."


def _shares(x: Tensor, mixture: Mixture) -> Tensor:
    return mixture.terms(x).softmax(dim=-1)


def _step(x: Tensor, mass: Tensor, start: Mixture) -> Mixture:
    """The EM step, without the floor that :func:`ugmm_tutorial.approximation.univariate.fit` adds."""
    shares = mass.unsqueeze(1) * _shares(x, start)
    count = shares.sum(dim=0)
    mean = (shares * x.unsqueeze(1)).sum(dim=0) / count
    variance = (shares * (x.unsqueeze(1) - mean).square()).sum(dim=0) / count
    return Mixture(count, mean, variance.sqrt())


def _mistakes(x: Tensor, mass: Tensor, start: Mixture, right: Mixture) -> tuple[dict[str, Tensor], ...]:
    equal = _step(x, torch.full_like(mass, 1.0 / len(mass)), start)
    weighted = mass.unsqueeze(1) * _shares(x, start)
    around_old = (weighted * (x.unsqueeze(1) - start.mean).square()).sum(dim=0) / right.weight
    unweighted = mass.unsqueeze(1) * _shares(x, start._replace(weight=torch.ones_like(start.weight)))
    forgotten = "every node counts as much as its mass."
    return (
        {
            forgotten: equal.weight,
            "they are shares of one, so divide by nothing more.": right.weight * len(x),
            "responsibilities need the mixing weights.": unweighted.sum(dim=0),
            "these are those it began with.": start.weight,
        },
        {
            forgotten: equal.mean,
            "divide by the component's own count.": right.mean * right.weight,
            "these are those it began with.": start.mean,
        },
        {
            forgotten: equal.std,
            "take the square root: these are variances.": right.std.square(),
            "distances are to the new means, not to the old ones.": around_old.sqrt(),
            "these are those it began with.": start.std,
        },
    )


# --- 14.3 -------------------------------------------------------------------------------------------

_MOST_PARAMETERS = 24
_WANTED = 0.98


def four_clouds(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points (N, 2) in clouds at the corners of a square, and labels (N,), which are 0 where signs agree."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(2, (rows, 2), generator=generator)
    noise = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    return 2.0 * corner.double() - 1.0 + 0.35 * noise, corner[:, 0] ^ corner[:, 1]


def small_xor(answer: object) -> str:
    """14.3: a network of mixture neurons with few parameters that separates the diagonals of the clouds."""
    function = as_function(answer, "small_network(x, y)")
    network = call(function, *four_clouds(400, seed=0))
    if not isinstance(network, nn.Module):
        raise NotYet(f"Expected a module, got {shown(network)}.")
    layers = [module for module in network.modules() if not list(module.children())]
    kinds = {type(module) for module in layers}
    if not kinds <= {UGMMLayer, nn.LayerNorm, nn.Identity}:
        others = ", ".join(sorted(kind.__name__ for kind in kinds - {UGMMLayer, nn.LayerNorm, nn.Identity}))
        raise NotYet(f"Expected layers of mixture neurons and LayerNorm only, got {others} as well.")
    if UGMMLayer not in kinds:
        raise NotYet("Expected layers of mixture neurons, got a module without any.")
    count = sum(p.numel() for p in network.parameters())
    if count > _MOST_PARAMETERS:
        raise NotYet(f"It has {count} parameters, and {_MOST_PARAMETERS} are allowed.")
    x, y = four_clouds(4000, seed=1)
    scores = _scores(network.eval(), layers, x.to(next(network.parameters()).dtype))
    right = (scores.argmax(dim=1) == y).double().mean().item()
    if right < _WANTED:
        one = "One layer stays below about three quarters. " if right < 0.8 else ""
        raise NotYet(f"{right:.1%} of new points are right. {one}What must each hidden neuron say?")
    return f"{right:.1%} of new points, with {count} parameters; a single layer cannot, with any number."


def _scores(network: nn.Module, layers: list[nn.Module], x: Tensor) -> Tensor:
    """The network's scores (N, 2). Its layers must produce them, with no other operation in between."""
    handed, as_it_is = [x], True

    def watch(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        nonlocal as_it_is
        as_it_is &= any(value is known for value in inputs for known in handed)
        handed.append(output)

    hooks = [layer.register_forward_hook(watch) for layer in layers]
    try:
        with torch.no_grad():
            found = call(lambda: network(x))
    finally:
        for hook in hooks:
            hook.remove()
    scores = as_tensor(found, (len(x), 2), "(N, 2)", {})
    if not as_it_is or found is not handed[-1]:
        raise NotYet("Hand on what a layer returns as it is, to the next one or as the scores: nothing else.")
    return scores


EXERCISES = {
    "14.1": Exercise(fourth_corner, "Begin with exp(out) = f(x) + g(y) and write down its four values."),
    "14.2": Exercise(em_step, "Begin with the responsibilities, (N, M): a softmax over the components."),
    "14.3": Exercise(small_xor, "Begin with UGMMNet((2, 2, 2)) and count its parameters."),
}
