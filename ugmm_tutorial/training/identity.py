"""What a network is, in plain values: classes, options, shapes. Two descriptions tell whether a state fits.

How PyTorch prints a network would not do: that changes from version to version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from torch import nn

__all__ = ["describe", "difference"]


def describe(model: nn.Module) -> dict[str, dict]:
    """Every module of a network by its name: its class, its options, the shapes of its parameters.

    Options are what the module calls ``options`` (all layers of this package do), what PyTorch's own modules
    name in ``__constants__``, and for the modules of others what they print of themselves.

    >>> describe(nn.Sequential(nn.Dropout(0.5)))["0"]
    {'class': 'Dropout', 'options': {'p': 0.5, 'inplace': False}, 'shapes': {}}
    """
    return {name: _describe(module) for name, module in model.named_modules()}


def difference(mine: dict[str, dict], theirs: dict[str, dict]) -> str | None:
    """In what two descriptions differ first, or None if they fit. An option that one lacks does not count.

    Args:
        mine: of the network that there is.
        theirs: of the network that is to take its place, perhaps described with another version of PyTorch.
    """
    if mine.keys() != theirs.keys():
        return f"modules {', '.join(mine) or 'none'}, got {', '.join(theirs) or 'none'}"
    for name, module in mine.items():
        found = _values(theirs[name])
        for kind, value in _values(module).items():
            if kind in found and value != found[kind]:
                return f"{kind} {value} of module {name!r}, got {found[kind]}"
    return None


def _describe(module: nn.Module) -> dict:
    own = getattr(module, "options", None)
    if isinstance(own, Mapping):
        options = dict(own)
    elif type(module).__module__.startswith("torch."):
        options = {name: getattr(module, name, None) for name in getattr(module, "__constants__", ())}
    else:
        options = {"prints": module.extra_repr()}
    return {
        "class": type(module).__name__,
        "options": json.loads(json.dumps(options, default=str)),  # as a checkpoint can hold them
        "shapes": {name: list(p.shape) for name, p in module.named_parameters(recurse=False)},
    }


def _values(module: dict) -> dict[str, object]:
    return {"class": module.get("class"), "shapes": module.get("shapes"), **module.get("options", {})}
