"""The CPU kernel among threads and processes: many callers, forks, DataLoader workers, one cache for all."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import ugmm_tutorial
from ugmm_tutorial import kernels, ugmm_log_density

if kernels.unavailable("numba"):
    pytest.skip("the CPU kernel does not run here", allow_module_level=True)

from ugmm_tutorial.kernels import compiled, numba_kernels, numba_loops, openmp, thread_pool

# Long enough for the slowest machine; only what hangs ever takes as long.
PATIENCE = 600
START_METHODS = multiprocessing.get_all_start_methods()
needs_fork = pytest.mark.skipif(
    "fork" not in START_METHODS or sys.platform == "darwin", reason="no safe fork on this system"
)
# Python 3.12 and later warn of every fork beside running threads. What is tested is that it does no harm.
may_fork = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def arguments(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in [(20, 61), *((30, 61),) * 3]]


def numbers(seed=0):
    """Outputs and gradients, in one tensor."""
    leaves = [t.requires_grad_() for t in arguments(seed)]
    out = ugmm_log_density(*leaves, backend="numba")
    gradients = torch.autograd.grad(out.square().sum(), leaves)
    return torch.cat([t.detach().flatten() for t in (out, *gradients)])


def numbers_after_a_fork(seed=0):
    """The same without autograd: once it has threads of its own, a fork may not use it."""
    args = (*arguments(seed), None)
    out, state = torch.ops.ugmm.log_density(*args, "numba")
    gradients = torch.ops.ugmm.log_density_backward(2.0 * out, *args, state, True, True, "numba")
    return torch.cat([t.flatten() for t in (out, *gradients)]).tolist()


@pytest.fixture
def cut_small(monkeypatch):
    """Work as small as that of these tests is cut up too."""
    monkeypatch.setattr(numba_kernels, "_ELEMENTS_PER_TASK", 1)


@pytest.fixture
def runs(monkeypatch):
    """What each call of ``pool.run`` was given: the number of tasks, and of threads."""
    given, run = [], thread_pool.run

    def recording(tasks, threads):
        tasks = list(tasks)
        given.append((len(tasks), threads))
        run(tasks, threads)

    monkeypatch.setattr(thread_pool, "run", recording)
    return given


@pytest.fixture(params=["PyTorch's threads", "threads of our own"])
def team(request, monkeypatch):
    """Whose threads do the work. PyTorch's can be asked where it has loaded GNU's OpenMP."""
    if request.param == "threads of our own":
        monkeypatch.setattr(openmp, "run", lambda work, threads: False)
    elif openmp._found() is None:
        pytest.skip("PyTorch's threads cannot be asked here")
    return request.param


# --- The pool


def test_every_task_is_run_once_whatever_the_number_of_threads(team):
    for threads in (1, 2, 3, 50):
        done = []
        thread_pool.run([partial(done.append, i) for i in range(20)], threads)
        assert sorted(done) == list(range(20))
    thread_pool.run([], 3)


def test_tasks_may_come_from_a_generator():
    done = []
    thread_pool.run((partial(done.append, i) for i in range(5)), 2)
    assert sorted(done) == list(range(5))


def test_one_thread_is_the_callers_and_its_tasks_run_in_order():
    ran_in = []
    thread_pool.run([lambda i=i: ran_in.append((i, threading.get_ident())) for i in range(5)], 1)
    assert ran_in == [(i, threading.get_ident()) for i in range(5)]


def test_two_threads_run_two_tasks_at_once(team):
    both = threading.Barrier(2)
    thread_pool.run([lambda: both.wait(PATIENCE)] * 2, 2)


def test_the_last_task_may_be_taken_between_a_look_and_a_grasp(monkeypatch):
    class Racing(deque):
        def __bool__(self):
            return True

    monkeypatch.setattr(thread_pool, "deque", Racing)
    done = []
    thread_pool.run([partial(done.append, i) for i in range(5)], 2)
    assert sorted(done) == list(range(5))


class Failure(Exception):
    pass


@pytest.mark.parametrize("fails_first", ["caller", "helper"])
def test_an_error_is_raised_after_the_tasks_that_were_begun_have_ended(fails_first, team):
    """Tasks write into the caller's memory: none may outlive the call."""
    caller, both, ended = threading.get_ident(), threading.Barrier(2), []

    def task():
        both.wait(PATIENCE)
        if (threading.get_ident() == caller) == (fails_first == "caller"):
            raise Failure
        time.sleep(0.2)
        ended.append(True)

    with pytest.raises(Failure):
        thread_pool.run([task, task], 2)
    assert ended == [True]


@pytest.mark.parametrize("threads", [1, 2])
def test_after_an_error_no_further_task_is_begun_and_the_pool_goes_on_working(threads, monkeypatch, team):
    both_begun, cleared, begun, done = threading.Barrier(threads), threading.Event(), [], []

    class Watched(deque):
        def clear(self):
            super().clear()
            cleared.set()

    monkeypatch.setattr(thread_pool, "deque", Watched)

    def fail():
        both_begun.wait(PATIENCE)
        raise Failure

    def end_after_it():
        both_begun.wait(PATIENCE)
        cleared.wait(PATIENCE / 10)

    further = [partial(begun.append, i) for i in range(50)]
    with pytest.raises(Failure):
        thread_pool.run([fail, *([end_after_it] if threads > 1 else []), *further], threads)
    thread_pool.run([partial(done.append, i) for i in range(10)], threads)
    assert sorted(done) == list(range(10))
    assert begun == []


# --- Threads


def test_the_number_of_threads_is_pytorchs(runs, cut_small, set_threads):
    for threads in (1, 2, 3):
        set_threads(threads)
        runs.clear()
        numbers()
        assert {asked for _, asked in runs} == {threads}
        assert all((tasks >= threads) if threads > 1 else (tasks == 1) for tasks, _ in runs)


def test_small_work_is_not_cut_up(runs, set_threads):
    set_threads(4)
    numbers()
    assert {tasks for tasks, _ in runs} == {1}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_callers_at_once_get_the_bits_of_one_alone(threads, cut_small, set_threads, team):
    set_threads(threads)
    alone = [numbers(seed) for seed in range(8)]
    start = threading.Barrier(8)

    def call(seed):
        torch.set_num_threads(threads)  # PyTorch keeps it by thread
        start.wait(PATIENCE)
        return [numbers(seed) for _ in range(20)]

    with ThreadPoolExecutor(8) as callers:
        results = list(callers.map(call, range(8)))
    for seed, repeated in enumerate(results):
        assert all(torch.equal(result, alone[seed]) for result in repeated)


def test_the_numbers_of_these_tests_are_the_same_with_and_without_autograd():
    torch.testing.assert_close(torch.tensor(numbers_after_a_fork()), numbers())


# --- Processes


def forked(function, *args):
    """What a function returns in a forked child; a child that hangs is killed, and fails."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child():
        sender.send(function(*args))
        sender.close()

    process = context.Process(target=child)
    process.start()
    sender.close()
    try:
        assert receiver.poll(PATIENCE / 4), "the child process hangs"
        result = receiver.recv()
        process.join(PATIENCE / 4)
        assert process.exitcode == 0
        return result
    finally:
        if process.is_alive():
            process.kill()
            process.join()


@needs_fork
@may_fork
@pytest.mark.happens(
    "Fast kernels",
    when="a process forks after it has used the kernels",
    see="nothing: the child computes",
    kept="the same bits as in the parent",
)
def test_a_forked_child_computes_the_same_after_its_parent_used_the_pool(cut_small, set_threads, team):
    set_threads(2)
    expected = numbers_after_a_fork()
    assert team == "PyTorch's threads" or thread_pool._pool is not None
    # Now PyTorch has threads too, which the child has not: its own logarithm would wait for them for ever.
    torch.log_softmax(torch.ones(24_000, 19), -1)
    assert forked(numbers_after_a_fork) == expected
    assert numbers_after_a_fork() == expected


def grandchild():
    numbers_after_a_fork()
    return forked(numbers_after_a_fork)


@needs_fork
@may_fork
def test_a_grandchild_computes_the_same(cut_small, set_threads):
    set_threads(2)
    assert forked(grandchild) == numbers_after_a_fork()


@needs_fork
@may_fork
def test_a_fork_while_other_threads_are_in_the_pool_does_no_harm(cut_small, set_threads, team):
    set_threads(2)
    expected, stop = numbers_after_a_fork(), threading.Event()

    def keep_busy():
        torch.set_num_threads(2)
        while not stop.is_set():
            numbers_after_a_fork(1)

    with ThreadPoolExecutor(2) as others:
        busy = [others.submit(keep_busy) for _ in range(2)]
        try:
            for _ in range(5):
                assert forked(numbers_after_a_fork) == expected
        finally:
            stop.set()
        for other in busy:
            other.result()
    assert numbers_after_a_fork() == expected


@needs_fork
@may_fork
def test_a_child_forked_while_the_pools_lock_is_held_has_a_lock_of_its_own(cut_small, set_threads):
    set_threads(2)
    expected = numbers_after_a_fork()
    with thread_pool._lock:
        assert forked(numbers_after_a_fork) == expected


def looks_and_compiles():
    """What a process does that uses a kernel for the first time."""
    import numba

    return kernels.unavailable("numba"), numba.njit(lambda x: x + 1)(1)


@needs_fork
@may_fork
@pytest.mark.parametrize("whose", ["kernels", "numba"])
def test_a_fork_waits_while_another_thread_looks_what_can_run_or_compiles(whose):
    """Else the child would wait for ever for a thread that it does not have."""
    from numba.core.compiler_lock import global_compiler_lock

    lock = kernels._lock if whose == "kernels" else global_compiler_lock
    holds, ended = threading.Event(), []

    def hold():
        with lock:
            holds.set()
            time.sleep(0.3)
            ended.append(True)

    with ThreadPoolExecutor(1) as other:
        other.submit(hold)
        assert holds.wait(PATIENCE)
        assert forked(looks_and_compiles) == (None, 2)
        assert ended == [True]
    assert looks_and_compiles() == (None, 2)


@needs_fork
@may_fork
def test_a_thread_that_looks_what_can_run_may_fork_itself():
    with kernels._lock:
        assert forked(looks_and_compiles) == (None, 2)


class Outputs(Dataset):
    """Each sample is computed by the operator, where it is loaded."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        torch.set_num_threads(2)  # a worker has one, and would not need the pool
        numba_kernels._ELEMENTS_PER_TASK = 1
        return torch.tensor(numbers_after_a_fork(index))


@may_fork
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(
    "method", [pytest.param("fork", marks=needs_fork), pytest.param("spawn", marks=pytest.mark.slow)]
)
def test_workers_of_a_data_loader_compute_the_same(method, cut_small, set_threads):
    set_threads(2)
    expected = torch.tensor([numbers_after_a_fork(index) for index in range(6)])
    loader = DataLoader(
        Outputs(), batch_size=2, num_workers=2, multiprocessing_context=method, timeout=PATIENCE / 2
    )
    assert torch.equal(torch.cat(list(loader)), expected)


# --- The cache of compiled kernels


@pytest.fixture
def numba_cache(monkeypatch):
    """Point Numba's own setting elsewhere, and forget what was decided before and in the test."""
    import numba

    def set_folder(folder):
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
        compiled.cache_folder.cache_clear()
        return numba.config

    yield set_folder
    compiled.cache_folder.cache_clear()


def double(x):
    return 2 * x


def test_numbas_own_setting_names_the_folder_and_is_left_as_it_was(numba_cache, tmp_path):
    config = numba_cache(tmp_path / "elsewhere")
    assert compiled.cache_folder().parent == tmp_path / "elsewhere"
    function = compiled.compiled(set())(double)
    assert Path(config.CACHE_DIR) == tmp_path / "elsewhere"
    assert function(3) == 6
    assert list(function.stats.cache_misses.values()) == [1]
    assert [path for path in (tmp_path / "elsewhere").rglob("*.nbi") if "double" in path.name]
    again = compiled.compiled(set())(double)
    assert again(3) == 6
    assert list(again.stats.cache_hits.values()) == [1]


def test_without_that_setting_the_folder_is_the_users_and_the_setting_stays_empty(
    numba_cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(compiled.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    config = numba_cache("")
    assert compiled.cache_folder().parent == tmp_path / "ugmm_tutorial" / "numba"
    function = compiled.compiled(set())(double)
    assert config.CACHE_DIR == ""
    assert function(3) == 6
    assert list((tmp_path / "ugmm_tutorial" / "numba").rglob("*.nbi"))


def test_where_nothing_can_be_written_kernels_are_compiled_without_a_cache(numba_cache, tmp_path):
    (tmp_path / "file").touch()
    config = numba_cache(tmp_path / "file" / "below")
    assert compiled.cache_folder() is None
    function = compiled.compiled(set())(double)
    assert function(3) == 6
    assert not function.stats.cache_path
    assert Path(config.CACHE_DIR) == tmp_path / "file" / "below"


def test_kernels_hold_no_lock_while_they_run():
    for kernel in (numba_loops.forward, numba_loops.backward):
        assert kernel.targetoptions["nogil"]


# In a process of its own: where the kernels are kept is decided when they are imported.
SCRIPT = """
import json, threading, torch
from ugmm_tutorial import ugmm_log_density

x, mean = torch.linspace(-3, 3, 8).view(2, 4), torch.zeros(3, 4)
outputs = []
call = lambda: outputs.append(ugmm_log_density(x, mean, mean, mean, backend="numba").tolist())
callers = [threading.Thread(target=call) for _ in range(4)]
[caller.start() for caller in callers]
[caller.join() for caller in callers]

import ugmm_tutorial
from ugmm_tutorial.kernels import compiled, numba_loops
stats = numba_loops.forward.stats
print(json.dumps({
    "package": ugmm_tutorial.__file__, "folder": str(compiled.cache_folder()), "outputs": outputs,
    "hits": sum(stats.cache_hits.values()), "misses": sum(stats.cache_misses.values()),
}))
"""


def in_a_fresh_process(installed, cache_home):
    """Run the script with the package from ``installed`` and the user's caches in ``cache_home``."""
    environment = {n: v for n, v in os.environ.items() if n != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(cache_home)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-B", "-c", SCRIPT],
        env=environment,
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert Path(report["package"]).is_relative_to(installed)
    x, mean = torch.linspace(-3, 3, 8).view(2, 4), torch.zeros(3, 4)
    expected = ugmm_log_density(x, mean, mean, mean, backend="reference")
    for output in report["outputs"]:
        torch.testing.assert_close(torch.tensor(output), expected)
    assert len(report["outputs"]) == 4
    return report


@pytest.fixture
def installed(tmp_path):
    """A copy of the package as an installation for reading only has it: nothing beside the sources."""
    folder = tmp_path / "installed"
    source = Path(ugmm_tutorial.__file__).parent
    shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(folder.rglob("*"))
    for path in [folder, *before]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in [folder, *before]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    # Whoever may write everywhere is not stopped by that.
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG_CACHE_HOME is Linux's")
def test_kernels_are_compiled_once_for_the_user_and_the_installation_stays_as_it_is(installed, tmp_path):
    home = tmp_path / "home"
    first = in_a_fresh_process(installed, home)
    assert Path(first["folder"]).parent == home / "ugmm_tutorial" / "numba"
    assert (first["hits"], first["misses"]) == (0, 1)
    assert list((home / "ugmm_tutorial" / "numba").rglob("*forward*.nbc"))
    second = in_a_fresh_process(installed, home)
    assert (second["hits"], second["misses"]) == (1, 0)
    shared = installed / "ugmm_tutorial" / "kernels" / "numba_elements.py"
    shared.chmod(0o644)
    text = shared.read_text()
    shared.write_text(f"{text}\n# A change in a file that the kernel's own imports.\n")
    changed = in_a_fresh_process(installed, home)
    assert (changed["hits"], changed["misses"]) == (0, 1)
    shared.write_text(text)
    again = in_a_fresh_process(installed, home)
    assert (again["hits"], again["misses"]) == (1, 0)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG_CACHE_HOME is Linux's")
def test_kernels_run_where_the_user_cannot_write_either(installed, tmp_path):
    (tmp_path / "file").touch()
    report = in_a_fresh_process(installed, tmp_path / "file" / "below")
    assert report["folder"] == "None"
    assert report["hits"] == 0


AT_SHUTDOWN = """
import atexit
import torch
from ugmm_tutorial import ugmm_log_density

torch.set_num_threads(2)
arguments = [torch.randn(64, 300) for _ in range(4)]
before = ugmm_log_density(*arguments, backend="numba")

def again():
    print(torch.equal(ugmm_log_density(*arguments, backend="numba"), before))

atexit.register(again)
"""


@pytest.mark.slow
def test_the_kernel_still_works_while_the_interpreter_shuts_down():
    done = subprocess.run(
        [sys.executable, "-c", AT_SHUTDOWN], capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout == "True\n"
    assert done.stderr == ""


TWO_KINDS_OF_LOOPS = """
import hashlib, torch
from ugmm_tutorial.kernels import numba_columns, numba_kernels, numba_loops

digest = hashlib.sha256()
for b, k, j in ((32, 4, 8), (5, 30, 7)):
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(b, n, generator=generator) for n in (k, j))
    parameters = [torch.randn(j, k, generator=generator) for _ in range(3)]
    out, state = numba_kernels.forward(x, *parameters)
    needed = {"needs_x": True, "needs_parameters": True}
    gradients = numba_kernels.backward(grad, x, *parameters, None, state, **needed)[:4]
    for found in (out, *gradients):
        digest.update(found.numpy().tobytes())
kernels = [getattr(m, n) for m in (numba_columns, numba_loops) for n in ("forward", "backward")]
print(digest.hexdigest(), sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels))
"""


@pytest.mark.slow
def test_kernels_from_the_cache_give_the_bits_of_those_just_compiled(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    just_compiled, cached = (
        subprocess.run(
            [sys.executable, "-c", TWO_KINDS_OF_LOOPS],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        ).stdout.split()
        for _ in range(2)
    )
    assert (just_compiled[1], cached[1]) == ("0", "4")
    assert just_compiled[0] == cached[0]
