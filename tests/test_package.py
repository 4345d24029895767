"""The package as a whole: what importing it costs, which way its imports run, what it exports."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ugmm_tutorial
from ugmm_tutorial import _moved

PACKAGE = Path(ugmm_tutorial.__file__).parent
PYPROJECT = PACKAGE.parent / "pyproject.toml"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem not in ("__init__", "__main__")
)
FOLDERS = sorted(".".join(path.parent.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("*/__init__.py"))


def _module(name: str) -> ModuleType:
    """A module of ours; those of GPUs need Triton, which not every machine has."""
    if "triton" in name:
        pytest.importorskip("triton")
    return importlib.import_module(f"ugmm_tutorial.{name}".rstrip("."))


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


def _lint_imports(folder: Path) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    return subprocess.run(
        [*command, "--no-cache", "--config", str(folder / "pyproject.toml")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture
def copied_package(tmp_path, pyproject) -> Path:
    """The package and the rules for its imports, for tests that spoil them."""
    shutil.copytree(
        PACKAGE, tmp_path / "ugmm_tutorial", ignore=shutil.ignore_patterns("__pycache__", "_stored")
    )
    shutil.copy(PYPROJECT, tmp_path)
    return tmp_path


def test_imports_run_one_way(copied_package):
    done = _lint_imports(copied_package)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("density/mixture.py", "from ugmm_tutorial.experiments import artifacts"),
        ("layers/dense.py", "def late():\n    from ugmm_tutorial import training"),
        ("experiments/runs.py", "import ugmm_tutorial.teaching.claims"),
        ("density/clusters.py", "from ugmm_tutorial.density.circuit import Circuit"),
    ],
    ids=["library-laboratory", "layer-training", "laboratory-classroom", "circle"],
)
def test_an_import_the_other_way_is_found(path, line, copied_package):
    with (copied_package / "ugmm_tutorial" / path).open("a") as file:
        file.write(f"\n\n{line}\n")
    done = _lint_imports(copied_package)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout


def test_imports_name_the_module_they_come_from():
    relative = [
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


# --- names ------------------------------------------------------------------------------------------


def test_the_face_shows_what_is_public_and_nothing_else():
    assert dir(ugmm_tutorial) == sorted(ugmm_tutorial.__all__)
    library = {name for name in FOLDERS if "." not in name} - {"kernels"}
    assert library | {"functional", "networks"} <= set(dir(ugmm_tutorial))


def test_folders_are_loaded_when_they_are_named():
    code = "import sys, ugmm_tutorial as ug; print('ugmm_tutorial.density' in sys.modules, ug.density.em)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout.startswith("False <module 'ugmm_tutorial.density.em'")


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert not hasattr(ugmm_tutorial, "nothing")
    new = r"ugmm_tutorial\.experiments\.artifacts"
    with pytest.raises(AttributeError, match=f"no attribute 'stored': since version 0.2 it is {new}"):
        _ = ugmm_tutorial.stored


@pytest.mark.parametrize("old", sorted(_moved.MOVED))
def test_old_name_of_a_module_says_the_new_one(old):
    assert old not in MODULES
    assert _module(_moved.MOVED[old])
    message = re.escape(f"ugmm_tutorial.{old} is ugmm_tutorial.{_moved.MOVED[old]}: change the import")
    with pytest.raises(ImportError, match=message):
        importlib.import_module(f"ugmm_tutorial.{old}")
    with pytest.raises(ImportError, match=message):
        importlib.import_module(f"ugmm_tutorial.{old}.inner")
    folder, _, name = f"ugmm_tutorial.{old}".rpartition(".")
    with pytest.raises(ImportError, match=message):
        exec(f"from {folder} import {name}", {})


def test_names_of_other_packages_are_not_looked_at():
    with pytest.raises(ModuleNotFoundError, match="No module named 'stored'"):
        importlib.import_module("stored")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'ugmm_tutorial\.nothing'"):
        importlib.import_module("ugmm_tutorial.nothing")


@pytest.mark.parametrize("name", ["", *FOLDERS, *MODULES])
def test_every_exported_name_exists_once(name):
    module = _module(name)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert [export for export in module.__all__ if not hasattr(module, export)] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_public_definition_of_a_module_is_exported_and_documented(name):
    """Public: a class or function without an underscore."""
    tree = ast.parse(Path(PACKAGE, *name.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
    public = {
        node.name: node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
    exported = _module(name).__all__
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


# --- size -------------------------------------------------------------------------------------------


def _files(*places: str) -> Iterator[Path]:
    """Files, and those in folders, of the package."""
    for place in places:
        path = PACKAGE / place
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _lines(*places: str) -> int:
    """Lines that are not blank."""
    texts = (path.read_text(encoding="utf-8") for path in _files(*places))
    return sum(bool(line.strip()) for text in texts for line in text.splitlines())


LIBRARY = tuple(
    path.name
    for path in PACKAGE.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
    if path.name not in ("experiments", "teaching", "__main__.py")
)


def test_the_library_stays_small():
    assert _lines(*LIBRARY) < 15000
    length = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _files(*LIBRARY)}
    assert [str(path) for path, lines in length.items() if lines > 350] == []


def test_whoever_wants_only_the_layer_reads_four_files():
    files = ("functional.py", "kernels/reference.py", "layers/dense.py", "networks.py")
    assert sum(len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in files) <= 800


def test_contributing_counts_the_lines_of_every_part():
    page = PYPROJECT.with_name("CONTRIBUTING.md")
    if not page.exists():
        pytest.skip("the package does not run from its checkout")
    told = re.findall(r"^\| (\w+) \|.*\| about ([\d,]+) \|$", page.read_text(encoding="utf-8"), re.M)
    parts = {"library": LIBRARY, "laboratory": ("experiments",), "classroom": ("teaching",)}
    assert [name for name, _ in told] == list(parts)
    for name, count in told:
        assert int(count.replace(",", "")) == pytest.approx(_lines(*parts[name]), abs=150), name
