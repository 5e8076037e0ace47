"""The batch planner, the one Trainer subclass, and checkpoints that are complete or absent."""

from keepshot.train.arguments import check_train_fields, num_steps, rows_per_step, training_arguments
from keepshot.train.batches import MicroBatch, collate, micro_batches
from keepshot.train.checkpoints import checkpoints
from keepshot.train.planner import PlannedRow, Planner, PlanState, Step, Stream, StreamState
from keepshot.train.trainer import KeepTrainer

__all__ = [
    "KeepTrainer",
    "MicroBatch",
    "PlanState",
    "PlannedRow",
    "Planner",
    "Step",
    "Stream",
    "StreamState",
    "check_train_fields",
    "checkpoints",
    "collate",
    "micro_batches",
    "num_steps",
    "rows_per_step",
    "training_arguments",
]
