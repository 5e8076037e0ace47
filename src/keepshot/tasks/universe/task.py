"""What a task of the universe is."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class SyntheticTask:
    """One input-output relation of the universe.

    Attributes:
        family: The name of the family, such as `strings`.
        name: The function with its constants, such as `reverse+append(ta)`.
        draw: Draws an input.
        answer: The answer to an input that `draw` can return.
        instruction: What is asked, in words; empty where examples alone say it.
    """

    family: str
    name: str
    draw: Callable[[Random], str]
    answer: Callable[[str], str]
    instruction: str = ""


TaskDraw = Callable[[Random], SyntheticTask]
