"""Models by name, ready to be asked."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from keepshot.evaluation import AnswerStore, LocalModel, StoredAnswers, Subject
from keepshot.models.load import CausalLM, attach_adapter, context_length, detach_adapter, load_model, load_tokenizer
from keepshot.models.source import adapter_base, base_name
from keepshot.prompts import TemplateName, choose_template
from keepshot.strategies.soft_prompt import load_prompt


def load_subject(
    name: str,
    template: TemplateName,
    *,
    shown_as: str | None = None,
    max_length: int | None = None,
    prompt: Path | None = None,
) -> Subject:
    """A model ready to be asked.

    Args:
        name: `mini`, a folder, an adapter folder, or a hub id.
        template: How prompts are written.
        shown_as: Its name in results; `name` if None.
        max_length: Cap on the context, in tokens; None is the model's own.
        prompt: Folder of a soft prompt that stands before all that it reads.
    """
    tokenizer = load_tokenizer(name)
    soft = None if prompt is None else load_prompt(prompt)
    return as_subject(load_model(name), tokenizer, template, shown_as or name, max_length, soft)


def as_subject(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    template: TemplateName,
    name: str,
    max_length: int | None = None,
    prompt: Float[Tensor, "tokens width"] | None = None,
) -> Subject:
    """A loaded model ready to be asked; puts it into evaluation mode.

    Args:
        model: Who answers.
        tokenizer: The model's.
        template: How prompts are written.
        name: In results.
        max_length: Cap on the context, in tokens; None is the model's own.
        prompt: A soft prompt before all that it reads, which takes its part of the model's context.

    Raises:
        ModelError: The soft prompt was trained on another model.
    """
    longest = context_length(model) - (0 if prompt is None else len(prompt))
    return Subject(
        name,
        LocalModel(model, tokenizer, prompt),
        tokenizer,
        choose_template(template, tokenizer),
        min(longest, max_length or longest),
    )


def subjects(
    models: Sequence[str], template: TemplateName, prompt: Float[Tensor, "tokens width"] | None
) -> Iterator[tuple[int, Subject]]:
    """The base, the adapters on it, then all others; never two models in memory. A soft prompt is the first's."""
    base, *others = models
    bases = [adapter_base(name) for name in others]  # a mistaken name is found before anything is asked
    model: CausalLM | None = load_model(base)
    fits = not isinstance(model, PeftModel)
    on_base = [index for index, found in enumerate(bases, start=1) if fits and found == base_name(base)]
    yield 0, as_subject(model, load_tokenizer(base), template, base, prompt=prompt)
    for index in on_base:
        model = attach_adapter(model, models[index])
        yield index, as_subject(model, load_tokenizer(models[index]), template, models[index])
        model = detach_adapter(model)
    model = None
    for index in range(1, len(models)):
        if index not in on_base:
            yield index, load_subject(models[index], template)


def default_cache() -> Path | None:
    """Where answers are remembered: `answers.sqlite` in `$KEEPSHOT_CACHE` or `~/.cache/keepshot`; None if it is off."""
    folder = os.environ.get("KEEPSHOT_CACHE", "~/.cache/keepshot")
    return None if folder == "off" else Path(folder).expanduser() / "answers.sqlite"


def remembering(subject: Subject, cache: Path | None) -> Subject:
    """The subject, asked only what the cache of answers does not know."""
    return subject if cache is None else replace(subject, backend=StoredAnswers(subject.backend, AnswerStore(cache)))
