"""A chat model's own template, with demonstrations as turns.

Templates may render the last turn unlike earlier ones (a reasoning block, say), trim contents, or refuse a system turn.
So the whole conversation is rendered once with a marker in place of every answer; where the markers come out is where
the answers stand. The result is checked against what the template renders for the real contents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from keepshot.errors import ModelError
from keepshot.prompts.template import Prompt, Span
from keepshot.tasks.example import Example

Message = dict[str, str]

_DAY = datetime(2024, 7, 26)
"""Today, for a template that writes the date: prompts of before and after, of a run and of its resumption, must not
differ by the day. It is what the templates of Llama 3 write where no clock is known."""
_INSTEAD = "choose data.template: plain or instruction"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Renders with the tokenizer's chat template: a system turn for a shared instruction, then user and assistant."""

    tokenizer: PreTrainedTokenizerBase
    name: str = field(default="chat", init=False)
    _tokens: frozenset[str] = field(init=False, repr=False, compare=False)
    _lengths: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Sort the added tokens, of which a tokenizer may have thousands, once."""
        tokens = frozenset(self.tokenizer.get_added_vocab())
        object.__setattr__(self, "_tokens", tokens)
        object.__setattr__(self, "_lengths", tuple(sorted({len(token) for token in tokens}, reverse=True)))

    def render(self, examples: Sequence[Example]) -> Prompt:
        """Text and answer spans of `examples` in order.

        Raises:
            ModelError: The tokenizer has no chat template, or one that leaves out what is asked, writes nothing after
                an answer, or changes an answer so that it cannot be located.
        """
        messages, turns = _conversation(examples)
        text = self._apply(messages)
        for message in messages:
            if message["role"] != "assistant" and message["content"].strip() not in text:
                raise ModelError(
                    f"the chat template leaves out or changes the {message['role']} turn "
                    f"{message['content'][:40]!r}; {_INSTEAD}"
                )
        marked = [dict(message) for message in messages]
        marks = [f"keepshot{i}mark" for i in range(len(examples))]
        for mark, turn in zip(marks, turns, strict=True):
            marked[turn]["content"] = mark
        frame = self._apply(marked)
        for outputs in ([e.output for e in examples], [e.output.strip() for e in examples]):
            filled, spans = self._fill(frame, marks, outputs)
            if filled == text:
                return Prompt(text, tuple(spans), add_special_tokens=False)
        raise ModelError(
            "the chat template changes an answer's text (not only white space around it), so that its tokens cannot "
            f"be located; {_INSTEAD}"
        )

    def stop(self, several_lines: bool) -> tuple[str, ...]:
        """What ends a turn; where that is a line end, nothing if answers hold some.

        Raises:
            ModelError: As `render`.
        """
        return self.turn_end() or (() if several_lines else ("\n",))

    def turn_end(self) -> tuple[str, ...]:
        """What the template writes behind a turn: a base model's own settings need not name the token that ends it.

        Nothing where that is white space.

        Raises:
            ModelError: As `render`.
        """
        prompt = self.render([Example("a", "b")])
        start, end = prompt.answers[-1]
        ending = prompt.text[start + 1 : end].strip()
        return (ending,) if ending else ()

    def generation_prompt_differs(self, examples: Sequence[Example]) -> bool:
        """Whether answers stand behind something else than what the template offers a model to go on from.

        A reasoning model's template may write an empty block of reasoning before the last answer, for instance, and
        leave it to the model otherwise. White space before the answer does not count: most tokenizers join it to the
        answer's first word.

        Args:
            examples: As for `render`; one is enough.

        Raises:
            ModelError: As `render`, or the template does not render a conversation that ends with the user's turn.
        """
        prompt = self.render(examples)
        messages, _ = _conversation(examples)
        offered = self._apply(messages[:-1], add_generation_prompt=True)
        return prompt.text[: prompt.answers[-1][0]].rstrip() != offered.rstrip()

    def _apply(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages),
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    chat_template=_on_one_day(self.tokenizer.get_chat_template()),
                )
            )
        except (ValueError, TemplateError) as error:
            if any(m["role"] == "system" for m in messages) and "system" in str(error).lower():
                return self._apply(_without_system(messages), add_generation_prompt=add_generation_prompt)
            raise ModelError(f"the tokenizer's chat template failed: {error}; {_INSTEAD}") from None

    def _fill(self, frame: str, marks: Sequence[str], outputs: Sequence[str]) -> tuple[str, list[Span]]:
        """Put `outputs` where the marks are; a span runs from the answer to the end of the turn's terminator."""
        parts: list[str] = []
        spans: list[Span] = []
        length = cursor = 0
        for mark, output in zip(marks, outputs, strict=True):
            at = frame.find(mark, cursor)
            if at < 0:
                raise ModelError(f"the chat template leaves out an assistant turn of the conversation; {_INSTEAD}")
            parts += [frame[cursor:at], output]
            start = length + at - cursor
            length = start + len(output)
            cursor = at + len(mark)
            end = self._turn_end(frame, cursor)
            if end == cursor:
                raise ModelError(
                    "the chat template writes nothing after an answer, so that no model could be seen to end one; "
                    f"{_INSTEAD}"
                )
            spans.append((start, length + end - cursor))
        parts.append(frame[cursor:])
        return "".join(parts), spans

    def _turn_end(self, frame: str, at: int) -> int:
        """Where the special token (or, without one, the line) ends that ends the turn; `at` if neither comes."""
        start = at
        while frame[start : start + 1].isspace():
            start += 1
        for length in self._lengths:
            if frame[start : start + length] in self._tokens:
                return start + length
        return frame.find("\n", at) + 1 or at


def _on_one_day(template: str) -> str:
    """The template with a clock that stands, in the place of the library's."""
    if "strftime_now" not in template:
        return template
    parts = (*"aAbBdHIjmMpSyY", *(f"-{letter}" for letter in "dHIjmMS"))
    written = "".join(f" | replace('%{part}', '{_DAY.strftime(f'%{part}')}')" for part in parts)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{written} }}}}{{%- endmacro %}}\n{template}"


def _conversation(examples: Sequence[Example]) -> tuple[list[Message], list[int]]:
    """Messages of all examples, and for each example the index of its answer's message."""
    instructions = {example.instruction for example in examples}
    shared = next(iter(instructions)) if len(instructions) == 1 else ""
    messages: list[Message] = [{"role": "system", "content": shared}] if shared else []
    turns = []
    for example in examples:
        messages += [{"role": turn.role, "content": turn.content} for turn in example.history]
        own = example.instruction if not shared else ""
        content = f"{own}\n\n{example.input}" if own else example.input
        messages.append({"role": "user", "content": content})
        turns.append(len(messages))
        messages.append({"role": "assistant", "content": example.output})
    return messages, turns


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """Move every system turn into the user turn after it, for templates that know no system role."""
    folded: list[Message] = []
    above: list[str] = []
    for message in messages:
        if message["role"] == "system":
            above.append(message["content"])
        elif message["role"] == "user" and above:
            folded.append({"role": "user", "content": "\n\n".join([*above, message["content"]])})
            above = []
        else:
            folded.append(message)
    return folded
