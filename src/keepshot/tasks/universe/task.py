"""What a task of the universe is."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from keepshot.tasks.example import Example


@dataclass(frozen=True, slots=True)
class Form:
    """How a document writes its examples; behind a question stand a space, the answer and a line end.

    Attributes:
        question: With `{}` in the input's place.
        instruction: With `{}` in the instruction's place.
    """

    question: str = "Q: {}\nA:"
    instruction: str = "{}\n\n"


QUESTIONS = Form()


@dataclass(frozen=True, slots=True)
class SyntheticTask:
    """One input-output relation of the universe.

    Attributes:
        family: The name of the family, such as `strings`.
        name: The function with its constants, such as `reverse+append(ta)`.
        draw: Draws an input.
        answer: The answer to an input that `draw` can return.
        instruction: What is asked, in words; empty where examples alone say it.
        form: How documents write it.
    """

    family: str
    name: str
    draw: Callable[[Random], str]
    answer: Callable[[str], str]
    instruction: str = ""
    form: Form = QUESTIONS

    def example(self, random: Random) -> Example:
        """A drawn input with its answer, and the instruction if there is one."""
        text = self.draw(random)
        return Example(text, self.answer(text), instruction=self.instruction)


TaskDraw = Callable[[Random], SyntheticTask]
