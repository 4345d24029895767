"""The classroom: what chapters need beside the library and the laboratory, which import none of it.

claims           statements that a chapter's code checks
exercises        exercises and their answers, by chapter
plotting         figures in one style
figure_contract  what every figure must have
viewer           pictures that readers turn over
"""

from ugmm_tutorial.teaching.claims import claim
from ugmm_tutorial.teaching.viewer import SubmodeViewer

__all__ = ["SubmodeViewer", "claim"]
