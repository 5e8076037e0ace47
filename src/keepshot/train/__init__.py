"""The batch planner, the one Trainer subclass, and checkpoints that are complete or absent."""

from keepshot.train.arguments import check_train_fields, num_steps, rows_per_step, training_arguments
from keepshot.train.batches import MicroBatch, collate, micro_batches
from keepshot.train.checkpoints import checkpoints
from keepshot.train.objective import Objective
from keepshot.train.penalties import HeldNumbers
from keepshot.train.planner import PlannedRow, Planner, PlanState, Step, Stream, StreamState
from keepshot.train.reference import ReferenceBank, bank_key, load_bank, mean_kl, reference_bank, save_bank
from keepshot.train.trainer import Earlier, KeepTrainer

__all__ = [
    "Earlier",
    "HeldNumbers",
    "KeepTrainer",
    "MicroBatch",
    "Objective",
    "PlanState",
    "PlannedRow",
    "Planner",
    "ReferenceBank",
    "Step",
    "Stream",
    "StreamState",
    "bank_key",
    "check_train_fields",
    "checkpoints",
    "collate",
    "load_bank",
    "mean_kl",
    "micro_batches",
    "num_steps",
    "reference_bank",
    "rows_per_step",
    "save_bank",
    "training_arguments",
]
