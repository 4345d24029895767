"""What happens when inputs break: bounds under any change of some inputs, certificates, attacks.

Taught in the chapter *When inputs break*.
"""

from ugmm_tutorial.robustness.certificate import Certificate, certify
from ugmm_tutorial.robustness.layer import bounds_if_changed, influence, worst_case_bounds

__all__ = ["Certificate", "bounds_if_changed", "certify", "influence", "worst_case_bounds"]
