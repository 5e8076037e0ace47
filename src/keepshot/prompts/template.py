"""Examples to text: where each answer stands in it is known by construction, never searched for.

A template renders demonstrations and a query alike, so that the same code makes training rows and evaluation prompts.
An answer's span holds what the model must write to be right and to stop: the text *and* its terminator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from keepshot.errors import ConfigError
from keepshot.tasks.example import Example, Turn, Wording

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text with the character span of every answer.

    Attributes:
        text: Demonstrations and the query with its answer.
        answers: One `(start, end)` per example in order; the last is the query's.
        add_special_tokens: Whether the tokenizer puts its begin token in front; false if the text already has it.
    """

    text: str
    answers: tuple[Span, ...]
    add_special_tokens: bool = True


@runtime_checkable
class Template(Protocol):
    """Renders examples, the last of which is the query."""

    @property
    def name(self) -> str:
        """As written in a config."""

    def render(self, examples: Sequence[Example]) -> Prompt:
        """Text and answer spans of `examples` in order."""

    def stop(self, several_lines: bool) -> tuple[str, ...]:
        """Where a written answer ends, apart from the model's end token; `several_lines` if answers hold line ends."""

    def turn_end(self) -> tuple[str, ...]:
        """What ends an answer here whatever stop strings a task has; nothing in plain text."""


@dataclass(frozen=True, slots=True)
class BlockTemplate:
    r"""One block of plain text per example; the next follows at once.

    An instruction that all examples share stands once, at the top; otherwise each block carries its own. Earlier turns
    of a conversation are blocks that are not scored.

    Attributes:
        name: As written in a config.
        question: Before and after the input.
        answer: Before the answer; what stands in `lead` belongs to the answer's span, since most tokenizers join a
            space to the word that follows it.
        lead: White space before the answer.
        end: The terminator. One line end: most tokenizers cut two of them in one way before a block and in another at
            the end of a text, so that no demonstration would end as the query's answer does.
        instruction: Before and after an instruction.
        following: What the next block begins with, as far as most tokenizers cut it alike at the end of a text and
            before an input. It ends answers that may hold line ends, the terminator before it, and belongs to their
            spans. Empty where nothing could tell the next block from a further line.

    Example:
        >>> PLAIN.render([Example("2 3", "5"), Example("4 4", "8")]).text
        'Q: 2 3\nA: 5\nQ: 4 4\nA: 8\n'
        >>> PLAIN.render([Example("a list", "- 5\n- 8", several_lines=True)]).text
        'Q: a list\nA: - 5\n- 8\nQ:'
    """

    name: str
    question: tuple[str, str]
    answer: str
    lead: str
    end: str
    instruction: tuple[str, str]
    following: str

    def render(self, examples: Sequence[Example]) -> Prompt:
        """Text and answer spans of `examples` in order."""
        shared = {example.instruction for example in examples}
        parts: list[str] = []
        length, spans = 0, []

        def write(*texts: str) -> None:
            nonlocal length
            for text in texts:
                parts.append(text)
                length += len(text)

        if len(shared) == 1 and "" not in shared:
            write(self.instruction[0], examples[0].instruction, self.instruction[1])
        for example in examples:
            if len(shared) > 1 and example.instruction:
                write(self.instruction[0], example.instruction, self.instruction[1])
            for turn in example.history:
                write(*self._turn(turn))
            write(self.question[0], example.input, self.question[1], self.answer)
            start = length
            write(self.lead, example.output, self.end)
            spans.append((start, length))
        if examples[-1].several_lines:
            write(self.following)
        text = "".join(parts)
        return Prompt(text, tuple(self._whole(text, *each) for each in zip(examples, spans, strict=True)))

    def _whole(self, text: str, example: Example, span: Span) -> Span:
        """The span with what ends the answer, where that is the beginning of another block."""
        start, end = span
        ends = example.several_lines and text.startswith(self.following, end)
        return (start, end + len(self.following)) if ends else span

    def stop(self, several_lines: bool) -> tuple[str, ...]:
        """The terminator; where answers hold it themselves, with the beginning of the next block.

        Raises:
            ConfigError: Blocks begin with nothing that could tell the next one from a further line.
        """
        if several_lines and not self.following:
            raise ConfigError(
                f"answers hold line ends, and with the template {self.name} a line end is an answer's end; choose plain"
            )
        return (self.end + self.following,) if several_lines else (self.end,)

    def turn_end(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def _turn(self, turn: Turn) -> tuple[str, ...]:
        match turn.role:
            case "system":
                return (self.instruction[0], turn.content, self.instruction[1])
            case "user":
                return (self.question[0], turn.content, self.question[1])
            case "assistant":
                return (self.answer, self.lead, turn.content, self.end)


PLAIN = BlockTemplate("plain", ("Q: ", "\n"), "A:", " ", "\n", ("", "\n\n"), "Q:")
INSTRUCTION = BlockTemplate(
    "instruction",
    ("### Input:\n", "\n\n"),
    "### Response:",
    "\n",
    "\n",
    ("### Instruction:\n", "\n\n"),
    "### Input",  # without the colon, which many tokenizers join to the line end behind it
)
AS_WRITTEN = BlockTemplate("verbatim", ("", ""), "", " ", "\n", ("", "\n"), "")


@dataclass(frozen=True, slots=True)
class VerbatimTemplate:
    r"""A task's own wording: inputs as they stand, an answer's span without a terminator.

    Example:
        >>> VerbatimTemplate(Wording(" ", "\n\n")).render([Example("2+3 =", "5"), Example("4+4 =", "8")]).text
        '2+3 = 5\n\n4+4 = 8'
    """

    wording: Wording
    name: str = field(default="own wording", init=False)

    def render(self, examples: Sequence[Example]) -> Prompt:
        """Text and answer spans of `examples` in order."""
        delimiter = self.wording.delimiter
        before = delimiter.rstrip()
        text, spans = self.wording.description, []
        for i, example in enumerate(examples):
            text += (self.wording.separator if i else "") + example.input + before
            start = len(text)
            text += delimiter[len(before) :] + example.output
            spans.append((start, len(text)))
        return Prompt(text, tuple(spans))

    def stop(self, several_lines: bool) -> tuple[str, ...]:
        """What stands between examples, if it can be seen; a task that generates names its own."""
        return (self.wording.separator,) if self.wording.separator.strip(" ") else ()

    def turn_end(self) -> tuple[str, ...]:
        """Nothing."""
        return ()
