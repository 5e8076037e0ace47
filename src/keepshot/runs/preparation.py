"""Everything that training needs and that can be wrong, before anything is written or computed."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments

from keepshot.config import RunConfig
from keepshot.errors import ConfigError, ModelError
from keepshot.models.load import base_dtype, context_length, load_model, load_tokenizer, model_source
from keepshot.prompts import ChatTemplate, choose_template
from keepshot.runs.data import TargetData
from keepshot.runs.evaluation import digest
from keepshot.runs.folder import RunFolder
from keepshot.runs.references import fixed_rows
from keepshot.runs.streams import build_sampler
from keepshot.runs.training import (
    DEFAULT_MAX_LENGTH,
    Encoder,
    build_planner,
    mean_target_tokens,
    run_arguments,
    steps_in_all,
    validation_rows,
)
from keepshot.strategies import FULL_RATE, Strategy, apply_trainable
from keepshot.tasks.example import Suite
from keepshot.train import Planner


@dataclass(frozen=True, slots=True)
class Preparation:
    """What training needs, checked.

    Attributes:
        method: The method's name to show.
        strategy: Its value.
        encoder: How text becomes rows.
        context_length: Tokens of the longest evaluation prompt.
        planner: Plans the steps.
        arguments: Of the Trainer.
        digests: A digest of each part of the data that is trained on.
        notes: What was left out, and what a reader of the report should know.
    """

    method: str
    strategy: Strategy
    encoder: Encoder
    context_length: int
    planner: Planner
    arguments: TrainingArguments
    digests: dict[str, str]
    notes: tuple[str, ...]


def prepare(config: RunConfig, target: TargetData, suite: Suite, folder: RunFolder) -> Preparation:
    """Look at everything that a run could stumble over.

    Raises:
        KeepshotError: Something cannot be used.
    """
    method, strategy, rate = config.strategy()
    tokenizer = load_tokenizer(config.model)
    context = _check_model(config, strategy)
    template = choose_template(config.data.template, tokenizer)
    longest = min(config.data.max_length or DEFAULT_MAX_LENGTH, context)
    encoder = Encoder(template, tokenizer, longest)
    notes: list[str] = []
    kept = encoder.fitting_target(target.train, config.data.on_bad_row)
    if len(kept) < len(target.train):
        notes.append(f"Left out: {len(target.train) - len(kept)} training rows longer than {longest} tokens.")
    fitting = replace(target, train=kept)
    if isinstance(template, ChatTemplate) and template.generation_prompt_differs(kept[:1]):
        notes.append(
            "The chat template writes something before an answer that its generation prompt does not hold (such as an "
            "empty block of reasoning); training and evaluation stand behind it."
        )
    samplers = []
    for spec in strategy.streams:
        sampler, found = build_sampler(spec, config, fitting, suite.tasks, encoder.fitting)
        samplers.append(sampler)
        notes += found
    used = {spec.source for spec in strategy.streams}
    for name in ("general", "icl", "anchors"):
        if getattr(config.sources, name) and name not in used:
            notes.append(f"sources.{name} is given, and no stream of the method {method} uses it.")
    planner = build_planner(config, strategy, samplers, encoder)
    planner = fixed_rows(planner, strategy, steps_in_all(config, planner) * mean_target_tokens(planner), config.seed)
    arguments = run_arguments(config, planner, folder, float(config.train.get("learning_rate", rate or FULL_RATE)))
    validating = len(validation_rows(target.validation, planner))
    if validating < len(target.validation):
        notes.append(f"Left out: {len(target.validation) - validating} validation rows longer than {longest} tokens.")
    if not validating and arguments.eval_strategy != "no":
        raise ConfigError("train.eval_strategy needs validation rows, and none fits data.max_length")
    digests = {
        "training data": digest((target.train, target.validation)),
        "sources": digest([stream.sampler for stream in planner.streams[1:]]),
    }
    context = min(context, config.data.max_length or context)
    return Preparation(method, strategy, encoder, context, planner, arguments, digests, tuple(notes))


def _check_model(config: RunConfig, strategy: Strategy) -> int:
    """Try the trainable set on an empty copy of the model; returns its context length.

    Raises:
        ModelError: The model cannot be loaded, is an adapter, or lacks what the method trains.
        ConfigError: The trainable set is empty in this model.
    """
    base_dtype(config.model)
    source = model_source(config.model)
    if (Path(source) / "adapter_config.json").is_file():
        raise ModelError(f"{config.model} is an adapter; merge it into its base first (PEFT's merge_and_unload)")
    try:
        settings = AutoConfig.from_pretrained(source, trust_remote_code=False)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        load_model(config.model, device="cpu")  # says what is wrong with it, where it can tell
        raise ModelError(f"{config.model} cannot be built from its config: {' '.join(str(error).split())}") from None
    apply_trainable(empty, strategy.trainable, config.seed)
    return context_length(empty)
