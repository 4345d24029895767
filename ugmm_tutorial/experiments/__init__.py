"""The laboratory: every experiment of the book, how it is run, and what came out.

The library imports none of it.

    catalogue    what is trained on what
    runs         one training run: its settings, its files, its network
    record_checks  whether a record is of this run
    tables       records as a table
    tuning       the search for settings
    replication  our numbers beside the paper's
    cost         parameters and operations of a network, counted
    cost_table   the same beside measured times
    artifacts    where records and measurements lie
    studies      comparisons that are more than one training run
    bench        what the layer costs, measured

Taught in chapters 6 to 7c.
"""

from ugmm_tutorial.experiments.catalogue import EXPERIMENTS, GROUPS, Experiment, find, group
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
