"""Calls with drawn arguments, and a judgement of what comes of each.

One or two valid arguments of an entry point are replaced: by a value of another kind, or by one that is like
the valid one but of another size, dtype or place. Used by ``test_fuzzing.py`` and ``torture.py``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import io
import linecache
import math
import numbers
import os
import re
import types
import warnings
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from entry_points import CALLS, LEFT_OUT, MORE, NET, Call
from hypothesis import strategies as st
from torch import nn

import ugmm_tutorial as ug

PACKAGE = str(Path(ug.__file__).parent)
RESULT, ERROR, FAULT = "documented result", "documented error", "fault"


# --- What is public


def public(face=ug, prefix: str = "", seen: dict | None = None) -> dict[str, object]:
    """Functions and classes by name, from ``__all__`` of the package and of every folder that it names.

    Errors are left out, and each object has the first of its names.
    """
    seen = {} if seen is None else seen
    modules = []
    for name in face.__all__:
        value = getattr(face, name)
        if isinstance(value, types.ModuleType):
            modules.append((value, f"{prefix}{name}."))
        elif inspect.isclass(value) and issubclass(value, Exception):
            continue
        elif callable(value) and not any(value is other for other in seen.values()):
            seen[prefix + name] = value
    for module, path in modules:
        public(importlib.import_module(module.__name__), path, seen)
    return seen


PUBLIC = public()


def _entries() -> dict[str, Call]:
    named = {id(value): name for name, value in PUBLIC.items()}
    entries = {}
    for call in CALLS + MORE:
        name = named.get(id(call.of or call.function), call.name)
        if name in LEFT_OUT:
            continue
        assert name not in entries, f"two examples of {name}"
        entries[name] = call
    return entries


#: The valid calls by public name. A method, or a function that no ``__all__`` names, has its own name.
ENTRIES = _entries()


# --- What is drawn

SCALARS = [None, True, False, -1, 0, 1, 2, 3, 2**63, -(2**70), 10**40, 0.0, -0.0, 0.5, 1.0, 2.5, -1.0]
SCALARS += [math.nan, math.inf, -math.inf, 1e300, -1e30, 1e-30, 5e-324, 1 + 2j, Fraction(1, 3)]
SCALARS += [
    np.float32(0.5),
    np.float64("nan"),
    np.int8(-1),
    np.int64(2),
    np.uint64(2**64 - 1),
    np.bool_(True),
]
STRINGS = ["", "1", "nan", "auto", "layer", "cpu", "cuda:99", "x" * 99, "é\0", b"1", np.str_("a")]
OTHERS = [[], (), {}, set(), [None], [math.nan], ["a"], [[1.0], [2.0, 3.0]], [0.5, 0.5], [0, 1], (0.0, 1.0)]
OTHERS += [
    {0: 1.0},
    {"a": [1]},
    {0, 1},
    range(3),
    len,
    int,
    object(),
    iter([1, 2]),
    np.array(3),
    np.array("a"),
]
OTHERS += [
    nn.Linear(3, 2),
    NET,
    nn.Identity(),
    nn.Sequential(),
    torch.Size([2]),
    torch.float16,
    torch.device("meta"),
]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8]
DTYPES += [torch.bool, torch.complex64]
LAYOUTS = ["plain", "plain", "transposed", "expanded", "sparse", "requires_grad", "meta"]
FILLS = ["normal", "normal", "uniform", "zeros", "ones", "nan", "inf", "-inf", "huge", "tiny"]


def filled(shape, fill: str, seed: int) -> torch.Tensor:
    """A float64 tensor; one number of it is the special one."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand if fill == "uniform" else torch.randn
    t = draw(tuple(shape), dtype=torch.float64, generator=generator)
    if fill in ("zeros", "ones"):
        return torch.full_like(t, float(fill == "ones"))
    if fill in ("huge", "tiny"):
        return t * (1e30 if fill == "huge" else 1e-30)
    if fill in ("nan", "inf", "-inf") and t.numel():
        t.view(-1)[seed % t.numel()] = float(fill)
    return t


def laid_out(t: torch.Tensor, layout: str) -> torch.Tensor:
    """The same numbers, lying elsewhere or otherwise."""
    if layout == "transposed" and t.dim() >= 2:
        return t.mT.contiguous().mT
    if layout == "expanded" and t.dim() and len(t):
        return t[:1].expand(t.shape)
    if layout == "sparse":
        return t.to_sparse()
    if layout == "requires_grad" and (t.is_floating_point() or t.is_complex()):
        return t.detach().clone().requires_grad_()
    return t.to("meta") if layout == "meta" else t


@st.composite
def tensors(draw):
    """Of any shape, dtype, layout and place."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    t = filled(shape, draw(st.sampled_from(FILLS)), draw(st.integers(0, 99)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return laid_out(t.to(draw(st.sampled_from(DTYPES))), draw(st.sampled_from(LAYOUTS)))


@st.composite
def arrays(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    t = filled(shape, draw(st.sampled_from(FILLS)), draw(st.integers(0, 99))).numpy()
    with np.errstate(all="ignore"):
        return t.astype(draw(st.sampled_from(["f4", "f8", "i8", "u1", "?", "O", "U3", "c16"])))


#: Anything that a caller might pass, whatever is expected.
WILD = st.one_of(
    st.sampled_from(SCALARS),
    st.sampled_from(STRINGS),
    st.sampled_from(OTHERS),
    tensors(),
    arrays(),
    st.integers(-3, 6),
    st.floats(),
    st.lists(st.sampled_from(SCALARS), max_size=4),
    st.text(max_size=3),
)


#: For arguments that are true or false, as Python sees it: arrays are neither.
FLAGS = st.sampled_from([True, False, None, 0, 1, "", "a", np.bool_(True), [], [0]])


@st.composite
def near_tensor(draw, t):
    """Like a valid tensor, with one thing changed."""
    how = draw(st.integers(0, 7))
    if how == 0 and t.dim():  # another size
        size = list(t.shape)
        size[draw(st.integers(0, t.dim() - 1))] = draw(st.integers(0, 5))
        rest = filled(size, draw(st.sampled_from(FILLS[:4])), draw(st.integers(0, 99)))
        return (rest if t.is_floating_point() else rest.abs().clamp(max=1)).to(t.dtype)
    if how == 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return t.to(draw(st.sampled_from(DTYPES)))
    if how == 2:
        return laid_out(t, draw(st.sampled_from(LAYOUTS[2:])))
    if how == 3:
        return draw(st.sampled_from([t.unsqueeze(0), t.unsqueeze(-1), t.flatten(), t[..., :1], t.sum()]))
    if how == 4:
        return draw(st.sampled_from([t.tolist(), t.numpy(), tuple(t), t.double().numpy()]))
    if how == 5:
        special = (
            [-1, 0, 2, 9] if not t.is_floating_point() else [0.0, -1.0, 1e-30, 1e6, 1e30, math.inf, math.nan]
        )
        t = t.clone()
        t.view(-1)[draw(st.integers(0, t.numel() - 1))] = draw(st.sampled_from(special))
        return t
    if how == 6 and t.is_floating_point():
        return t * draw(st.sampled_from([0.0, -1.0, 1e-30, 1e-3, 1e3, 1e30]))
    return filled(t.shape, "uniform", draw(st.integers(0, 99))).to(t.dtype)


@st.composite
def near_sequence(draw, values):
    listed = list(values)
    how = draw(st.integers(0, 4))
    at = draw(st.integers(0, max(len(listed) - 1, 0)))
    if how == 0:
        del listed[at : at + 1]
    elif how == 1:
        listed.insert(at, draw(st.sampled_from([*listed, 0, 1, 0.5])))
    elif how == 2:
        listed[at : at + 1] = [draw(st.one_of(st.sampled_from(SCALARS + OTHERS), st.integers(0, 5)))]
    elif how == 3:
        return draw(st.sampled_from([tuple(listed), listed[::-1], iter(listed), {"a": listed}, str(listed)]))
    else:
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            return draw(st.sampled_from([torch.tensor, np.array]))(listed)
    return tuple(listed) if isinstance(values, tuple) else listed


@st.composite
def near_module(draw, model):
    """A network that is broken, or of another dtype, width or place."""
    model = copy.deepcopy(model)
    how = draw(st.integers(0, 5))
    if how <= 1:
        value = draw(st.sampled_from([math.nan, math.inf, 1e30, 0.0]))
        with torch.no_grad():
            for parameter in list(model.parameters())[: 1 if how else None]:
                parameter.fill_(value)
    elif how == 2:
        model = draw(st.sampled_from([model.double, model.half, model.train, model.eval]))()
    elif how == 3:
        return model.to("meta")
    elif how == 4:
        return draw(
            st.sampled_from([nn.Sequential(model), nn.Sequential(nn.Flatten(), model), ug.UGMMNet((3, 5, 2))])
        )
    else:
        return draw(
            st.sampled_from([ug.UGMMNet((2, 3)), ug.MLP((3, 4, 2)), ug.UGMMLayer(3, 2), ug.UGMMNet((3, 1))])
        )
    return model


def near(value):
    """Values like the valid one."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        replaced = [
            st.one_of(near(v), WILD).map(lambda new, n=n: value._replace(**{n: new}))
            for n, v in value._asdict().items()
        ]
        return st.one_of(*replaced)
    if isinstance(value, torch.Tensor):
        return near_tensor(value)
    if isinstance(value, np.ndarray):
        return near_tensor(torch.from_numpy(value)).map(lambda v: v.detach().numpy() if _dense(v) else v)
    if isinstance(value, nn.Module):
        return near_module(value)
    if isinstance(value, int):
        return st.one_of(st.integers(-2, 9), st.integers(0, 4).map(np.int64))
    if isinstance(value, float):
        return st.one_of(
            st.floats(0, 1), st.floats(-1e3, 1e3), st.integers(0, 2), st.sampled_from([value * 2])
        )
    if isinstance(value, str):
        return st.sampled_from([value, value.upper(), value + " ", value[:-1], *STRINGS])
    if isinstance(value, list | tuple):
        return near_sequence(value)
    if isinstance(value, dict) and value:
        key = st.sampled_from(list(value))
        return st.one_of(
            key.map(lambda k: {n: v for n, v in value.items() if n != k}),
            st.tuples(key, WILD).map(lambda kv: {**value, kv[0]: kv[1]}),
            st.sampled_from([0, 1, "a", None, 9]).map(lambda k: {**value, k: next(iter(value.values()))}),
        )
    return WILD


def _dense(v) -> bool:
    return (
        isinstance(v, torch.Tensor)
        and v.layout == torch.strided
        and v.device.type == "cpu"
        and v.dtype != torch.bfloat16
    )


def replaceable(call: Call) -> dict[str, object]:
    """The valid or the usual values of the arguments that may be replaced."""
    signature = inspect.signature(call.function)
    usual = {p.name: p.default for p in signature.parameters.values() if p.default is not p.empty}
    return {name: value for name, value in (usual | call.valid).items() if name not in call.fixed}


def replacements(call: Call):
    """One or two arguments by name, to be passed instead of the valid ones."""
    valid = replaceable(call)
    value = {n: FLAGS if isinstance(v, bool) else st.one_of(near(v), near(v), WILD) for n, v in valid.items()}
    one = st.sampled_from(list(value)).flatmap(lambda name: st.fixed_dictionaries({name: value[name]}))
    return st.one_of(one, one, st.tuples(one, one).map(lambda two: two[0] | two[1]))


# --- What comes of it


@dataclass
class Outcome:
    """What a call did: one of the three kinds, and a sentence that says more."""

    kind: str
    detail: str = ""
    where: str = ""


def judge(call: Call, replaced: dict) -> Outcome:
    """Call it, and say what came."""
    arguments = call.valid | replaced
    if call.changes:
        arguments = {n: copy.deepcopy(v) if n not in replaced else v for n, v in arguments.items()}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of overflow, for example
            result = call.function(**arguments)
    except Exception as error:
        return _judge_error(call, replaced, error)
    finally:
        if plt.get_fignums():
            plt.close("all")
    return _judge_result(call, arguments, replaced, result)


def _judge_error(call: Call, replaced: dict, error: Exception) -> Outcome:
    if _of_the_caller(error):
        return Outcome(ERROR, "what a given network or function raises passes as it is")
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    inside = [frame for frame in frames if frame[0].startswith(PACKAGE)]
    path, line = (inside or frames)[-1]
    where = f"{Path(path).name}:{line}"
    # A function that is not written in Python, such as ``int``, leaves no frame.
    called = [name for name, value in replaced.items() if callable(value)]
    if any(re.search(rf"\b{name}\(", linecache.getline(*frames[-1])) for name in called):
        return Outcome(ERROR, "what a given function raises passes as it is")
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not isinstance(error, (TypeError, ValueError)) and type(error).__name__ not in documentation(call):
        return Outcome(FAULT, f"undocumented {said}", where)
    if isinstance(error, (TypeError, ValueError, IndexError)):
        names = [*replaced, *call.valid, *inspect.signature(call.function).parameters, *call.called.values()]
        if any(isinstance(value, nn.Module) for value in (call.valid | replaced).values()):
            names.append("x")  # a network calls its inputs so
        behind = [frame[0] for frame in frames[frames.index(inside[-1]) + 1 :]] if inside else []
        if any(f"{os.sep}sklearn{os.sep}utils{os.sep}" in path for path in behind):
            return Outcome(ERROR, said, where)  # scikit-learn's own check of a table, in its own words
        if not any(re.search(rf"\b(?:{name})\b", str(error), re.IGNORECASE) for name in names):
            return Outcome(FAULT, f"no argument is named: {said}", where)
        purpose = linecache.getline(*frames[-1]).strip().startswith("raise ")
        if not (frames[-1][0].startswith(PACKAGE) and purpose):
            return Outcome(FAULT, f"not raised on purpose: {said}", where)
    return Outcome(ERROR, said, where)


def _of_the_caller(error: Exception) -> bool:
    """Whether the error arose in a network or a function that was passed in, other than ours."""
    trace, ours = error.__traceback__, False
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if ours and path.endswith(f"{os.sep}modules{os.sep}module.py") and not _inside(trace.tb_next):
            return True
        ours = path.startswith(PACKAGE)
        trace = trace.tb_next
    return False


def _inside(trace) -> bool:
    """Whether code of the package runs further down."""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
            return True
        trace = trace.tb_next
    return False


def documentation(call: Call) -> str:
    """The docstring, with those that it refers to."""
    docs, todo = [], [call.of or call.function]
    for _ in range(4):
        found = [inspect.getdoc(value) or "" for value in todo]
        found += [inspect.getdoc(value.__init__) or "" for value in todo if inspect.isclass(value)]
        docs += found
        referred = re.findall(r":(?:func|class|meth):`~?[\w.]*?(\w+)`", " ".join(found))
        todo = [value for name, value in PUBLIC.items() if name.split(".")[-1] in referred]
    return "\n".join(docs)


def _judge_result(call: Call, arguments: dict, replaced: dict, result: object) -> Outcome:
    expected = usual_result(call)
    if not alike(result, expected):
        return Outcome(FAULT, f"a result of another kind: {kind(result)} instead of {kind(expected)}")
    leaves = list(tensors_in(result))
    if call.shape is not None:
        found, wanted = [tuple(t.shape) for t in leaves], [tuple(s) for s in call.shape(**arguments)]
        if found != wanted:
            return Outcome(FAULT, f"shapes {found} instead of {wanted}")
    if not call.unbounded and all(map(sane, replaced.values())):
        for t in leaves:
            if t.is_floating_point() and t.device.type != "meta" and not bool(t.isfinite().all()):
                return Outcome(FAULT, f"{t[~t.isfinite()][0].item()} from finite arguments")
    return Outcome(RESULT)


_USUAL: dict[int, tuple[Call, object]] = {}  # with the call, so that no other one gets its id


def usual_result(call: Call) -> object:
    """What the valid arguments give."""
    if id(call) not in _USUAL:
        with contextlib.redirect_stdout(io.StringIO()):
            valid = copy.deepcopy(call.valid) if call.changes else call.valid
            _USUAL[id(call)] = call, call.function(**valid)
    return _USUAL[id(call)][1]


def alike(found: object, expected: object) -> bool:
    """Whether the kinds agree; of sequences, the first elements."""
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and found.is_floating_point() == expected.is_floating_point()
    if isinstance(expected, nn.Module):
        return isinstance(found, nn.Module)
    if isinstance(expected, bool) or not isinstance(expected, numbers.Number):
        if type(found) is not type(expected):
            return False
    elif not isinstance(found, type(expected)):
        return False
    if isinstance(expected, list | tuple) and len(expected) and len(found):
        return alike(found[0], expected[0])
    return True


def kind(value: object) -> str:
    return type(value).__name__ + (f" of {value.dtype}" if isinstance(value, torch.Tensor) else "")


def tensors_in(value: object):
    """Numbers, arrays and tensors of a result, as tensors; not the parameters of a network."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        yield torch.from_numpy(np.ascontiguousarray(value))
    elif isinstance(value, float):
        yield torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from tensors_in(one)
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from tensors_in(getattr(value, one.name))


def sane(value: object) -> bool:
    """Whether all numbers in an argument are finite and of moderate size, so that no result may overflow."""
    if isinstance(value, nn.Module):
        return all(sane(p.detach()) for p in value.state_dict().values())
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.device.type == "meta" or value.is_complex():
            return False
        value = value.detach().double()
        return bool((value.isfinite() & (value.abs() <= 1e6) & ((value == 0) | (value.abs() >= 1e-6))).all())
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf" and sane(torch.from_numpy(np.array(value, dtype=np.float64)))
    if isinstance(value, bool | str | None):
        return True
    if isinstance(value, numbers.Real):
        return math.isfinite(value) and (value == 0 or 1e-6 <= abs(value) <= 1e6)
    if isinstance(value, dict):
        return all(map(sane, value.values()))
    return isinstance(value, list | tuple | range | set) and all(map(sane, value))


def unaccounted() -> tuple[list[str], list[str]]:
    """Public names without valid arguments or a reason, and names left out without need."""
    missing = [name for name in PUBLIC if name not in ENTRIES and name not in LEFT_OUT]
    gone = [name for name in LEFT_OUT if name not in PUBLIC or name in ENTRIES]
    return missing, gone


def shown(replaced: dict) -> str:
    """Drawn arguments as one line."""

    def one(value):
        if isinstance(value, torch.Tensor):
            kept = {"requires_grad": value.requires_grad, "layout": value.layout, "device": value.device}
            numbers = (
                value.tolist() if value.device.type == "cpu" and value.layout == torch.strided else "..."
            )
            told = [f"{n}={v}" for n, v in kept.items() if str(v) not in ("False", "torch.strided", "cpu")]
            return f"tensor{tuple(value.shape)} {value.dtype} {' '.join(told)} {numbers}"
        return repr(value)

    return ", ".join(f"{name}={' '.join(one(value).split())[:200]}" for name, value in replaced.items())
