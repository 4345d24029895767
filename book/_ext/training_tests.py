"""A pytest plugin, ``-p training_tests``. It records how far every test's comparisons are from failing.

Test modules are instrumented like chapters. An ordering, an ``approx`` or an ``allclose`` that must be true
records its margin. Each test that passes writes a line of JSON into the folder named by ``UGMM_TESTS_FOUND``.
``UGMM_TESTS_ONLY`` names a file with the tests to run, because a command may be too short for all of them.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import json
import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from torch.optim.optimizer import register_optimizer_step_pre_hook

import probes

_TESTS = Path(__file__).resolve().parents[2] / "tests"
#: Comparisons of measured times. Rounding does not affect them, so they have no margin.
_CLOCK = re.compile(r"test_bench|seconds|timed|taken")


class _Probes(probes.Probes):
    """The findings of one test."""

    def _margin(self, cell: str, text: str, margin: float) -> None:
        """Record the margin in a passing test. Values that are rightly not close have a margin too."""
        if not _CLOCK.search(f"{self.cell} {text}"):
            super()._margin(cell, text, abs(margin))

    def asserting(self, cell: str, text: str):
        """Do nothing, because pytest itself counts failing assertions."""
        return nullcontext()

    def approximately(self, cell: str, text: str, left: Any, right: Any) -> bool:
        """The result of ``left == approx(right)``. The unused share of the tolerance is recorded."""
        value, close = (right, left) if hasattr(left, "expected") else (left, right)
        margin = _left_of(close, value)
        if margin is not None:
            self._margin(cell, text, margin)
        return left == right


class _Instrument(probes.Instrument):
    """An instrument that also follows ``a == approx(b)``."""

    def _comparison(self, node: ast.Compare) -> ast.expr:
        match node:
            case ast.Compare(ops=[ast.Eq()], comparators=[other]) if _is_approx(node.left) or _is_approx(
                other
            ):
                call = self._call("approximately", ast.Constant(ast.unparse(node)), node.left, other)
                return ast.copy_location(call, node)
        return super()._comparison(node)


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a test module with its probes, and ignores what was compiled before."""

    def get_code(self, fullname: str):
        path = self.get_filename(fullname)
        tree = _Instrument(_found).visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec")


class _Finder:
    """Finds test modules and gives them this loader."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.origin and Path(spec.origin).is_relative_to(_TESTS):
            spec.loader = _Loader(name, spec.origin)
            return spec
        return None


_found = _Probes({}, strict=True)
_steps: list[int] = []
_passed = pytest.StashKey[bool]()


def pytest_configure() -> None:
    setattr(builtins, probes._NAME, _found)
    sys.meta_path.insert(0, _Finder)


def pytest_collection_modifyitems(config, items) -> None:
    """Keep only the tests named in the file, if there is one."""
    if file := os.environ.get("UGMM_TESTS_ONLY"):
        names = set(Path(file).read_text(encoding="utf-8").splitlines())
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in names])
        items[:] = [item for item in items if item.nodeid in names]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Record what a test with its fixtures compares, and whether an optimiser takes a step."""
    _steps.clear()
    _found.found.clear()
    _found.cell = item.nodeid
    handle = register_optimizer_step_pre_hook(lambda *_: _steps.append(1))
    try:
        return (yield)
    finally:
        handle.remove()
        if item.stash.get(_passed, False):
            margins = {entry["text"]: entry["values"][0][0] for entry in _found.found.values()}
            line = {"test": item.nodeid, "trains": bool(_steps), "margins": margins}
            file = Path(os.environ["UGMM_TESTS_FOUND"], f"{os.getpid()}.jsonl")
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report


def _is_approx(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and probes._name(node) == "approx"


def _left_of(close: Any, value: Any) -> float | None:
    """The unused share of ``approx``'s tolerance in the worst element: 1 if equal, 0 at the tolerance."""
    expected, relative, absolute = close.expected, close.rel, close.abs
    if isinstance(expected, dict):
        expected, value = list(expected.values()), [value[key] for key in expected]
    if relative is None and absolute is None:
        relative = 1e-6
    try:
        expected, value = probes._numbers(expected), probes._numbers(value)
        with probes._quiet():
            allowed = (abs(expected) * (relative or 0.0)).clip(min=1e-12 if absolute is None else absolute)
            with_room = allowed > 0
            used = abs(value - expected)[with_room] / allowed[with_room]
    except (TypeError, ValueError, RuntimeError, KeyError):
        return None
    return float(1 - used.max()) if used.size and used.max() < float("inf") else None
