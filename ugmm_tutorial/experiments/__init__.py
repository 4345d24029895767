"""The laboratory: every experiment of the book, the code that runs it, and its results.

The library imports none of it.

    experiment     what an experiment is
    catalogue      all experiments: which network is trained on which data
    lookup         an experiment or a group by its name
    runs           one training run: its settings, its files, its network
    record_checks  checks that a record belongs to a run
    tables         records as a table
    text_table     columns of text, aligned
    tuning         the search for settings
    replication    our numbers beside the paper's
    differences    the difference between two sets of runs
    cost           counts of a network's parameters and operations
    cost_table     these counts beside measured times
    artifacts      where records and measurements are stored
    studies        comparisons that take more than one training run
    bench          measurements of what the layer costs

Taught in chapters 6 to 8.
"""

from typing import TYPE_CHECKING

from ugmm_tutorial import _moved
from ugmm_tutorial.experiments.catalogue import EXPERIMENTS, GROUPS, find, group
from ugmm_tutorial.experiments.experiment import Experiment
from ugmm_tutorial.experiments.runs import Run
from ugmm_tutorial.experiments.tables import accuracy, table

__all__ = [
    "EXPERIMENTS",
    "GROUPS",
    "Experiment",
    "Run",
    "accuracy",
    "find",
    "group",
    "table",
]

if not TYPE_CHECKING:
    __getattr__ = _moved.renamed(__name__)
