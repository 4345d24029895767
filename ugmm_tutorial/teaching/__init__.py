"""The classroom: what chapters need beside the library and the laboratory, which import none of it.

claims           statements that a chapter's code checks
exercises        exercises and the checks of their answers, by chapter
plotting         figures in one style
figure_contract  the rules for every figure
viewer           pictures that readers browse
"""

from ugmm_tutorial.optional import needed
from ugmm_tutorial.teaching.claims import claim

with needed("matplotlib seaborn", by="The classroom"):
    from ugmm_tutorial.teaching.viewer import SubmodeViewer

__all__ = ["SubmodeViewer", "claim"]
