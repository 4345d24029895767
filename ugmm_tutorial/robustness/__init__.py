"""What happens when inputs break: bounds under any change of some inputs, certificates, attacks.

Taught in the chapter *When inputs break*.
"""

from ugmm_tutorial.robustness.certificate import Certificate, certify
from ugmm_tutorial.robustness.layer import bounds_if_changed, influence, worst_case_bounds
from ugmm_tutorial.robustness.training import certified_loss, lower_leads

__all__ = [
    "Certificate",
    "bounds_if_changed",
    "certified_loss",
    "certify",
    "influence",
    "lower_leads",
    "worst_case_bounds",
]
