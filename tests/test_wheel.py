"""The wheel, as a stranger meets it: an environment with PyTorch and without this package, and a chapter."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Not the newest: an installer that upgrades what is there would be caught.
NUMPY = "numpy==2.3.5"


def run(*command, cwd, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("UGMM_", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, because building leaves its folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    ignored = shutil.ignore_patterns(".*", "_build", "build", "dist", "*.egg-info", "__pycache__", "data")
    shutil.copytree(ROOT, copy, ignore=ignored)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, copy, cwd=folder)
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_package_and_the_records_and_nothing_else(wheel):
    names = run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=wheel.parent)
    for wanted in ("exercises/chapter1.py", "kernels/cpu.py", "_stored/results/digits-mlp/seed0.json"):
        assert f"ugmm_tutorial/{wanted}" in names
    files = [line.split()[0] for line in names.splitlines()[1:]]
    assert all(name.startswith(("ugmm_tutorial/", "ugmm_tutorial-")) for name in files)


@pytest.mark.slow
def test_chapter_installs_the_wheel_in_a_new_environment_and_runs(wheel, tmp_path):
    if not _reachable(sys.executable, tmp_path):
        pytest.skip("no package registry can be reached")
    venv.create(tmp_path / "env", with_pip=True)
    python = next(p for p in (tmp_path / "env").glob("*/python*") if p.stem == "python")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(
        *pip,
        "-c",
        _constraints(tmp_path),
        "torch",
        "torchvision",
        "ipykernel",
        "nbclient",
        "pip",
        NUMPY,
        cwd=tmp_path,
    )
    before = _versions(python, tmp_path)
    assert "ugmm-tutorial" not in before

    folder = tmp_path / "somewhere"
    folder.mkdir()
    shutil.copy(ROOT / "book" / "01_one_neuron.ipynb", folder)
    execute = "import sys; from nbclient.cli import main; sys.exit(main())"
    run(
        python, "-c", execute, "--inplace", "--timeout=300", "01_one_neuron.ipynb",
        cwd=folder, UGMM_SOURCE=str(wheel),
    )  # fmt: skip
    notebook = nbformat.read(folder / "01_one_neuron.ipynb", as_version=4)
    assert any("image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", ()))

    after = _versions(python, tmp_path)
    assert {name: after[name] for name in before} == before  # nothing that was there has changed
    assert {"ugmm-tutorial", "numba", "seaborn"} <= set(after) - set(before)
    found = "from ugmm_tutorial import stored; print(stored.folder('results'))"
    assert Path(run(python, "-c", found, cwd=folder).strip()).is_relative_to(tmp_path / "env")


def _constraints(folder):
    """The tested versions without NumPy's, which the test chooses."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    path = folder / "constraints.txt"
    path.write_text("\n".join(line for line in lines if not line.startswith("numpy==")), encoding="utf-8")
    return path


def _versions(python, folder):
    listed = run(python, "-m", "pip", "--disable-pip-version-check", "list", "--format=json", cwd=folder)
    return {entry["name"].lower().replace("_", "-"): entry["version"] for entry in json.loads(listed)}


def _reachable(python, folder):
    done = subprocess.run(
        [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "tqdm"],
        capture_output=True,
    )
    return done.returncode == 0
