"""What a task is made of. Everything else in keepshot takes these records and never changes them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Role = Literal["system", "user", "assistant"]
Scoring = Literal["exact_match", "options", "generate"]
Group = Literal["suite", "own-input", "knowledge", "instructed", "instructed knowledge"]


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its answer.

    Attributes:
        input: What is asked.
        output: The answer, without surrounding white space.
        instruction: What to do with inputs of this kind; empty where demonstrations say it.
        options: The answers to choose from; if given, `output` is one of them.
        aliases: Other answers that count as right.
        history: Earlier turns of the conversation whose last user turn is `input`.
        several_lines: Whether answers of its task may hold line ends, so that a line end is not the end of one. Of a
            task's examples all say the same (`ending_alike`).
    """

    input: str
    output: str
    instruction: str = ""
    options: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    history: tuple[Turn, ...] = ()
    several_lines: bool = field(default=False, repr=False)  # follows from the outputs of all

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer that counts as right, the main one first."""
        return (self.output, *self.aliases)


def hold_line_ends(examples: Iterable[Example]) -> bool:
    r"""Whether an answer among these has several lines.

    Example:
        >>> hold_line_ends([Example("a", "b")]), hold_line_ends([Example("a", "b\nc")])
        (False, True)
    """
    return any("\n" in answer for example in examples for answer in example.answers)


def ending_alike(examples: Sequence[Example], several_lines: bool) -> tuple[Example, ...]:
    """The examples of a task, each told whether answers of that task may hold line ends."""
    return tuple(
        example if example.several_lines == several_lines else replace(example, several_lines=several_lines)
        for example in examples
    )


@dataclass(frozen=True, slots=True)
class Wording:
    """How a task that brings its own prompts writes them: nothing around an input, and no terminator after an answer.

    Attributes:
        delimiter: Between an input and its answer; white space in it belongs to the answer's span.
        separator: Between examples.
        description: At the top, as it stands.
    """

    delimiter: str = " "
    separator: str = "\n\n"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """Examples of one input-output relation, and how answers to it are scored.

    Attributes:
        name: Unique within a suite.
        examples: The pool that queries are drawn from.
        pool: The pool that demonstrations are drawn from; empty means `examples` (never the query itself).
        scoring: `exact_match` (the greedy answer equals one of `Example.answers`, terminator included), `options`
            (the right option has the highest log-likelihood) or `generate` (what the model writes is compared).
        metric: With `options`, how log-likelihoods are made comparable: `sum`, `per_token`, `per_byte` or `pmi`; with
            `generate`, how texts are compared: `exact`, `numeric`, `set`, `f1`, `bleu`, `chrf` or `module:function`.
            Empty is the first of these.
        wording: How prompts are written; None leaves it to the template of the evaluation.
        stop: With `generate`, writing ends before the first of these; empty means where the template ends an answer.
        max_new_tokens: With `generate`, the most that is written; 0: as many as the longest answer has, and 16 more.
        labels: All answers, where the set is finite; else empty.
        drawn_as: The task whose demonstrations and queries are drawn for this one, so that both are asked the
            same; empty is itself.
        group: `suite` for tasks over inputs of their own, `own-input` for tasks over the target's inputs, `knowledge`
            for what a model knows by heart; `instructed` and `instructed knowledge` for what instructions ask for,
            which is asked without demonstrations alone and has no part in few-shot ability.
        family: Tasks that ask for the same kind of thing have the same; empty where it is not known.
    """

    name: str
    examples: tuple[Example, ...]
    pool: tuple[Example, ...] = ()
    scoring: Scoring = "exact_match"
    labels: tuple[str, ...] = ()
    group: Group = "suite"
    family: str = ""
    metric: str = ""
    wording: Wording | None = None
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 0
    drawn_as: str = ""

    @property
    def zero_shot(self) -> bool:
        """Whether it is asked without demonstrations alone."""
        return self.group in ("instructed", "instructed knowledge")

    @property
    def chance(self) -> float:
        """Accuracy without looking at the input: the larger of 1/labels and the majority share; 0 for open answers.

        Where every question brings options of its own, the mean of 1/options.

        Example:
            >>> Task("t", (Example("a", "x"), Example("b", "x"), Example("c", "y")), labels=("x", "y")).chance
            0.6666666666666666
        """
        if not self.labels and self.scoring == "options":
            return sum(1 / len(example.options) for example in self.examples) / len(self.examples)
        if not self.labels:
            return 0.0
        most = Counter(example.output for example in self.examples).most_common(1)[0][1]
        return max(1 / len(self.labels), most / len(self.examples))


@dataclass(frozen=True, slots=True)
class Suite:
    """Tasks that a model is asked about but was not tuned for."""

    name: str
    tasks: tuple[Task, ...] = field(default=())
