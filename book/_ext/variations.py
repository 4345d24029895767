"""Variations that stand for other machines: instruction sets, threads, rounding, and sources of digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Limit vector units to what every 64-bit processor has, in each library that chooses its own instructions.
_BASELINE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "OPENBLAS_CORETYPE": "Nehalem",
}
#: The same with a limit at AVX2, which most laptops of the last ten years have.
_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
    "OPENBLAS_CORETYPE": "Haswell",
}


@dataclass(frozen=True)
class Variation:
    """One other machine: name, environment variables, source of digits, noise seed, and number of threads."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    digits: str = "mnist"
    noise: int | None = None
    threads: int = 1

    @property
    def environment(self) -> dict[str, str]:
        """All variables that a process of this variation gets."""
        given = {"OMP_NUM_THREADS": str(self.threads), "UGMM_IMAGES": self.digits}
        return given | dict(self.variables)


VARIATIONS = (
    Variation("as it is"),
    Variation("two threads", threads=2),
    Variation("four threads", threads=4),
    Variation("baseline instructions", _BASELINE),
    Variation("AVX2", _AVX2),
    Variation("AVX2, two threads, noise", _AVX2, threads=2, noise=1),
    Variation("rounding noise 2", noise=2),
    Variation("rounding noise 3", noise=3),
    Variation("MNIST's 5,000", digits="mnist-5k"),
    Variation("MNIST's 5,000, AVX2, noise", _AVX2, digits="mnist-5k", noise=4),
    Variation("MNIST's 5,000, baseline, noise", _BASELINE, digits="mnist-5k", noise=5),
    Variation("scikit-learn's digits", digits="digits"),
    Variation("scikit-learn's digits, AVX2, noise", _AVX2, digits="digits", noise=6),
    Variation("scikit-learn's digits, baseline, noise", _BASELINE, digits="digits", noise=7),
)
