"""The newcomer's first minutes: what install.py and the Makefile say and do where something is missing."""

import ast
import errno
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace

import install
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "book" / "_ext" / "install.py"
posix = pytest.mark.skipif(os.name != "posix", reason="a shell script stands for Python")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
PLENTY = 100 * install.GB


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with what install.py reads, in a path with a space, with space on every disk and a home."""
    root = tmp_path / "a clone"
    root.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in (
        "PIP_CACHE_DIR",
        "XDG_CACHE_HOME",
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "UGMM_INSTALL_GB",
    ):
        monkeypatch.delenv(name, raising=False)
    free(monkeypatch, PLENTY)
    return root


def free(monkeypatch, size, linux=True):
    monkeypatch.setattr(install.shutil, "disk_usage", lambda folder: SimpleNamespace(free=size))
    monkeypatch.setattr(install, "LINUX", linux)


@pytest.fixture
def environment(project):
    """A .venv whose Python is this one, but for pip: that notes what it is asked, and its answer is set."""
    folder = project / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *"pip --version"*) exit 0 ;; *"pip "*) echo "$@" >> "{project}/asked" ;;'
        f' *) exec "{sys.executable}" "$@" ;; esac\n'
        f'test ! -e "{folder}/.ready" || echo marked >> "{project}/asked"\n'
        f'cat "{project}/answer"; exit $(cat "{project}/code")\n'
    )
    python.chmod(0o755)
    answer(project)
    return folder


def answer(project, text="", code=0):
    (project / "answer").write_text(text)
    (project / "code").write_text(str(code))


def asked(project):
    path = project / "asked"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def importable(monkeypatch):
    monkeypatch.setattr(install, "IMPORTS", ("json",))


# --- the Python that starts it ------------------------------------------------------------------------


def test_old_pythons_can_read_the_file():
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_the_file_needs_nothing_but_the_standard_library():
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_an_old_python_says_so_and_makes_nothing(project):
    copy = project / "book" / "_ext" / "install.py"
    copy.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, copy)
    code = (
        "import runpy, sys; sys.version_info = (3, 8, 18); runpy.run_path(sys.argv.pop(), None, '__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, copy], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: Python 3.11 or newer is needed, this is 3.8.18; name another with: make"
    )
    assert not (project / ".venv").exists()


def test_a_python_for_32_bits_says_so():
    with pytest.raises(install.InstallError, match="32 bits"):
        install.check_python(bits=32)


@pytest.mark.happens(
    "Installing",
    when="Python lacks the module venv",
    see="the package of Debian and Ubuntu to install",
    kept="nothing is begun",
)
def test_a_python_without_venv_names_the_package_of_debian(monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(install.InstallError, match=r"apt install python3-venv \(or python3\.12-venv\)"):
        install.check_python((3, 12, 1))


# --- folders and disks --------------------------------------------------------------------------------


def test_a_folder_for_reading_only_is_said_before_anything_is_done(project, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(install.tempfile, "TemporaryFile", refuse)
    with pytest.raises(install.InstallError, match=r"a clone cannot be written to \(Read-only file system\)"):
        install.install(project)
    assert not (project / ".venv").exists()


def test_without_a_folder_for_temporary_files_tmpdir_is_named(project, monkeypatch):
    def refuse():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(install.tempfile, "gettempdir", refuse)
    with pytest.raises(install.InstallError, match="TMPDIR=/a/folder make"):
        install.install(project)


@posix
@pytest.mark.parametrize("home", ["/no/such/folder", None])
def test_without_a_home_files_go_below_the_environment(home, project, monkeypatch, capsys):
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    install.find_home(project / ".venv")
    assert os.environ["HOME"] == str(project / ".venv" / "home")
    assert f"export HOME='{project}/.venv/home'" in capsys.readouterr().out


@posix
@pytest.mark.parametrize("closed", [".", ".cache", ".config/matplotlib"])
@pytest.mark.happens(
    "Installing",
    when="the home folder cannot be written to",
    see="nothing: caches go below `.venv`",
    kept="the home folder as it is",
)
def test_a_home_that_cannot_be_written_to_is_replaced(closed, project, monkeypatch):
    folder = Path(os.environ["HOME"]) / closed
    folder.mkdir(parents=True, exist_ok=True)
    refused = OSError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(install, "written_to", lambda asked: refused if asked == folder else None)
    install.find_home(project / ".venv")
    assert os.environ["HOME"] == str(project / ".venv" / "home")


def test_a_home_that_can_be_written_to_stays(project, capsys):
    before = os.environ["HOME"]
    install.find_home(project / ".venv")
    assert os.environ["HOME"] == before
    assert capsys.readouterr().out == ""


@pytest.mark.happens(
    "Installing",
    when="the disk is too small for the install",
    see="how much is needed and how much is free, and ways to need less",
    kept="nothing is begun",
)
def test_a_full_disk_is_said_with_ways_out_before_anything_is_done(project, monkeypatch):
    free(monkeypatch, 2 * install.GB)
    with pytest.raises(install.InstallError) as caught:
        install.install(project)
    message = str(caught.value)
    assert f"{project} has 2.0 GB free, the environment needs 7.0 GB" in message
    for way in ("TMPDIR=", "ln -s /a/folder .venv", "PIP_EXTRA_INDEX_URL=... UGMM_INSTALL_GB=2.5"):
        assert way in message
    assert not (project / ".venv").exists()


def test_needs_on_one_disk_are_added_and_pips_copies_go_first(project, monkeypatch, capsys):
    final, downloads = install.SIZES["cuda"]
    free(monkeypatch, (final + 2 * downloads) * install.GB)
    assert install.check_space(project / ".venv") == {}
    free(monkeypatch, (final + downloads) * install.GB)
    assert install.check_space(project / ".venv") == {"PIP_NO_CACHE_DIR": "1"}
    assert "keeps no copy" in capsys.readouterr().out
    free(monkeypatch, (final + downloads) * install.GB - 1)
    with pytest.raises(install.InstallError):
        install.check_space(project / ".venv")


@pytest.mark.parametrize(
    "setting",
    [
        {"PIP_EXTRA_INDEX_URL": "https://packages.invalid/whl/cpu"},
        {"UGMM_INSTALL_GB": "2.5"},
    ],
)
def test_who_installs_less_needs_less_space(setting, project, monkeypatch):
    free(monkeypatch, 5 * install.GB)
    with pytest.raises(install.InstallError):
        install.check_space(project / ".venv")
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    install.check_space(project / ".venv")


def test_other_systems_have_no_cuda_libraries_to_install(project, monkeypatch):
    free(monkeypatch, 5 * install.GB, linux=False)
    install.check_space(project / ".venv")


@pytest.mark.happens(
    "Installing",
    when="the install is cut off",
    see="the same command goes on",
    kept="the packages that were installed",
)
def test_an_install_that_was_cut_off_needs_the_rest_of_the_space(project, monkeypatch):
    free(monkeypatch, 2 * install.GB)
    monkeypatch.setattr(install, "size_of", lambda folder: 6 * install.GB)
    install.check_space(project / ".venv")


def test_a_size_that_is_no_number_is_said(project, monkeypatch):
    monkeypatch.setenv("UGMM_INSTALL_GB", "little")
    with pytest.raises(install.InstallError, match="little"):
        install.check_space(project / ".venv")


# --- the environment ----------------------------------------------------------------------------------


@posix
@pytest.mark.usefixtures("importable")
def test_an_install_is_marked_at_its_end_and_not_repeated(project, environment, capsys):
    install.install(project)
    (line,) = asked(project)
    assert line.endswith("install --progress-bar off -c constraints.txt -e .[dev]")
    assert json.loads((environment / ".ready").read_text())["folder"] == str(project)
    assert "[3/3]" in capsys.readouterr().out
    install.install(project)
    assert len(asked(project)) == 1
    assert capsys.readouterr().out == ""


@posix
@pytest.mark.usefixtures("importable")
def test_an_install_that_failed_is_not_marked_and_goes_on(project, environment):
    install.install(project)
    (environment / ".ready").write_text("")  # as older Makefiles left it, and as a power cut would
    answer(project, "ERROR: something odd\n", 1)
    with pytest.raises(install.InstallError, match="something odd"):
        install.install(project)
    assert "something odd" in (environment / "install.log").read_text()
    assert not (environment / ".ready").exists()
    answer(project)
    install.install(project)
    assert (environment / ".ready").exists()
    assert "marked" not in asked(project)  # the old marker was away while pip worked


@posix
@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("change", ["constraints", "newest", "requirements", "folder", "python"])
def test_what_the_environment_is_made_of_decides(change, project, environment):
    install.install(project)
    constraints, root = "constraints.txt", project
    if change == "constraints":
        (project / "constraints.txt").write_text("numpy==2.0\n")
    elif change == "newest":
        constraints = ""
    elif change == "requirements":
        path = project / "pyproject.toml"
        path.write_text(
            path.read_text(encoding="utf-8").replace('"tqdm>=4.66"', '"tqdm>=4.67"'), encoding="utf-8"
        )
    elif change == "python":
        made = install.marker_of(environment)
        (environment / ".ready").write_text(json.dumps(made | {"python": "3.10"}))
    else:
        root = project.rename(project.with_name("moved clone"))
        moved = root / ".venv" / "bin" / "python"
        moved.write_text(moved.read_text().replace(str(project), str(root)))
    assert not install.is_ready(root, root / ".venv", constraints)
    install.install(root, constraints)
    assert len(asked(root)) == 2
    assert ("-c constraints.txt" in asked(root)[1]) == (change != "newest")
    assert install.is_ready(root, root / ".venv", constraints)


def test_settings_of_tools_are_no_requirements(project):
    before = install.requirements(project)
    path = project / "pyproject.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("line-length = 110", "line-length = 111"), encoding="utf-8"
    )
    assert install.requirements(project) == before
    assert '"torch>=' in before


def test_a_marker_is_whole_or_not_there(project, monkeypatch):
    (project / ".ready").write_text("{}")

    def crash(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(install.os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        install.mark(project, {"folder": "new"})
    assert (project / ".ready").read_text() == "{}"


@posix
@pytest.mark.parametrize("state", ["missing", "dangling", "crashes", "old", "no pip"])
def test_an_environment_that_does_not_work_is_made_anew(state, project, environment, monkeypatch):
    python = environment / "bin" / "python"
    body = python.read_text()
    if state == "missing":
        shutil.rmtree(environment)
    elif state == "dangling":
        python.unlink()
        python.symlink_to("/no/such/python3")
    else:
        script = {
            "crashes": "exit 1",
            "old": "echo 3 10 2",
            "no pip": 'case "$*" in *pip*) exit 1;; esac; echo 3 12 0',
        }
        python.write_text(f"#!/bin/sh\n{script[state]}\n")
    assert not install.works(environment)
    made = []

    def create(folder):
        made.append(folder)
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        python.unlink(missing_ok=True)
        python.write_text(body)
        python.chmod(0o755)

    monkeypatch.setattr(install, "create", create)
    monkeypatch.setattr(install, "IMPORTS", ("json",))
    install.install(project)
    assert made == [environment]


@posix
@pytest.mark.usefixtures("importable")
def test_an_environment_that_works_is_kept_even_for_an_old_python(project, environment, monkeypatch):
    def too_old():
        raise install.InstallError("old")

    monkeypatch.setattr(install, "check_python", too_old)
    (environment / "kept").touch()
    install.install(project)
    assert (environment / "kept").exists()


def test_where_making_it_fails_the_reason_is_shown(project, monkeypatch):
    monkeypatch.setattr(install.sys, "executable", shutil.which("false") or sys.executable)
    monkeypatch.setattr(install, "works", lambda environment: False)
    with pytest.raises(install.InstallError, match="-m venv --clear"):
        install.create(project / "file" if os.name == "nt" else Path(os.devnull) / ".venv")


@posix
def test_an_environment_may_be_a_link_to_another_disk(project, monkeypatch):
    folder = project.parent / "another disk"
    (project / ".venv").symlink_to(folder)
    monkeypatch.setattr(install, "works", lambda environment: True)
    usual = subprocess.Popen
    monkeypatch.setattr(
        install.subprocess, "Popen", lambda command, **how: usual([*command, "--without-pip"], **how)
    )
    install.create(project / ".venv")
    assert (project / ".venv").is_symlink()
    assert install.version_in(project / ".venv") == sys.version_info[:3]


def test_versions_that_are_not_there_are_said(project):
    with pytest.raises(install.InstallError, match=r"no file old\.txt"):
        install.install(project, "old.txt")


# --- after an interrupted pip -------------------------------------------------------------------------


def package(site, name, size=5):
    (site / name).mkdir()
    (site / name / "__init__.py").write_text("x = 1")
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {name}\n")
    (info / "RECORD").write_text(f'{name}/__init__.py,sha256=x,{size}\n"{name}/a, b.pyc",,\n')
    return info


def test_halves_of_packages_are_found_and_installed_again(tmp_path):
    whole, short, killed = (package(tmp_path, name) for name in ("whole", "short", "killed"))
    (tmp_path / "short" / "__init__.py").write_text("x")  # as a power cut leaves it
    (killed / "RECORD").unlink()
    gone = package(tmp_path, "gone")
    (tmp_path / "gone" / "__init__.py").unlink()
    (tmp_path / "~orch").mkdir()
    (tmp_path / "~orch" / "file").touch()
    assert install.repair(tmp_path) == ["gone", "killed", "short"]
    assert whole.exists()
    assert not any(path.exists() for path in (short, killed, gone, tmp_path / "~orch"))
    assert install.repair(tmp_path) == []


def test_packages_installed_here_count_as_whole():
    # Where two packages own one file, its size fits one of them: this would be installed again for ever.
    site = Path(importlib.metadata.distribution("pytest").locate_file(""))
    assert [
        info.name for info in install.broken(site) if info.name.startswith(("torch", "numpy", "pytest"))
    ] == []


def test_damage_that_keeps_the_size_is_found_by_the_checksum(tmp_path):
    site = Path(importlib.metadata.distribution("tqdm").locate_file(""))
    info = next(site.glob("tqdm-*.dist-info"))
    shutil.copytree(info, tmp_path / info.name)
    shutil.copytree(site / "tqdm", tmp_path / "tqdm")
    record = tmp_path / info.name / "RECORD"
    lines = [line for line in record.read_text(encoding="utf-8").splitlines() if not line.startswith("..")]
    record.write_text("\n".join(lines), encoding="utf-8")
    assert install.broken(tmp_path, contents=True) == []
    file = tmp_path / "tqdm" / "std.py"
    file.write_bytes(b"(" * file.stat().st_size)
    assert install.broken(tmp_path) == []
    assert install.repair(tmp_path, contents=True) == ["tqdm"]


@posix
@pytest.mark.parametrize("cured", [True, False])
def test_what_cannot_be_imported_is_installed_again_once(cured, project, environment, monkeypatch, capsys):
    answers = iter(["importing x\nImportError", None if cured else "ImportError"])
    monkeypatch.setattr(install, "find_unimportable", lambda environment: next(answers))
    monkeypatch.setattr(install, "repair", lambda site, contents=False: ["tqdm"] * contents)
    if cured:
        install.install(project)
    else:
        with pytest.raises(install.InstallError, match="cannot be imported:\nImportError"):
            install.install(project)
    assert len(asked(project)) == 2
    assert "to be installed again: tqdm" in capsys.readouterr().out
    assert (environment / ".ready").exists() == cured


@posix
def test_what_is_whole_and_cannot_be_imported_is_said(project, environment, monkeypatch):
    monkeypatch.setattr(install, "IMPORTS", ("json", "no_such_module"))
    with pytest.raises(
        install.InstallError, match=r"importing no_such_module\n.*No module named 'no_such_module'"
    ):
        install.install(project)
    assert len(asked(project)) == 1
    assert not (environment / ".ready").exists()


def test_a_crash_while_importing_is_told_by_the_last_name(tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text("import os; os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(install, "python_in", lambda environment: sys.executable)
    monkeypatch.setattr(install, "IMPORTS", ("json", "crashing"))
    assert install.find_unimportable(Path()).split() == ["importing", "json", "importing", "crashing"]
    monkeypatch.setattr(install, "IMPORTS", ("json",))
    assert install.find_unimportable(Path()) is None


def test_a_module_of_every_package_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["book"], *extras["tune"], *extras["test"]]
    owners = importlib.metadata.packages_distributions()
    imported = {
        re.sub("[-_.]+", "-", owner).lower() for name in install.IMPORTS for owner in owners.get(name, ())
    }
    installed = {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in wanted}
    assert installed <= imported


# --- pip's output -------------------------------------------------------------------------------------

RETRY = (
    "WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'NewConnectionError('<pip."
    "_vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: "
    "[Errno -3] Temporary failure in name resolution')': /simple/setuptools/\n"
)
NONE_FOUND = "ERROR: No matching distribution found for torch==2.14.1\n"


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        (RETRY + NONE_FOUND, "registry cannot be reached"),
        ("Cannot connect to proxy. ProxyError('...')\n" + NONE_FOUND, "HTTPS_PROXY"),
        (NONE_FOUND, "Try another Python"),
        ("ERROR: ResolutionImpossible: for help visit ...", "make CONSTRAINTS="),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "no space left",
        ),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] ...", "PIP_CERT"),
        (RETRY + "  error: command 'gcc' failed: No such file or directory", "no ready-made build"),
        ("error: command '/usr/bin/x86_64-linux-gnu-g++' failed with exit code 1", "no ready-made build"),
        ("ERROR: ... [Errno 13] Permission denied: '/x'", "cannot be written"),
    ],
)
@posix
def test_what_pip_fails_with_is_explained(output, advice, project, environment):
    answer(project, output, 1)
    with pytest.raises(install.InstallError, match=advice) as caught:
        install.install(project)
    shown = output.strip().splitlines()[-1] in str(caught.value)
    assert shown == ("cannot be reached" not in str(caught.value))


@posix
def test_a_disk_that_gets_full_does_not_hide_what_pip_says(project, environment, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    usual = Path.open
    monkeypatch.setattr(
        install.Path,
        "open",
        lambda path, *how, **more: Full() if path.suffix == ".log" else usual(path, *how, **more),
    )
    answer(project, "ERROR: Could not install packages: [Errno 28] No space left on device: 'x'\n", 1)
    with pytest.raises(install.InstallError, match="Could not install packages"):
        install.install(project)


def test_an_error_of_the_system_is_said_without_a_traceback(monkeypatch, capsys):
    def full(**arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(install, "install", full)
    assert install.main([]) == 1
    assert "make some" in capsys.readouterr().err


def test_warnings_about_missing_links_are_not_shown():
    quiet = "WARNING: Location '/links' is ignored: it is neither a file nor a directory.\nERROR: broken"
    assert install.last_lines(quiet) == "    ERROR: broken"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  Downloading torch-2.14.1-cp311-manylinux.whl (555.5 MB)", "downloading torch (555.5 MB)"),
        ("Downloading https://host/a/torch-2.14.1-cp311.whl.metadata (30 kB)", ""),
        ("Downloading tqdm-4.whl (78 kB)", ""),
        ("Downloading ruff-1.whl (11.1 MB)", ""),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        (
            "Installing collected packages: " + ", ".join("x" * 99),
            "unpacking 99 packages, one to three minutes",
        ),
        (RETRY, ""),
        (RETRY.replace("total=4", "total=3"), "the package registry does not answer, trying again"),
    ],
)
def test_only_what_takes_long_is_shown(line, shown):
    assert install.worth_showing(line) == shown


@posix
@pytest.mark.usefixtures("importable")
def test_while_pip_is_silent_a_line_says_that_work_goes_on(project, environment, monkeypatch, capsys):
    monkeypatch.setattr(install, "HEARTBEAT", 0.05)
    python = environment / "bin" / "python"
    python.write_text(python.read_text().replace("cat ", "sleep 0.3; cat ", 1))
    install.install(project)
    assert "... 0 minutes" in capsys.readouterr().out


@posix
def test_settings_of_pip_that_fail_in_an_environment_are_taken_back(monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    assert install.variables(PIP_NO_CACHE_DIR="1")["PIP_USER"] == "0"
    assert install.variables(PIP_NO_CACHE_DIR="1")["PIP_NO_CACHE_DIR"] == "1"


# --- two at once, and Ctrl-C --------------------------------------------------------------------------


@posix
def test_a_second_install_waits_for_the_first(tmp_path, capsys):
    order = []

    def second():
        with install.locked(tmp_path):
            order.append("second")

    with install.locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert "waiting" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(**arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "install", interrupted)
    assert install.main([]) == 130
    assert "goes on where this one stopped" in capsys.readouterr().err


# --- the Makefile -------------------------------------------------------------------------------------


def make(folder, *arguments, **variables):
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))} | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )


@needs_make
@pytest.mark.parametrize("number", ["", "99", "x", "1 2"])
def test_a_chapter_that_is_not_there_is_said_before_anything_is_installed(number):
    done = make(ROOT, "chapter", f"N={number}", PYTHON="/no/such/python")
    assert done.returncode != 0
    assert "make chapter N=4, for example; there are 1 2 3" in done.stdout
    assert "no such" not in done.stdout + done.stderr


@needs_make
@pytest.mark.parametrize("number", ["4", "04", "A", "12"])
def test_chapters_are_named_as_in_the_book(number):
    assert make(ROOT, "which", f"N={number}").returncode == 0


@needs_make
def test_without_python_make_says_what_to_install():
    done = make(ROOT, "lint", "PYTHON=/no/such/python")
    assert done.returncode != 0
    assert "There is no /no/such/python. Install Python 3.11 or newer" in done.stdout


@needs_make
def test_help_names_every_target():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.search(r"^\.PHONY: (.*)", text, re.MULTILINE)[1].split()) - {"help", "install", "which"}
    assert set(re.findall(r"^make (\w+)", make(ROOT, "help").stdout, re.MULTILINE)) == named
    assert {
        "book",
        "chapter",
        "check",
        "test",
        "coverage",
        "lint",
        "torture",
        "gpu",
        "portability",
        "lowest",
        "colab",
        "newest",
        "pdf",
        "strip",
        "clean",
    } == named


def test_make_starts_modules_not_scripts():
    # Scripts beside Python start with the path of it: one with spaces, a long one or an old one breaks them.
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\(BIN\)/(\w+)", text)) == {"python"}


@needs_make
@posix
@pytest.mark.parametrize("home", ["/no/such/folder", ""])
def test_make_replaces_a_home_that_is_closed(home, tmp_path):
    folder = tmp_path / "a clone"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    with (folder / "Makefile").open("a") as file:
        file.write('\nhome:\n\t@echo "$$HOME"\n')
    assert make(folder, "home", HOME=home).stdout.strip() == str(folder / ".venv" / "home")
    assert make(folder, "home", HOME=str(tmp_path)).stdout.strip() == str(tmp_path)
