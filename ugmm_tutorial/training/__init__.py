"""Training and evaluating networks, and keeping a record of it.

    loop         train(), which can be killed and resumed
    config       TrainConfig and the learning rate over the epochs
    run_state    what changes in a run, and its checkpoints
    steps        one step, also as a CUDA graph
    shared_steps one step of several processes
    processes    the processes that train one model together
    evaluation   loss and accuracy
    joint        generative training, for many networks at once
    checkpoints  the state of a run
    records      what a run did
    files        files written whole or not at all
    identity     what a network is, in plain values
    reproducible seeds and random states
    threads      one thread for small work

Taught in chapters 6 and 9.
"""

from ugmm_tutorial.training.checkpoints import CheckpointError
from ugmm_tutorial.training.config import SCHEDULERS, TrainConfig, learning_rates, schedule
from ugmm_tutorial.training.evaluation import evaluate, evaluating
from ugmm_tutorial.training.joint import OBJECTIVES, EnsembleTrainer, train_generative
from ugmm_tutorial.training.loop import TrainingError, train
from ugmm_tutorial.training.records import Record, RecordError, mean_and_interval
from ugmm_tutorial.training.steps import CapturedStep, Step
from ugmm_tutorial.training.threads import one_thread

__all__ = [
    "OBJECTIVES",
    "SCHEDULERS",
    "CapturedStep",
    "CheckpointError",
    "EnsembleTrainer",
    "Record",
    "RecordError",
    "Step",
    "TrainConfig",
    "TrainingError",
    "evaluate",
    "evaluating",
    "learning_rates",
    "mean_and_interval",
    "one_thread",
    "schedule",
    "train",
    "train_generative",
]
