"""What a model writes behind demonstrations, for prompts that share nothing."""

from collections.abc import Sequence

from keepshot.errors import ConfigError
from keepshot.evaluation import Subject
from keepshot.prompts import Row, encode
from keepshot.tasks.example import Example, ending_alike

_ROOM = 16
"""Tokens that an answer may be longer than the longest one shown: an edited label is."""


def answers(subject: Subject, prompts: Sequence[tuple[Example, ...]], lines: bool) -> list[str]:
    """What the model writes in place of the last answer of each prompt.

    Args:
        subject: The model.
        prompts: Demonstrations and a query.
        lines: Whether answers may hold line breaks.

    Raises:
        ConfigError: A prompt does not fit the model's context.
    """
    written = [subject.template.render(ending_alike(prompt, lines)) for prompt in prompts]
    rows = encode(written, subject.tokenizer)
    longest, needed, widest = _room(rows)
    if needed > subject.context_length:
        raise ConfigError(
            f"contexts of {widest} examples need {needed} tokens, more than the model's {subject.context_length}; "
            "lower the number of shots"
        )
    ends = (*subject.template.stop(lines), *(() if lines else ("\n",)))
    return subject.backend.generate(rows, tuple(dict.fromkeys(ends)), longest)


def fit(subject: Subject, prompts: Sequence[tuple[Example, ...]], prompt_tokens: int = 0) -> bool:
    """Whether all prompts leave room for their answers and for a soft prompt, so that `answers` takes them."""
    rows = encode([subject.template.render(prompt) for prompt in prompts], subject.tokenizer)
    return _room(rows)[1] + prompt_tokens <= subject.context_length


def _room(rows: Sequence[Row]) -> tuple[int, int, int]:
    """Tokens of an answer, tokens of the longest prompt with its answer, and that prompt's examples."""
    longest = max(end - start for row in rows for start, end in row.answers) + _ROOM
    needed, widest = max((row.answers[-1][0] + longest, len(row.answers) - 1) for row in rows)
    return longest, needed, widest
