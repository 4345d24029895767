"""An accelerator that is installed but does not work, or cannot store, costs time and never the answer."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ugmm_tutorial import UGMMLayer, kernels
from ugmm_tutorial.layers import SparseUGMMLayer

pytest.importorskip("numba")
from ugmm_tutorial.kernels import choice, compiled

PATIENCE = 300
# A layer that is large enough for a kernel: its outputs against the reference's, and what was warned of.
SCRIPT = """
import warnings
import torch
from ugmm_tutorial import UGMMLayer

torch.manual_seed(0)
layer, x = UGMMLayer(64, 64), torch.rand(100, 64)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(3):
        out = layer(x)
        out.sum().backward()
layer.backend = "reference"
torch.testing.assert_close(out, layer(x), rtol=1e-4, atol=1e-4)
for warning in said:
    print(warning.message)
"""


def outputs_agree(folder, **environment):
    """Run the script with the modules in ``folder`` before all others; return the lines of its warnings."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", ""), str(Path.cwd())])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def module(folder, name, text):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ImportError('needs an older NumPy')", "SystemError('no LLVM')"])
@pytest.mark.happens(
    "Fast kernels",
    when="Numba does not import",
    see="one warning with the reason; PyTorch computes",
    kept="the right numbers, at less speed",
)
def test_a_numba_that_does_not_import_is_done_without_and_said_once(tmp_path, error):
    module(tmp_path, "numba", f"raise {error}\n")
    (line,) = outputs_agree(tmp_path)
    assert line.startswith("backend='auto' takes the reference, which is slower: Numba is installed but")
    assert error.partition("(")[0] in line


@pytest.mark.slow
def test_with_jit_switched_off_auto_does_not_crawl(tmp_path):
    (line,) = outputs_agree(tmp_path, NUMBA_DISABLE_JIT="1")
    assert "NUMBA_DISABLE_JIT is set" in line


@pytest.mark.slow
def test_without_platformdirs_kernels_are_compiled_at_every_start(tmp_path):
    module(tmp_path, "platformdirs", "raise ImportError('not there')\n")
    (line,) = outputs_agree(tmp_path, NUMBA_CACHE_DIR="")
    assert "every start compiles them again: the package platformdirs" in line


@pytest.mark.slow
def test_damaged_files_of_the_cache_are_replaced(tmp_path):
    cache = tmp_path / "cache"
    assert outputs_agree(tmp_path, NUMBA_CACHE_DIR=str(cache)) == []
    for suffix in ("nbi", "nbc"):
        for keep in (0, 40):
            for path in cache.rglob(f"*.{suffix}"):
                path.write_bytes(path.read_bytes()[:keep])
            damaged = {path: path.stat().st_size for path in cache.rglob("*.nbi")}
            assert outputs_agree(tmp_path, NUMBA_CACHE_DIR=str(cache)) == []
            assert all(path.stat().st_size > max(size, 40) for path, size in damaged.items() if size <= 40)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    for cached in (compiled.cache_folder, compiled._warn_once):
        cached.cache_clear()
    yield tmp_path
    for cached in (compiled.cache_folder, compiled._warn_once):
        cached.cache_clear()


def double(x):
    return 2 * x


@pytest.mark.happens(
    "Fast kernels",
    when="the folder for compiled kernels is full",
    see="one warning; kernels are compiled again next time",
    kept="the right numbers",
)
def test_a_cache_that_finds_no_room_is_said_once_and_costs_no_answer(own_cache, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(compiled.FunctionCache, "save_overload", full)
    with pytest.warns(RuntimeWarning, match="compiles them again.*No space left.*NUMBA_CACHE_DIR") as said:
        found = [compiled.compiled(set())(double)(number) for number in (3, 3.0)]
    assert found == [6, 6.0]
    assert len(said) == 1


def test_what_cannot_be_read_is_compiled_again_and_kept(own_cache):
    assert compiled.compiled(set())(double)(3) == 6
    for path in own_cache.rglob("*.nb?"):
        path.write_bytes(b"")
    again, later = (compiled.compiled(set())(double) for _ in range(2))
    assert again(3) == 6
    assert later(3) == 6
    assert list(later.stats.cache_hits.values()) == [1]


@pytest.fixture
def broken_numba(monkeypatch):
    monkeypatch.setattr(choice, "_said", set())
    monkeypatch.setattr(kernels, "_tried", {"numba": "it is out of order"})


def test_compiled_whole_networks_do_without_it_too(broken_numba):
    layer, x = UGMMLayer(64, 64), torch.rand(100, 64)
    expected = UGMMLayer(64, 64, backend="reference")
    expected.load_state_dict(layer.state_dict())
    with pytest.warns(RuntimeWarning, match="it is out of order"):
        found = torch.compile(layer, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(found, expected(x))


@pytest.mark.happens(
    "Fast kernels",
    when="a layer names a kernel that cannot run here",
    see="an error with the reason and the kernels that can",
    kept="the layer as it is",
)
def test_a_layer_that_names_the_kernel_says_why_it_cannot_run(broken_numba):
    with pytest.raises(RuntimeError, match="'numba' cannot run here: it is out of order"):
        UGMMLayer(64, 64, backend="numba")(torch.rand(100, 64))


@pytest.mark.parametrize("make", [UGMMLayer, SparseUGMMLayer], ids=lambda make: make.__name__)
def test_the_callers_memory_stays_resizable(make):
    options = {"components": 16} if make is SparseUGMMLayer else {}
    layer = make(64, 64, backend="numba", **options)
    x = torch.rand(100, 64, requires_grad=True)
    layer(x).sum().backward()
    everything = [x, x.grad, *layer.parameters(), *layer.buffers()]
    everything += [p.grad for p in layer.parameters()]
    assert all(t.untyped_storage().resizable() for t in everything)
    whole = torch.rand(100, 64)
    layer(whole)
    assert whole.resize_(200, 64).untyped_storage().nbytes() == 4 * 200 * 64


def test_the_probe_is_one_call_of_the_kernel():
    from ugmm_tutorial.kernels import numba_kernels

    numba_kernels.probe()
    assert kernels.unavailable("numba") is None
