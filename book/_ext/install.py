"""Install what the book needs into ``.venv``: ``python3 book/_ext/install.py``.

The script prints nothing if there is nothing to do. It reports what is missing before it starts, and an
interrupted installation continues where it stopped. It uses only the standard library, because it runs before
anything is installed. Its syntax works in Python 3.6, so that an old Python can report that it is too old.
"""

import argparse
import base64
import contextlib
import csv
import hashlib
import importlib
import json
import os
import queue
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 11)
GB = 10**9
LINUX = sys.platform.startswith("linux")
# Gigabytes, measured with the versions in constraints.txt: the final size of .venv, and the wheels that pip
# keeps in the folder for temporary files until then. pip's cache is a second copy of the wheels.
SIZES = {"cuda": (7.0, 3.5), "cpu": (2.5, 0.9)}
#: Downloads of at least this size are shown; the others take seconds.
LARGE_MB = 50
HEARTBEAT = 60.0  # seconds without output until a line says that work goes on

#: One module of every package in pyproject.toml, and of some packages that these need.
IMPORTS = (
    "numpy", "scipy", "torch", "torchvision", "numba", "sklearn", "pandas", "matplotlib", "seaborn", "tqdm",
    "platformdirs", "pooch", "mlxtend", "sphinx", "myst_nb", "jupyter_book", "sphinx-mathjax-offline",
    "ipykernel", "optuna", "pytest", "xdist", "hypothesis", "nbval", "nbformat", "nbstripout", "yaml",
    "playwright", "axe_playwright_python", "pypdf", "ruff", "importlinter", "mypy", "pytest_cov",
    "onnx", "onnxscript", "onnxruntime",
    "ugmm_tutorial",
)  # fmt: skip
# For the environment's Python. Each name is printed before its import, so that a crash shows the last one.
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    print("importing", name, flush=True)
    try:
        importlib.import_module(name)
    except BaseException as error:
        sys.exit(f"{type(error).__name__}: {error}"[:400])
"""


class InstallError(Exception):
    """The message says what is missing and what to do."""


def say(text):
    print(text, flush=True)


# --- before anything is done ----------------------------------------------------------------------------


def check_python(version=None, bits=None):
    """Raise if this Python cannot make an environment. An existing environment has its own Python."""
    version = tuple(version or sys.version_info[:3])
    if version < OLDEST:
        raise InstallError(
            f"Python {number(OLDEST)} or newer is needed, this is {number(version)}; name another with: "
            "make PYTHON=python3.12 ..., or, without make, start this file with it"
        )
    if (bits or 8 * struct.calcsize("P")) < 64:
        raise InstallError(
            f"this Python {number(version)} is built for 32 bits, PyTorch for 64 bits only; "
            "name another with: make PYTHON=python3.12 ..."
        )
    # Debian and its relatives ship venv without the pip for a new environment.
    if not can_import("venv", "create") or not can_import("ensurepip", "bootstrap"):
        raise InstallError(
            f"this Python {number(version)} cannot make environments: its modules venv and ensurepip are "
            "missing. On Debian and Ubuntu they are a package of their own: apt install python3-venv "
            f"(or python{number(version[:2])}-venv). On other systems take Python from python.org, conda or "
            "pyenv and name it with: make PYTHON=/path/to/python3 ..."
        )


def can_import(name, function):
    try:
        return hasattr(importlib.import_module(name), function)
    except ImportError:
        return False


def number(version):
    return ".".join(str(part) for part in version)


def written_to(folder):
    """The error from writing to this folder, or None if it succeeds."""
    try:
        tempfile.TemporaryFile(dir=str(folder)).close()
    except OSError as error:
        return error
    return None


def check_folders(root):
    error = written_to(root)
    if error:
        raise InstallError(
            f"the folder {root} cannot be written to ({error.strerror}), but .venv and _build have to go "
            "there: copy it to a place of your own"
        )
    try:
        tempfile.gettempdir()
    except OSError:
        raise InstallError(
            "there is no folder for temporary files that can be written to: either the disk is full, or name "
            "another one with: TMPDIR=/a/folder make ..."
        ) from None


def find_home(environment):
    """Set ``HOME`` to ``.venv/home`` if the home folder cannot be written to.

    pip, Matplotlib, IPython and Numba keep files there. Matplotlib warns about a home that it cannot write
    to, and a warning in a chapter fails the build of the book.
    """
    home, inside = os.environ.get("HOME", ""), str(environment / "home")
    if os.name != "posix" or home == inside:
        return
    closed = closed_folders(Path(home)) if Path(home or "missing").is_dir() else [home or "HOME is not set"]
    if closed:
        say(
            f"The home folder cannot be written to ({closed[0]}): what belongs there goes to {inside}. "
            f"make does so by itself; without make: export HOME='{inside}'"
        )
        os.environ["HOME"] = inside


def make_home(environment):
    if os.environ.get("HOME") == str(environment / "home"):
        (environment / "home").mkdir(exist_ok=True)


def closed_folders(home):
    # An installation with sudo leaves the folders below to root.
    inside = (".cache", ".config", ".cache/matplotlib", ".config/matplotlib")
    folders = [home, *(home / name for name in inside)]
    return [str(folder) for folder in folders if folder.is_dir() and written_to(folder)]


def check_space(environment):
    """Compare the needed with the free space on each disk. Returns variables for pip.

    A partly installed environment needs only the remaining part.
    """
    kind = "cuda" if LINUX else "cpu"
    # On Linux only an index of builds for CPUs has smaller packages. Its address contains "/cpu".
    if "/cpu" in os.environ.get("PIP_INDEX_URL", "") + os.environ.get("PIP_EXTRA_INDEX_URL", ""):
        kind = "cpu"
    final, downloads = SIZES[kind]
    stated = os.environ.get("UGMM_INSTALL_GB")
    if stated:
        try:
            final, downloads = float(stated), float(stated) / 2
        except ValueError:
            raise InstallError(f"UGMM_INSTALL_GB={stated} is not a number of gigabytes") from None
    left = max(0.0, 1 - size_of(environment) / GB / final)
    needs = [
        ("the environment", existing(environment), final * left),
        ("what pip downloads", existing(Path(tempfile.gettempdir())), downloads * left),
    ]
    cache = ("pip's copy of that", existing(pip_cache()), downloads * left)
    if not too_full([*needs, cache]):
        return {}
    if not too_full(needs):
        say("There is little space on the disk, so pip keeps no copy of its downloads.")
        return {"PIP_NO_CACHE_DIR": "1"}
    lines = [
        f"not enough space on the disk: {folder} has {free:.1f} GB free, {what} needs {need:.1f} GB"
        for what, folder, need, free in too_full(needs)
    ]
    lines += [
        "Make space, or:",
        "  TMPDIR=/a/folder make ...   downloads to another disk",
        "  ln -s /a/folder .venv       puts the environment on another disk",
    ]
    if kind == "cuda":
        lines += [
            "  PIP_EXTRA_INDEX_URL=... UGMM_INSTALL_GB=2.5 make ...",
            "                              takes PyTorch without CUDA from its index of builds for CPUs; the",
            "                              address is on PyTorch's page about installing it, and the number",
            "                              says that less space is needed",
        ]
    raise InstallError("\n".join(lines))


def too_full(needs):
    """The needs whose disk lacks space for everything that goes onto it, each with the free space there."""
    demands, found = {}, []
    for _, folder, need in needs:
        disk = folder.stat().st_dev
        demands[disk] = demands.get(disk, 0.0) + need
    for what, folder, need in needs:
        free = shutil.disk_usage(str(folder)).free / GB
        if need and demands[folder.stat().st_dev] > free:
            found.append((what, folder, need, free))
    return found


def existing(folder):
    """The folder, or its nearest parent that exists. Links are followed."""
    folder = Path(os.path.realpath(str(folder)))
    while not folder.is_dir():
        folder = folder.parent
    return folder


def pip_cache():
    if os.environ.get("PIP_CACHE_DIR"):
        return Path(os.environ["PIP_CACHE_DIR"])
    if sys.platform == "darwin":
        return Path("~/Library/Caches/pip").expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or "~").expanduser() / "pip"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pip"


def size_of(folder):
    total = 0
    for parent, _, names in os.walk(str(folder)):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(str(Path(parent, name))).st_size
    return total


# --- the environment -----------------------------------------------------------------------------------


def python_in(environment):
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def version_in(environment):
    """The version of the Python in an environment, or None if it does not start."""
    code = "import sys; print(*sys.version_info[:3])"
    try:
        printed = subprocess.check_output(
            [str(python_in(environment)), "-c", code], stderr=subprocess.DEVNULL, timeout=60
        )
        return tuple(int(part) for part in printed.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def works(environment):
    """Whether an environment is usable: its Python is new enough, and it has pip or can get it."""
    version = version_in(environment)
    if version is None or version < OLDEST:
        return False
    if answers(environment, "-m", "pip", "--version"):
        return True
    # Some tools, such as uv, make environments without pip. Add pip and keep the rest.
    return answers(environment, "-m", "ensurepip") and answers(environment, "-m", "pip", "--version")


def answers(environment, *arguments):
    command = [str(python_in(environment)), *arguments]
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def create(environment):
    # venv refuses a link to a folder on another disk.
    command = [sys.executable, "-m", "venv", "--clear", os.path.realpath(str(environment))]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = done.communicate()[0].decode("utf-8", "replace")
    if done.returncode or not works(environment):
        raise InstallError(f"{' '.join(command)} failed:\n{last_lines(output)}\n{explain(output)}")


# --- the marker ----------------------------------------------------------------------------------------


def made_of(root, environment, constraints):
    """Everything an environment depends on, for the marker. If a value changes, it is installed again."""
    version = version_in(environment)
    return {
        # A moved or copied environment still points to the package in the old folder.
        "folder": str(root),
        "python": version and number(version[:2]),
        "requirements": digest(requirements(root)),
        "constraints": constraints and digest((root / constraints).read_text(encoding="utf-8")),
    }


def requirements(root):
    """pyproject.toml without the settings of other tools, which do not affect the installation."""
    kept, keep = [], True
    for line in (root / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            keep = not re.match(r"\[+tool\.(?!setuptools\b)", line)
        if keep:
            kept.append(line)
    return "\n".join(kept)


def digest(text):
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def marker_of(environment):
    """The content of the marker, or None if there is none or it cannot be read."""
    try:
        return json.loads((environment / ".ready").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def mark(environment, made):
    """Write the marker completely or not at all, even if the power fails."""
    draft = environment / ".ready.new"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(made, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(environment / ".ready")


# --- what an interrupted pip leaves behind -----------------------------------------------------------------


def site_packages(environment):
    found = [*environment.glob("lib/python*/site-packages"), *environment.glob("Lib/site-packages")]
    return found[0] if found else environment


def broken(site, contents=False):
    """The folders ``NAME.dist-info`` of incomplete packages.

    pip writes the list of a package's files last, so the list is missing if pip was killed. A power cut or a
    full disk leaves files that are shorter than the list says. With ``contents`` every file is read and
    compared with its checksum.
    """
    found = []
    for info in sorted(site.glob("*.dist-info")):
        try:
            with (info / "RECORD").open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == 3 and row[2]]
            if rows and all(is_whole(site / path, *row, contents) for path, *row in rows):
                continue
        except (OSError, ValueError):
            pass
        found.append(info)
    return found


def is_whole(path, checksum, size, contents):
    if path.stat().st_size != int(size):
        return False
    if not contents or not checksum.startswith("sha256="):
        return True
    read = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            read.update(part)
    return base64.urlsafe_b64encode(read.digest()).decode().rstrip("=") == checksum[7:]


def repair(site, contents=False):
    """Remove what makes pip skip incomplete packages. Returns the names of these packages."""
    # pip renames the packages that it replaces, and complains about leftovers at every later call.
    for rest in site.glob("~*"):
        shutil.rmtree(str(rest), ignore_errors=True) if rest.is_dir() else rest.unlink()
    names = []
    for info in broken(site, contents):
        # Without this folder, pip treats the package as not installed and overwrites its files.
        shutil.rmtree(str(info), ignore_errors=True)
        names.append(info.name.split("-")[0])
    return names


def find_unimportable(environment):
    """The first module that cannot be imported, with the reason, or None if all can."""
    command = [str(python_in(environment)), "-W", "ignore", "-c", IMPORT_ALL, *IMPORTS]
    # Run outside the repository, whose files would hide that a package is not installed.
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=elsewhere, env=variables()
        )
        output = done.communicate()[0].decode("utf-8", "replace")
    return last_lines(output, 3) if done.returncode else None


# --- pip -------------------------------------------------------------------------------------------------

_OTHER_PYTHON = "Try another Python: make PYTHON=python3.12 ..."
_UNREACHABLE = (
    "The package registry cannot be reached. Connect to the network, or name a registry that can be: "
    "PIP_INDEX_URL=... make ..., behind a proxy also HTTPS_PROXY=..."
)
#: Patterns in pip's output, the more specific ones first, and what to do.
REASONS = (
    (
        "No space left|Errno 28|quota exceeded|Errno 122",
        "There is no space left on the disk: make some, or name another disk for what is downloaded: "
        "TMPDIR=/a/folder make ...",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "The package registry's certificate is not accepted. Where a proxy of your organisation stands "
        "between, name its certificate: PIP_CERT=/path/to/certificate.pem make ...",
    ),
    (
        r"command '?\S*(cc|clang|\+\+)\S* failed|Microsoft Visual C\+\+|find a compiler|building wheel",
        "A package has no ready-made build for this Python and system, and compiling it failed. "
        + _OTHER_PYTHON,
    ),
    (
        "ConnectionError|Connection refused|NameResolutionError|name resolution|getaddrinfo|ProxyError|"
        "connection broken|Max retries exceeded|Name or service not known|TimeoutError|timed out|unreachable",
        _UNREACHABLE,
    ),
    (
        "No matching distribution found|ResolutionImpossible|Could not find a version",
        "A package is not there in the version asked for, or not for this Python and system. "
        f"{_OTHER_PYTHON}, or the newest versions: make CONSTRAINTS= ...",
    ),
    ("Permission denied|Errno 13|Read-only file system", "A file cannot be written; its name is above."),
)


def explain(output):
    return next((advice for signs, advice in REASONS if re.search(signs, output, re.IGNORECASE)), "")


def last_lines(output, count=12):
    lines = [line for line in output.splitlines() if line.strip() and "is ignored: it is neither" not in line]
    return "\n".join("    " + line for line in lines[-count:])


def variables(**more):
    """Our environment variables, without the pip settings that fail in a .venv."""
    return dict(os.environ, PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PYTHONIOENCODING="utf-8", **more)


def pip_install(root, environment, arguments, more, lock=None):
    """Run pip, show the steps that take long, and raise an error if it fails."""
    command = [str(python_in(environment)), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += ["install", "--progress-bar", "off", *arguments]
    # If pip outlives this process, it still holds the lock.
    options = {} if lock is None else {"pass_fds": (lock,)}
    options.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=str(root), env=variables(**more))
    lines, seen = queue.Queue(), []
    log = environment / "install.log"
    with subprocess.Popen(command, **options) as pip, log.open("a", encoding="utf-8") as file:
        threading.Thread(target=read_lines, args=(pip.stdout, lines), daemon=True).start()
        started = time.monotonic()
        try:
            while True:
                try:
                    line = lines.get(timeout=HEARTBEAT)
                except queue.Empty:
                    say(f"      ... {(time.monotonic() - started) / 60:.0f} minutes")
                    continue
                if line is None:
                    break
                seen.append(line)
                with contextlib.suppress(OSError):  # pip itself reports a full disk
                    file.write(line + "\n")
                    file.flush()
                shown = worth_showing(line)
                if shown:
                    say("      " + shown)
        except BaseException:
            pip.terminate()
            raise
    if pip.returncode:
        output = "\n".join(seen)
        advice = explain(output)
        raise InstallError(
            # A page of failed attempts would add nothing.
            ("" if advice == _UNREACHABLE else f"pip failed. Its last lines:\n{last_lines(output)}\n")
            + (advice or "Run the same command again; if that does not help, remove .venv first.")
            + f"\nAll that pip said is in {log}. The same command goes on where this one stopped."
        )


def read_lines(stream, lines):
    for line in stream:
        lines.put(line.decode("utf-8", "replace").rstrip())
    lines.put(None)


def worth_showing(line):
    """A short form of a line from pip if it starts something slow, else an empty string."""
    loading = re.match(r"\s*Downloading (\S+) \(([\d.]+) (MB|GB)\)", line)
    if loading:
        name, size, unit = loading.groups()
        if unit == "GB" or float(size) >= LARGE_MB:
            return f"downloading {name.rsplit('/', 1)[-1].split('-')[0]} ({size} {unit})"
    if line.startswith("Installing collected packages: "):
        count = line.count(",") + 1
        return f"unpacking {count} package{'s' * (count > 1)}{', one to three minutes' * (count > 20)}"
    retry = re.search(r"Retrying \(Retry\(total=(\d+)", line)
    if retry and retry.group(1) == "3":
        return "the package registry does not answer, trying again"
    return ""


# --- all together ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(root):
    """Wait until no other installation uses this folder. Yields the lock's file descriptor, or None."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield None
        return
    folder = os.open(str(root), os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another install works in this folder: waiting until it is done.")
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield folder
    finally:
        os.close(folder)


def is_ready(root, environment, constraints):
    made = marker_of(environment)
    return made is not None and made == made_of(root, environment, constraints)


def install(root=ROOT, constraints="constraints.txt"):
    """Bring ``.venv`` up to date.

    Raises:
        InstallError: something is missing, or pip failed.
    """
    environment = root / ".venv"
    if constraints and not (root / constraints).is_file():
        raise InstallError(f"there is no file {constraints}; make CONSTRAINTS= ... takes the newest versions")
    if is_ready(root, environment, constraints):
        make_home(environment)
        return
    check_folders(root)
    with locked(root) as lock:
        if is_ready(root, environment, constraints):  # another installation was faster
            return
        usable = works(environment)
        if not usable:
            check_python()
        find_home(environment)
        more = check_space(environment)
        say("Installing once into .venv; interrupted, the same command goes on where it stopped.")
        if not usable:
            say(f"[1/3] Python {number(sys.version_info[:3])}: making .venv, ten seconds")
            create(environment)
        else:
            say(f"[1/3] .venv is there, with Python {number(version_in(environment))}")
        make_home(environment)
        made = made_of(root, environment, constraints)
        with contextlib.suppress(OSError):
            (environment / ".ready").unlink()
        halves = repair(site_packages(environment))
        if halves:
            say(f"      half installed, to be installed again: {', '.join(halves)}")
        say("[2/3] Packages, PyTorch among them: four minutes on two cores, and the time of the downloads")
        say("      (3.5 GB on Linux, where PyTorch brings CUDA libraries; less than 1 GB elsewhere)")
        pinned = ["-c", constraints] if constraints else []
        pip_install(root, environment, [*pinned, "-e", ".[dev]"], more, lock)
        say("[3/3] Importing everything once, up to a minute")
        check_imports(root, environment, pinned, more, lock)
        mark(environment, made)
        say("Installed.")


def check_imports(root, environment, pinned, more, lock):
    """Import everything. If that fails, install damaged packages again, once."""
    failed = find_unimportable(environment)
    if failed:
        say(
            f"{failed}\n      Something is damaged: comparing all files with their checksums, a minute or two"
        )
        damaged = repair(site_packages(environment), contents=True)
        if damaged:
            say(f"      to be installed again: {', '.join(damaged)}")
            pip_install(root, environment, [*pinned, "-e", ".[dev]"], more, lock)
            failed = find_unimportable(environment)
    if failed:
        raise InstallError(
            f"everything is installed, but cannot be imported:\n{failed}\n"
            "If these lines name nothing that this system lacks, remove .venv and run the same command again"
        )


def main(arguments=None):
    """Run the command. Return 0, or 1 after an error, or 130 if interrupted."""
    parser = argparse.ArgumentParser(description="Put what the book needs into .venv.")
    versions = "file of versions to install; '' for the newest"
    parser.add_argument("--constraints", default="constraints.txt", metavar="FILE", help=versions)
    try:
        install(constraints=parser.parse_args(arguments).constraints)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"error: {error}. {explain(str(error))}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on where this one stopped.", file=sys.stderr, flush=True)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
