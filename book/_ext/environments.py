"""The package's tests with other versions: ``make lowest``, ``make colab``, ``make newest``.

    python book/_ext/environments.py lowest          # the lower bounds in pyproject.toml
    python book/_ext/environments.py colab           # what Google Colab has
    python book/_ext/environments.py newest          # the newest releases that there are
    python book/_ext/environments.py lowest --keep   # test again in the environment that is there
    python book/_ext/environments.py lowest -- -k estimators

Each makes an environment of its own below ``.venv``, installs the package there and runs its tests: all but
those of the book and of the browser. What follows ``--`` goes to pytest.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What Colab had in November 2026, as far as the package needs it.
COLAB = {
    "torch": "2.11.*",
    "torchvision": "0.26.*",
    "numpy": "2.1.*",
    "numba": "0.61.*",
    "scikit-learn": "1.6.*",
    "matplotlib": "3.10.*",
}
#: What the tests need beside the package.
_TOOLS = (
    "pytest",
    "pytest-xdist",
    "hypothesis",
    "nbformat",
    "nbval",
    "nbclient",
    "mlxtend",
    "pyyaml",
    "optuna",
    "import-linter",
)
_TESTS = ("tests", "--ignore=tests/book", "--ignore=tests/browser", "-m", "not slow", "-n", "auto")


def requirements(name: str) -> list[str]:
    """What to install for one of the environments, as pip takes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict(re.fullmatch(r"([\w-]+)>=([\w.]+).*", line).groups() for line in project["dependencies"])
    versions = {"lowest": {name: f"{low}.*" for name, low in bounds.items()}, "colab": COLAB, "newest": {}}[
        name
    ]
    return [f"{package}=={versions[package]}" if package in versions else package for package in bounds]


def main(arguments: list[str] | None = None) -> int:
    """Make the environment, run the tests in it, and return pytest's exit status."""
    parser = argparse.ArgumentParser(
        prog="environments.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=("lowest", "colab", "newest"))
    parser.add_argument("--keep", action="store_true", help="use the environment that is there")
    given = sys.argv[1:] if arguments is None else arguments
    # argparse by itself takes what follows -- only if no option stands between.
    cut = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:cut])
    folder = ROOT / ".venv" / "with" / options.name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (options.keep and python.exists()):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        done = subprocess.run([*install, *requirements(options.name), *_TOOLS], cwd=ROOT, check=False)
        if done.returncode:
            print(
                f"The packages could not be installed: {', '.join(requirements(options.name))}",
                file=sys.stderr,
            )
            return 2
    ours = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-e", "."], cwd=ROOT, check=False
    )
    if ours.returncode:
        return 2
    print(_installed(python), flush=True)
    return subprocess.run(
        [str(python), "-m", "pytest", *_TESTS, *given[cut + 1 :]], cwd=ROOT, check=False
    ).returncode


def _installed(python: Path) -> str:
    names = [re.split("[=<>]", line)[0] for line in requirements("newest")]
    program = f"import importlib.metadata as m\nprint(*(n + ' ' + m.version(n) for n in {names}), sep=', ')"
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
