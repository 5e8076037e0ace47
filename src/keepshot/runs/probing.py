"""The probes of a model on a target: does it learn from its context, ignore it, or copy it?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from keepshot.config import DataConfig
from keepshot.episodes import Neighbours
from keepshot.episodes.neighbours import DUPLICATE
from keepshot.errors import ConfigError
from keepshot.evaluation import Subject
from keepshot.evaluation.metrics import text_metric
from keepshot.files import write_json
from keepshot.keys import permutation
from keepshot.models.load import CausalLM
from keepshot.probes import Asked, Pool, Question, Scores, probe, questions
from keepshot.prompts import TemplateName
from keepshot.runs.answering import answers
from keepshot.runs.data import load_target
from keepshot.runs.retrieval import similarity_over
from keepshot.runs.subjects import as_subject, load_subject
from keepshot.tasks.example import Example, hold_line_ends

SCHEMA = "keepshot.probe/1"
QUERIES = 200


@dataclass(frozen=True, slots=True)
class Probes:
    """What is asked, of any model.

    Attributes:
        pool: Demonstrations.
        queries: Asked.
        questions: All prompts.
        metric: How an answer is compared, of `keepshot.evaluation.metrics`.
        several_lines: Whether answers hold line breaks.
    """

    pool: Pool
    queries: tuple[Example, ...]
    questions: tuple[Question, ...]
    metric: str
    several_lines: bool

    def ask(self, subject: Subject) -> tuple[Scores, list[Asked]]:
        """The scores of a model, and its answers.

        Raises:
            ConfigError: A prompt does not fit the model's context.
        """

        return probe(
            self.questions,
            lambda prompts: answers(subject, prompts, self.several_lines),
            text_metric(self.metric).score,
        )


def build_probes(
    data: DataConfig, *, count: int = QUERIES, shots: int = 5, seed: int = 0, similarity: str = "auto", metric: str = ""
) -> Probes:
    """The probes of a target: its training part is the pool, queries are drawn from its test part.

    Args:
        data: As in a run's config.
        count: The most queries.
        shots: Demonstrations in a context.
        seed: Of every draw.
        similarity: As for the methods `ic-*`.
        metric: How an answer is compared; the same text unless told.

    Raises:
        KeepshotError: The data cannot be used.
    """
    target = load_target(data, seed)
    pool = (*target.train, *target.validation)
    test = target.task.examples
    queries = tuple(test[place] for place in permutation(len(test), seed, "probe queries")[:count])
    neighbours = Neighbours(pool, similarity_over([one.input for one in pool], similarity), DUPLICATE)
    asked = Pool(neighbours, target.task.labels, None, shots, seed)
    lines = hold_line_ends([*pool, *queries])
    return Probes(asked, queries, tuple(questions(asked, queries)), metric, lines)


def probe_model(
    model: str,
    probes: Probes,
    *,
    template: TemplateName = "auto",
    output: Path | None = None,
    about: str = "",
    drift: Mapping[str, Any] | None = None,
    circuits: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Ask a model, and write what it came to.

    Args:
        model: `mini`, a folder, an adapter folder, or a hub id.
        probes: What is asked.
        template: How prompts are written.
        output: A JSON file.
        about: The data, for the record.
        drift: What `keepshot.runs.moving.moved` found, for the record.
        circuits: What `keepshot.runs.moving.circuits_moved` found.

    Returns:
        The record (schema `keepshot.probe/1`).
    """
    found, _ = probes.ask(load_subject(model, template))
    record = {
        "schema": SCHEMA,
        "model": model,
        "data": about,
        "queries": len(probes.queries),
        "pool": len(probes.pool.examples),
        "shots": probes.pool.shots,
        "seed": probes.pool.seed,
        "metric": probes.metric or "exact",
        **scores_json(found),
        **({} if drift is None else {"drift": dict(drift)}),
        **({} if circuits is None else {"circuits": dict(circuits)}),
    }
    if output is not None:
        write_json(output, record)
    return record


def scores_json(found: Scores) -> dict[str, Any]:
    """Scores and sweep as JSON values."""
    names = ("iwl", "icl", "copy", "leak", "zero_shot", "similar")
    return {
        "scores": {name: asdict(getattr(found, name)) for name in names},
        "sweep": {"grades": [asdict(step) for step in found.grades], "bins": [asdict(step) for step in found.bins]},
    }


class ProbeCallback(TrainerCallback):
    """Asks the probes every few steps of a training; for any `transformers` or TRL trainer.

    Args:
        tokenizer: The model's.
        probes: What is asked; a hundred queries take seconds on a small model.
        every: Steps between two looks.
        template: How prompts are written.

    Example:
        >>> from keepshot.config import DataConfig
        >>> from keepshot.models.load import load_tokenizer
        >>> asked = build_probes(DataConfig(train="mini:misspelt"), count=4)
        >>> ProbeCallback(load_tokenizer("mini"), asked).seen    # Trainer(..., callbacks=[watch]).train() fills it
        []
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        probes: Probes,
        *,
        every: int = 100,
        template: TemplateName = "auto",
    ) -> None:
        if every < 1:
            raise ConfigError(f"every is the number of steps between two looks, at least 1; got {every}")
        self.tokenizer, self.probes, self.every, self.template = tokenizer, probes, every, template
        self.seen: list[tuple[int, Scores]] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look, if it is time to."""
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        model: CausalLM = kwargs["model"]
        found, _ = self.probes.ask(as_subject(model, self.tokenizer, self.template, "probed"))
        model.train()
        self.seen.append((state.global_step, found))
        logs = {f"keepshot/{name}": getattr(found, name).value for name in ("iwl", "icl", "copy", "leak")}
        state.log_history.append(logs | {"step": state.global_step})
