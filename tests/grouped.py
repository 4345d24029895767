"""How ``--dist loadgroup`` deals out this project's tests to several workers."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

__all__ = ["Grouped"]

#: Files with several tests of many seconds, which share no more than their parameters.
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
    """One worker gets the tests of a file, which share fixtures, or the cells of a notebook.

    Only of some files it gets one test, or those with the same parameters. Groups begin in the order of
    collection, which ``conftest.py`` makes: what takes long comes first.
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
