"""The environments with other versions have what pyproject.toml asks for."""

import subprocess

import environments
import pytest
from packaging.requirements import Requirement
from test_environment import PROJECT


@pytest.mark.parametrize("name", ["lowest", "colab", "newest"])
def test_every_dependency_is_installed_in_a_version_that_fits(name):
    wanted = {Requirement(line).name: Requirement(line).specifier for line in PROJECT["dependencies"]}
    asked = {one.name: one.specifier for one in map(Requirement, environments.requirements(name))}
    assert asked.keys() == wanted.keys()
    for package, specifier in asked.items():
        for clause in specifier:
            version = clause.version.removesuffix(".*")
            assert wanted[package].contains(version), f"{package} {version}"


def test_the_lowest_versions_are_the_bounds():
    asked = environments.requirements("lowest")
    bounds = [line.replace(">=", "==") + ".*" for line in PROJECT["dependencies"]]
    assert asked == bounds


def test_newest_asks_for_no_version():
    assert all("=" not in line for line in environments.requirements("newest"))


def test_wrong_arguments_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        environments.main(["oldest"])
    assert stopped.value.code == 2
    assert "invalid choice: 'oldest'" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--keep"]])
def test_what_follows_two_dashes_goes_to_pytest(options, monkeypatch):
    called = []

    def run(command, **_):
        called.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="")

    monkeypatch.setattr(environments.subprocess, "run", run)
    monkeypatch.setattr(environments.shutil, "rmtree", lambda *_, **__: None)
    assert environments.main(["lowest", *options, "--", "-k", "layers", "--keep"]) == 0
    assert called[-1][-3:] == ["-k", "layers", "--keep"]
    assert called[-1][1:3] == ["-m", "pytest"]
