"""Small trainings for tests: a plan over a handful of byte-level examples, and a trainer that runs on the CPU."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from keepshot.episodes import KShot, ZeroShot
from keepshot.models.load import load_tokenizer
from keepshot.prompts import PLAIN
from keepshot.strategies import TARGET, Strategy, Trainable, TrainableSet, apply_trainable
from keepshot.tasks.example import Example, Task
from keepshot.train import Earlier, KeepTrainer, Objective, PlannedRow, Planner, Stream, training_arguments

EXAMPLES = tuple(Example("ab" * (1 + i % 5) + str(i), ("yes", "no", "rather not")[i % 3]) for i in range(11))
"""Inputs and answers of several lengths."""

UPPER = Task("upper", tuple(Example(word, word.upper()) for word in ("a", "bc", "def", "ghij", "klmno", "pq")))


SMALL_SUITE = str(Path(__file__).parent / "small_suite")
"""One held-out task of 20 rows: for runs whose evaluation is not what is looked at."""


@cache
def byte_tokenizer() -> PreTrainedTokenizerBase:
    """The bundled tokenizer: a token id is a byte, and 1 begins a text."""
    return load_tokenizer("mini")


def target(weight: float = 1.0, seed: int = 0, examples: Sequence[Example] = EXAMPLES) -> Stream:
    """The target's stream."""
    return Stream(TARGET, ZeroShot(TARGET, examples, seed), None, weight)


def few_shot(share: float = 0.4, weight: float = 0.4, *, seed: int = 0, scored: Any = "all") -> Stream:
    """An added stream of 1 to 4 demonstrations and a query."""
    return Stream("few-shot", KShot("few-shot", (UPPER,), (1, 4), seed, scored), share, weight)


def plan(*streams: Stream, rows: int = 8, max_length: int = 128, tokens: int | None = None) -> Planner:
    """A planner of these streams, or of the target alone."""
    return Planner(streams or (target(),), PLAIN, byte_tokenizer(), max_length, rows, tokens)


def plan_of(strategy: Strategy, rows: int = 4) -> Planner:
    """A planner of a strategy's streams; every source is a few examples."""
    streams = [
        Stream(
            spec.name,
            ZeroShot(spec.name, EXAMPLES, 0) if spec.sampler == "zero-shot" else KShot(spec.name, (UPPER,), (1, 2), 0),
            spec.share,
            strategy.weight(spec.name),
        )
        for spec in strategy.streams
    ]
    return plan(*streams, rows=rows)


def trainer_of(
    trainable: TrainableSet,
    planner: Planner,
    folder: Path,
    fields: Mapping[str, Any] | None = None,
    *,
    validation: Sequence[PlannedRow] = (),
    micro_batch_tokens: int = 1000,
    objective: Objective = Objective(),  # noqa: B008 (frozen)
    earlier: Earlier = Earlier(),  # noqa: B008 (frozen)
) -> KeepTrainer:
    """A trainer of 3 steps with a learning rate that moves much; `fields` change that."""
    own = {
        "max_steps": 3,
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
    }
    fields = own | {"lr_scheduler_type": "constant"} | dict(fields or {})
    args = training_arguments(
        fields,
        folder=folder / "checkpoints",
        seed=0,
        learning_rate=0.01,
        max_steps=fields["max_steps"],
        steps_per_epoch=2,
    )
    return KeepTrainer(
        trainable,
        args,
        planner,
        metrics=folder / "metrics.jsonl",
        micro_batch_tokens=micro_batch_tokens,
        validation=validation,
        objective=objective,
        earlier=earlier,
    )


def prepared(model: Any, trainable: Trainable) -> TrainableSet:
    """A model whose trainable numbers may move."""
    return apply_trainable(model, trainable, seed=0)
