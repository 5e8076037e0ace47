from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tests.architectures import ARCHITECTURES
from transformers import Trainer, TrainingArguments

from keepshot.errors import ConfigError
from keepshot.evaluation import EvaluationPlan
from keepshot.models.load import load_tokenizer
from keepshot.runs.callback import RetentionCallback
from keepshot.tasks.builtin import builtin_suite, builtin_target
from keepshot.tasks.example import Suite

PLAN = EvaluationPlan(shots=(0, 2), sets=2, queries=4)
SUITE = Suite("two", builtin_suite().tasks[:2])
TARGET = builtin_target("word-rule").test[:10]


def train(folder: Path, callbacks: list, steps: int = 4) -> tuple[Trainer, dict[str, torch.Tensor]]:
    """Train a tiny model with dropout by a plain Trainer."""
    model = ARCHITECTURES["gpt2"]()
    rows = Dataset.from_dict({"input_ids": [[1, 50 + i, 60, 70] for i in range(16)], "labels": [[1, 50, 60, 70]] * 16})
    arguments = TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=4, learning_rate=1e-2, report_to="none",
        save_strategy="no", disable_tqdm=True, seed=3, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=rows, callbacks=callbacks)
    trainer.train()
    return trainer, {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def watch(**settings) -> RetentionCallback:
    return RetentionCallback(load_tokenizer("mini"), suite=SUITE, plan=PLAN, template="plain", **settings)


def test_it_looks_every_few_steps_and_changes_nothing(tmp_path: Path) -> None:
    found = watch(every=2, target=TARGET)
    trainer, watched = train(tmp_path / "watched", [found])
    _, alone = train(tmp_path / "alone", [])
    assert all(torch.equal(watched[name], alone[name]) for name in alone)
    assert [seen.step for seen in found.seen] == [2, 4]
    assert trainer.model.training
    # A random model cannot do the tasks, so there is no retention; its KL grows as it moves away from where it began.
    assert all(seen.retention is None and seen.target == 0 for seen in found.seen)
    kls = [seen.kl_nats for seen in found.seen]
    assert 0 < kls[0] < kls[1]
    logged = [entry["keepshot/kl"] for entry in trainer.state.log_history if "keepshot/kl" in entry]
    assert logged == kls


def test_training_ends_once_the_target_is_reached(tmp_path: Path) -> None:
    found = watch(every=1, target=TARGET, stop_at=0.0)
    trainer, _ = train(tmp_path, [found])
    assert trainer.state.global_step == 1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        watch(every=0)
    with pytest.raises(ConfigError, match="needs target"):
        watch(stop_at=0.9)
