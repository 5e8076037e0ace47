"""The first of two stages: a soft prompt, trained on the target with all weights frozen (arXiv 2211.00635)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from keepshot.config import RunConfig
from keepshot.files import new_folder, read_json, write_json
from keepshot.models.load import load_model
from keepshot.models.source import base_name
from keepshot.prompts import encode
from keepshot.runs.folder import RunFolder
from keepshot.runs.progress import Say
from keepshot.runs.training import Stage, run_arguments, steps_in_all, target_size, train, training_dtype
from keepshot.strategies import Strategy, Term, fingerprint, verify_frozen
from keepshot.strategies.soft_prompt import initial_prompt, load_prompt, prompt_set, save_prompt, without_prompt
from keepshot.tasks.example import Example
from keepshot.train import Planner, checkpoints

# Inside the prompt's folder, which is complete or absent.
COST = "training.json"
# Rows whose tokens the prompt may start from.
SAMPLE = 2000
_SUMMED = ("train_seconds", "tokens", "steps")


def prompt_stage(config: RunConfig, strategy: Strategy, planner: Planner, folder: RunFolder) -> Stage | None:
    """The stage that trains a strategy's soft prompt: the target's NLL alone. None where it has no prompt.

    Args:
        config: Of the run; all of `train` holds for the prompt but learning rate, steps and weight decay, which would
            only pull it to 0.
        strategy: May have a prompt.
        planner: Of the weights' stage.
        folder: Of the run.

    Raises:
        ConfigError: transformers refuses the arguments.
    """
    prompt = strategy.prompt
    if prompt is None:
        return None
    steps = prompt.steps or steps_in_all(config, planner)
    fields = {**config.train, "learning_rate": prompt.learning_rate, "max_steps": steps, "weight_decay": 0.0}
    alone = replace(planner, streams=(replace(planner.streams[0], weight=1.0),))
    settings = config.model_copy(update={"train": fields})
    arguments = run_arguments(settings, alone, folder.checkpoints / "prompt", prompt.learning_rate)
    only = {"streams": strategy.streams[:1], "terms": (Term(),), "penalties": ()}
    return Stage(strategy.model_copy(update=only), alone, arguments)


def trained_prompt(
    config: RunConfig, stage: Stage, validation: Sequence[Example], folder: RunFolder, say: Say
) -> tuple[Float[Tensor, "tokens width"], dict[str, Any]]:
    """The prompt as it is saved, trained unless it is there; and what it cost.

    Raises:
        RunError: Training diverged, or a weight of the model has moved.
    """
    if folder.prompt.exists():
        return load_prompt(folder.prompt), read_json(folder.prompt / COST)
    settings = stage.strategy.prompt
    assert settings is not None, "a stage of a prompt has one"
    model = load_model(config.model, dtype=training_dtype(stage.arguments))
    before = fingerprint(model, {})
    first = initial_prompt(model, _target_ids(stage.planner), settings.tokens, config.seed)
    trained = prompt_set(model, first)
    rate, steps = stage.arguments.learning_rate, stage.arguments.max_steps
    say(f"first stage, a soft prompt of {settings.tokens} tokens: {steps} steps, learning rate {rate:g}")
    if found := checkpoints(Path(stage.arguments.output_dir)):
        say(f"  going on from {found[-1].name}")
    cost = train(trained, stage, validation=validation, folder=folder) | {"learning_rate": rate}
    prompt = without_prompt(trained)
    verify_frozen(before, fingerprint(model, {}))
    say(f"  every number of the model is bit-identical to the base ({len(before)} tensors)")
    with new_folder(folder.prompt) as aside:
        save_prompt(prompt, aside, base_name(config.model))
        write_json(aside / COST, cost)
    return load_prompt(folder.prompt), cost


def cost_of_stages(prompt: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    """What both stages cost: seconds, tokens and steps are sums; `stages` holds each; all else is of the weights."""
    summed = {name: prompt[name] + weights[name] for name in _SUMMED}
    peak = max(prompt["peak_memory_bytes"], weights["peak_memory_bytes"])
    stages = {"prompt": dict(prompt), "weights": dict(weights)}
    return {**weights, **summed, "peak_memory_bytes": peak, "stages": stages}


def _target_ids(planner: Planner) -> list[int]:
    """Tokens of the target's first rows."""
    sampler = planner.streams[0].sampler
    episodes = [sampler.draw(index) for index in range(min(target_size(planner), SAMPLE))]
    rows = encode([planner.template.render(episode.examples) for episode in episodes], planner.tokenizer)
    return [token for row in rows for token in row.ids]
