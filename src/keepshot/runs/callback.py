"""Few-shot ability while a model is trained: a callback for any `transformers` or TRL trainer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from keepshot.errors import ConfigError
from keepshot.evaluation import Evaluation, EvaluationPlan, evaluate_tasks, few_shot_tasks, headline_shots, retention
from keepshot.models.load import CausalLM
from keepshot.prompts import TemplateName, encode
from keepshot.runs.subjects import as_subject
from keepshot.tasks.builtin import builtin_suite
from keepshot.tasks.example import Example, Suite, Task
from keepshot.train import PlannedRow, ReferenceBank, mean_kl, reference_bank

# A watch need not decide a gate: 4 sets x 8 queries of every task.
WATCH = EvaluationPlan(shots=(0, 16), sets=4, queries=8)
KL_ROWS = 64
KL_TOKENS = 4096
KEPT = 64


@dataclass(frozen=True, slots=True)
class Watched:
    """What the callback saw at a step.

    Attributes:
        step: Optimiser steps done.
        retention: At the largest shot count of the plan that fits all tasks; None where it cannot be measured.
        low: Lower end of its 95 % interval.
        high: Upper end.
        target: Zero-shot accuracy on the target; None without one.
        kl_nats: Mean forward KL from the base per answer token of the target's inputs: what forgetting follows
            (arXiv 2509.04259); None without a target.
    """

    step: int
    retention: float | None
    low: float | None
    high: float | None
    target: float | None
    kl_nats: float | None


class RetentionCallback(TrainerCallback):
    """Measures how much few-shot ability is left, every few steps of a training.

    The model as it is when training begins is the base. Figures go to `seen` and to the trainer's log history, as
    `keepshot/retention`, `keepshot/target` and `keepshot/kl`. Evaluation draws no random numbers: training goes on as
    it would without it.

    Args:
        tokenizer: The model's.
        suite: Tasks that are not trained on; None is the bundled suite, for a first look.
        target: Test examples of the task that is trained on, for accuracy and KL.
        every: Steps between two looks.
        plan: What is asked; its zero-shot part is asked of the target.
        template: How prompts are written.
        stop_at: Zero-shot accuracy on the target at which training ends; None trains on.

    Example:
        >>> from keepshot.models.load import load_tokenizer
        >>> watch = RetentionCallback(load_tokenizer("mini"), every=50)
        >>> watch.seen    # Trainer(..., callbacks=[watch]).train() fills it
        []
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        suite: Suite | None = None,
        target: Sequence[Example] = (),
        every: int = 100,
        plan: EvaluationPlan = WATCH,
        template: TemplateName = "auto",
        stop_at: float | None = None,
    ) -> None:
        if every < 1:
            raise ConfigError(f"every is the number of steps between two looks, at least 1; got {every}")
        if stop_at is not None and not target:
            raise ConfigError("stop_at needs target: examples on which the accuracy is measured")
        if target and suite and any(task.name == "target" for task in suite.tasks):
            raise ConfigError("the suite has a task named target, as the callback calls its own; give it another name")
        self.tokenizer = tokenizer
        self.suite = suite or builtin_suite()
        self.target = tuple(target)
        self.every = every
        self.plan = plan
        self.template = template
        self.stop_at = stop_at
        self.seen: list[Watched] = []
        self._base: Evaluation | None = None
        self._rows: list[PlannedRow] = []
        self._bank: ReferenceBank | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask the base, which a resumed training no longer holds: resume with the callback that began it."""
        if self._base is not None:
            return
        if state.global_step:
            raise ConfigError("RetentionCallback was not there when training began, so it does not know the base")
        model: CausalLM = kwargs["model"]
        self._base = self._ask(model)
        if self.target:
            subject = as_subject(model, self.tokenizer, self.template, "base")
            prompts = [subject.template.render([example]) for example in self.target[:KL_ROWS]]
            self._rows = [
                PlannedRow("target", str(i), row, row.answers[-1:], 1.0)
                for i, row in enumerate(encode(prompts, self.tokenizer))
            ]
            self._bank = reference_bank(model, self._rows, kept=KEPT, temperature=1.0, budget=KL_TOKENS)
        model.train()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look, if it is time to."""
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        model: CausalLM = kwargs["model"]
        self.seen.append(self._look(model, state.global_step))
        model.train()
        found = self.seen[-1]
        named = {"retention": found.retention, "target": found.target, "kl": found.kl_nats}
        logs = {f"keepshot/{name}": value for name, value in named.items() if value is not None}
        state.log_history.append(logs | {"step": state.global_step})
        if self.stop_at is not None and found.target is not None and found.target >= self.stop_at:
            control.should_training_stop = True

    def _look(self, model: CausalLM, step: int) -> Watched:
        assert self._base is not None
        after = self._ask(model)
        tasks = few_shot_tasks(self.suite.tasks)
        shots = headline_shots(self._base, after, tasks)
        kept = None if shots is None else retention(self._base, after, tasks, shots)
        accuracies = after.accuracy("target", 0) if self.target else None
        return Watched(
            step,
            retention=kept.value if kept else None,
            low=kept.low if kept else None,
            high=kept.high if kept else None,
            target=sum(accuracies) / len(accuracies) if accuracies else None,
            kl_nats=None if self._bank is None else mean_kl(model, self._rows, self._bank, KL_TOKENS),
        )

    def _ask(self, model: CausalLM) -> Evaluation:
        subject = as_subject(model, self.tokenizer, self.template, "model")
        found = evaluate_tasks(subject, self.suite, self.plan)
        if not self.target:
            return found
        zero = replace(self.plan, shots=(0,))
        target = evaluate_tasks(subject, Suite("target", (Task("target", self.target),)), zero)
        return replace(found, tasks={**found.tasks, **target.tasks}, cells={**found.cells, **target.cells})
