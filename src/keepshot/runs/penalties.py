"""A strategy's penalties on a run's model: where its numbers started, and how much each matters few-shot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from peft import PeftModel
from torch import Tensor
from transformers import TrainingArguments

from keepshot.episodes import Sampler
from keepshot.errors import ConfigError
from keepshot.models.roles import mask
from keepshot.runs.folder import RunFolder
from keepshot.runs.references import autocast, precision
from keepshot.strategies import Penalty, Strategy, TrainableSet, adapter_fingerprint, fingerprint
from keepshot.strategies.parts import Parts, parts_by_parameter
from keepshot.train import HeldNumbers, PlannedRow, Planner, Stream
from keepshot.train.keyed import save_keyed
from keepshot.train.penalties import fisher, fisher_key, load_importance, normalised


def prompt_rows(
    planner: Planner, strategy: Strategy, samplers: Mapping[str, Sampler]
) -> dict[str, Sequence[PlannedRow]]:
    """By kind of penalty the few-shot prompts that it needs, written as training writes its rows.

    Args:
        planner: Knows template, tokenizer and the longest row.
        strategy: Its penalties say how many.
        samplers: By the name of `Penalty.prompts`, which is the kind.
    """
    found: dict[str, Sequence[PlannedRow]] = {}
    for penalty in strategy.penalties:
        if penalty.kind in samplers:
            sampler = samplers[penalty.kind]
            asking = replace(planner, streams=[planner.streams[0], Stream(penalty.kind, sampler, 0.5, 0.5)])
            found[penalty.kind] = asking.rows(penalty.kind, [sampler.draw(index) for index in range(penalty.rows)])
    return found


def held_numbers(
    trainable: TrainableSet,
    strategy: Strategy,
    prompts: Mapping[str, Sequence[PlannedRow]],
    args: TrainingArguments,
    folder: RunFolder,
) -> list[HeldNumbers]:
    """The penalties of a strategy on the numbers that move.

    Args:
        trainable: At step 0, whatever a checkpoint holds.
        strategy: Its penalties.
        prompts: For every kind of penalty that needs them.
        args: Of the training, for its precision and seed.
        folder: Keeps the Fisher information.

    Raises:
        ConfigError: The roles of a penalty name numbers that do not move.
        RunError: The Fisher information is 0 or not finite.
    """
    found = []
    for penalty in strategy.penalties:
        parts = held_parts(trainable, penalty)
        parameters = {name: p for name, p in trainable.model.named_parameters() if name in parts}
        start = {name: in_few_bits(parameter.detach()) for name, parameter in parameters.items()}
        if penalty.prompts is None:
            importance = {name: part.to(parameters[name].device) for name, part in parts.items() if part is not None}
        else:
            kept = _importance(trainable, penalty, parts, prompts[penalty.kind], args, folder)
            importance = {name: tensor.to(parameters[name].device) for name, tensor in kept.items()}
        found.append(HeldNumbers(penalty.kind, penalty.strength, start, importance))
    return found


def in_few_bits(tensor: Tensor) -> Tensor:
    """A copy that equals the tensor, in 16 bits where they hold every number of it, as those of most checkpoints.

    Example:
        >>> import torch
        >>> in_few_bits(torch.tensor([0.5, -3.0])).dtype, in_few_bits(torch.tensor([0.1])).dtype
        (torch.bfloat16, torch.float32)
    """
    for dtype in (torch.bfloat16, torch.float16) if tensor.element_size() > 2 else ():
        short = tensor.to(dtype)
        if torch.equal(short.to(tensor.dtype), tensor):
            return short
    return tensor.clone()


def held_parts(trainable: TrainableSet, penalty: Penalty) -> Parts:
    """The numbers that a penalty holds: those that move, or those of them that serve its roles.

    Raises:
        ModelError: The model's roles are not known.
        ConfigError: None of them moves.
    """
    if penalty.roles is None:
        return trainable.parts
    assert not isinstance(trainable.model, PeftModel), "a strategy has no roles in penalties on adapters"
    by_name = parts_by_parameter(trainable.model, penalty.roles)
    shapes = {name: parameter.shape for name, parameter in trainable.model.named_parameters()}
    held: Parts = {}
    for name, moving in trainable.parts.items():
        if name in by_name:
            covered = mask(by_name[name], shapes[name])
            held[name] = moving if covered is None else covered if moving is None else covered & moving
    if not any(part is None or bool(part.any()) for part in held.values()):
        raise ConfigError(
            f"the penalty {penalty.kind} is to hold the roles {', '.join(penalty.roles)}, and the method moves none of "
            "them; name roles that move, or leave them out"
        )
    return held


def _importance(
    trainable: TrainableSet,
    penalty: Penalty,
    parts: Parts,
    rows: Sequence[PlannedRow],
    args: TrainingArguments,
    folder: RunFolder,
) -> dict[str, Tensor]:
    """The Fisher information, from the run's folder where it is there already."""
    model = trainable.model
    weights = [*fingerprint(model, {}).values()]
    if isinstance(model, PeftModel):
        weights += adapter_fingerprint(model, "default").values()
    path = folder.path / "reference" / f"{penalty.kind}.safetensors"
    key = fisher_key(weights, parts, rows, penalty.passes, args.seed, str(precision(model, args)))
    found = load_importance(path, key)
    if found is None:
        with autocast(model, args):
            exact = normalised(fisher(model, parts, rows, passes=penalty.passes, seed=args.seed), parts)
        # An estimate that is known to a third needs no more than three digits.
        found = {name: tensor.to(torch.bfloat16) for name, tensor in exact.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_keyed(found, path, key)
    return found
