"""Watch a chapter's kernel: record what its claims and assertions find, and which files it reads.

``start`` runs before a chapter's first cell. From then on, claims are recorded with their values, assertions
with their outcome, and comparisons with their margin. These are the orderings that an ``assert`` requires to
be true, and every ``allclose`` or similar call. A failing assertion prints a note, like a claim, unless
claims are strict. ``finish`` writes everything to a file. The chapter's cells are not changed.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import math
import operator
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_NAME = "__probe__"
_OPERATORS: dict[type, tuple[str, Callable]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.In: ("in", lambda a, b: a in b),
    ast.NotIn: ("not in", lambda a, b: a not in b),
    ast.Is: ("is", operator.is_),
    ast.IsNot: ("is not", operator.is_not),
}
_BY_SIGN = dict(_OPERATORS.values())
_ORDER = {"<": 1.0, "<=": 1.0, ">": -1.0, ">=": -1.0}
#: Functions that compare within a tolerance, with the defaults of their tolerances.
_CLOSE = {"allclose": (1e-5, 1e-8), "isclose": (1e-9, 0.0), "assert_close": (1.3e-6, 1e-5)}


class Probes:
    """The findings of one run of a chapter, and the functions that its instrumented assertions call."""

    def __init__(self, cells: dict[str, str], strict: bool) -> None:
        self.cell = ""
        self.strict = strict
        self.found: dict[tuple[str, str], dict] = {}
        self.notes: list[dict] = []
        self.read: set[str] = set()
        self._cells = {_digest(source): name for name, source in cells.items()}

    def enter(self, info: Any) -> None:
        """Handle IPython's ``pre_run_cell``: remember which cell runs."""
        self.cell = self._cells.get(_digest(info.raw_cell), "")

    def claimed(self, finding: Any) -> None:
        """A listener of ``ugmm_tutorial.teaching.claims``."""
        key = (self.cell, f"claim {finding.text}")
        entry = self.found.setdefault(key, {"cell": self.cell, "kind": "claim", "text": finding.text})
        entry["record"] = finding.record
        entry["allowed"] = [list(pair) for pair in finding.allowed]
        entry.setdefault("values", []).extend([list(finding.values)])
        if not finding.holds:
            said = " and ".join(f"{v:.6g}" for v in finding.values)
            self.notes.append({"cell": self.cell, "said": finding.text, "found": said})

    def compare(self, cell: str, text: str, signs: tuple[str, ...], *operands: Any) -> Any:
        """The value of a comparison in an assertion. Its smallest distance from failing is recorded."""
        result = True
        for number, (sign, left, right) in enumerate(zip(signs, operands, operands[1:], strict=False)):
            result = _BY_SIGN[sign](left, right)
            margin = _distance(sign, left, right)
            if margin is not None:
                self._margin(cell, _part(text, number, len(signs)), margin)
            if len(signs) > 1 and not result:
                return result
        return result

    def close(self, cell: str, name: str, function: Callable, text: str, *given: Any, **options: Any) -> Any:
        """The result of ``allclose`` or a similar call. The unused share of its tolerance is recorded."""
        margin = _left_of_tolerance(name, *given, **options)
        if margin is not None:
            self._margin(cell, text, margin)
        return function(*given, **options)

    @contextlib.contextmanager
    def asserting(self, cell: str, text: str) -> Iterator[None]:
        """Record one assertion. Print a note if it fails, and raise only if claims are strict."""
        self.found.setdefault((cell, text), {"cell": cell, "kind": "assert", "text": text})
        try:
            yield
        except AssertionError as error:
            self.found[cell, text]["failed"] = True
            self.notes.append({"cell": cell, "said": text, "found": str(error) or "not so"})
            if self.strict:
                raise
            from ugmm_tutorial.teaching.claims import show_note

            show_note(f"the page checks that {text}.")

    def _margin(self, cell: str, text: str, margin: float) -> None:
        entry = self.found.setdefault(
            (cell, f"margin {text}"), {"cell": cell, "kind": "margin", "text": text, "values": [[margin]]}
        )
        entry["values"] = [[min(margin, entry["values"][0][0])]]


class Instrument(ast.NodeTransformer):
    """Rewrites assertions so that they tell the probes what they compare, and in which cell.

    Only orderings that must be true are followed: those in ``assert a < b and c < d``, in ``(x < 1).all()``
    and in ``all(v < 1 for v in values)``, but not the one in ``(x < 1).sum() == 3``. ``texts`` has their
    source.
    """

    def __init__(self, probes: Probes) -> None:
        self._probes, self.texts = probes, []

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """Put ``assert a < b`` into a context that records it."""
        text = ast.unparse(node.test)
        node.test = self.visit(self._true(node.test))
        context = ast.withitem(self._call("asserting", ast.Constant(text)))
        return _at(ast.With(items=[context], body=[node]), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Replace ``allclose(a, b)`` by a call that also records how much of its tolerance is left."""
        text = ast.unparse(node)
        node = self.generic_visit(node)
        name = _name(node)
        if name not in _CLOSE:
            return node
        call = self._call("close", ast.Constant(name), node.func, ast.Constant(text), *node.args)
        call.keywords = node.keywords
        return _at(call, node)

    def _true(self, node: ast.expr) -> ast.expr:
        """Instrument the comparisons of an expression that must be true."""
        match node:
            case ast.Compare():
                return self._comparison(node)
            case ast.BoolOp(op=ast.And(), values=values):
                node.values = [self._true(value) for value in values]
            case ast.BinOp(op=ast.BitAnd()):
                node.left, node.right = self._true(node.left), self._true(node.right)
            case ast.Call(func=ast.Attribute(attr="all", value=value)) if not node.args:
                node.func.value = self._true(value)
            case ast.Call(func=ast.Name(id="all"), args=[ast.GeneratorExp() | ast.ListComp() as each]):
                each.elt = self._true(each.elt)
        return node

    def _comparison(self, node: ast.Compare) -> ast.expr:
        """Replace ``a < b`` by a call with both sides."""
        text = ast.unparse(node)
        signs = [_OPERATORS[type(op)][0] for op in node.ops]
        if not set(signs) & set(_ORDER):
            return node  # equality has no margin
        self.texts += [_part(text, n, len(signs)) for n, sign in enumerate(signs) if sign in _ORDER]
        names = ast.Tuple([ast.Constant(sign) for sign in signs], ast.Load())
        call = self._call("compare", ast.Constant(text), names, node.left, *node.comparators)
        return _at(call, node)

    def _call(self, name: str, *arguments: ast.expr) -> ast.Call:
        function = ast.Attribute(ast.Name(_NAME, ast.Load()), name, ast.Load())
        return ast.Call(function, [ast.Constant(self._probes.cell), *arguments], [])


def comparisons(source: str) -> list[str]:
    """The source of all comparisons that are followed in a cell's assertions."""
    lines = (line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:  # a block had only an indented command
        return []
    instrument = Instrument(Probes({}, strict=True))
    instrument.visit(tree)
    return instrument.texts


def start(cells: dict[str, str], root: str, strict: bool, noise: int | None = None) -> None:
    """Watch this kernel.

    Args:
        cells: the source of every code cell by its id.
        root: the folder of the repository. Files that are read in its ``results`` and ``benchmarks`` are
            recorded.
        strict: whether a failing assertion raises.
        noise: the seed of noise, of the size of rounding, on parameters before an optimiser's first step;
            None for no noise.
    """
    from IPython import get_ipython

    from ugmm_tutorial.teaching import claims

    probes = Probes(cells, strict)
    shell = get_ipython()
    shell.user_ns[_NAME] = probes
    shell.events.register("pre_run_cell", probes.enter)
    shell.ast_transformers.append(Instrument(probes))
    claims.listeners.append(probes.claimed)
    sys.addaudithook(_watch(probes, root))
    if noise is not None:
        import rounding

        rounding.add_noise(noise)


def finish(path: str, root: str) -> None:
    """Write all findings to a file, and all files that the chapter depends on."""
    from IPython import get_ipython

    probes = get_ipython().user_ns[_NAME]
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    package = str(Path(root, "ugmm_tutorial"))
    modules = {file for file in files if file and file.startswith(package)}
    kept = {"found": list(probes.found.values()), "notes": probes.notes}
    kept["read"] = sorted(str(Path(name).relative_to(root)) for name in probes.read | modules)
    Path(path).write_text(json.dumps(kept, indent=1), encoding="utf-8")


def _watch(probes: Probes, root: str) -> Callable[[str, tuple], None]:
    """An audit hook that records opened files and listed folders in ``results`` and ``benchmarks``."""
    folders = tuple(str(Path(root, name)) for name in ("results", "benchmarks"))

    def hook(event: str, arguments: tuple) -> None:
        if event not in ("open", "os.scandir", "os.listdir") or not arguments:
            return
        name = arguments[0]
        if isinstance(name, str) or hasattr(name, "__fspath__"):
            path = str(Path(name).absolute())
            if path.startswith(folders):
                probes.read.add(path)

    return hook


def _part(text: str, number: int, count: int) -> str:
    """The source of one comparison in a chain such as ``a < b < c``."""
    return f"{text} [{number}]" if count > 1 else text


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _distance(sign: str, left: Any, right: Any) -> float | None:
    """How far an ordering is from failing. None if this has no meaning, as for strings and equalities."""
    if sign not in _ORDER:
        return None
    try:
        with _quiet():
            gaps = _ORDER[sign] * (_numbers(right) - _numbers(left))
    except (TypeError, ValueError, RuntimeError):
        return None
    return float(gaps.min()) if gaps.size else None


def _left_of_tolerance(name: str, *given: Any, **options: Any) -> float | None:
    """The unused share of the tolerance in the worst element: 1 for equal values, 0 at the tolerance."""
    usual = _CLOSE[name]
    try:
        left, right = (_numbers(value) for value in given[:2])
        if name == "assert_close" and "float64" in str(getattr(given[0], "dtype", "float64")):
            usual = (1e-7, 1e-7)
        rtol = options.get("rtol", options.get("rel_tol", given[2] if len(given) > 2 else usual[0]))
        atol = options.get("atol", options.get("abs_tol", given[3] if len(given) > 3 else usual[1]))
        with _quiet():
            largest = abs(right) if name != "isclose" else abs(left).clip(min=abs(right))
            used = abs(left - right) / (atol + rtol * largest)
    except (TypeError, ValueError, RuntimeError):
        return None
    used[left == right] = 0.0
    return float(1 - used.max()) if used.size and math.isfinite(used.max()) else None


def _quiet():
    """Suppress NumPy's warnings, because infinities and NaN may be compared."""
    import numpy as np

    return np.errstate(all="ignore")


def _numbers(value: Any):
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.atleast_1d(np.asarray(value, dtype=np.float64))


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()


def _at(new: ast.AST, old: ast.AST) -> ast.AST:
    return ast.fix_missing_locations(ast.copy_location(new, old))
