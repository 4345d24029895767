"""A network described by plain values: classes, options, shapes. Two descriptions tell whether a state fits.

The text that PyTorch prints for a network would not do, because it changes from version to version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from torch import nn

__all__ = ["describe", "difference"]


def describe(model: nn.Module) -> dict[str, dict]:
    """Every module of a network by its name: its class, its options, the shapes of its parameters.

    Options are the module's attribute ``options``, which all layers of this package have. For PyTorch's own
    modules they are the attributes named in ``__constants__``, for all others the text of ``extra_repr()``.

    >>> describe(nn.Sequential(nn.Dropout(0.5)))["0"]
    {'class': 'Dropout', 'options': {'p': 0.5, 'inplace': False}, 'shapes': {}}
    """
    return {name: _describe(module) for name, module in model.named_modules()}


def difference(mine: dict[str, dict], theirs: dict[str, dict]) -> str | None:
    """The first difference between two descriptions, or None if they fit.

    Options that one of them lacks do not count.

    Args:
        mine: description of the network at hand.
        theirs: description of the network that is to take its place, perhaps made with another version of
            PyTorch.

    >>> difference(describe(nn.Dropout(0.5)), describe(nn.Dropout(0.2)))
    "p 0.5 of module '', got 0.2"
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
