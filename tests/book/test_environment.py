"""pyproject.toml, environment.yml and constraints.txt say the same."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # where conda-forge calls it otherwise


def split(requirement):
    name, bounds = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", requirement).groups()
    return name.lower(), bounds


def wanted():
    extras = PROJECT["optional-dependencies"]
    lists = (PROJECT["dependencies"], extras["book"], extras["tune"], extras["test"])
    return dict(split(requirement) for listed in lists for requirement in listed)


def test_conda_environment_has_the_packages_and_bounds_of_pyproject():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    by_pip = next(item["pip"] for item in listed if isinstance(item, dict))
    conda = dict(split(item) for item in listed if isinstance(item, str))
    assert conda.pop("python") == PROJECT["requires-python"]
    conda.pop("pip")
    found = conda | dict(split(item) for item in by_pip if item != "-e .")
    assert found == {CONDA_NAMES.get(name, name): bounds for name, bounds in wanted().items()}
    assert "-e ." in by_pip


def test_dev_extra_is_the_others_together():
    assert PROJECT["optional-dependencies"]["dev"] == ["ugmm_tutorial[book,test,tune]"]


def test_torch_and_numpy_have_no_upper_bound():
    bounds = wanted()
    assert all("<" not in bounds[name] and "=" in bounds[name] for name in ("torch", "torchvision", "numpy"))


def test_every_direct_dependency_has_a_tested_version_that_fits():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    for name, bounds in wanted().items():
        assert name in pinned, name
        lower = re.search(r">=([0-9.]+)", bounds).group(1).rstrip(".")
        assert numbers(pinned[name]) >= numbers(lower), name


def numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)]
