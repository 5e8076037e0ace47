"""What a model writes to the released problems, with the defects of their prompts, and what counts of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from keepshot.evaluation import Subject
from keepshot.keys import generator
from keepshot.prompts import Row
from keepshot.runs.confounds_config import SWITCHES, ReleasedName
from keepshot.tasks.patterns import NONE, Defects, PatternItem, counts, instruction_of, released, written

Part = Literal["validation", "test", "misleading"]
_FIRST: Mapping[Part | Literal["shown"], int] = {"test": 0, "misleading": 0, "validation": 100_000, "shown": 200_000}
"""Numbers of the items of a part: those of the test and those that choose or are shown are apart."""
_SHOWN = 100_000
_MORE = 2
"""Tokens that may be written beyond the longest answer's."""
Answers = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Problems behind a number of demonstrations.

    Attributes:
        defects: Those that change a prompt of this task; all others are off, so that equal prompts are equal here.
    """

    task: ReleasedName
    part: Part
    shots: int
    count: int
    defects: Defects

    @classmethod
    def of(cls, task: ReleasedName, part: Part, shots: int, count: int, defects: Defects) -> "Asked":
        """With what matters of some defects.

        Example:
            >>> one, other = (Asked.of("code", "test", 0, 9, Defects(code_labels=on)) for on in (True, False))
            >>> one == other
            True
        """
        of_boolean = task == "boolean"
        matter = replace(
            NONE,
            trailing_space=task != "expressions" and defects.trailing_space,
            bool_no_suffix=of_boolean and defects.bool_no_suffix,
            bool_precedence=of_boolean and shots > 0 and defects.bool_precedence,
        )
        return cls(task, part, shots, count, matter)

    @property
    def name(self) -> str:
        """Tells it from all others."""
        flags = "+".join(name for name in SWITCHES if getattr(self.defects, name))
        return "/".join([self.task, self.part, str(self.shots), str(self.count), flags or "-"])

    def items(self) -> list[PatternItem]:
        """The problems."""
        drawn: Literal["misleading", "test"] = "misleading" if self.part == "misleading" else "test"
        start = _FIRST[self.part]
        return [released(self.task, start + number, part=drawn, defects=self.defects) for number in range(self.count)]

    def prompts(self, seed: int) -> list[str]:
        """An instruction, demonstrations of the ordinary kind, each query's its own, and the query."""
        return [self._prompt(item, seed) for item in self.items()]

    def _prompt(self, item: PatternItem, seed: int) -> str:
        draw = generator(seed, "confounds", self.task, self.part, item.seed)
        places = draw.sample(range(_SHOWN), 64)[: self.shots]  # the first stay as more come
        shown = [released(self.task, _FIRST["shown"] + place, part="test", defects=self.defects) for place in places]
        told = "".join(written(one, self.task, self.defects, demonstration=True) for one in shown)
        return f"{instruction_of(self.task, item)}\n{told}{written(item, self.task, self.defects, demonstration=False)}"


def ask(subject: Subject, asked: Asked, seed: int) -> list[str] | None:
    """What a model writes up to the line's end; None where a prompt does not fit its context.

    A prompt is tokenised up to the answer's place alone, as it reaches a model: a blank at its end is a token of its
    own then.
    """
    tokenizer = subject.tokenizer
    prompts = [
        _without_end(ids, tokenizer.eos_token_id) for ids in tokenizer(asked.prompts(seed), verbose=False)["input_ids"]
    ]
    answers = [item.answer for item in asked.items()]
    room = max(len(ids) for ids in tokenizer(answers, add_special_tokens=False)["input_ids"]) + _MORE
    if max(len(ids) for ids in prompts) + room > subject.context_length:
        return None
    rows = [Row((*ids, ids[-1]), ((len(ids), len(ids) + 1),)) for ids in prompts]
    return subject.backend.generate(rows, ("\n",), room)


def _without_end(ids: Sequence[int], end: int | None) -> tuple[int, ...]:
    """Without an end token that the tokenizer appends by itself."""
    return tuple(ids[:-1] if ids[-1] == end else ids)


def hits(asked: Asked, texts: Sequence[str], defects: Defects) -> list[bool]:
    """Whether what was written counts, problem by problem."""
    return [counts(asked.task, text, item.answer, defects) for text, item in zip(texts, asked.items(), strict=True)]
