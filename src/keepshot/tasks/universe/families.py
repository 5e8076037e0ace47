"""The families of the universe: which are trained on and how often, and which are held out."""

from collections.abc import Sequence
from functools import partial
from random import Random

from keepshot.tasks.universe import arithmetic, recall, spelling, utterances
from keepshot.tasks.universe.lists import lists
from keepshot.tasks.universe.task import SyntheticTask, TaskDraw

# A family with how often it is drawn: the richest most often, those that a small model learns badly seldom.
_TRAINING_MIX: dict[str, tuple[TaskDraw, float]] = {
    "strings": (spelling.strings, 5.0),
    "classify": (spelling.classify, 3.0),
    "numbers": (arithmetic.numbers, 3.0),
    "bits": (arithmetic.bits, 1.0),
    "lookup": (recall.lookup, 1.5),
    "linear": (arithmetic.linear, 0.5),
    "relation": (recall.relation, 1.0),
    "category": (recall.category, 1.5),
    "lists": (lists, 1.5),
    "utterances": (utterances.utterances, 1.5),
}
FAMILIES = tuple(_TRAINING_MIX)

_HELD_OUT: dict[str, TaskDraw] = {
    "compositions": spelling.compositions,
    "strings": partial(spelling.strings, heldout=True),
    "classify": partial(spelling.classify, heldout=True),
    "numbers": partial(arithmetic.numbers, heldout=True),
    "bits": partial(arithmetic.bits, heldout=True),
    "relation": partial(recall.relation, heldout=True),
    "category": partial(recall.category, heldout=True),
    "lists": partial(lists, heldout=True),
    "utterances": partial(utterances.utterances, heldout=True),
}
HELD_OUT_FAMILIES = tuple(_HELD_OUT)

_INSTRUCTED: dict[str, tuple[TaskDraw, float]] = {
    "relation": (partial(recall.relation, instructed=True), 5.0),
    "category": (recall.kind, 1.5),
    "strings": (spelling.instructed, 2.0),
    "numbers": (arithmetic.instructed, 0.5),
    "utterances": (utterances.instructed, 1.0),
}
INSTRUCTED_FAMILIES = tuple(_INSTRUCTED)
_INSTRUCTED_HELD_OUT: dict[str, tuple[TaskDraw, float]] = {"strings": (partial(spelling.instructed, heldout=True), 1.0)}


def draw_task(generator: Random, heldout: bool = False, families: Sequence[str] | None = None) -> SyntheticTask:
    """A task of a random family that examples alone explain: one to train on, or a held-out one.

    Args:
        generator: Its state moves on.
        heldout: Whether tasks are drawn that no model is trained on.
        families: Those to draw from, out of `FAMILIES` (out of `HELD_OUT_FAMILIES`, if held out); None is all.

    Example:
        >>> task = draw_task(Random(0), families=["numbers"])
        >>> task.family, task.name, task.answer("30 12")
        ('numbers', 'smaller-add(9)', '21')
    """
    if heldout:
        return _HELD_OUT[generator.choice(tuple(families or _HELD_OUT))](generator)
    return _drawn(generator, _TRAINING_MIX, families)


def draw_instructed(generator: Random, heldout: bool = False, families: Sequence[str] | None = None) -> SyntheticTask:
    """A task with an instruction that says what is asked, so that it can be done without an example.

    Args:
        generator: Its state moves on.
        heldout: Whether string functions are drawn that no instruction names in training.
        families: Those to draw from, out of `INSTRUCTED_FAMILIES`; None is all.

    Example:
        >>> task = draw_instructed(Random(7), families=["strings"])
        >>> task.instruction, task.answer("lemon")
        ('Give the first letter.', 'l')
    """
    return _drawn(generator, _INSTRUCTED_HELD_OUT if heldout else _INSTRUCTED, families)


def _drawn(generator: Random, mix: dict[str, tuple[TaskDraw, float]], families: Sequence[str] | None) -> SyntheticTask:
    names = tuple(name for name in mix if families is None or name in families)
    name = generator.choices(names, [mix[name][1] for name in names])[0]
    return mix[name][0](generator)
