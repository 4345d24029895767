"""How networks are trained, evaluated and written down.

    loop         train(), which stops and goes on
    config       TrainConfig and the learning rate over the epochs
    steps        one step, also as a CUDA graph
    evaluation   loss and accuracy
    joint        generative training, for many networks at once
    checkpoints  the state of a run
    records      what a run did
    files        files written whole or not at all
    threads      one thread for small work

Taught in chapters 6 and 8.
"""

from ugmm_tutorial.training.checkpoints import CheckpointError
from ugmm_tutorial.training.config import SCHEDULERS, TrainConfig, learning_rates, schedule
from ugmm_tutorial.training.evaluation import evaluate, evaluating
from ugmm_tutorial.training.joint import OBJECTIVES, JointTraining, train_alone
from ugmm_tutorial.training.loop import TrainingError, train
from ugmm_tutorial.training.records import Record, RecordError, mean_and_interval
from ugmm_tutorial.training.steps import CapturedStep, Step
from ugmm_tutorial.training.threads import one_thread

__all__ = [
    "OBJECTIVES",
    "SCHEDULERS",
    "CapturedStep",
    "CheckpointError",
    "JointTraining",
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
    "train_alone",
]
