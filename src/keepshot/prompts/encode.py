"""Text to token rows, with answer spans found by character offsets.

A text is always tokenised whole: pieces tokenised apart and joined can differ from it wherever a token would have
reached across the seam.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from keepshot.errors import ConfigError, DataError, ModelError
from keepshot.prompts.chat import ChatTemplate
from keepshot.prompts.template import AS_WRITTEN, INSTRUCTION, PLAIN, Prompt, Span, Template

TemplateName = Literal["auto", "plain", "instruction", "chat", "verbatim"]

_UNWRITABLE = "\x00\x01"
"""Characters that some tokenizers drop without a trace, the bundled one among them, so that later offsets are wrong."""


@dataclass(frozen=True, slots=True)
class Row:
    """A tokenised prompt.

    Attributes:
        ids: Token ids.
        answers: Token span `(start, end)` of every answer, in order. The token at position p is predicted by the
            logits at p - 1.
    """

    ids: tuple[int, ...]
    answers: tuple[Span, ...]


def choose_template(name: TemplateName, tokenizer: PreTrainedTokenizerBase) -> Template:
    """The template of that name; `auto` is the tokenizer's own chat template if it has one, else plain `Q:/A:`.

    `verbatim` writes nothing around a row: the input, a blank, the output, and a line end.

    Raises:
        ConfigError: `chat` was asked for and the tokenizer has no chat template.
    """
    has_chat = bool(tokenizer.chat_template)
    match name:
        case "plain":
            return PLAIN
        case "instruction":
            return INSTRUCTION
        case "verbatim":
            return AS_WRITTEN
        case "chat" if not has_chat:
            raise ConfigError("data.template is chat, but the tokenizer has no chat template; choose plain")
        case "chat":
            return ChatTemplate(tokenizer)
        case "auto":
            return ChatTemplate(tokenizer) if has_chat else PLAIN


def encode(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """Tokenise prompts and locate their answers.

    A token belongs to an answer if any of its characters does; but not where the end of the prompt's own text stands in
    it and of the answer white space alone, as with the tokenizers of Llama 3 and Qwen in `:` and a line end.

    Raises:
        ModelError: The tokenizer gives no character offsets.
        DataError: A text holds U+0000 or U+0001, or an answer has no token of its own, or none before it to predict it
            from.
    """
    if not prompts:
        return []
    for prompt in prompts:
        _check_characters(prompt.text)
    if not tokenizer.is_fast:
        raise ModelError("the tokenizer gives no character offsets; a fast tokenizer (tokenizer.json) is needed")
    special = {prompt.add_special_tokens for prompt in prompts}
    if len(special) > 1:
        raise AssertionError("prompts of one call come from one template")
    encoded = tokenizer(
        [prompt.text for prompt in prompts],
        add_special_tokens=special.pop(),
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    return [
        _row(prompt, ids, offsets)
        for prompt, ids, offsets in zip(prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def _check_characters(text: str) -> None:
    for character in _UNWRITABLE:
        if (place := text.find(character)) >= 0:
            raise DataError(
                f"the row that starts {text[:40]!r} holds the control character U+{ord(character):04X} (at {place}), "
                "which a tokenizer may drop; remove it from the data"
            )


def _row(prompt: Prompt, ids: list[int], offsets: list[tuple[int, int]]) -> Row:
    while offsets and offsets[-1][0] == offsets[-1][1]:  # an end token that the tokenizer appends by itself
        offsets, ids = offsets[:-1], ids[:-1]
    spans = []
    cursor = 0
    for start, end in prompt.answers:
        first = cursor
        while first < len(offsets) and offsets[first][1] <= start:
            first += 1
        if first < len(offsets) and _reaches_over(prompt.text, offsets[first], start):
            first += 1
        last = first
        while last < len(offsets) and offsets[last][0] < end:
            last += 1
        if first == last or first == 0:
            raise DataError(f"the answer {prompt.text[start:end]!r} has no token that could be predicted")
        spans.append((first, last))
        cursor = last
    return Row(tuple(ids), tuple(spans))


def _reaches_over(text: str, token: Span, start: int) -> bool:
    """Whether a token ends in the white space that an answer begins with, and begins with text of the prompt."""
    begin, end = token
    return begin < start < end and bool(text[begin:start].strip()) and not text[start:end].strip()
