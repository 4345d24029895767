"""The wheel, as a stranger meets it: an environment with PyTorch and without this package, and a chapter."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
#: Not the newest: an installer that upgrades what is there would be caught.
NUMPY = "numpy==2.3.5"

pytestmark = pytest.mark.slow


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
    patterns = shutil.ignore_patterns(".*", "_build", "build", "dist", "*.egg-info", "__pycache__")

    def ignored(place, names):
        # A reader may keep MNIST in a folder `data` beside the package; the package has one of its own.
        return patterns(place, names) | ({"data"} if Path(place) == ROOT else set())

    shutil.copytree(ROOT, copy, ignore=ignored)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, copy, cwd=folder)
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_package_and_the_records_and_nothing_else(wheel):
    names = run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=wheel.parent)
    for wanted in (
        "teaching/exercises/chapter1.py",
        "data/sets.py",
        "py.typed",
        "_stored/results/digits-mlp/seed0.json",
    ):
        assert f"ugmm_tutorial/{wanted}" in names
    files = [line.split()[0] for line in names.splitlines()[1:]]
    assert all(name.startswith(("ugmm_tutorial/", "ugmm_tutorial-")) for name in files)


def test_chapter_installs_the_wheel_in_a_new_environment_and_runs(wheel, tmp_path):
    if not _reachable(sys.executable, tmp_path):
        pytest.skip("no package registry can be reached")
    venv.create(tmp_path / "env")
    python = next(p for p in (tmp_path / "env").glob("*/python*") if p.stem == "python")
    _link("torch", "torchvision", "ipykernel", "nbclient", "pip", python=python, without={"numpy"})
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile")
    run(*pip, NUMPY, cwd=tmp_path)
    before = _versions(python, tmp_path)
    assert "ugmm-tutorial" not in before

    folder = tmp_path / "somewhere"
    folder.mkdir()
    shutil.copy(ROOT / "book" / "01_one_neuron.ipynb", folder)
    execute = "import sys; from nbclient.cli import main; sys.exit(main())"
    run(
        python, "-c", execute, "--inplace", "--timeout=900", "01_one_neuron.ipynb",
        cwd=folder, UGMM_SOURCE=str(wheel), PIP_NO_COMPILE="1",
    )  # fmt: skip
    notebook = nbformat.read(folder / "01_one_neuron.ipynb", as_version=4)
    assert any("image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", ()))

    after = _versions(python, tmp_path)
    assert {name: after[name] for name in before} == before  # nothing that was there has changed
    assert {"ugmm-tutorial", "numba", "seaborn"} <= set(after) - set(before)
    found = "from ugmm_tutorial.experiments import artifacts; print(artifacts.folder('results'))"
    assert Path(run(python, "-c", found, cwd=folder).strip()).is_relative_to(tmp_path / "env")


def _link(*names, python, without):
    """Put these distributions, and what they need, from the running environment into another.

    To install PyTorch anew would take minutes. A hard link is a file like any other: an installer that
    removes or replaces it leaves the running environment alone.
    """
    target = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=ROOT).strip()
    )
    for distribution in _with_requirements(*names, without=without):
        for path in distribution.files:
            source, copy = Path(distribution.locate_file(path)), target / path
            # No scripts, which start the interpreter that they were installed for.
            if ".." not in path.parts and source.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                _hard_link_or_copy(source, copy)


def _hard_link_or_copy(source, copy):
    if copy.exists():
        return
    try:
        os.link(source, copy)
    except OSError:  # another file system
        shutil.copy2(source, copy)


def _with_requirements(*names, without) -> Iterator[Distribution]:
    waiting, seen = [Requirement(name) for name in names], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in without or (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        distribution = importlib.metadata.distribution(name)
        yield distribution
        for line in distribution.requires or ():
            needed = Requirement(line)
            extras = ("", *requirement.extras)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)


def _versions(python, folder):
    listed = run(python, "-m", "pip", "--disable-pip-version-check", "list", "--format=json", cwd=folder)
    return {entry["name"].lower().replace("_", "-"): entry["version"] for entry in json.loads(listed)}


def _reachable(python, folder):
    done = subprocess.run(
        [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "tqdm"],
        capture_output=True,
    )
    return done.returncode == 0
