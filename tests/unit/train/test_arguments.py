import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from keepshot.errors import ConfigError
from keepshot.train import check_train_fields, num_steps, rows_per_step, training_arguments
from keepshot.train.arguments import ALLOWED, COUNTS, OWN, REFUSED, STRATEGIES, refusals

FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}


def arguments(folder: Path, **fields: Any) -> TrainingArguments:
    fields = {"use_cpu": True, "bf16": False, **fields}
    check_train_fields(fields)
    return training_arguments(fields, folder=folder, seed=3, learning_rate=2e-4, max_steps=5, steps_per_epoch=7)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_keepshot_decides_is_refused_with_what_to_do_instead(name: str) -> None:
    assert name in FIELDS, "a name that TrainingArguments does not know would be refused anyway"
    with pytest.raises(ConfigError, match=f"train.{name} cannot be set: ") as caught:
        check_train_fields({name: None})
    assert REFUSED[name] in str(caught.value)


def test_what_keepshot_adds_is_not_a_field_of_transformers() -> None:
    assert not FIELDS & set(OWN)
    assert (set(COUNTS) - set(OWN)) | set(ALLOWED) | set(STRATEGIES) | set(STRATEGIES.values()) <= FIELDS
    assert not set(ALLOWED) & set(REFUSED)
    assert {name for name in FIELDS if name.startswith("hub_")} <= set(REFUSED)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rat", 1e-4, "train.learning_rat is unknown; did you mean learning_rate?"),
        ("token_per_step", 10, "train.token_per_step is unknown; did you mean tokens_per_step?"),
        ("zzz", 1, "train.zzz is unknown; use a field of transformers.TrainingArguments"),
        ("learning_rate", "1e-4", "train.learning_rate must be a float; got '1e-4'"),
        ("max_steps", "5", "train.max_steps must be a int; got '5'"),
        ("max_steps", True, "train.max_steps must be a int; got True"),
        ("weight_decay", False, "train.weight_decay must be a float; got False"),
        ("max_steps", 2.5, "train.max_steps: "),
        ("learning_rate", "fast", "train.learning_rate: "),
        ("warmup_steps", [1], "train.warmup_steps: "),
        *(("learning_rate", value, "train.learning_rate must be a finite") for value in (math.nan, math.inf, -1e-4)),
        *(("num_train_epochs", value, "train.num_train_epochs must be a") for value in (math.nan, math.inf, 0, -1)),
        *(("max_steps", value, "train.max_steps must be above 0, or -1") for value in (0, -2)),
        *(("metric_for_best_model", v, "train.metric_for_best_model must be eval_loss") for v in ("accuracy", "nll")),
        ("greater_is_better", True, "train.greater_is_better must be false: the best model has the lowest eval_loss"),
        *(
            ("optim", name, "train.optim must be an optimizer that moves each number by its own gradient")
            for name in ("schedule_free_adamw", "lomo", "adalomo", "galore_adamw_layerwise", "apollo_adamw")
        ),
        *((name, value, f"train.{name} must be a whole number above 0") for name in COUNTS for value in (0, -1, True)),
        *((name, value, f"train.{name} must be a whole number above 0") for name in COUNTS for value in (2.5, "8")),
    ],
)
def test_a_wrong_field_is_one_line_that_names_it(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_train_fields({name: value})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert repr(value) in str(caught.value) or "unknown" in message


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"learning_rate": 1e-4, "max_steps": 5, "weight_decay": 0},
        {"eval_strategy": "steps", "eval_steps": 10, "lr_scheduler_type": "cosine", "optim": "adamw_torch"},
        {"bf16": True, "gradient_checkpointing": True, "report_to": ["wandb"]},
        {"tokens_per_step": 4096, "save_total_limit": None},
        {"learning_rate": 0, "max_steps": -1, "num_train_epochs": 0.5, "greater_is_better": False},
        {"metric_for_best_model": "eval_loss", "greater_is_better": None},
        {"metric_for_best_model": "loss"},
    ],
)
def test_right_fields_pass(fields: dict[str, Any]) -> None:
    assert check_train_fields(fields) is None


def test_defaults_and_what_the_user_says(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    assert (args.learning_rate, args.weight_decay, args.max_steps, args.seed) == (2e-4, 0.0, 5, 3)
    assert (args.save_total_limit, args.report_to, args.output_dir) == (1, [], str(tmp_path))
    assert (args.ignore_data_skip, args.logging_nan_inf_filter, args.remove_unused_columns) == (True, False, False)
    args = arguments(tmp_path, learning_rate=1e-3, weight_decay=0.1, save_total_limit=3, logging_steps=2)
    assert (args.learning_rate, args.weight_decay, args.save_total_limit, args.logging_steps) == (1e-3, 0.1, 3, 2)


def test_the_planner_owns_accumulation_and_steps(tmp_path: Path) -> None:
    fields = {"gradient_accumulation_steps": 4, "max_steps": 99, "num_train_epochs": 7, "tokens_per_step": 10}
    args = arguments(tmp_path, **fields)
    assert (args.gradient_accumulation_steps, args.max_steps) == (1, 5)


@pytest.mark.parametrize(
    "fields",
    [
        {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "no"},
        {"eval_strategy": "sometimes"},
        {"optim": "magic"},
        {"fp16": True, "bf16": True},
        {"accelerator_config": {"split_batchs": True}},  # TypeError
    ],
)
def test_what_transformers_refuses_is_one_line(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^train") as caught:
        arguments(tmp_path, **fields)
    assert "\n" not in str(caught.value)


def test_a_tracker_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    for tracker in ("wandb", ["wandb"], "wadnb"):
        with pytest.raises(
            ConfigError, match=r"^train.report_to: .*(requires wandb to be installed|wadnb is not supp)"
        ):
            arguments(tmp_path, report_to=tracker)
    assert arguments(tmp_path, report_to=["none"]).report_to == []


def test_any_refusal_is_one_line_and_never_an_empty_one() -> None:
    for error, line in (
        (RuntimeError("a\n  b"), "train: a b"),
        (KeyError("x"), "train: 'x'"),
        (ImportError(), "train: "),
    ):
        with pytest.raises(ConfigError, match=f"^{line}") as caught, refusals("train"):
            raise error
        assert str(caught.value) != "train: "


@pytest.mark.parametrize("choice", [{}, {"fp16": True}, {"fp16": False}, {"bf16": True}, {"bf16": False}])
def test_half_precision_is_a_default_only_where_none_is_chosen(
    choice: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    fields = {"use_cpu": True} | choice
    args = training_arguments(fields, folder=tmp_path, seed=3, learning_rate=2e-4, max_steps=5, steps_per_epoch=7)
    assert args.bf16 == choice.get("bf16", "fp16" not in choice)
    assert args.fp16 == choice.get("fp16", False)


def test_bfloat16_that_a_gpu_only_emulates_is_no_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not arguments(tmp_path, use_cpu=True).bf16


def test_the_strategy_epoch_becomes_steps(tmp_path: Path) -> None:
    chosen = dict.fromkeys(["eval_strategy", "save_strategy", "logging_strategy"], "epoch")
    args = arguments(tmp_path, **chosen, eval_delay=2, eval_steps=3, load_best_model_at_end=True)
    assert (args.eval_strategy, args.save_strategy, args.logging_strategy) == ("steps", "steps", "steps")
    assert (args.eval_steps, args.save_steps, args.logging_steps, args.eval_delay) == (7, 7, 7, 14)
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=3, eval_delay=2, save_strategy="no")
    assert (args.eval_strategy, args.save_strategy, args.logging_strategy) == ("steps", "no", "steps")
    assert (args.eval_steps, args.logging_steps, args.eval_delay) == (3, 10, 2)


@given(st.integers(1, 64), st.integers(1, 16), st.integers(1, 8))
def test_a_step_has_rows_as_users_know_it(size: int, accumulation: int, processes: int) -> None:
    fields = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
    assert rows_per_step(fields, processes) == size * accumulation * processes
    assert rows_per_step({}, processes) == 8 * processes


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({}, 30),
        ({"num_train_epochs": 1}, 10),
        ({"num_train_epochs": 0.25}, 2),
        ({"num_train_epochs": 0.001}, 1),
        ({"max_steps": 7}, 7),
        ({"max_steps": -1, "num_train_epochs": 2}, 20),
        ({"max_steps": 7, "num_train_epochs": 2}, 7),
    ],
)
def test_steps_are_given_or_follow_from_passes(fields: dict[str, Any], steps: int) -> None:
    assert num_steps(fields, num_rows=80, rows=8.0) == steps


@pytest.mark.parametrize(("rows", "steps"), [(8.4, 29), (2.5, 96), (80.0, 3), (1000.0, 1)])
def test_passes_are_counted_in_mean_rows(rows: float, steps: int) -> None:
    assert num_steps({}, num_rows=80, rows=rows) == steps
