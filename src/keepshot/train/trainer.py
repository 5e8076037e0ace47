"""The one subclass of `transformers.Trainer`: batches of the planner, coefficients, checkpoints that survive a kill."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import ExportableState, TrainerControl

from keepshot.errors import DivergedError
from keepshot.files import read_json
from keepshot.models.logits import kept_logits
from keepshot.strategies.soft_prompt import insert_prompt
from keepshot.strategies.terms import token_nll
from keepshot.strategies.trainable import TrainableSet, register_gradient_masks
from keepshot.train.arguments import refusals
from keepshot.train.batches import MicroBatch, micro_batches
from keepshot.train.checkpoints import (
    load_plan,
    load_trainable,
    new_checkpoint,
    rotate,
    save_plan,
    save_trainable,
    truncate_metrics,
)
from keepshot.train.objective import Objective
from keepshot.train.planner import PlannedRow, Planner, PlanState, Step


class _Steps(IterableDataset):
    """Steps of a planner from a state on."""

    def __init__(self, planner: Planner, state: PlanState) -> None:
        self.planner, self.state = planner, state

    def __iter__(self) -> Iterator[Step]:
        return self.planner.steps(self.state)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the stages of a run before this one have done: `metrics.jsonl` counts on from there."""

    steps: int = 0
    tokens: int = 0


class KeepTrainer(Trainer):
    """Trains a prepared model on a planner's steps.

    Where the trainable set has a soft prompt, it stands before the rows of the first stream, the target's, alone.

    One item of the data loader is one optimiser step over all processes; this class splits it into micro-batches, so
    `gradient_accumulation_steps` of the arguments must be 1 (the planner has already multiplied it in).

    Attributes:
        plan_state: The planner's state after the last step.
        seconds_before: Training time of the sessions before this one.
    """

    # Coefficients are global: the Trainer must not divide the loss again.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        trainable: TrainableSet,
        args: TrainingArguments,
        planner: Planner,
        *,
        metrics: Path,
        micro_batch_tokens: int,
        validation: Sequence[PlannedRow] = (),
        objective: Objective = Objective(),  # noqa: B008 (frozen)
        earlier: Earlier = Earlier(),
    ) -> None:
        assert args.gradient_accumulation_steps == 1
        assert args.max_steps > 0
        assert args.ignore_data_skip
        assert not args.logging_nan_inf_filter
        with refusals("train"):
            super().__init__(
                model=trainable.model,
                args=args,
                processing_class=planner.tokenizer,
                eval_dataset=list(validation) or None,
                train_dataset=_Steps(planner, planner.start()),
                data_collator=lambda steps: steps,
            )
        self.trainable = trainable
        self.planner = planner
        self.plan_state = planner.start()
        self.metrics = metrics
        self.micro_batch_tokens = micro_batch_tokens
        self.stream_names = tuple(stream.name for stream in planner.streams)
        self.earlier = earlier
        self.seconds_before = 0.0
        self._start = time.monotonic()
        self._masked = False
        # Any id but the padding token's, at which transformers would advise a mask that right padding does not need.
        self._filler = int(planner.tokenizer.pad_token_id == 0)
        self.objective = objective
        self._measured = objective.kinds(self.stream_names)
        self._sums = torch.zeros(2, len(self._measured), device=args.device)

    # -- batches ------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """Steps from the planner's state on, not sharded: every process plans the same step and takes its part."""
        # A generator of its own: DataLoader draws a seed, and from the global one a resumed run would draw once more.
        return DataLoader(_Steps(self.planner, self.plan_state), batch_size=None, generator=torch.Generator())

    def set_initial_training_values(
        self, args: TrainingArguments, dataloader: DataLoader
    ) -> tuple[int, int, int, int, int, int | None, int]:
        """One epoch of `max_steps`: a run that was killed after its last checkpoint must not take a step more."""
        _, *others = super().set_initial_training_values(args, dataloader)
        return (1, *others)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, None]:
        """The next step."""
        return [next(epoch_iterator)], None

    # -- one step -----------------------------------------------------------------------------------------------

    def training_step(
        self, model: nn.Module, inputs: Step, num_items_in_batch: Tensor | int | None = None
    ) -> Float[Tensor, ""]:
        """Forward and backward over the micro-batches of a step; returns its loss over all processes.

        Raises:
            RunError: The loss is NaN or infinite; names the step and the rows at fault.
        """
        model.train()
        if not self._masked:
            register_gradient_masks(self.model, self.trainable)
            self._masked = True
        batches = micro_batches(
            inputs.rows,
            self.stream_names,
            budget=self.micro_batch_tokens,
            pad_id=self._filler,
            process=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
        )
        total = torch.zeros((), device=self.args.device)
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, batch.to(self.args.device))
                # Processes average their gradients; the loss of the step is the sum over them.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        total += self._pull()
        self.plan_state = inputs.after
        return self.accelerator.reduce(total, "sum")

    def compute_loss(
        self,
        model: nn.Module,
        inputs: MicroBatch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Float[Tensor, ""]:
        """Sum of coefficient x term over the scored tokens; only their positions reach the head."""
        logits = self._logits(model, inputs)
        losses = self.objective.losses(logits, inputs)
        for which, (here, values) in losses.items():
            if not bool(torch.isfinite(values).all()):
                raise DivergedError(self._fault(inputs, here, values))
            at = self._measured.index(which)
            coefficients = inputs.coefficients[here]
            self._sums[0, at] += (coefficients * values.detach()).sum()
            self._sums[1, at] += coefficients.sum()
        return self.objective.weighted(losses, inputs, self.state.global_step / self.args.max_steps)

    def _logits(self, model: nn.Module, batch: MicroBatch) -> Float[Tensor, "scored vocab"]:
        """Before the scored tokens, in their order."""
        prompt, target = self.trainable.prompt, self.stream_names[0]
        prompted = [row.stream == target for row in batch.rows]
        if prompt is None or not any(prompted):
            logits = model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits
            keep = batch.keep
        else:
            which = torch.tensor(prompted, device=batch.keep.device)
            embedding = self.trainable.model.get_input_embeddings()
            embeds, keep = insert_prompt(embedding, prompt, batch.input_ids, batch.keep, which)
            logits = model(inputs_embeds=embeds, use_cache=False, logits_to_keep=keep).logits
        return kept_logits(logits, keep)

    def _pull(self) -> Float[Tensor, ""]:
        """Penalties, after all backward passes; this process's part of the loss of a step, a sum over processes.

        Every process adds the whole gradient, since what the passes left is the sum over them already.
        """
        scaler, processes = self.accelerator.scaler, self.accelerator.num_processes
        total = torch.zeros((), device=self.args.device)
        for which, value in self.objective.pull(self.model, 1.0 if scaler is None else scaler.get_scale()).items():
            part = value / processes
            self._sums[:, self._measured.index(which)] += torch.stack([part, torch.ones_like(part) / processes])
            total += part
        return total

    def _fault(self, batch: MicroBatch, here: Tensor, values: Float[Tensor, " _"]) -> str:
        broken = torch.zeros(len(batch.targets), dtype=torch.bool, device=values.device)
        broken[here] = ~torch.isfinite(values)
        counts = batch.keep.sum(dim=1).tolist()
        bad = [row.name for row, part in zip(batch.rows, broken.split(counts), strict=True) if part.any()]
        return (
            f"the loss is not finite at step {self.state.global_step + 1}, in {', '.join(bad[:5])}"
            f"{f' and {len(bad) - 5} more rows' if len(bad) > 5 else ''}; lower train.learning_rate, or look at "
            "these rows; the last complete checkpoint is untouched"
        )

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float | None:
        # Asked for after every backward pass, also where max_grad_norm 0 clips nothing.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # With float16 a gradient out of range is expected: the scaler skips the step and lowers its scale.
        if norm is not None and not self.args.fp16 and not math.isfinite(float(norm)):
            raise DivergedError(
                f"the gradient is not finite at step {self.state.global_step + 1} (loss was); lower "
                "train.learning_rate or train in float32; the last complete checkpoint is untouched"
            )
        return norm

    def check_finite(self) -> None:
        """Check the trainable numbers: a finite gradient can still take one out of range.

        Raises:
            RunError: One is NaN or infinite.
        """
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
                raise DivergedError(
                    f"{name} is not finite after step {self.state.global_step}; lower train.learning_rate or train in "
                    "float32; the last complete checkpoint is untouched"
                )

    def floating_point_ops(self, inputs: Step) -> int:
        """6 x tokens x parameters, as the Trainer counts, without padding."""
        return 6 * sum(len(row.row.ids) for row in inputs.rows) * self.trainable.num_total

    # -- optimiser ----------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As the Trainer's; a package that is missing for `optim` is one line."""
        with refusals("train.optim"):
            return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """As the Trainer's; a wrong `lr_scheduler_kwargs` is one line."""
        with refusals("train.lr_scheduler_type"):
            return super().create_scheduler(num_training_steps, optimizer)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weight decay would move the frozen part of a part-trained tensor, so those get none."""
        return [name for name in super().get_decay_parameter_names(model) if name not in self.trainable.no_decay_names]

    # -- metrics ------------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> int:
        """Computed so far in this stage, a soft prompt's vectors included."""
        states = self.plan_state.streams
        prompt = 0 if self.trainable.prompt is None else len(self.trainable.prompt)
        return sum(state.tokens for state in states.values()) + prompt * states[self.stream_names[0]].drawn

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add each stream's answer NLL since the last log, and append the row to `metrics.jsonl`.

        `epoch` is the number of passes over the target so far.
        """
        target = self.planner.streams[0]
        if target.sampler.size is not None:
            self.state.epoch = self.plan_state.streams[target.name].drawn / target.sampler.size
        if "loss" in logs:
            sums = self.accelerator.reduce(self._sums.clone(), "sum").tolist()
            self._sums.zero_()
            means = zip(self._measured, *sums, strict=True)
            logs.update({f"{kind}/{stream}": a / b for (kind, stream), a, b in means if b > 0})
            logs["tokens"] = self.earlier.tokens + self.tokens
        super().log(logs, start_time)
        if self.is_world_process_zero() and ("loss" in logs or "eval_loss" in logs):
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self.earlier.steps + self.state.global_step, **logs}) + "\n")

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean answer NLL per token over the validation rows, as `eval_loss`."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        model = self.model.eval()
        nlls: list[float] = []
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in micro_batches(rows, self.stream_names, budget=self.micro_batch_tokens, pad_id=self._filler):
                moved = batch.to(self.args.device)
                parts = token_nll(self._logits(model, moved), moved.targets).split(moved.keep.sum(dim=1).tolist())
                nlls += [float(part.mean()) for part in parts]
        metrics = {f"{metric_key_prefix}_loss": sum(nlls) / len(nlls)}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # -- checkpoints --------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write aside, mark, rename; only then rotate. The Trainer's own writes straight into the final folder."""
        self.check_finite()
        root = Path(self.args.output_dir)
        self.store_flos()
        stage = new_checkpoint(root, self.state.global_step) if self.args.should_save else contextlib.nullcontext()
        with stage as folder:
            self.accelerator.wait_for_everyone()
            shared = root / f".checkpoint-{self.state.global_step}.part"
            self._save_rng_state(str(shared))
            if self.args.should_save and folder is not None:
                save_trainable(self.model, folder)
                save_plan(self.plan_state, self.seconds_before + time.monotonic() - self._start, folder)
                self._save_optimizer_and_scheduler(str(folder))
                self._save_scaler(str(folder))
                if self.state.best_global_step == self.state.global_step:
                    self.state.best_model_checkpoint = str(root / f"checkpoint-{self.state.global_step}")
                for callback in [*self.callback_handler.callbacks, self.control]:
                    if isinstance(callback, ExportableState):
                        self.state.stateful_callbacks[type(callback).__name__] = callback.state()
                self.state.save_to_json(str(folder / "trainer_state.json"))
            self.accelerator.wait_for_everyone()
        if self.args.should_save:
            rotate(root, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()  # the other processes may load the best checkpoint next

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: Any,
        trial: Any,
    ) -> tuple[int, int]:
        """The Trainer forgets a best checkpoint that is not where it was; the run folder may have been moved since."""
        found = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is not None:
            best = read_json(Path(resume_from_checkpoint) / "trainer_state.json")["best_model_checkpoint"]
            here = Path(self.args.output_dir) / Path(best).name if best else None
            self.state.best_model_checkpoint = str(here) if here is not None and here.is_dir() else None
        return found

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        load_trainable(self.model, folder)
        self.plan_state, self.seconds_before = load_plan(folder)
        if self.is_world_process_zero():
            truncate_metrics(self.metrics, self.earlier.steps + self.plan_state.step)

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint:
            load_trainable(self.model, Path(self.state.best_model_checkpoint))
