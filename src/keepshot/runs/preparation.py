"""Everything that training needs and that can be wrong, before anything is written or computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments

from keepshot.config import RunConfig
from keepshot.episodes import Sampler
from keepshot.errors import ConfigError, ModelError
from keepshot.models.load import base_dtype, context_length, load_model, load_tokenizer
from keepshot.models.source import model_source
from keepshot.prompts import BlockTemplate, ChatTemplate, Template, choose_template
from keepshot.runs.data import TargetData
from keepshot.runs.digests import digest, training_digest
from keepshot.runs.folder import RunFolder
from keepshot.runs.penalties import held_parts, prompt_rows
from keepshot.runs.prompting import prompt_stage
from keepshot.runs.references import fixed_rows
from keepshot.runs.start import StartPrompts, start_prompts
from keepshot.runs.streams import build_sampler
from keepshot.runs.training import (
    DEFAULT_MAX_LENGTH,
    Encoder,
    Stage,
    build_planner,
    mean_target_tokens,
    run_arguments,
    steps_in_all,
    validation_rows,
    weight_notes,
)
from keepshot.strategies import Strategy, StreamSpec, apply_trainable
from keepshot.tasks.example import Example, Suite
from keepshot.train import PlannedRow, Planner


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
        start: Makes the prompts that the trainable starts from; None where it needs none.
        prompts: By kind of penalty, the few-shot prompts that it is taken on.
        first: The stage that trains a soft prompt; None where the method has none.
    """

    method: str
    strategy: Strategy
    encoder: Encoder
    context_length: int
    planner: Planner
    arguments: TrainingArguments
    digests: dict[str, str]
    notes: tuple[str, ...]
    start: StartPrompts | None = None
    prompts: Mapping[str, Sequence[PlannedRow]] = field(default_factory=dict)
    first: Stage | None = None

    @property
    def stage(self) -> Stage:
        """The stage that trains the weights."""
        return Stage(self.strategy, self.planner, self.arguments)


def prepare(
    config: RunConfig, target: TargetData, suite: Suite, folder: RunFolder, *, prompt_tokens: int = 0
) -> Preparation:
    """Look at everything that a run could stumble over.

    Args:
        config: Of the run.
        target: Its data.
        suite: The held-out tasks.
        folder: Where it is to lie.
        prompt_tokens: Leave so many tokens of the context to a soft prompt at least: other runs have one, and are to be
            asked the same.

    Raises:
        KeepshotError: Something cannot be used.
    """
    method, strategy, rate = config.strategy()
    tokenizer = load_tokenizer(config.model)
    context = _check_model(config, strategy) - max(prompt_tokens, strategy.prompt.tokens if strategy.prompt else 0)
    if context < 1:
        raise ConfigError("the soft prompt is as long as the model's context; give it fewer tokens")
    template = choose_template(config.data.template, tokenizer)
    longest = min(config.data.max_length or DEFAULT_MAX_LENGTH, context)
    encoder = Encoder(template, tokenizer, longest)
    notes: list[str] = []
    kept = encoder.fitting_target(target.train, config.data.on_bad_row)
    if len(kept) < len(target.train):
        notes.append(f"Left out: {len(target.train) - len(kept)} training rows longer than {longest} tokens.")
    fitting = replace(target, train=kept)
    notes += _template_notes(template, kept)
    samplers = []
    for spec in strategy.streams:
        sampler, found = build_sampler(spec, config, fitting, suite.tasks, encoder, folder.index)
        samplers.append(sampler)
        notes += found
    start, found = start_prompts(strategy.trainable, config, fitting, suite.tasks, encoder)
    notes += found
    asked = [penalty.prompts for penalty in strategy.penalties if penalty.prompts is not None]
    prompting: dict[str, Sampler] = {}
    for spec in asked:
        prompting[spec.name], found = build_sampler(spec, config, fitting, suite.tasks, encoder)
        notes += found
    notes += _unused(config, method, (*strategy.streams, *asked, *([start.spec] if start else [])))
    planner = build_planner(config, strategy, samplers, encoder)
    planner = fixed_rows(planner, strategy, steps_in_all(config, planner) * mean_target_tokens(planner), config.seed)
    learning_rate = float(config.train.get("learning_rate", rate))
    arguments = run_arguments(config, planner, folder.checkpoints, learning_rate)
    notes += weight_notes(planner, arguments.max_steps)
    first = prompt_stage(config, strategy, planner, folder)
    validating = len(validation_rows(target.validation, planner))
    if validating < len(target.validation):
        notes.append(f"Left out: {len(target.validation) - validating} validation rows longer than {longest} tokens.")
    if not validating and arguments.eval_strategy != "no":
        raise ConfigError("train.eval_strategy needs validation rows, and none fits data.max_length")
    digests = {
        "training data": training_digest(target),
        "sources": digest([stream.sampler for stream in planner.streams[1:]]),
        **({"start": digest(start.sampler)} if start else {}),
        **({"penalties": digest(prompting)} if prompting else {}),
    }
    prompts = prompt_rows(planner, strategy, prompting)
    context = min(context, config.data.max_length or context)
    return Preparation(
        method, strategy, encoder, context, planner, arguments, digests, tuple(notes), start, prompts, first
    )


def _template_notes(template: Template, examples: Sequence[Example]) -> list[str]:
    """What a reader should know of how these examples are written."""
    if isinstance(template, ChatTemplate):
        differs = template.generation_prompt_differs(examples[:1])
        return [_WRITES_BEFORE] if differs else []
    return [] if answers_end(template, examples) else [_WITHOUT_AN_END.format(template.name)]


def answers_end(template: Template, examples: Sequence[Example]) -> bool:
    """Whether a template writes something that ends the answers of these examples."""
    lines = any(example.several_lines for example in examples)
    return not (isinstance(template, BlockTemplate) and lines and not template.following)


_WRITES_BEFORE = (
    "The chat template writes something before an answer that its generation prompt does not hold (such as an empty "
    "block of reasoning); training and evaluation stand behind it."
)
_WITHOUT_AN_END = (
    "Answers hold line ends, and a line end is what ends an answer of the template {}: nothing teaches the model where "
    "an answer of several lines ends. Choose another template."
)


def _unused(config: RunConfig, method: str, specs: Sequence[StreamSpec]) -> list[str]:
    """A note on every source that the method does not draw from."""
    used = {spec.source for spec in specs}
    return [
        f"sources.{name} is given, and no stream of the method {method} uses it."
        for name in ("general", "icl", "anchors")
        if getattr(config.sources, name) and name not in used
    ]


def _check_model(config: RunConfig, strategy: Strategy) -> int:
    """Try the trainable set on an empty copy of the model; returns its context length.

    Raises:
        ModelError: The model cannot be loaded, is an adapter, or lacks what the method trains.
        ConfigError: The trainable set is empty in this model, or a penalty holds nothing of it.
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
    trainable = apply_trainable(empty, strategy.trainable, config.seed)
    for penalty in strategy.penalties:
        held_parts(trainable, penalty)
    return context_length(empty)
