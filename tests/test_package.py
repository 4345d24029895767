"""The package as a whole: what importing it costs, which way its imports run, what it exports."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ugmm_tutorial

PACKAGE = Path(ugmm_tutorial.__file__).parent
PYPROJECT = PACKAGE.parent / "pyproject.toml"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))

# Imports run from a higher number to a lower one, never back. The lowest import nothing else of ours.
FLOORS = {
    "kernels": 0,
    "arguments": 0,
    "data": 0,
    "files": 0,
    "columns": 0,
    "records": 1,
    "checkpoints": 1,
    "claims": 0,
    "figure_contract": 0,
    "stored": 0,
    "masks": 0,
    "steps": 0,
    "threads": 0,
    "train_config": 0,
    "plotting": 1,
    "verdicts": 2,
    "viewer": 0,
    "interactions": 0,
    "univariate": 0,
    "functional": 1,
    "evaluation": 1,
    "layers": 2,
    "ablations": 3,
    "leaves": 3,
    "sparse": 3,
    "cost": 4,
    "networks": 4,
    "training": 5,
    "constructions": 5,
    "inference": 5,
    "interpretation": 5,
    "density": 5,
    "uncertainty": 5,
    "bench": 6,
    "generative": 6,
    "exercises": 7,
    "catalogue": 6,
    "experiments": 7,
    "price": 8,
    "tuning": 8,
    "studies": 8,
    "__init__": 9,
    "__main__": 10,
}


# --- importing --------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_heavy_but_torch():
    code = "import sys, ugmm_tutorial; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True
    )
    loaded = set(done.stdout.split())
    assert {"torch", "ugmm_tutorial"} <= loaded
    heavy = {"torchvision", "matplotlib", "seaborn", "sklearn", "scipy", "numba", "triton", "PIL"}
    assert loaded & (heavy | {"IPython", "optuna"}) == set()


def _imported(path: Path) -> set[str]:
    """The modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import, which hides where it leads"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("ugmm_tutorial.")}
    return found - {"__version__"}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_run_one_way(path):
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert name in FLOORS, f"{name} is new: say here on which floor it is"
    # The files of a folder may import one another.
    own = {name} if (PACKAGE / name).is_dir() else set()
    for other in _imported(path) - own:
        assert FLOORS[other] < FLOORS[name], f"{name} must not import {other}"


def test_imports_are_found_where_they_are(tmp_path):
    """The two tests above would pass on nothing if the search saw nothing."""
    assert _imported(PACKAGE / "layers.py") == {"arguments", "functional", "masks"}
    assert _imported(PACKAGE / "networks.py") == {"ablations"}
    assert {"data", "records", "checkpoints"} <= _imported(PACKAGE / "training.py")
    (tmp_path / "late.py").write_text("def f():\n    import ugmm_tutorial.data\n")
    assert _imported(tmp_path / "late.py") == {"data"}


# --- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", *MODULES])
def test_every_exported_name_exists_once(name):
    module = importlib.import_module(f"ugmm_tutorial.{name}".rstrip("."))
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert [export for export in module.__all__ if not hasattr(module, export)] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_public_definition_of_a_module_is_exported_and_documented(name):
    """Public: a class or function without an underscore."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    public = {
        node.name: node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
    exported = importlib.import_module(f"ugmm_tutorial.{name}").__all__
    assert set(public) <= set(exported)
    assert [n for n, node in public.items() if not ast.get_docstring(node)] == []


# --- packaging --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyproject() -> dict:
    if not PYPROJECT.exists():
        pytest.skip("the package does not run from its checkout")
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))


def test_version_is_written_in_one_place_only(pyproject):
    assert "version" in pyproject["project"]["dynamic"]
    assert "version" not in pyproject["project"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ugmm_tutorial.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+([abrc.dev]+\d+)?", ugmm_tutorial.__version__)


def test_every_folder_of_the_package_is_packaged(pyproject):
    folders = {path.parent.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py")}
    listed = set(pyproject["tool"]["setuptools"]["packages"])
    assert {folder.replace("/", ".") for folder in folders} == {n for n in listed if "._stored." not in n}


def test_dependencies_have_lower_bounds_only(pyproject):
    for dependency in pyproject["project"]["dependencies"]:
        assert re.fullmatch(r"[\w.-]+>=[\d.]+", dependency)


def test_everything_that_the_package_imports_is_declared(pyproject):
    """Found in the source, also where it is imported only when it is needed."""
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    called = {"scikit-learn": "sklearn"}
    project = pyproject["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["tune"]
    names = {re.match(r"[\w.-]+", text)[0] for text in requirements}
    declared = {called.get(name, name) for name in names} | {"ugmm_tutorial"}
    # Triton comes with PyTorch where it exists; SPFlow and pykan are compared with where they are installed.
    optional = {"triton", "spflow", "kan"}
    assert imported - set(sys.stdlib_module_names) - optional <= declared
