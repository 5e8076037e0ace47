"""A problem that can be solved by its rule or by a regularity of the data: what every generator returns."""

from dataclasses import dataclass
from typing import Literal

Size = Literal["small", "large"]
"""`small` is for models of a few million parameters, `large` is that of arXiv 2410.04691."""


@dataclass(frozen=True, slots=True)
class PatternItem:
    """One problem.

    Attributes:
        question: All that is asked.
        answer: The label: what the rule gives, but for the wrong labels that the faithful mode repeats.
        shortcut_answer: What the regularity gives.
        formal_answer: What the rule gives.
        pattern_holds: Whether the regularity is there, so that both agree.
        seed: Number of the item; with task, mode and size it gives the item again.
        group: What two parts of a split must not share, and a part has once: the program of a code item, else the
            question.
        instruction: Where it is not that of the task.
    """

    question: str
    answer: str
    shortcut_answer: str
    formal_answer: str
    pattern_holds: bool
    seed: int
    group: str = ""
    instruction: str = ""

    @property
    def apart(self) -> str:
        """What two parts of a split must not share, and a part has once."""
        return self.group or self.question
