"""What tells whether a folder was begun with the same data and asks the same."""

import hashlib

from keepshot.evaluation import EvaluationPlan
from keepshot.runs.data import TargetData
from keepshot.tasks.example import Suite, hold_line_ends

# Goes up when the same settings draw other questions than before.
DRAWING = 2


def digest(value: object) -> str:
    """A digest of records of plain values."""
    return hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()


def training_digest(target: TargetData) -> str:
    """A digest of the rows that a run trains on and watches."""
    return digest((target.train, target.validation, *_ending_otherwise(any(row.several_lines for row in target.train))))


def asked_digest(suite: Suite, plan: EvaluationPlan, template: str, context_length: int) -> str:
    """Identifies what an evaluation asks: equal digests make equal prompts, for models with the same tokenizer."""
    several = [task.name for task in suite.tasks if hold_line_ends((*task.examples, *task.pool))]
    return digest((DRAWING, suite.tasks, plan, template, context_length, *_ending_otherwise(several)))


def _ending_otherwise(several_lines: object) -> tuple[object, ...]:
    """What tells folders apart whose answers of several lines ended with a line; all other folders stay as they are."""
    return ("answers end where the next block begins", several_lines) if several_lines else ()
