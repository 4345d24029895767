"""The examples in docstrings run, and every public function and class of the library has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import types

import pytest

#: Where the library shows what is public.
FACES = (
    "functional",
    "networks",
    "layers",
    "layers.ablations",
    "data",
    "training",
    "training.checkpoints",
    "training.files",
    "training.identity",
    "training.processes",
    "training.records",
    "inference",
    "density",
    "density.em",
    "density.gradient",
    "interpretation",
    "uncertainty",
    "approximation",
)


def _public() -> dict[str, object]:
    """Functions and classes by the names of the modules that define them; errors need no example."""
    found = {}
    for face in FACES:
        module = importlib.import_module(f"ugmm_tutorial.{face}")
        for name in module.__all__:
            value = getattr(module, name)
            error = inspect.isclass(value) and issubclass(value, Exception)
            if isinstance(value, (types.FunctionType, type)) and not error:
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return dict(sorted(found.items()))


PUBLIC = _public()


@pytest.mark.parametrize("name", PUBLIC)
def test_example_runs(name):
    value = PUBLIC[name]
    module = importlib.import_module(value.__module__)
    tests = doctest.DocTestFinder(recurse=False).find(value, name, module=module)
    examples = sum(len(test.examples) for test in tests)
    assert examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
