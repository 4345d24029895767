"""The classroom: what chapters need beside the library and the laboratory, which import none of it.

claims           statements that a chapter's code checks
exercises        exercises and the checks of their answers, by chapter
plotting         figures in one style
figure_contract  the rules for every figure
viewer           pictures that readers browse
broken_inputs    networks side by side on inputs that readers break
"""

from ugmm_tutorial.teaching.broken_inputs import BrokenInputs
from ugmm_tutorial.teaching.claims import claim
from ugmm_tutorial.teaching.viewer import SubmodeViewer

__all__ = ["BrokenInputs", "SubmodeViewer", "claim"]
