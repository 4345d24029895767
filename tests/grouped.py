"""How ``--dist loadgroup`` distributes this project's tests over several workers."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

__all__ = ["Grouped"]

#: Files with several tests that take many seconds and share nothing but their parameters.
APART = {
    "tests/experiments/studies/test_approximation_study.py",
    "tests/kernels/test_concurrency.py",
    "tests/density/test_em.py",
    "tests/experiments/test_runs.py",
    "tests/kernels/test_gpu_compile.py",
    "tests/kernels/test_kernels.py",
    "tests/book/test_launch_buttons.py",
    "tests/layers/test_layers.py",
    "tests/test_main.py",
    "tests/book/test_portability.py",
}


class Grouped(LoadScopeScheduling):
    """A worker gets all tests of a file, which share fixtures, or all cells of a notebook.

    From the files in ``APART`` it gets a single test, or the tests with the same parameters. Groups start in
    the order of collection. ``conftest.py`` puts the slow ones first.
    """

    def __init__(self, config, log=None):
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        if path not in APART:
            return path
        _, bracket, parameters = test.partition("[")
        return f"{path}[{parameters}" if bracket else nodeid
