"""A start without optional packages, without a network, and memory that stays flat."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ugmm_tutorial.data import idx_files
from ugmm_tutorial.data.folder import data_folder

TRAIN = """
from ugmm_tutorial import UGMMNet, TrainConfig, data, train
record = train(UGMMNet((64, 8, 10)), data.digits().flatten(), TrainConfig(epochs=1))
print(f"{record.final['test_accuracy']:.4f}")
"""
MNIST = """
from ugmm_tutorial import data
print(*data.mnist().train.x.shape)
"""
PLOT = """
from ugmm_tutorial.teaching import plotting
plotting.use_style()
"""
SEARCH = """
from ugmm_tutorial.experiments import tuning
tuning.run(tuning.SEARCHES["ugmm"], results="here")
"""


def _start(code: str, folder: Path, missing: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Run code in a process of its own, in which some packages cannot be imported."""
    for name in missing:
        (folder / f"{name}.py").write_text(
            f"raise ModuleNotFoundError(\"No module named '{name}'\", name={name!r})\n", encoding="utf-8"
        )
    paths = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )


OPTIONAL = (
    "numba",
    "triton",
    "torchvision",
    "matplotlib",
    "seaborn",
    "tqdm",
    "platformdirs",
    "pooch",
    "optuna",
)


@pytest.mark.slow
@pytest.mark.happens(
    "Installing",
    when="packages are missing that only parts of this one need",
    see="training works, without kernels and without a bar; what does need one names it",
    kept="everything; training gives the usual results",
)
def test_networks_train_without_all_packages_that_they_can_do_without(tmp_path):
    done = _start(TRAIN, tmp_path, OPTIONAL)
    assert done.returncode == 0, done.stderr
    assert 0.0 < float(done.stdout) <= 1.0
    assert "no progress is shown, because tqdm is missing: pip install tqdm" in done.stderr
    assert "Numba" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "missing"),
    [
        (TRAIN, "sklearn"),
        ("from ugmm_tutorial.estimators import UGMMClassifier", "sklearn"),
        (PLOT, "matplotlib"),
        (SEARCH, "optuna"),
    ],
    ids=["digits", "estimators", "figures", "a search"],
)
def test_what_needs_a_missing_package_names_it_and_how_to_install_it(code, missing, tmp_path):
    done = _start(code, tmp_path, (missing,))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert missing.replace("sklearn", "scikit-learn") in last.casefold(), last
    assert "pip install" in last, last


def test_mnist_that_is_on_the_disk_needs_no_torchvision(tmp_path):
    if not all((data_folder() / "MNIST" / "raw" / name).exists() for name in idx_files.MD5["MNIST"]):
        pytest.skip("neither UGMM_DATA_DIR nor the cache of a download has MNIST")
    done = _start(MNIST, tmp_path, ("torchvision",))
    assert done.stdout.strip() == "55000 1 28 28", done.stderr


def test_nothing_asks_the_network_before_data_are_asked_for(tmp_path):
    """Not at import, not while training, not when a record is written."""
    watched = """
    import sys
    asked = []
    sys.addaudithook(lambda event, given: event.startswith("socket.") and asked.append((event, given)))
    """
    modules = """
    import importlib, pkgutil
    import ugmm_tutorial
    for module in pkgutil.walk_packages(ugmm_tutorial.__path__, "ugmm_tutorial."):
        if "triton" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    """
    said = "\nprint(asked)\n"
    code = textwrap.dedent(watched) + textwrap.dedent(modules) + TRAIN + said
    done = _start(code, tmp_path)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr or done.stdout
    code = textwrap.dedent(watched) + "import socket; socket.socket().close()" + said
    assert "socket.__new__" in _start(code, tmp_path).stdout  # what the hook would have seen


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say how much is used")
def test_memory_stays_flat_over_ten_thousand_steps(tmp_path):
    """Training steps with dropout, and evaluation; then some that keep 4 kB each, which has to be seen."""
    steps = """
    import os, torch
    from ugmm_tutorial import UGMMNet
    torch.manual_seed(0)
    model = UGMMNet((16, 32, 5), norm="layer", dropout=0.3)
    optimizer = torch.optim.Adam(model.parameters())
    x, y, kept = torch.rand(20, 16), torch.arange(20) % 5, []

    def growth(count, leak=0):
        before = used()
        for step in range(count):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if step % 10 == 0:
                with torch.no_grad():
                    model.eval()(x)
                    model.train()
            kept.extend([torch.ones(leak)] * bool(leak))
        return used() - before

    def used():
        with open("/proc/self/statm") as file:
            resident, of_files = map(int, file.read().split()[1:3])  # the system may drop what files hold
        return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")

    growth(1000)
    kept.extend(torch.ones(1024) for _ in range(8000))  # they fill the holes that compiling has left
    print(growth(10_000), growth(4_000, leak=1024))
    """
    done = _start(steps, tmp_path)
    assert done.returncode == 0, done.stderr
    flat, leaking = (int(number) / 1e6 for number in done.stdout.split())
    # Measured: 0.2 MB and 19 MB.
    assert flat < 4.0 < 12.0 < leaking
