"""For tests and notebooks alike: a claim that fails, fails; readers' notebooks would leave a note."""

import os

os.environ.setdefault("UGMM_CLAIMS", "strict")  # kernels inherit it
